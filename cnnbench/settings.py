"""What every setting may be: its type and range.

`conf/` holds the choices and their defaults; this module says which values are allowed, so that
a wrong one is named before anything is loaded or written. A field marked `Free` does not decide
the result (where data lies, how many worker processes) and is left out of the run's identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from cnnbench import wandb_run
from cnnbench.errors import InputError, OpsError, suggest
from cnnbench.runs import Run

Free = Field(exclude=True)
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A closed section: an unknown key is an error. Strict: `"3"` is no number, `1` is no bool."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


SomeSection = TypeVar("SomeSection", bound=Section)


class Part(Section):
    """A section that builds an object: `_target_` and its arguments, checked by its signature."""

    model_config = ConfigDict(extra="allow")

    name: Name
    target: str | None = Field(alias="_target_", serialization_alias="_target_")

    def arguments(self) -> dict[str, Any]:
        """What `_target_` is called with."""
        return self.model_dump(exclude={"name", "target"}, exclude_unset=True)


Norm = Literal["native", "batch", "group", "layer", "instance", "frn", "none"]
Act = Literal["native", "relu", "leaky_relu", "prelu", "gelu", "silu", "relu6", "tanh", "sigmoid", "identity"]
Pool = Literal["native", "max", "avg", "lp", "stride", "blur", "max_blur", "mixed", "stochastic", "none"]
Padding = Literal["native", "zeros", "same", "valid", "reflect", "replicate", "circular"]


class Ops(Section):
    """`ops`: the ablation axes; what a value means is said in `cnnbench.ops`."""

    norm: Norm
    act: Act
    pool: Pool
    padding: Padding


class Native(Section):
    """`arch.native`: what `native` stands for in an architecture; axes that it does not have are absent.

    `native` itself where layers differ among each other.
    """

    norm: Norm | None = None
    act: Act | None = None
    pool: Pool | None = None
    padding: Padding | None = None


MemoryFormat = Literal["contiguous", "channels_last"]


class Layout(Section):
    """`arch.layout`: what `device.memory_format=auto` is for an architecture; see `bench tune=true`."""

    cpu: MemoryFormat | None = None
    gpu: MemoryFormat | None = None
    mps: MemoryFormat | None = None


class Arch(Part):
    """`arch`: a factory of `cnnbench.models`, or one of the user's own."""

    in_channels: Literal[1, 3] | None = None
    weights: Annotated[str, Field(min_length=1)] | None = None
    freeze: bool = False
    library: str | None = None
    native: Native | None = Field(default=None, exclude=True)
    layout: Layout | None = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_library(cls, value: Any) -> Any:
        """`resnet18` of torchvision is `torchvision.resnet18`: not the one of cnnbench."""
        if isinstance(value, dict) and isinstance(value.get("name"), str) and value.get("library"):
            prefix = f"{value['library']}."
            value = value | {"name": prefix + value["name"].removeprefix(prefix)}
        return value

    @model_validator(mode="after")
    def _frozen_means_loaded(self) -> Arch:
        if self.freeze and self.weights is None:
            raise ValueError("freeze=true: freezes what arch.weights loads; allowed with weights alone")
        return self

    def arguments(self) -> dict[str, Any]:
        """What `_target_` is called with, besides what the data says."""
        ours = {"name", "target", "in_channels", "weights", "freeze", "library", "native", "layout"}
        return self.model_dump(exclude=ours, exclude_unset=True)


class Optimizer(Part):
    """`optimizer`: a `torch.optim` class and its arguments."""

    lr: Rate
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class Scheduler(Part):
    """`scheduler`: a factory of `cnnbench.schedule`, or one of the user's own."""

    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0


class Augment(Section):
    """`data.augment`: what happens to training images."""

    resized_crop: tuple[Rate, Rate] | None
    crop: NonNegative
    flip: bool
    cutout: NonNegative
    policy: Literal["none", "randaugment", "trivialaugment"]

    @field_validator("resized_crop", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        value = tuple(value) if isinstance(value, list) else value
        if isinstance(value, tuple) and len(value) == 2 and not 0 < value[0] <= value[1] <= 1:
            raise ValueError("two shares of the image's area, 0 < min <= max <= 1")
        return value


class Data(Section):
    """`data`: which images, how they are split, batched and augmented."""

    name: Name
    root: Annotated[str, Free]
    size: Annotated[int, Field(ge=4, le=4096)] | None
    limit: Count | None
    limit_test: Count | None
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    split_seed: Seed
    batch_size: Count
    in_memory: bool
    num_workers: Annotated[int, Field(ge=0, le=1024, exclude=True)]
    num_classes: Annotated[int, Field(ge=2)] | None = None
    augment: Augment

    @field_validator("root", mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("must be given: the folder where the images lie")
        return value


class EarlyStopping(Section):
    """`trainer.early_stopping`: stop after `patience` epochs without a better val/acc."""

    patience: Count | None


class Trainer(Section):
    """`trainer`: the training recipe apart from optimizer and schedule."""

    max_epochs: Count
    label_smoothing: Fraction
    mixup: Annotated[float, Field(ge=0)]
    cutmix: Annotated[float, Field(ge=0)]
    ema_decay: Fraction
    clip_norm: Rate | None
    accumulate: Count
    decay_norm_and_bias: bool
    deterministic: bool
    early_stopping: EarlyStopping
    checkpoint_every_n_steps: Annotated[Count | None, Free]


SHORT_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed", "fp64": "64-true"}
"""What people write, and what Lightning calls it."""


class Device(Section):
    """`device`: where and in which arithmetic. `auto` stays `auto` in the run's identity."""

    name: Name
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    precision: Literal["32-true", "tf32", "bf16-mixed", "16-mixed", "64-true"]
    memory_format: Literal["auto", "contiguous", "channels_last"]
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    # Left out of the identity where they change nothing: a run of one process stays what it was.
    compile: Annotated[bool, Field(exclude_if=lambda asked: not asked)] = False
    devices: Annotated[Count, Field(exclude_if=lambda count: count == 1)] = 1
    nodes: Annotated[Count, Field(exclude_if=lambda count: count == 1)] = 1
    sync_batch_norm: Annotated[bool, Field(exclude_if=lambda on: not on)] = False

    @model_validator(mode="before")
    @classmethod
    def _one_process_has_it_all(cls, value: Any) -> Any:
        """Its batch statistics are those of the whole batch, asked for or not: one and the same run."""
        alone = isinstance(value, dict) and value.get("devices", 1) == value.get("nodes", 1) == 1
        return value | {"sync_batch_norm": False} if alone and value.get("sync_batch_norm") is True else value

    @property
    def least_images(self) -> int:
        """That each process needs of a training batch: one image alone has no batch statistics of its own."""
        return 1 if self.sync_batch_norm else 2

    @field_validator("precision", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return SHORT_PRECISION.get(value, value) if isinstance(value, str) else value

    def check_one_machine(self) -> None:
        """To be called where a run cannot be started on several.

        Raises:
            InputError: that is what is asked for.
        """
        if self.nodes > 1:
            raise InputError(
                f"device.nodes={self.nodes}: only -m hydra/launcher=slurm starts a run on several machines; "
                "allowed: 1"
            )


class WandbLogger(Section):
    """`logger=wandb`. What W&B would refuse is refused here: later it would cost the whole log of the run."""

    name: Literal["wandb"]
    mode: Literal["offline", "online"]
    project: str
    entity: str | None
    tags: list[str]
    images: NonNegative
    init_timeout_s: Rate
    finish_timeout_s: Rate

    @field_validator("project", "entity")
    @classmethod
    def _taken_by_wandb(cls, value: str | None) -> str | None:
        if value is not None and (why := wandb_run.bad_name(value)):
            raise ValueError(why)
        return value

    @field_validator("tags")
    @classmethod
    def _short_enough(cls, value: list[str]) -> list[str]:
        if not all(1 <= len(tag) <= wandb_run.TAG_LENGTH for tag in value):
            raise ValueError(f"allowed: tags of 1 to {wandb_run.TAG_LENGTH} characters")
        return value


AnyLogger = Annotated[
    Annotated[WandbLogger, Tag("wandb")] | Annotated[Part, Tag("lightning")],
    Discriminator(lambda value: "wandb" if value.get("name") == "wandb" else "lightning"),
]


class Sweep(Section):
    """`sweep`: how the runs of a sweep are carried out; not what comes out of them."""

    jobs: Count | None
    jobs_per_gpu: Count
    retries: NonNegative
    on_failure: Literal["continue", "stop"]
    on_refused: Literal["stop", "skip"]


class Settings(Section):
    """Everything that one run is asked for: `conf/train.yaml`."""

    verb: ClassVar[str] = "train"
    work: ClassVar[str] = "cnnbench.fit:fit"
    """What carries it out: called with the settings, the run, the cores that it may use, and the rank."""

    name: Annotated[Name, Free]
    seed: Seed
    select: Annotated[list[str], Free]
    force: Annotated[bool, Free]
    command: Annotated[tuple[str, ...], Free] = ()
    output_dir: Annotated[str, Field(min_length=1, exclude=True)]
    arch: Arch
    ops: Ops
    data: Data
    optimizer: Optimizer
    scheduler: Scheduler
    trainer: Trainer
    device: Device
    logger: Annotated[AnyLogger, Free]
    sweep: Annotated[Sweep, Free]

    @model_validator(mode="after")
    def _warmup_fits(self) -> Settings:
        if self.scheduler.warmup_epochs >= self.trainer.max_epochs:
            raise ValueError(
                f"scheduler.warmup_epochs={self.scheduler.warmup_epochs}: "
                f"must be less than trainer.max_epochs={self.trainer.max_epochs}"
            )
        return self

    @model_validator(mode="after")
    def _batch_can_be_shared(self) -> Settings:
        processes = self.device.devices * self.device.nodes
        least = self.device.least_images * processes
        if processes > 1 and self.data.batch_size < least:
            raise ValueError(
                f"data.batch_size={self.data.batch_size}: {processes} processes share each batch; "
                f"allowed: {least} or more"
            )
        return self

    @model_validator(mode="after")
    def _compiled_alone(self) -> Settings:
        if self.device.sync_batch_norm and self.device.compile:  # the compiler does not see the exchange
            raise ValueError("device.sync_batch_norm=true: not with device.compile=true; allowed: false")
        return self

    @model_validator(mode="after")
    def _selected_is_there(self) -> Settings:
        for key in self.select:
            found: Any = self.choice()
            for step in key.split("."):
                found = found.get(step, {}) if isinstance(found, dict) else {}
            if found == {} or isinstance(found, dict) or key == "seed":
                raise ValueError(
                    f"select={key}: allowed: settings that decide the result, such as optimizer.lr"
                )
        return self

    @property
    def label(self) -> str:
        """What a run's name begins with."""
        return f"{self.arch.name}-{self.data.name}-s{self.seed}"

    def resolved_ops(self) -> dict[str, str]:
        """The value of each axis that the architecture has, with `native` replaced by what it stands for."""
        if self.arch.native is None:
            return {}
        native = self.arch.native.model_dump(exclude_none=True)
        asked = {axis: value for axis, value in self.ops.model_dump().items() if value != "native"}
        return {axis: asked.get(axis, value) for axis, value in native.items()}

    def choice(self) -> dict[str, Any]:
        """The part that decides the result, as plain values: what a run's identity is made of."""
        return self.model_dump(by_alias=True, exclude_unset=True) | {"ops": self.resolved_ops()}


EXPORTED_PRECISIONS = {"onnxruntime": ("32-true",), "openvino": ("32-true", "bf16-mixed")}
"""Of the backends that run an exported model."""


class Bench(Settings):
    """Everything that one measurement is asked for: `conf/bench.yaml`."""

    verb: ClassVar[str] = "bench"
    work: ClassVar[str] = "cnnbench.bench.run:bench"

    backend: Literal["eager", "compile", "onnxruntime", "openvino"]
    batch_sizes: Any
    of: str | None
    trust_code: Annotated[bool, Free]
    parity: bool
    tune: bool
    rounds: Annotated[Count, Free]
    round_s: Annotated[Rate, Free]
    memory_limit_gb: Annotated[Rate | None, Free]

    @field_validator("batch_sizes")
    @classmethod
    def _in_order(cls, value: Any) -> Any:
        given = value if isinstance(value, list) else [value]
        numbers = all(type(size) is int and size > 0 for size in given)
        if value != "auto" and not (given and numbers and given == sorted(set(given))):
            raise ValueError("allowed: auto, or whole numbers in rising order, as in [1,8,64]")
        return value if value == "auto" else given

    @model_validator(mode="after")
    def _measures_one_thing(self) -> Bench:
        if self.device.compile:
            raise ValueError("device.compile=true: is for training; allowed here: backend=compile")
        if self.device.devices * self.device.nodes > 1:
            raise ValueError(f"device.devices={self.device.devices}: bench measures one device; allowed: 1")
        allowed = EXPORTED_PRECISIONS.get(self.backend)
        if allowed is not None and self.device.precision not in allowed:
            raise ValueError(
                f"device.precision={self.device.precision}: not with backend={self.backend}; "
                f"allowed: {', '.join(allowed)}"
            )
        if self.parity and self.tune:
            raise ValueError("tune=true: one thing at a time; allowed with parity=false alone")
        if self.backend != "eager" and (self.parity or self.tune):
            what = "parity=true compares all backends" if self.parity else "tune=true trains with torch"
            raise ValueError(f"backend={self.backend}: {what}; allowed with it: eager")
        return self

    def measured_otherwise(self, config: Mapping[str, Any]) -> str:
        """How an earlier measurement of the same choice was made, where that differs; else empty."""
        said = {key: config.get(key) for key in ("rounds", "round_s", "memory_limit_gb")}
        return " ".join(f"{key}={shown(value)}" for key, value in said.items() if value != getattr(self, key))

    @property
    def label(self) -> str:
        """What a run's name begins with."""
        what = "parity" if self.parity else "tune" if self.tune else self.backend
        return f"{self.arch.name}-{self.data.name}-{what}-s{self.seed}"

    def choice(self) -> dict[str, Any]:
        """Of a measurement neither schedule nor split decide anything."""
        whole = super().choice()
        whole["of"] = self.of and Path(self.of).name  # which ends with what decided it
        data = {k: v for k, v in whole["data"].items() if k in ("name", "size", "num_classes", "root")}
        kept = (
            "seed",
            "arch",
            "ops",
            "optimizer",
            "device",
            "backend",
            "batch_sizes",
            "of",
            "parity",
            "tune",
        )
        return {"verb": self.verb, "data": data} | {key: whole[key] for key in kept}


def plain(config: DictConfig) -> Any:
    """A composed configuration as plain values.

    Raises:
        InputError: a value that must be given is not, or one that refers to another cannot be found.
    """
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = error.full_key or "configuration"
        if "Missing mandatory value" in str(error):
            raise InputError(f"{key}: has no default and must be given, as {key}=…") from None
        raise InputError(f"{key}: {str(error).splitlines()[0]}") from None


def parse(plain: Any) -> Settings:
    """Check a configuration of plain values.

    Raises:
        InputError: naming every wrong setting, its value and what is allowed.
        OpsError: an ablation axis that the architecture does not have.
    """
    try:
        if plain.get("of"):
            plain = _with_model_of(plain)
        settings = (Bench if "backend" in plain else Settings).model_validate(plain)
    except ValidationError as error:
        raise InputError("; ".join(_sentence(item, plain) for item in error.errors())) from None
    for axis, value in settings.ops.model_dump().items():
        if value != "native" and axis not in settings.resolved_ops():
            reason = "foreign" if settings.arch.native is None else "absent"
            raise OpsError(reason, f"ops.{axis}={value} with arch={settings.arch.name}")
    return settings


def _with_model_of(plain: dict[str, Any]) -> dict[str, Any]:
    """A measurement of a trained run: the model and the images are that run's."""
    run = Run(Path(plain["of"]).expanduser())
    config = run.config()
    if run.state != "finished" or run.verb != "train" or not config:
        said = {"new": "no run", "finished": "no training run"}.get(run.state, run.state)
        raise InputError(f"of={plain['of']}: {said}; allowed: the folder of a finished training run")
    ops, data = config["ops"], config["data"]
    images = {key: data[key] for key in ("name", "size", "num_classes", "root") if key in data}
    return plain | {
        "arch": config["arch"] | ({"native": ops} if ops else {}),
        "ops": dict.fromkeys(Ops.model_fields, "native") | ops,
        "data": {k: v for k, v in plain["data"].items() if k != "num_classes"} | images,
    }


def options(kind: type[SomeSection], given: Mapping[str, Any], where: str) -> SomeSection:
    """Check what a launcher or a sweeper was set to.

    Args:
        kind: what is allowed.
        given: the values, as Hydra has them.
        where: their section, for error messages: `hydra.launcher`.

    Raises:
        InputError: a wrong value.
    """
    try:
        return kind.model_validate(OmegaConf.to_container(OmegaConf.create(dict(given))))
    except ValidationError as error:
        item = error.errors()[0]
        key = ".".join(map(str, item["loc"]))
        message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise InputError(f"{where}.{key}={shown(item['input'])}: {message}") from None


def _sentence(item: Any, plain: Any) -> str:
    """One pydantic error as `setting=value: what is allowed`."""
    path = [str(step) for step in item["loc"]]
    if path[:1] == ["logger"]:
        del path[1:2]  # pydantic names the kind of logger here
    key = ".".join(path)
    if item["type"] == "extra_forbidden":
        for step in path[:-1]:
            plain = plain[step]
        known = [name for name in plain if name != path[-1]]
        return f"{key}: no such setting; {suggest(path[-1], known)}"
    if item["type"] == "missing":
        return f"{key}: is missing from the configuration"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if item["type"] == "string_pattern_mismatch":
        message = "allowed: letters, digits, '.', '_' and '-', a letter or digit first, 100 at most"
    elif item["type"] == "model_type":
        message = f"is a section; allowed: {key}.SETTING=VALUE"
    if not key:
        return str(message)
    if isinstance(item["input"], dict):
        return f"{key}.{message}"
    return f"{key}={shown(item['input'])}: {message}"


def shown(value: Any) -> str:
    """A value as one writes it on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return " ".join(str(value).split())
