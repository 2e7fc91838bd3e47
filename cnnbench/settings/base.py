"""Building blocks of the settings' sections: marks, types and their checks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from omegaconf import OmegaConf
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cnnbench.errors import InputError, reason


class _Free:
    """Mark of a setting that only controls how a run is carried out or shown."""


FREE = _Free()
"""`Annotated[int, FREE]`: the setting is recorded in config.yaml, but is not part of the run's identity."""

UNRECORDED = Field(exclude=True)
"""`Annotated[bool, UNRECORDED]`: the setting applies to this one command and is not recorded at all."""


def added(as_before: Any) -> Any:
    """Return the mark of a setting that came later: its value `as_before` leaves identities unchanged."""
    return Field(exclude_if=lambda value: value == as_before)


Count = Annotated[int, Field(ge=1, le=10**9)]
NonNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0, le=1e38)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _expandable(text: str) -> str:
    try:
        Path(text).expanduser()
    except RuntimeError:
        raise ValueError("no such user; allowed: a path") from None
    return text


PathText = Annotated[str, Field(min_length=1), AfterValidator(_expandable)]
"""Path of a file or a folder; `~` is the home of a user."""
_PATHS: TypeAdapter[str] = TypeAdapter(PathText)


def is_path(value: Any) -> bool:
    """Return whether a value is a valid path, so that it can be looked up before all settings are checked."""
    try:
        _PATHS.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


class Section(BaseModel):
    """Section without unknown keys, with strict types: `"3"` is not a number, `1` is not a bool."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


SomeSection = TypeVar("SomeSection", bound=Section)


def _section(annotation: Any) -> type[BaseModel] | None:
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_section else None


@cache
def free_settings(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the settings that are marked `FREE`, as pydantic's `exclude` and `include` take them."""
    settings: dict[str, Any] = {}
    for name, info in kind.model_fields.items():
        if any(isinstance(mark, _Free) for mark in info.metadata):
            settings[name] = True
        elif (section := _section(info.annotation)) and (inner := free_settings(section)):
            settings[name] = inner
    return settings


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("should be a finite number")
    return value


FiniteArguments = dict[str, Annotated[Any, AfterValidator(_finite)]]
"""Arguments of a `_target_`, none of which is NaN or infinite."""


class Component(Section):
    """Section that describes an object: `_target_` and its arguments, which are checked by its signature."""

    model_config = ConfigDict(extra="allow")

    name: Name
    target: str | None = Field(alias="_target_", serialization_alias="_target_")

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `_target_`."""
        return self.model_dump(exclude={"name", "target"}, exclude_unset=True)


def options(kind: type[SomeSection], given: Mapping[str, Any], where: str) -> SomeSection:
    """Check the options of one section, such as those of a launcher or a sweeper.

    Args:
        kind: schema of the section.
        given: the values, as Hydra composed them.
        where: name of the section for error messages, such as `hydra.launcher`.

    Raises:
        InputError: a wrong value.
    """
    try:
        return kind.model_validate(OmegaConf.to_container(OmegaConf.create(dict(given))))
    except ValidationError as error:
        item = error.errors()[0]
        key = ".".join(map(str, item["loc"]))
        raise InputError(f"{where}.{key}={shown(item['input'])}: {reason(item)}") from None


def causes(errors: Sequence[Any]) -> list[Any]:
    """Return pydantic's errors without that of `optimizer.lr` if its value is a wrong one of `arch.rates`."""
    rates = [error["input"] for error in errors if error["loc"][:2] == ("arch", "rates")]
    return [one for one in errors if one["loc"] != ("optimizer", "lr") or one["input"] not in rates]


def shown(value: Any) -> str:
    """Return a value as written on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return " ".join(str(value).split())
