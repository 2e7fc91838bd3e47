"""`device`: where a run computes, and in which arithmetic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cnnbench.errors import InputError
from cnnbench.settings.base import Count, Name, Section, added

SHORT_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed", "fp64": "64-true"}
"""What people write, and what Lightning calls it."""


class Device(Section):
    """`device`: where and in which arithmetic. `auto` stays `auto` in the run's identity."""

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
    def _one_process_has_it_all(cls, value: Any) -> Any:
        """Its batch statistics are those of the whole batch, asked for or not: one and the same run."""
        alone = isinstance(value, dict) and value.get("devices", 1) == value.get("nodes", 1) == 1
        return value | {"sync_batch_norm": False} if alone and value.get("sync_batch_norm") is True else value

    @property
    def processes(self) -> int:
        """How many processes train a run together, on all machines."""
        return self.devices * self.nodes

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
