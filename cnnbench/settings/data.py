"""`data`: which images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from cnnbench.settings.base import FREE, Count, Name, NonNegative, Place, Rate, Section, Seed


class Augment(Section):
    """`data.augment`: what happens to training images."""

    resized_crop: tuple[Rate, Rate] | None
    crop: NonNegative
    flip: bool
    cutout: NonNegative
    policy: Literal["none", "randaugment", "trivialaugment"]

    @field_validator("resized_crop", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        value = tuple(value) if isinstance(value, list) else value
        if isinstance(value, tuple) and len(value) == 2 and not 0 < value[0] <= value[1] <= 1:
            raise ValueError("two shares of the image's area, 0 < min <= max <= 1")
        return value


class Data(Section):
    """`data`: which images, how they are split, batched and augmented."""

    name: Name
    root: Annotated[Place, FREE]
    size: Annotated[int, Field(ge=4, le=4096)] | None
    limit: Count | None
    limit_test: Count | None
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    split_seed: Seed
    batch_size: Count
    in_memory: bool
    num_workers: Annotated[int, Field(ge=0, le=1024), FREE]
    num_classes: Annotated[int, Field(ge=2)] | None = None
    augment: Augment

    @field_validator("root", mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("must be given: the folder where the images lie")
        return value
