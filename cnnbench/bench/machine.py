"""The machine that a measurement belongs to. Needs no torch for a CPU."""

from __future__ import annotations

import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from cnnbench.run_store.identity import RUNTIMES


def about(accelerator: str, backend: str) -> dict[str, str]:
    """Return the `model` of the device and, for an exported model, the `runtime` with its version."""
    facts = {"model": cpu() if accelerator == "cpu" else _other(accelerator)}
    if backend in RUNTIMES:
        facts["runtime"] = f"{backend} {metadata.version(backend)}"
    return facts


@cache
def cpu() -> str:
    """Return the CPU's model name, or its architecture where that is unknown."""
    name = ""
    with suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
        elif sys.platform == "linux":
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
            name = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")
    return " ".join(name.split()) or platform.processor() or platform.machine() or "unknown"


def _other(accelerator: str) -> str:
    if accelerator == "mps":
        return cpu()  # CPU and GPU are one chip
    import torch

    return torch.cuda.get_device_name()
