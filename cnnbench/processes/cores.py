"""CPU cores available to this process."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Mount point of the resource limits of a container on Linux."""


def cpu_cores() -> int:
    """Return how many cores this process may use, by its CPU affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, another kind of container, or no limit
        microseconds, period = map(int, (CGROUP / "cpu.max").read_text().split())
        cores = min(cores, max(1, microseconds // period))
    return cores
