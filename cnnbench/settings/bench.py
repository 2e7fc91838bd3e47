"""Everything that one measurement is asked for."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from cnnbench.run_store.run import Run
from cnnbench.settings.base import FREE, Count, Place, Rate, shown
from cnnbench.settings.run import Settings

EXPORTED_PRECISIONS = {"onnxruntime": ("32-true",), "openvino": ("32-true", "bf16-mixed")}
"""Of the backends that run an exported model."""


class Bench(Settings):
    """Everything that one measurement is asked for: `conf/bench.yaml`."""

    verb: ClassVar[str] = "bench"
    work: ClassVar[str] = "cnnbench.bench.run:bench"

    backend: Literal["eager", "compile", "onnxruntime", "openvino"]
    batch_sizes: Any
    of: Place | None
    trust_code: Annotated[bool, FREE]
    parity: bool
    tune: bool
    rounds: Annotated[Count, FREE]
    round_s: Annotated[Rate, FREE]
    memory_limit_gb: Annotated[Rate | None, FREE]

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
        for name, value in (("weights", self.arch.weights), ("freeze", self.arch.freeze)):
            if value and self.of is None:
                raise ValueError(
                    f"arch.{name}={shown(value)}: bench measures weights as they are initialised; allowed: "
                    "of=RUN, a run that was trained with it"
                )
        if self.parity and self.tune:
            raise ValueError("tune=true: one thing at a time; allowed with parity=false alone")
        if self.backend != "eager" and (self.parity or self.tune):
            what = "parity=true compares all backends" if self.parity else "tune=true trains with torch"
            raise ValueError(f"backend={self.backend}: {what}; allowed with it: eager")
        return self

    def made_otherwise(self, run: Run) -> str:
        """`with rounds=2`, or on which other machine; empty if it was made as this one would be."""
        config, status = run.config(), run.status()
        said = {key: config.get(key) for key in ("rounds", "round_s", "memory_limit_gb")}
        how = " ".join(f"{key}={shown(value)}" for key, value in said.items() if value != getattr(self, key))
        where = status.get("host")
        if where != socket.gethostname():
            model = status.get("device", {}).get("model", "unknown")
            return " ".join(filter(None, (how and f"with {how}", f"on another machine, {where} ({model})")))
        return how and f"with {how}"

    @property
    def label(self) -> str:
        """What a run's name begins with."""
        what = "parity" if self.parity else "tune" if self.tune else self.backend
        return f"{self.arch.name}-{self.data.name}-{what}-s{self.seed}"

    def choice(self) -> dict[str, Any]:
        """Of a measurement neither schedule nor split decide anything."""
        whole = super().choice()
        whole["of"] = self.of and Path(self.of).name  # which ends with what decided it
        data = {k: v for k, v in whole["data"].items() if k in ("name", "size", "num_classes")}
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

    def deciding(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """Leave out what this measurement does not depend on.

        Nobody trains an exported model, and it has no memory format; `parity` and `tune` try all there are.
        """
        found = {key: dict(value) if isinstance(value, Mapping) else value for key, value in choice.items()}
        exported = self.backend in EXPORTED_PRECISIONS
        if exported or self.parity:
            del found["optimizer"]
        if self.parity:
            del found["batch_sizes"], found["device"]["precision"]
        if exported or self.tune:
            del found["device"]["memory_format"]
        return found
