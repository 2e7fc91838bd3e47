"""Settings of one training run, and which of them decide its result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import model_validator

from cnnbench.run_store.run import Run
from cnnbench.settings.base import (
    FREE,
    UNRECORDED,
    Count,
    Name,
    NonNegative,
    PathText,
    Section,
    Seed,
    added,
    free_settings,
    shown,
)
from cnnbench.settings.data import Data
from cnnbench.settings.device import Device
from cnnbench.settings.logger import AnyLogger
from cnnbench.settings.model import Arch, Ops
from cnnbench.settings.probes import Probes
from cnnbench.settings.recipe import Optimizer, Scheduler, Trainer


class Sweep(Section):
    """`sweep`: how the runs of a sweep are carried out, without effect on their results."""

    jobs: Count | None
    jobs_per_gpu: Count
    retries: NonNegative
    on_failure: Literal["continue", "stop"]
    on_refused: Literal["stop", "skip"]


class Settings(Section):
    """Settings of one run: `conf/train.yaml`."""

    verb: ClassVar[str] = "train"
    work: ClassVar[str] = "cnnbench.training.fit:fit"
    """Function that carries out the run: `work(settings, run, cores, rank)`."""

    name: Annotated[Name, FREE]
    seed: Seed
    select: Annotated[list[str], FREE]
    force: Annotated[bool, UNRECORDED]
    command: Annotated[tuple[str, ...], FREE] = ()
    output_dir: Annotated[PathText, FREE]
    arch: Arch
    ops: Ops
    data: Data
    optimizer: Optimizer
    scheduler: Scheduler
    trainer: Trainer
    device: Device
    logger: Annotated[AnyLogger, FREE]
    probes: Annotated[Probes, FREE, added(Probes())] = Probes()
    sweep: Annotated[Sweep, UNRECORDED]

    @model_validator(mode="after")
    def _warmup_fits(self) -> Settings:
        if self.scheduler.warmup_epochs >= self.trainer.max_epochs:
            raise ValueError(
                f"scheduler.warmup_epochs={self.scheduler.warmup_epochs}: "
                f"must be less than trainer.max_epochs={self.trainer.max_epochs}"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_chosen_without_val(self) -> Settings:
        if self.data.val_fraction > 0:
            return self
        patience, monitor, usual = self.trainer.early_stopping.patience, self.trainer.monitor, "val/acc"
        for setting, value, allowed in (
            ("trainer.early_stopping.patience", patience, None),
            ("trainer.monitor", monitor, usual),
            ("select", self.select, []),
        ):
            if value != allowed:
                raise ValueError(
                    f"{setting}={shown(value)}: chooses by val, of which data.val_fraction=0 leaves nothing; "
                    f"allowed: {shown(allowed)}, or another data.val_fraction"
                )
        return self

    @model_validator(mode="after")
    def _loss_takes_weights(self) -> Settings:
        if self.data.class_weights is not None and self.trainer.loss == "bce":  # an image has no one class
            raise ValueError(
                f"data.class_weights={shown(self.data.class_weights)}: not with trainer.loss=bce; "
                "allowed: null"
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
        if self.device.sync_batch_norm and self.device.compile:  # the compiler would bypass it
            raise ValueError("device.sync_batch_norm=true: not with device.compile=true; allowed: false")
        return self

    @model_validator(mode="after")
    def _probed_alone(self) -> Settings:
        for key, value, usual in (
            ("device.devices", self.device.devices, 1),
            ("device.nodes", self.device.nodes, 1),
            ("device.compile", self.device.compile, False),  # probes look inside the model
        ):
            if self.probes.names and value != usual:
                raise ValueError(
                    f"{key}={shown(value)}: not with probes ({', '.join(self.probes.names)}); "
                    f"allowed: {shown(usual)}, or probes=[]"
                )
        return self

    @model_validator(mode="after")
    def _selected_exists(self) -> Settings:
        for key in self.select:
            value: Any = self.choice()
            for step in key.split("."):
                value = value.get(step, {}) if isinstance(value, dict) else {}
            if value == {} or isinstance(value, dict) or key == "seed":
                raise ValueError(
                    f"select={key}: allowed: settings that decide the result, such as optimizer.lr"
                )
        return self

    def made_otherwise(self, run: Run) -> str:
        """Return how an earlier run of the same choice was made, where that may matter: `with rounds=2`."""
        return ""

    def lacking(self, run: Run) -> list[str]:
        """Return the probes that a finished run was not measured with, or differently."""
        if not self.probes.names or run.state != "finished":
            return []
        content = run.content()
        recorded, asked = content.config.get("probes", {}), self.probes.model_dump()
        return [
            name for name in asked if recorded.get(name) != asked[name] or name not in content.measured_probes
        ]

    @property
    def label(self) -> str:
        """Prefix of the run's name."""
        return f"{self.arch.name}-{self.data.name}-s{self.seed}"

    def resolved_ops(self) -> dict[str, str]:
        """Return the value of each axis that the architecture has, with `native` resolved.

        `init` is part of it only if it is not `native`, as before there was this axis.
        """
        if self.arch.native is None:
            return {}
        native = self.arch.native.model_dump(exclude_none=True)
        overrides = {axis: value for axis, value in self.ops.model_dump().items() if value != "native"}
        resolved = {axis: overrides.get(axis, value) for axis, value in native.items()}
        if "init" in overrides:  # only a built model knows whether it has residual branches
            resolved["init"] = overrides["init"]
        return resolved

    def choice(self) -> dict[str, Any]:
        """Return the settings that decide the result of a run of this kind, as plain values."""
        choice = self.model_dump(by_alias=True, exclude_unset=True, exclude=free_settings(type(self)))
        return choice | {"ops": self.resolved_ops()}

    def config(self) -> dict[str, Any]:
        """Return the content of config.yaml: the choice, and the settings marked `FREE`."""
        config, marks = self.choice(), free_settings(type(self))
        free = self.model_dump(by_alias=True, include=marks)
        for key, mark in marks.items():
            if mark is True and key in free:  # without probes there is no section of them
                config[key] = free[key]
            elif key in config:  # some settings of a section
                config[key] = config[key] | free[key]
        if self.data.name == "imagefolder":  # images of one's own: an absolute path
            config["data"]["root"] = str(Path(self.data.root).expanduser().absolute())
        return config
