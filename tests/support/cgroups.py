"""A limit on the memory of a command and all its processes, by a control group of the kernel."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")


def _candidates() -> Iterator[tuple[Path, str]]:
    """Yield where a group may be made, this process's own group first, and the file of its limit."""
    lines = Path("/proc/self/cgroup").read_text().splitlines() if sys.platform == "linux" else []
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield ROOT / "memory" / own.lstrip("/"), "memory.limit_in_bytes"
    for line in lines:
        if line.startswith("0::"):
            yield ROOT / line[3:].lstrip("/"), "memory.max"
            yield ROOT, "memory.max"


@contextmanager
def limited_to(size: int) -> Iterator[list[str]]:
    """Make a group whose processes may use `size` bytes together; skip the test where none can be made.

    Yields:
        What to write before a command, so that it runs in the group.
    """
    for folder, limit in _candidates():
        group = folder / f"cnnbench-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if limit == "memory.max" and not (group / limit).exists():
                (folder / "cgroup.subtree_control").write_text("+memory")
            (group / limit).write_text(str(size))
            if (group / "memory.swap.max").exists():
                (group / "memory.swap.max").write_text("0")
            yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
            return
        except OSError:
            continue
        finally:
            _remove(group)
    if (
        shutil.which("systemd-run")
        and subprocess.run(["systemd-run", "--scope", "-q", "true"], check=False).returncode == 0
    ):
        yield ["systemd-run", "--scope", "-q", "-p", f"MemoryMax={size}", "-p", "MemorySwapMax=0"]
        return
    pytest.skip("no control group with a limit of memory can be made here")


def _remove(group: Path):
    """Remove a group as soon as its last process is gone."""
    for _ in range(100):
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return
