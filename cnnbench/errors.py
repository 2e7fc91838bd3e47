"""The ways a run can end other than by finishing."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Mapping
from typing import Any


class InputError(ValueError):
    """What the user asked for cannot be done.

    The message is one line that names the setting, its value and what is allowed. It is raised
    before training starts; the command line prints it without a traceback and exits with 2.
    """


REASONS = {
    "absent": "the model has no such layer (at this image size)",
    "sum": "the model adds or concatenates maps that would differ in size",
    "small": "a map becomes too small for one of its layers",
    "foreign": "ops apply to the models of cnnbench alone",
}
"""Why a model may refuse a value of an ablation axis: there are no other reasons."""


class NotThere(InputError):  # noqa: N818 - no mistake, as far as anybody knows
    """What was asked for is not there, and may come yet: `cnnbench compare --watch` waits for it."""


class OpsError(InputError):
    """A model cannot carry a value of an ablation axis.

    Attributes:
        reason: a key of `REASONS`.
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(f"{what}: {REASONS[reason]}")
        self.reason = reason


class TooSmall(ValueError):  # noqa: N818 - says of what
    """A feature map is too small for a layer of the model."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived while a run was being trained.

    Not an `Exception`, and not a `KeyboardInterrupt`, for which Lightning exits the process and
    leaves SIGINT ignored: this one passes through Lightning's clean-up and comes out again.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Busy(Exception):  # noqa: N818 - no error: somebody else does the work
    """Another process trains this run."""

    def __init__(self, path: object, status: Mapping[str, Any]) -> None:
        who = f"process {status['pid']} on {status['host']}" if "pid" in status else "another process"
        super().__init__(f"{path}: is being trained by {who}")
        self.who = who


class Superseded(Exception):  # noqa: N818 - as above
    """This process slept so long that another one took over its run."""


class Pruned(Exception):  # noqa: N818 - as above
    """A search has ended this run before its time: it falls behind others."""


class Finding(Exception):  # noqa: N818 - as above
    """What a measurement has found out, and would find out again: it is not tried a second time."""


class Diverged(Exception):  # noqa: N818 - a finding of the experiment, not a fault
    """The loss is no longer finite."""

    def __init__(self, epoch: int, what: str) -> None:
        super().__init__(f"{what} is not finite in epoch {epoch}")
        self.epoch = epoch


def suggest(word: str, allowed: Iterable[str]) -> str:
    """`did you mean …? allowed: …`, for an error message.

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
    return str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
