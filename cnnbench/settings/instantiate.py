"""From a part of the configuration to the object that it describes."""

from __future__ import annotations

import functools
import inspect
import pkgutil
import sys
import traceback
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from cnnbench.errors import InputError, reason, suggest
from cnnbench.settings.base import Component, shown
from cnnbench.settings.code import forget_stale


def factory(part: Component, group: str, **given: Any) -> Callable[..., Any]:
    """What `part` describes, ready to be called: its `_target_` with its arguments.

    Args:
        part: names the callable and its arguments; they are checked by its signature.
        group: the configuration group, for error messages.
        given: what cnnbench knows (`num_classes`, …), passed on where the callable names it and
            the configuration does not set it.

    Raises:
        InputError: no such callable, an argument that it does not take or of the wrong type. Calling
            what is returned raises one too where the callable raises ValueError or TypeError.
    """
    try:
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))  # as `python -m cnnbench` has it: a user's own mynet.py
        forget_stale(str(part.target))
        target = pkgutil.resolve_name(str(part.target))
        parameters = inspect.signature(target).parameters
    except Exception as error:  # of any module's code
        said = f"{error or type(error).__name__}{_place(error, str(part.target))}"
        raise InputError(f"{group}._target_={part.target}: cannot be imported ({said})") from error
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    hints = _hints(target)
    arguments = {key: value for key, value in given.items() if key in parameters}
    for key, value in part.arguments().items():
        if value is None and (key in arguments or key not in parameters):
            continue  # null in the configuration: as the data has it, or not at all
        if key not in parameters and not open_ended:
            raise InputError(
                f"{group}.{key}: {part.name} has no such setting; {suggest(key, parameters)}; "
                f"~{group}.{key} leaves it out"
            )
        arguments[key] = _typed(f"{group}.{key}", value, hints.get(key))

    @functools.wraps(target)
    def call(*positional: Any, **more: Any) -> Any:
        try:
            return target(*positional, **arguments, **more)
        except InputError:
            raise
        except (ValueError, TypeError, ArithmeticError, AssertionError, RuntimeError, MemoryError) as error:
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            separator = "." if message.split("=")[0] in parameters else f"={part.name}: "
            place = _place(error, str(part.target))
            raise InputError(f"{group}{separator}{message}{place}") from error

    return call


def _place(error: BaseException, target: str) -> str:
    """`, mynet.py line 12`: where a user's own module failed; nothing for what cnnbench and torch have."""
    module = target.partition(":")[0].split(".")[0]
    if module in ("cnnbench", "torch", "torchvision", "timm", "lightning"):
        return ""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(Path.cwd())
    ]
    return f", {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""


def _hints(target: Any) -> dict[str, Any]:
    """The annotations of a function or of a class's constructor, where they can be evaluated."""
    try:
        return typing.get_type_hints(
            target.__init__ if inspect.isclass(target) else target, include_extras=True
        )
    except (NameError, TypeError, AttributeError):
        return {}


def _typed(key: str, value: Any, hint: Any) -> Any:
    """`value` as the type that the callable asks for (a list as a tuple, 1.0 as 1)."""
    if hint is None:
        return value
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, TypeError):  # a type that pydantic knows nothing about
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise InputError(f"{key}={shown(value)}: {reason(error.errors()[0])}") from None
