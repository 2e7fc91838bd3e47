"""From a section of the configuration to the object that it describes."""

from __future__ import annotations

import functools
import inspect
import pkgutil
import re
import traceback
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from cnnbench.errors import InputError, reason, suggest
from cnnbench.settings.base import Component, shown
from cnnbench.settings.code import LIBRARIES, forget_stale
from cnnbench.settings.model import UntrustedArch

EXTRAS = ("timm", "schedulefree")
"""Packages of shipped components that an extra of the same name installs."""


def factory(component: Component, group: str, **given: Any) -> Callable[..., Any]:
    """Return the `_target_` of a component, with its arguments bound.

    Args:
        component: names the callable and its arguments, which are checked by its signature.
        group: the configuration group, for error messages.
        given: values that cnnbench provides (`num_classes`, …); passed on if the callable has a parameter
            of that name and the configuration does not set it.

    Returns:
        A callable that takes the remaining arguments. It raises InputError, too, where `_target_` raises
        ValueError, TypeError and the like.

    Raises:
        InputError: there is no such callable, or its origin is not trusted; or an argument is unknown or of
            the wrong type.
    """
    check_trusted(component, group)
    try:
        forget_stale(str(component.target))
        target = pkgutil.resolve_name(str(component.target))
        parameters = inspect.signature(target).parameters
    except Exception as error:  # a user's module may raise anything
        cause = f"{error or type(error).__name__}{_location(error, str(component.target))}"
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        hint = f"; run `pip install 'cnnbench[{missing}]'`" if missing in EXTRAS else ""
        raise InputError(
            f"{group}._target_={component.target}: cannot be imported ({cause}){hint}"
        ) from error
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    hints = _hints(target)
    arguments = {key: value for key, value in given.items() if key in parameters}
    for key, value in component.arguments().items():
        if value is None and (key in arguments or key not in parameters):
            continue  # null means: the value that cnnbench provides, or none
        if key not in parameters and not open_ended:
            raise InputError(
                f"{group}.{key}: {component.name} has no such setting; {suggest(key, parameters)}; "
                f"~{group}.{key} removes it"
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
            location = _location(error, str(component.target))
            if message.split("=")[0] in parameters:
                raise InputError(f"{group}.{message}{location}") from error
            given = component.arguments()  # as written, before `_typed`
            if named := _named(message, given):
                raise InputError(f"{group}.{named}={shown(given[named])}: {message}{location}") from error
            raise InputError(f"{group}={component.name}: {message}{location}") from error

    return call


def _named(message: str, arguments: Mapping[str, Any]) -> str | None:
    """Return the argument that a message is about, if it names only one, as in `Invalid momentum: 1.5`."""
    words = re.findall(r"\w+", message.lower())
    named = [key for key in arguments if key in words or key.removesuffix("s") in words]
    return named[0] if len(named) == 1 else None


def check_trusted(component: Component, group: str) -> None:
    """Check that a section that was read from a run names what cnnbench ships: a name could run any code.

    Raises:
        InputError: it does not, and the user has not said that the origin of the run is trusted.
    """
    if isinstance(component, UntrustedArch) and component.target not in shipped(group):
        raise InputError(
            f"{group}._target_={shown(component.target)}: is not an architecture of cnnbench, and its code "
            "would be executed; allowed: with --trust-code (bench: trust_code=true), if you trust this run's "
            "origin"
        )


@cache
def shipped(group: str) -> frozenset[str]:
    """Return the `_target_`s of the choices that cnnbench ships for a group."""
    from cnnbench.settings.compose import CONF  # needs Hydra

    files = Path(CONF, group).glob("*.yaml")
    sections = (yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader) for file in files)
    return frozenset(section["_target_"] for section in sections)


def _location(error: BaseException, target: str) -> str:
    """Return `, mynet.py line 12` for an error in a user's own module; an empty text for other modules."""
    module = target.partition(":")[0].split(".")[0]
    if module in LIBRARIES:
        return ""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(Path.cwd())
    ]
    return f", {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""


def _hints(target: Any) -> dict[str, Any]:
    """Return the annotations of a function or of a class's constructor; none if they cannot be evaluated."""
    try:
        return typing.get_type_hints(
            target.__init__ if inspect.isclass(target) else target, include_extras=True
        )
    except (NameError, TypeError, AttributeError):
        return {}


def _typed(key: str, value: Any, hint: Any) -> Any:
    """Convert a value to the type that the callable declares (a list to a tuple, 1.0 to 1)."""
    if hint is None:
        return value
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, TypeError):  # a type that pydantic does not know
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise InputError(f"{key}={shown(value)}: {reason(error.errors()[0])}") from None
