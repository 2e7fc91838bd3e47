"""`cnnbench compare --html FILE --watch`: the page is written again as runs finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cnnbench import ui
from cnnbench.errors import InputError
from cnnbench.runs import find

EVERY_S = 2.0
FILES = ("status.json", "summary.json", "metrics.csv")

State = frozenset[tuple[str, int]]


def watch(paths: Sequence[Path], write: Callable[[], None], every_s: float = EVERY_S) -> None:
    """Call `write` once, and again whenever a run has changed, until Ctrl-C.

    Runs that appear are seen; those that are not there yet are waited for.
    """
    seen: State | None = None
    try:
        while True:
            if (now := state(paths)) != seen:
                try:
                    write()
                except (InputError, OSError) as error:  # such as no run yet, or a full disk
                    ui.console.print(f"{error}; waiting", style="yellow", highlight=False, soft_wrap=True)
                seen = now
            time.sleep(every_s)
    except KeyboardInterrupt:
        ui.console.print("no longer watched", style="dim")


def state(paths: Sequence[Path]) -> State:
    """When the files of the runs were last written."""
    found = set()
    for path in paths:
        for run in find(path) if path.is_dir() else ():
            for name in FILES:
                try:
                    found.add((str(run.path / name), (run.path / name).stat().st_mtime_ns))
                except OSError:  # not there yet, or taken away just now
                    continue
    return frozenset(found)
