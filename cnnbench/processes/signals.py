"""Ctrl-C, SIGTERM and SIGHUP as an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from cnnbench import console
from cnnbench.errors import Interrupted


def until_interrupted(work: Callable[[], int]) -> int:
    """Return the exit code of `work`, or 128 + the signal's number if a signal interrupts it.

    Files that were being written are removed on the way out.
    """
    try:
        with interruptible():
            return work()
    except Interrupted as error:
        console.console.print("interrupted", style="yellow")
        return 128 + error.signum


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` on Ctrl-C, SIGTERM and a closed terminal; restore the handlers afterwards.

    A signal that is ignored stays ignored: a command started with `nohup` outlives its terminal, and a worker
    leaves Ctrl-C to its parent process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)  # a second signal must not break the short clean-up
        if _deferred:
            _deferred.append(signum)
        else:
            raise Interrupted(signum)

    previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


_deferred: list[int] = []
"""Empty outside `unbroken`; inside, 0 and then the signal that arrived meanwhile."""


@contextmanager
def unbroken() -> Iterator[None]:
    """Defer an interruption until the end of the block, so that what it writes is complete."""
    _deferred.append(0)
    try:
        yield
    finally:
        signum = _deferred[-1]
        _deferred.clear()
        if signum:
            raise Interrupted(signum)
