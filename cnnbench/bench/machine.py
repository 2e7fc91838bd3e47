"""Which machine a measurement belongs to: without it, a number of milliseconds says nothing. Needs no torch
for a CPU.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

RUNTIMES = ("onnxruntime", "openvino")
"""Backends that run an exported model: each has the name of its package."""


def about(accelerator: str, backend: str) -> dict[str, str]:
    """`model` of the device, and the `runtime` that runs an exported model."""
    found = {"model": cpu() if accelerator == "cpu" else _other(accelerator)}
    if backend in RUNTIMES:
        found["runtime"] = f"{backend} {metadata.version(backend)}"
    return found


@cache
def cpu() -> str:
    """What the CPU calls itself; its architecture where it does not say."""
    name = ""
    with suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True).stdout
        elif sys.platform == "linux":
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
            name = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")
    return " ".join(name.split()) or platform.processor() or platform.machine() or "unknown"


def _other(accelerator: str) -> str:
    if accelerator == "mps":
        return cpu()  # one chip
    import torch

    return torch.cuda.get_device_name()
