"""`cnnbench compare --html FILE --watch`: the page is written again as runs finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cnnbench import console
from cnnbench.errors import InputError, NotThere
from cnnbench.run_store.find import find

EVERY_S = 2.0
FILES = ("status.json", "summary.json", "metrics.csv")

State = frozenset[tuple[str, int]]


def watch(paths: Sequence[Path], write: Callable[[], None], every_s: float = EVERY_S) -> None:
    """Call `write` once, and again whenever a run has changed, until Ctrl-C.

    Runs that appear are seen; what is not there yet is waited for.

    Raises:
        InputError: `write` has failed in a way that waiting does not mend.
    """
    seen: State | None = None
    written, said = False, ""
    try:
        while True:
            if (now := state(paths)) != seen:
                try:
                    write()
                    written, said = True, ""
                except InputError as error:
                    # What went well before may do so again, such as when a disk is full.
                    if not (written or isinstance(error, NotThere)):
                        raise
                    if str(error) != said:
                        said = str(error)
                        _say(f"{said}; waiting for it (Ctrl-C ends that)", "yellow")
                seen = now
            time.sleep(every_s)
    except KeyboardInterrupt:
        _say("no longer watched", "dim")


def _say(text: str, style: str) -> None:
    console.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def state(paths: Sequence[Path]) -> State:
    """When the files of the runs were last written."""
    found = set()
    for path in paths:
        try:
            runs = find(path)
        except InputError:  # which `write` finds, too, and tells
            continue
        for run in runs:
            for name in FILES:
                try:
                    found.add((str(run.path / name), (run.path / name).stat().st_mtime_ns))
                except OSError:  # not there yet, or taken away just now
                    continue
    return frozenset(found)
