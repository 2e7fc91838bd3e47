"""What the sections of the settings are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from omegaconf import OmegaConf
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cnnbench.errors import InputError, reason


class _Free:
    """Mark of a setting that only says how a run is carried out or shown."""


FREE = _Free()
"""`Annotated[int, FREE]`: the setting is recorded in config.yaml, and is no part of the run's identity."""

UNRECORDED = Field(exclude=True)
"""`Annotated[bool, UNRECORDED]`: it is neither; it concerns this one command."""


def added(as_before: Any) -> Any:
    """Return the mark of a setting that came later: at `as_before` it leaves identities as they were."""
    return Field(exclude_if=lambda value: value == as_before)


Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _place(text: str) -> str:
    try:
        Path(text).expanduser()
    except RuntimeError:
        raise ValueError("there is no such user; allowed: a path") from None
    return text


Place = Annotated[str, Field(min_length=1), AfterValidator(_place)]
"""A file or a folder; `~` is the home of a user."""
_PLACES: TypeAdapter[str] = TypeAdapter(Place)


def is_place(value: Any) -> bool:
    """Whether a setting may be looked for on the disk before it is checked with all others."""
    try:
        _PLACES.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


class Section(BaseModel):
    """A closed section: an unknown key is an error. Strict: `"3"` is no number, `1` is no bool."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


SomeSection = TypeVar("SomeSection", bound=Section)


def _section(annotation: Any) -> type[BaseModel] | None:
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_section else None


def free_settings(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the settings that are marked `FREE`, as pydantic's `exclude` and `include` take them."""
    found: dict[str, Any] = {}
    for name, info in kind.model_fields.items():
        if any(isinstance(mark, _Free) for mark in info.metadata):
            found[name] = True
        elif (section := _section(info.annotation)) and (inner := free_settings(section)):
            found[name] = inner
    return found


class Component(Section):
    """A section that builds an object: `_target_` and its arguments, checked by its signature."""

    model_config = ConfigDict(extra="allow")

    name: Name
    target: str | None = Field(alias="_target_", serialization_alias="_target_")

    def arguments(self) -> dict[str, Any]:
        """What `_target_` is called with."""
        return self.model_dump(exclude={"name", "target"}, exclude_unset=True)


def options(kind: type[SomeSection], given: Mapping[str, Any], where: str) -> SomeSection:
    """Check what a launcher or a sweeper was set to.

    Args:
        kind: what is allowed.
        given: the values, as Hydra has them.
        where: their section, for error messages: `hydra.launcher`.

    Raises:
        InputError: a wrong value.
    """
    try:
        return kind.model_validate(OmegaConf.to_container(OmegaConf.create(dict(given))))
    except ValidationError as error:
        item = error.errors()[0]
        key = ".".join(map(str, item["loc"]))
        raise InputError(f"{where}.{key}={shown(item['input'])}: {reason(item)}") from None


def shown(value: Any) -> str:
    """A value as one writes it on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return " ".join(str(value).split())
