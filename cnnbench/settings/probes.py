"""`probes`: what is measured of a network while it trains, without effect on the result."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from cnnbench.settings.base import Count, Rate, Section, added


class Activations(Section):
    """`probes=activations`."""

    every: Count
    images: Annotated[int, Field(ge=2, le=10**9)]


class Gradients(Section):
    """`probes=gradients`."""

    every: Count


class Shift(Section):
    """`probes=shift`."""

    every: Count
    images: Annotated[int, Field(ge=2, le=10**9)]
    layers: Count


class Landscape(Section):
    """`probes=landscape`."""

    every: Count
    distances: Annotated[list[Rate], Field(min_length=1)]

    @field_validator("distances")
    @classmethod
    def _in_order(cls, value: list[float]) -> list[float]:
        if value != sorted(set(value)):
            raise ValueError("allowed: numbers in increasing order, as in [0.1,0.4]")
        return value


class EffectiveField(Section):
    """`probes=field`."""

    images: Count


class Translation(Section):
    """`probes=translation`."""

    pixels: Annotated[list[Count], Field(min_length=1)]

    @field_validator("pixels")
    @classmethod
    def _in_order(cls, value: list[int]) -> list[int]:
        if value != sorted(set(value)):
            raise ValueError("allowed: integers in increasing order, as in [1,2]")
        return value


class Probes(Section):
    """The probes of a run, each with its settings; None: it is not measured."""

    activations: Annotated[Activations | None, added(None)] = None
    gradients: Annotated[Gradients | None, added(None)] = None
    shift: Annotated[Shift | None, added(None)] = None
    landscape: Annotated[Landscape | None, added(None)] = None
    field: Annotated[EffectiveField | None, added(None)] = None
    translation: Annotated[Translation | None, added(None)] = None

    @property
    def names(self) -> list[str]:
        """Those that are measured."""
        return list(self.model_dump())

    def only(self, names: list[str]) -> Probes:
        """Return some of them."""
        return self.model_copy(update=dict.fromkeys(set(self.names) - set(names)))
