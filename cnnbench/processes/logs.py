"""What surrounds a training in its process: signals, warnings, the log file. All of it is undone after."""

from __future__ import annotations

import faulthandler
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
