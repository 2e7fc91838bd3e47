"""Memory of this process: how much it uses, and how much more it may allocate."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from cnnbench.errors import InputError
from cnnbench.processes.cores import CGROUP

STATUS = Path("/proc/self/status")
SHARE = 0.9
"""Fraction of the free memory that a measurement may use; the rest keeps the machine responsive."""

EXHAUSTED = re.compile(
    r"can't allocate|out of memory|cannot allocate|bad.?alloc|alloc\w*[ _]fail|could not create"
    r"|thread creation failed"
)
"""Error texts of torch, oneDNN, OpenMP, ONNX Runtime and OpenVINO when memory runs out."""


def resident() -> int:
    """Return the resident bytes of this process, after freed memory is given back to the system."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
        if trim is not None:
            trim(0)
    return int(psutil.Process().memory_info().rss)


def forget_peak() -> None:
    """Reset `peak`, where the system supports it; elsewhere it counts from the start of the process."""
    with suppress(OSError):  # not Linux, or not allowed
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Return the peak resident bytes of this process."""
    if STATUS.exists():
        match = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
        if match:
            return 1024 * int(match[1])
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def check(limit_gb: float | None, accelerator: str) -> None:
    """Check that a memory limit can be enforced.

    Raises:
        InputError: the device or the operating system does not support it.
    """
    if limit_gb is not None and (accelerator != "cpu" or sys.platform != "linux"):
        raise InputError(
            f"memory_limit_gb={limit_gb}: can be enforced only for the CPU on Linux; allowed: null, with "
            "smaller batch_sizes"
        )


def free() -> int:
    """Return the bytes that a process may still allocate on this machine or in this container."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        if limit.isdigit():
            available = min(available, int(limit) - int((CGROUP / "memory.current").read_text()))
    except OSError:
        pass  # no container, or one without cgroup v2
    return int(SHARE * available)


def confine(most: int) -> None:
    """Limit this process to `most` bytes beyond what it has, so that an allocation fails instead of a kill.

    Linux otherwise overcommits, and kills some process once the memory is used.
    """
    if sys.platform != "linux":
        return
    import resource

    match = re.search(r"VmData:\s+(\d+) kB", STATUS.read_text())
    current = 1024 * int(match[1]) if match else 0
    resource.setrlimit(resource.RLIMIT_DATA, (current + most, resource.RLIM_INFINITY))


def exhausted(error: BaseException) -> bool:
    """Return whether an error reports that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return bool(EXHAUSTED.search(str(error).lower()))
