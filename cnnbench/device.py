"""Where a run is computed: what `auto` becomes, and whether the device is there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cnnbench.errors import InputError
from cnnbench.process import cpu_cores
from cnnbench.settings import Device

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def available() -> list[str]:
    """The accelerators of this machine, the best first."""
    found = []
    if torch.cuda.is_available():
        found.append("gpu")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def resolve(
    asked: Device, recorded: Mapping[str, Any] | None = None, cores: int | None = None
) -> dict[str, Any]:
    """What the device settings become here; what an earlier attempt `recorded` stays.

    `auto` follows fixed rules and no timing, or a run could not be repeated: the first of GPU,
    MPS and CPU that is there; channels_last except on MPS (which has returned wrong numbers for it);
    as many threads as there are cores for this process, of which the run has `devices` on a machine.

    Raises:
        InputError: the device is not there, or cannot compute in the precision that is asked for.
    """
    if recorded:
        chosen = dict(recorded)
    else:
        accelerator = available()[0] if asked.accelerator == "auto" else asked.accelerator
        layout = asked.memory_format
        if layout == "auto":
            layout = "contiguous" if accelerator == "mps" else "channels_last"
        chosen = {
            "accelerator": accelerator,
            "precision": asked.precision,
            "memory_format": layout,
            "threads": asked.threads or _threads(cores or cpu_cores() // asked.devices),
        }
    chosen |= {"devices": asked.devices, "nodes": asked.nodes}
    if chosen["accelerator"] not in available():
        why = " (where the run was started)" if recorded else ""
        raise InputError(
            f"device.accelerator={chosen['accelerator']}{why}: not here; there are: {', '.join(available())}"
        )
    there = {"gpu": torch.cuda.device_count(), "mps": 1}.get(chosen["accelerator"])
    if there is not None and asked.devices > there:
        raise InputError(f"device.devices={asked.devices}: too many; allowed: {there} at most")
    if chosen["precision"] == "16-mixed" and chosen["accelerator"] == "cpu":
        raise InputError("device.precision=16-mixed: not on the CPU; allowed: 32-true, bf16-mixed, 64-true")
    if chosen["precision"] == "64-true" and chosen["accelerator"] == "mps":
        raise InputError("device.precision=64-true: not on MPS; allowed: 32-true, bf16-mixed, 16-mixed")
    return chosen


def _threads(cores: int) -> int:
    """As many as cores, but no more than the environment allows."""
    most = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(most)) if most.isdigit() else cores)


def place(model: nn.Module, device: Mapping[str, Any]) -> nn.Module:
    """Set the number of CPU threads and the layout of the weights, which convolutions follow."""
    torch.set_num_threads(int(device["threads"]))
    return model.to(memory_format=MEMORY_FORMATS[device["memory_format"]])
