"""What surrounds a training in its process: signals, warnings, the log file. All of it is undone after."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from cnnbench.errors import Interrupted

log = logging.getLogger("cnnbench")


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning and Pillow without their tips and without warnings about what is done on purpose."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            r".*does not have many workers.*",  # small sets lie in memory
            r".*your dataloader is not resumable.*",  # ImageData starts it at the right batch itself
            r".*Checkpoint directory .* exists.*",
            r".*`srun` command is available.*",  # on a cluster's login node
            r".*when logging on epoch level in distributed setting.*",  # what is logged is reduced already
            r".*Encountered `nan` values.*",  # a run that diverges says so itself
            r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # Lightning with torch 2.14
            r"Image size .* exceeds limit",  # of 89 million pixels; Pillow refuses twice as many
        ):
            warnings.filterwarnings("ignore", message)
        warnings.filterwarnings("ignore", module="PIL")  # about metadata that nothing here depends on
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""


def cpu_cores() -> int:
    """The cores that this process may use: of those of the machine, as much as its container has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, one of another kind, or one without a limit
        microseconds, period = map(int, (CGROUP / "cpu.max").read_text().split())
        cores = min(cores, max(1, microseconds // period))
    return cores


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


_captured = False


def capture() -> None:
    """From now on what this process prints goes nowhere, and into the run's log while there is one."""
    global _captured
    _captured = True
    _print_to(os.open(os.devnull, os.O_WRONLY))


def _print_to(descriptor: int) -> None:
    """Also what libraries print past Python, and what Python says when it crashes."""
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    faulthandler.enable()


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append what cnnbench and Lightning log to the run's own file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setLevel(logging.INFO)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk: said elsewhere
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    if _captured and handler.stream is not None:
        _print_to(handler.stream.fileno())
    loggers = [log, logging.getLogger("lightning.pytorch")]
    level, log.level = log.level, logging.INFO
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    except BaseException:
        log.exception("the attempt ends here")
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        log.level = level
        handler.close()
