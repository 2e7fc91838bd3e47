"""Device of a run: what `auto` resolves to, availability, and the setup of model and threads."""

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
"""Torch's names of the accelerators."""

PRECISIONS = {
    "cpu": ("32-true", "bf16-mixed", "64-true"),
    "gpu": ("32-true", "tf32", "bf16-mixed", "16-mixed", "64-true"),
    "mps": ("32-true", "bf16-mixed", "16-mixed"),
}
"""Precisions that each accelerator supports; `tf32` needs an NVIDIA GPU of compute capability 8.0 or more."""

MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Compute types of the mixed precisions, whose weights stay in float32."""

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
"""Torch's memory formats by name."""


def available() -> list[str]:
    """Return the accelerators of this machine, the best first."""
    accelerators = []
    if torch.cuda.is_available():
        accelerators.append("gpu")
    if torch.backends.mps.is_available():
        accelerators.append("mps")
    return [*accelerators, "cpu"]


def resolve(
    settings: Device,
    recorded: Mapping[str, Any] | None = None,
    cores: int | None = None,
    layout: Layout | None = None,
) -> dict[str, Any]:
    """Resolve the device settings on this machine; values that an earlier attempt recorded are kept.

    `auto` follows fixed rules rather than timings, so that runs can be reproduced: the first available of
    GPU, MPS and CPU; the architecture's `layout` on it, else channels_last, except on MPS, which has returned
    wrong numbers for it; one thread per core of this process's share of the machine.

    Args:
        settings: the device settings.
        recorded: what they were resolved to when the run was first started.
        cores: number of the machine's cores that this process may use; None: its share of all.
        layout: memory formats that suit the architecture, by accelerator.

    Returns:
        accelerator, precision, memory_format, threads, compile, devices and nodes.

    Raises:
        InputError: the device is not available, or does not support what the settings require.
    """
    if recorded:
        chosen = dict(recorded)
    else:
        accelerator = available()[0] if settings.accelerator == "auto" else settings.accelerator
        chosen = {
            "accelerator": accelerator,
            "precision": settings.precision,
            "memory_format": _memory_format(settings, accelerator, layout),
            "threads": settings.threads or _threads(cores or cpu_cores() // settings.devices),
            "compile": settings.compile,
        }
    chosen |= {"devices": settings.devices, "nodes": settings.nodes}
    if chosen["accelerator"] not in available():
        origin = " (on which the run was started)" if recorded else ""
        raise InputError(
            f"device.accelerator={chosen['accelerator']}{origin}: not available here; "
            f"allowed: {', '.join(available())}"
        )
    most = {"gpu": torch.cuda.device_count(), "mps": 1}.get(chosen["accelerator"])
    if most is not None and settings.devices > most:
        raise InputError(f"device.devices={settings.devices}: too many; allowed: {most} at most")
    precision, allowed = chosen["precision"], PRECISIONS[chosen["accelerator"]]
    if precision not in allowed:
        raise InputError(
            f"device.precision={precision}: not on {chosen['accelerator']}; allowed: {', '.join(allowed)}"
        )
    if precision == "tf32" and (torch.version.hip or torch.cuda.get_device_capability() < (8, 0)):
        raise InputError(
            f"device.precision=tf32: not on {torch.cuda.get_device_name()}; allowed: 32-true, 16-mixed"
        )
    if chosen.get("compile"):
        check_compiler("device.compile=true", chosen["accelerator"])
    return chosen


def _memory_format(settings: Device, accelerator: str, layout: Layout | None) -> str:
    if settings.memory_format != "auto":
        return settings.memory_format
    own = getattr(layout, accelerator, None)
    return own or ("contiguous" if accelerator == "mps" else "channels_last")


def check_compiler(setting: str, accelerator: str) -> None:
    """Check that torch.compile has the C++ compiler that it needs on the CPU.

    Args:
        setting: the setting that requires it, with its value, for the error message.
        accelerator: the accelerator that is compiled for.

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
        raise InputError(f"{setting}: no C++ compiler found (g++ or clang++; CXX names another)") from None


def _threads(cores: int) -> int:
    """Return one thread per core, but no more than OMP_NUM_THREADS."""
    most = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(most)) if most.isdigit() else cores)


def place(model: nn.Module, device: Mapping[str, Any]) -> nn.Module:
    """Set threads and precision, convert the model to its memory format, and compile it if that is set.

    Call it before float64 weights are loaded, which float32 would round: Lightning converts a model only
    after restoring it. The model is compiled in place, so that the names in its state_dict stay.
    """
    torch.set_num_threads(int(device["threads"]))
    if device["accelerator"] == "gpu":
        # Set explicitly: by default convolutions use TF32 and matrix products do not. With torch's older API,
        # which Lightning and the compiler read: torch raises if both APIs are mixed.
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
    """Return the autocast context of a mixed precision, as in Lightning; a null context for the others."""
    dtype = MIXED.get(device["precision"])
    return torch.autocast(DEVICE_TYPES[device["accelerator"]], dtype) if dtype else nullcontext()


def synchronise(device: torch.device) -> None:
    """Wait for the device to finish its queue, so that timings include its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def quiet_compiler() -> None:
    """Silence torch.compile's warning that there is no CUDA, which it gives even on the CPU."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def lightning_precision(precision: str) -> Any:
    """Return Lightning's name of a precision; TF32 is float32 to Lightning."""
    return "32-true" if precision == "tf32" else precision
