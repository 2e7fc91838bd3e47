"""Where a run is computed: what `auto` becomes, and whether the device is there."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from cnnbench.errors import InputError
from cnnbench.processes.cores import cpu_cores
from cnnbench.settings.device import Device
from cnnbench.settings.model import Layout

DEVICE_TYPES = {"cpu": "cpu", "gpu": "cuda", "mps": "mps"}
"""What torch calls an accelerator."""

PRECISIONS = {
    "cpu": ("32-true", "bf16-mixed", "64-true"),
    "gpu": ("32-true", "tf32", "bf16-mixed", "16-mixed", "64-true"),
    "mps": ("32-true", "bf16-mixed", "16-mixed"),
}
"""The arithmetic that an accelerator has. `tf32` needs an NVIDIA GPU of compute capability 8.0 or more."""

MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""In which operations compute whose weights stay in float32."""

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
    asked: Device,
    recorded: Mapping[str, Any] | None = None,
    cores: int | None = None,
    layout: Layout | None = None,
) -> dict[str, Any]:
    """What the device settings become here; what an earlier attempt `recorded` stays.

    `auto` follows fixed rules and no timing, or a run could not be repeated: the first of GPU,
    MPS and CPU that is there; the architecture's own `layout` on it, else channels_last except on MPS (which
    has returned wrong numbers for it); as many threads as there are cores for this process, of which the run
    has `devices` on a machine.

    Raises:
        InputError: the device is not there, or cannot compute as it is asked to.
    """
    if recorded:
        chosen = dict(recorded)
    else:
        accelerator = available()[0] if asked.accelerator == "auto" else asked.accelerator
        chosen = {
            "accelerator": accelerator,
            "precision": asked.precision,
            "memory_format": _memory_format(asked, accelerator, layout),
            "threads": asked.threads or _threads(cores or cpu_cores() // asked.devices),
            "compile": asked.compile,
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
    precision, allowed = chosen["precision"], PRECISIONS[chosen["accelerator"]]
    if precision not in allowed:
        raise InputError(
            f"device.precision={precision}: not on {chosen['accelerator']}; allowed: {', '.join(allowed)}"
        )
    if precision == "tf32" and (torch.version.hip or torch.cuda.get_device_capability() < (8, 0)):
        raise InputError(
            f"device.precision=tf32: {torch.cuda.get_device_name()} has none; allowed: 32-true, 16-mixed"
        )
    if chosen.get("compile"):
        check_compiler("device.compile=true", chosen["accelerator"])
    return chosen


def _memory_format(asked: Device, accelerator: str, layout: Layout | None) -> str:
    if asked.memory_format != "auto":
        return asked.memory_format
    own = getattr(layout, accelerator, None)
    return own or ("contiguous" if accelerator == "mps" else "channels_last")


def check_compiler(setting: str, accelerator: str) -> None:
    """Whether torch.compile has what it needs: on the CPU it writes C++.

    Args:
        setting: that asks for it, with its value.
        accelerator: what is compiled for.

    Raises:
        InputError: there is no compiler.
    """
    if accelerator != "cpu":
        return
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        cpp_builder.get_cpp_compiler()
    except InvalidCxxCompiler:
        raise InputError(f"{setting}: no C++ compiler here (g++ or clang++; CXX names another)") from None


def _threads(cores: int) -> int:
    """As many as cores, but no more than the environment allows."""
    most = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(most)) if most.isdigit() else cores)


def place(model: nn.Module, device: Mapping[str, Any]) -> nn.Module:
    """Set threads and arithmetic, and the layout of the weights, which convolutions follow; compile it.

    To be called before weights of float64 are loaded, which float32 would round: Lightning converts a model
    only after it has restored it. Compiled in place: the names in its state_dict stay.
    """
    torch.set_num_threads(int(device["threads"]))
    if device["accelerator"] == "gpu":
        # Set by hand: convolutions have TF32 by default, products of matrices not. In torch's older way,
        # about which Lightning and the compiler ask: torch raises where both ways were used.
        tf32 = device["precision"] == "tf32"
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
    if device["precision"] == "64-true":
        model = model.double()
    model = model.to(memory_format=MEMORY_FORMATS[device["memory_format"]])
    if device.get("compile"):
        quiet_compiler()
        model.compile()
    return model


def autocast(device: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """What Lightning does for the mixed precisions; nothing for the others."""
    dtype = MIXED.get(device["precision"])
    return torch.autocast(DEVICE_TYPES[device["accelerator"]], dtype) if dtype else nullcontext()


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that the clock shows its work and not its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def quiet_compiler() -> None:
    """torch.compile looks for CUDA, and warns that there is none, also where nobody asked for it."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def lightning_precision(precision: str) -> Any:
    """What Lightning calls it: TF32 is a way to compute with float32."""
    return "32-true" if precision == "tf32" else precision
