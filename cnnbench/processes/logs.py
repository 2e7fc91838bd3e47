"""Output of a process during a run: warnings to suppress, captured streams, the run's log file."""

from __future__ import annotations

import faulthandler
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from cnnbench.safe_text import clean, clean_lines

log = logging.getLogger("cnnbench")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the tips of Lightning and Pillow, and their warnings about intended behaviour."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    plain = warnings.formatwarning
    warnings.formatwarning = lambda *about: clean_lines(plain(*about))  # it may repeat names of files
    with warnings.catch_warnings():
        for message in (
            r".*does not have many workers.*",  # small data sets are held in memory
            r".*your dataloader is not resumable.*",  # ImageData starts it at the right batch itself
            r".*Checkpoint directory .* exists.*",
            r".*`srun` command is available.*",  # on a cluster's login node
            r".*when logging on epoch level in distributed setting.*",  # metrics are reduced already
            r".*Encountered `nan` values.*",  # a diverged run is reported by cnnbench
            r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # Lightning with torch 2.14
            r"Image size .* exceeds limit",  # of 89 million pixels; Pillow refuses twice as many
        ):
            warnings.filterwarnings("ignore", message)
        warnings.filterwarnings("ignore", module="PIL")  # about metadata that cnnbench does not use
        try:
            yield
        finally:
            warnings.formatwarning = plain
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


_captured = False


def capture() -> None:
    """Discard what this process prints from now on, until `log_file` redirects it to a run's log."""
    global _captured
    _captured = True
    _redirect(os.open(os.devnull, os.O_WRONLY))


def _redirect(descriptor: int) -> None:
    """Redirect stdout and stderr, including those of C libraries and of Python's crash handler."""
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    faulthandler.enable()


class _Clean(logging.Formatter):
    """Format of a log: a line for each message, and clean tracebacks."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of logging
        return clean(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - of logging
        return clean_lines(super().formatException(ei))


@contextmanager
def log_file(file: TextIO) -> Iterator[None]:
    """Append what cnnbench and Lightning log to a run's log file."""
    handler = logging.StreamHandler(file)
    handler.setLevel(logging.INFO)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk is reported elsewhere
    handler.setFormatter(_Clean("%(asctime)s %(levelname)s %(message)s"))
    if _captured:
        _redirect(file.fileno())
    loggers = [log, logging.getLogger("lightning.pytorch")]
    level, log.level = log.level, logging.INFO
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    except BaseException:
        log.exception("attempt ended")
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        log.level = level
        handler.close()
