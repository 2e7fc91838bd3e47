"""How many cores this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""


def cpu_cores() -> int:
    """The cores that this process may use: of those of the machine, as much as its container has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, one of another kind, or one without a limit
        microseconds, period = map(int, (CGROUP / "cpu.max").read_text().split())
        cores = min(cores, max(1, microseconds // period))
    return cores
