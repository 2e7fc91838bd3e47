"""Running cnnbench as tests do: tiny runs, processes of their own, kills at the right moment."""

import signal
import subprocess
import sys
import time
from pathlib import Path

TINY = ["data.limit=300", "trainer.max_epochs=2", "arch.width=0.25", "arch.blocks=2", "logger=none"]
"""A run of the basic CNN on digits that takes a fraction of a second."""


def command(*arguments, module="cnnbench"):
    """The command line of a process of its own."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def kill_when(process: subprocess.Popen, seen, signum=signal.SIGKILL, patience_s=120):
    """Send a signal as soon as `seen()` is true; fail if the process ends before."""
    deadline = time.monotonic() + patience_s
    while not seen():
        assert process.poll() is None, "the process ended by itself"
        assert time.monotonic() < deadline, "nothing to be seen"
        time.sleep(0.01)
    process.send_signal(signum)
    return process.wait(timeout=60)


def the_run(folder="outputs") -> Path:
    """The only run below a folder."""
    (found,) = [path.parent for path in Path(folder).rglob("status.json") if "repeats" not in path.parts]
    return found


def epochs(run: Path) -> int:
    """Return the number of epochs in metrics.csv."""
    try:
        return max(0, len((run / "metrics.csv").read_text().splitlines()) - 1)
    except OSError:
        return 0


def runs(folder="outputs") -> list[Path]:
    """The folders of the runs below a folder."""
    return [path.parent for path in Path(folder).rglob("status.json") if "repeats" not in path.parts]
