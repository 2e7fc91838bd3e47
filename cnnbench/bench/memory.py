"""What a process takes of the machine's memory, and how much more it may take."""

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
"""Of the free memory that a measurement may take: the rest keeps the machine alive."""

EXHAUSTED = re.compile(
    r"can't allocate|out of memory|cannot allocate|bad.?alloc|alloc\w*[ _]fail|could not create"
    r"|thread creation failed"
)
"""What torch, oneDNN, OpenMP, ONNX Runtime and OpenVINO say when there is no more memory."""


def resident() -> int:
    """Bytes of this process that lie in memory, without what was freed and not yet given back."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
        if trim is not None:
            trim(0)
    return int(psutil.Process().memory_info().rss)


def forget_peak() -> None:
    """Let `peak` count from now on, where the system can; else it counts from the process's start."""
    with suppress(OSError):  # not Linux, or not allowed
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes of this process that lay in memory at a time."""
    if STATUS.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
        if found:
            return 1024 * int(found[1])
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def check(limit_gb: float | None, accelerator: str) -> None:
    """Whether a limit can be kept.

    Raises:
        InputError: not on this device, or by this system.
    """
    if limit_gb is not None and (accelerator != "cpu" or sys.platform != "linux"):
        raise InputError(
            f"memory_limit_gb={limit_gb}: can be kept on the CPU alone, by Linux; allowed: null, and smaller "
            "batch_sizes"
        )


def free() -> int:
    """Bytes that a process may still take on this machine, or in this container."""
    found = int(psutil.virtual_memory().available)
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        if limit.isdigit():
            found = min(found, int(limit) - int((CGROUP / "memory.current").read_text()))
    except OSError:
        pass  # no container, or one of another kind
    return int(SHARE * found)


def confine(most: int) -> None:
    """Let this process take no more than `most` bytes besides what it has: it is told no, and not killed.

    Without it Linux promises what there is not, and ends some process when the memory is used.
    """
    if sys.platform != "linux":
        return
    import resource

    found = re.search(r"VmData:\s+(\d+) kB", STATUS.read_text())
    has = 1024 * int(found[1]) if found else 0
    resource.setrlimit(resource.RLIMIT_DATA, (has + most, resource.RLIM_INFINITY))


def exhausted(error: BaseException) -> bool:
    """Whether an error says that there was no more memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return bool(EXHAUSTED.search(str(error).lower()))
