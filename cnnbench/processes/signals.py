"""Ctrl-C and SIGTERM as an exception."""

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
    """The exit code of `work`, also when Ctrl-C or SIGTERM ends it; what it was writing is taken away."""
    try:
        with interruptible():
            return work()
    except Interrupted as error:
        console.console.print("interrupted", style="yellow")
        return 128 + error.signum


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` on Ctrl-C, SIGTERM and a closed terminal; afterwards as it was before.

    A signal that is ignored stays so: what was started with `nohup` outlives its terminal, and a worker
    leaves Ctrl-C to the process that started it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)  # the clean-up is short: it is not interrupted too
        if _unbroken:
            _unbroken.append(signum)
        else:
            raise Interrupted(signum)

    before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


_unbroken: list[int] = []


@contextmanager
def unbroken() -> Iterator[None]:
    """Let an interruption wait until what is being written is whole."""
    _unbroken.append(0)
    try:
        yield
    finally:
        asked = _unbroken[-1]
        _unbroken.clear()
        if asked:
            raise Interrupted(asked)
