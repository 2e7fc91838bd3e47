"""`cnnbench compare --html FILE --watch`: rewrite the page as runs finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cnnbench import console
from cnnbench.errors import InputError, NotThere
from cnnbench.run_store.content import SEALED, STATUS
from cnnbench.run_store.find import find

EVERY_S = 2.0
"""The seconds between two looks at the runs."""

FILES = (STATUS, *SEALED)
"""The files of a run that are watched."""

State = frozenset[tuple[str, int]]
"""The watched files with their times of modification, in ns."""


def watch(paths: Sequence[Path], write: Callable[[], None], every_s: float = EVERY_S) -> None:
    """Call `write` now and after each change of a run, until Ctrl-C.

    Folders and runs that do not exist yet are waited for, and new ones are noticed.

    Args:
        paths: folders of runs.
        write: writes the files.
        every_s: the seconds between two looks.

    Raises:
        InputError: `write` failed for a reason that waiting cannot remove.
    """
    seen: State | None = None
    written, reported = False, ""
    try:
        while True:
            if (now := state(paths)) != seen:
                try:
                    write()
                    written, reported = True, ""
                except InputError as error:
                    # If it worked before, it may work again, as after a disk was full.
                    if not (written or isinstance(error, NotThere)):
                        raise
                    if str(error) != reported:
                        reported = str(error)
                        _say(f"{reported}; waiting (Ctrl-C stops)", "yellow")
                seen = now
            time.sleep(every_s)
    except KeyboardInterrupt:
        _say("stopped watching", "dim")


def _say(text: str, style: str) -> None:
    console.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def state(paths: Sequence[Path]) -> State:
    """Return when the files of the runs were last modified."""
    times = set()
    for path in paths:
        try:
            runs = find(path)
        except InputError:  # `write` meets and reports it, too
            continue
        for run in runs:
            for name in FILES:
                try:
                    times.add((str(run.path / name), (run.path / name).stat().st_mtime_ns))
                except OSError:  # does not exist yet, or was just removed
                    continue
    return frozenset(times)
