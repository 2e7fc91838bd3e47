"""States, processes and epochs of a sweep's runs."""

import json
import time
from pathlib import Path

from cnnbench.run_store.find import find


def states(folder="outputs"):
    return sorted(run.state for run in find(Path(folder)))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid, patience_s=30):
    deadline = time.monotonic() + patience_s
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def logged_epochs(run):
    """Return the epochs trained over all attempts, in the order of the log."""
    lines = (run.path / "train.log").read_text().splitlines()
    return [json.loads(line.partition("INFO ")[2])["epoch"] for line in lines if '{"epoch"' in line]


def trained(run, count, again=0):
    """Return whether all epochs were trained, at most `again` of them twice, as after a kill."""
    logged = logged_epochs(run)
    return sorted(set(logged)) == list(range(count)) and len(logged) - count <= again
