"""`device`: hardware, precision and processes of a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cnnbench.errors import InputError
from cnnbench.settings.base import Count, Name, Section, added

SHORT_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed", "fp64": "64-true"}
"""Short names of precisions, with those of Lightning."""


class Device(Section):
    """`device`: hardware, precision and processes. `auto` stays `auto` in the run's identity."""

    name: Name
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    precision: Literal["32-true", "tf32", "bf16-mixed", "16-mixed", "64-true"]
    memory_format: Literal["auto", "contiguous", "channels_last"]
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    compile: Annotated[bool, added(False)] = False
    devices: Annotated[Count, added(1)] = 1
    nodes: Annotated[Count, added(1)] = 1
    sync_batch_norm: Annotated[bool, added(False)] = False

    @model_validator(mode="before")
    @classmethod
    def _single_process(cls, value: Any) -> Any:
        """Reset `sync_batch_norm` for a single process, which has the statistics of the full batch anyway."""
        alone = isinstance(value, dict) and value.get("devices", 1) == value.get("nodes", 1) == 1
        return value | {"sync_batch_norm": False} if alone and value.get("sync_batch_norm") is True else value

    @property
    def processes(self) -> int:
        """Number of processes that train a run together, on all machines."""
        return self.devices * self.nodes

    @property
    def least_images(self) -> int:
        """Smallest shard of a training batch: a single image has no batch statistics of its own."""
        return 1 if self.sync_batch_norm else 2

    @field_validator("precision", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return SHORT_PRECISION.get(value, value) if isinstance(value, str) else value

    def check_one_machine(self) -> None:
        """Check that the run needs one machine only, where it cannot be started on several.

        Raises:
            InputError: `nodes` is greater than 1.
        """
        if self.nodes > 1:
            raise InputError(
                f"device.nodes={self.nodes}: only -m hydra/launcher=slurm starts a run on several machines; "
                "allowed: 1"
            )
