"""Exceptions for bad input and for the ways in which a run can end without finishing."""

from __future__ import annotations

import difflib
import errno
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """Wrong setting, argument or file.

    The message is one line that names the setting, its value and what is allowed. It is raised
    before training starts; the command line prints it without a traceback and exits with 2.
    """


REASONS = {
    "absent": "the model has no such layer (at this image size)",
    "sum": "the model adds or concatenates feature maps that would differ in size",
    "small": "a feature map becomes too small for one of its layers",
    "norm": "the value is for networks without normalisation (allowed: ops.norm=none)",
    "foreign": "ops apply only to the models of cnnbench",
}
"""All reasons for which a model may refuse a value of an ablation axis."""


class NotThere(InputError):  # noqa: N818 - not necessarily a mistake
    """Missing file or folder that may still appear: `cnnbench compare --watch` waits for it."""


class OpsError(InputError):
    """Value of an ablation axis that a model does not support.

    Attributes:
        reason: a key of `REASONS`.
    """

    def __init__(self, reason: str, setting: str) -> None:
        super().__init__(f"{setting}: {REASONS[reason]}")
        self.reason = reason


class Unfit(InputError):  # noqa: N818 - says of what
    """Model that cannot compute logits of images of this size."""


class TooSmall(ValueError):  # noqa: N818 - says of what
    """A feature map is too small for a layer of the model."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM during a training.

    Neither an `Exception` nor a `KeyboardInterrupt`, on which Lightning exits the process and leaves
    SIGINT ignored: this one passes through Lightning's clean-up and is raised again.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Busy(Exception):  # noqa: N818 - not an error: another process does the work
    """Run that another process is training."""

    def __init__(self, path: object, status: Mapping[str, Any]) -> None:
        who = f"process {status['pid']} on {status['host']}" if "pid" in status else "another process"
        super().__init__(f"{path}: is being trained by {who}")
        self.who = who


class Superseded(Busy):
    """Run that another process took over while this one was suspended."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)
        self.who = "the process that took over"

    def __reduce__(self) -> tuple[type[Superseded], tuple[str]]:
        """Pickle it, for the process that waits for the one in which it was raised."""
        return type(self), (str(self),)


class Pruned(Exception):  # noqa: N818 - as above
    """Run that a search ended early because it fell behind others."""


class Unreadable(Exception):  # noqa: N818 - says of what
    """Image file that cannot be read, or not any more.

    Attributes:
        path: of the file.
        reason: in a few words.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Finding(Exception):  # noqa: N818 - as above
    """Failure of a measurement that would occur again, and is therefore not retried."""


class Diverged(Exception):  # noqa: N818 - a finding of the experiment, not a fault
    """Loss that is no longer finite."""

    def __init__(self, epoch: int, metric: str) -> None:
        super().__init__(f"{metric} is not finite in epoch {epoch}")
        self.epoch = epoch


def suggest(word: str, allowed: Iterable[str]) -> str:
    """Return `did you mean …? allowed: …` for an error message.

    Example:
        >>> suggest("basik", ["basic", "mlp"])
        'did you mean basic? allowed: basic, mlp'
    """
    names = [str(name) for name in allowed]
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return (f"did you mean {near[0]}? " if near else "") + "allowed: " + ", ".join(names)


def reason(error: Mapping[str, Any]) -> str:
    """Return the message of a pydantic error so that it can follow `setting=value: `.

    It strips the prefixes "Value error, ", which pydantic adds to the message of a validator, and "Input ",
    the subject of its own messages, which `setting=value` already names.

    Args:
        error: an item of `ValidationError.errors()`.
    """
    if error["type"] in ("float_type", "int_type") and _is_number(error["input"]):
        return "is text, not a number; allowed: without quotes"
    return str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")


def _is_number(text: object) -> bool:
    """Return whether a text is one of a number, as a quoted one in a file is."""
    if not isinstance(text, str):
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


DISK = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "make it writable",
    errno.EACCES: "change its permissions",
    errno.EPERM: "change its permissions",
    errno.ENOENT: "put it back if it was removed or moved",
    errno.ENOTDIR: "put it back if it was removed or moved",
    errno.ESTALE: "put it back if it was removed or moved",
    errno.EIO: "check the disk",
}
"""Errors of the operating system about a file or folder, with what to do."""

LIMITS = {
    errno.EMFILE: "raise `ulimit -n`",
    errno.ENFILE: "close other programs",
    errno.EAGAIN: "raise `ulimit -u`, or close other programs",
    errno.ENOMEM: "free some memory",
}
"""Errors of the operating system about what this process or the machine has too little of."""


def of_system(error: BaseException, where: object = "") -> str:
    """Return one line for an error of the operating system: what it is about, what is wrong, what to do.

    Includes what torch and Python make of one. Empty for any other error: a bug, or one of users' code,
    which needs its traceback.

    Args:
        error: the error.
        where: the file or folder that was written, which the line names instead of a file in it.

    Example:
        >>> of_system(OSError(28, "No space left on device"), "outputs/x")
        'outputs/x: No space left on device; free some space'
    """
    number, path = None, ""
    if isinstance(error, OSError):
        number, path = error.errno, str(error.filename or "")
    elif isinstance(error, RuntimeError):
        text = str(error)
        if "[enforce fail at" in text and isinstance(error.__context__, OSError):  # a checkpoint of torch
            return of_system(error.__context__, where)
        number = errno.EAGAIN if "can't start new thread" in text else None
        number = next((n for n in LIMITS if os.strerror(n).lower() in text.lower()), number)
    if number is None:  # some libraries only borrow the class
        return ""
    if number in LIMITS:  # whatever was to be opened
        path = ""
    elif where and number in DISK and (not path or _is_inside(path, str(where))):
        path = str(where)
    line = f"{path}: " * bool(path) + os.strerror(number)
    before = error.__context__
    while before is not None and (isinstance(before, OSError) or of_system(before)):
        before = before.__context__
    if isinstance(before, Exception):  # it was about to be recorded when this happened
        line += f" (after {type(before).__name__}: {before})"
    return "; ".join(filter(None, [line, (DISK | LIMITS).get(number)]))


def _is_inside(path: str, folder: str) -> bool:
    return Path(path).absolute().is_relative_to(Path(folder).absolute())
