"""Settings of one measurement."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from cnnbench.run_store.run import Run
from cnnbench.settings.base import FREE, Count, PathText, Rate, shown
from cnnbench.settings.model import UntrustedArch
from cnnbench.settings.run import Settings

EXPORTED_PRECISIONS = {"onnxruntime": ("32-true",), "openvino": ("32-true", "bf16-mixed")}
"""Precisions of the backends that run an exported model."""


class Bench(Settings):
    """Settings of one measurement: `conf/bench.yaml`."""

    verb: ClassVar[str] = "bench"
    work: ClassVar[str] = "cnnbench.bench.run:bench"

    backend: Literal["eager", "compile", "onnxruntime", "openvino"]
    batch_sizes: Any
    of: PathText | None
    trust_code: Annotated[bool, FREE]
    parity: bool
    tune: bool
    rounds: Annotated[Count, FREE]
    round_s: Annotated[Rate, FREE]
    memory_limit_gb: Annotated[Rate | None, FREE]

    @field_validator("batch_sizes")
    @classmethod
    def _in_order(cls, value: Any) -> Any:
        sizes = value if isinstance(value, list) else [value]
        positive = all(type(size) is int and size > 0 for size in sizes)
        if value != "auto" and not (sizes and positive and sizes == sorted(set(sizes))):
            raise ValueError("allowed: auto, or integers in increasing order, as in [1,8,64]")
        return value if value == "auto" else sizes

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
                    f"arch.{name}={shown(value)}: bench measures initial weights; allowed: of=RUN, a "
                    "run that was trained with this setting"
                )
        if self.parity and self.tune:
            raise ValueError("tune=true: not together with parity=true; allowed: one of them")
        if self.backend != "eager" and (self.parity or self.tune):
            reason = "parity=true compares all backends" if self.parity else "tune=true trains with torch"
            raise ValueError(f"backend={self.backend}: {reason}; allowed with it: eager")
        return self

    def made_otherwise(self, run: Run) -> str:
        """Return how an earlier measurement was made, if differently: `with rounds=2`; else an empty text."""
        config, status = run.config(), run.status()
        earlier = {key: config.get(key) for key in ("rounds", "round_s", "memory_limit_gb")}
        different = [f"{key}={shown(value)}" for key, value in earlier.items() if value != getattr(self, key)]
        differences = ["with " + " ".join(different)] if different else []
        host = status.get("host")
        if host != socket.gethostname():
            model = status.get("device", {}).get("model", "unknown")
            differences.append(f"on another machine, {host} ({model})")
        return " ".join(differences)

    @property
    def label(self) -> str:
        """Prefix of the run's name."""
        kind = "parity" if self.parity else "tune" if self.tune else self.backend
        return f"{self.arch.name}-{self.data.name}-{kind}-s{self.seed}"

    def choice(self) -> dict[str, Any]:
        """Return the settings that decide the result; schedule and split do not affect a measurement."""
        choice = super().choice()
        choice["of"] = self.of and Path(self.of).name  # it ends with the identity of that run
        data = {k: v for k, v in choice["data"].items() if k in ("name", "size", "num_classes")}
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
        return {"verb": self.verb, "data": data} | {key: choice[key] for key in kept}


class UntrustedBench(Bench):
    """Settings of a measurement of a trained run (`of`) whose code the user does not trust."""

    arch: UntrustedArch
