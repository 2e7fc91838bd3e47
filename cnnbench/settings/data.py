"""`data`: the images of a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from cnnbench.data.options import DECODE_MIB, Augmentation, Batching, Flip, Policy, Source, Splitting
from cnnbench.settings.base import (
    FREE,
    Count,
    Fraction,
    Name,
    NonNegative,
    PathText,
    Rate,
    Section,
    Seed,
    added,
    shown,
)

Value = TypeVar("Value")
WEIGHTS = 1e-4, 10_000
"""Least and greatest weight of a class: float16, in which mixed precision has them, holds 6.1e-5 to 65504."""

Weight = Annotated[float, Field(ge=WEIGHTS[0], le=WEIGHTS[1])]

PerChannel = Annotated[list[Value], Field(min_length=1, max_length=3)]


class Augment(Section):
    """`data.augment`: augmentation of training images."""

    resized_crop: tuple[Rate, Rate] | None
    crop: NonNegative
    flip: Flip
    jitter: Annotated[Fraction, added(0.0)] = 0.0
    cutout: NonNegative
    erase: Annotated[float, Field(ge=0, le=1), added(0.0)] = 0.0
    policy: Policy

    @field_validator("resized_crop", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        value = tuple(value) if isinstance(value, list) else value
        numbers = isinstance(value, tuple) and all(isinstance(share, int | float) for share in value)
        if numbers and len(value) == 2 and not 0 < value[0] <= value[1] <= 1:
            raise ValueError("two shares of the image's area, 0 < min <= max <= 1")
        return value

    def augmentation(self) -> Augmentation:
        """Return what `ImageData` takes."""
        return Augmentation(
            resized_crop=self.resized_crop,
            crop=self.crop,
            flip=self.flip,
            jitter=self.jitter,
            cutout=self.cutout,
            erase=self.erase,
            policy=self.policy,
        )


class Data(Section):
    """`data`: the images, and how they are split, batched and augmented."""

    name: Name
    root: Annotated[PathText, FREE]
    size: Annotated[int, Field(ge=4, le=4096)] | None
    mean: Annotated[PerChannel[Annotated[float, Field(ge=0, le=1)]] | None, added(None)] = None
    std: Annotated[PerChannel[Rate] | None, added(None)] = None
    eval_crop: Annotated[Annotated[float, Field(ge=0.25, le=1)] | None, added(None)] = None
    limit: Count | None
    limit_test: Count | None
    val_fraction: Annotated[float, Field(ge=0, lt=1)]
    split_seed: Seed
    batch_size: Count
    sampler: Annotated[Literal["shuffle", "balanced"], added("shuffle")] = "shuffle"
    drop_last: Annotated[bool, added(True)] = True
    in_memory: bool
    num_workers: Annotated[int, Field(ge=0, le=1024), FREE]
    decode_mib: Annotated[int, Field(ge=1, le=2**20), FREE] = DECODE_MIB
    class_weights: Annotated[list[Weight] | Literal["balanced"] | None, added(None)] = None
    num_classes: Annotated[int, Field(ge=2)] | None = None
    augment: Augment

    @field_validator("root", mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("must be given: the folder of the images")
        return value

    @model_validator(mode="after")
    def _mean_and_std(self) -> Data:
        if (None if self.mean is None else len(self.mean)) != (None if self.std is None else len(self.std)):
            values = f"mean={shown(self.mean)}, data.std={shown(self.std)}"
            raise ValueError(f"{values}: allowed: both, for as many channels, or null for both")
        return self

    @field_validator("class_weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        positive = isinstance(value, list) and all(
            type(one) in (int, float) and WEIGHTS[0] <= one <= WEIGHTS[1] for one in value
        )
        if not ((positive and value) or value in (None, "balanced")):
            raise ValueError(
                f"allowed: null, balanced, or a number from {WEIGHTS[0]} to {WEIGHTS[1]} for each class"
            )
        return value

    @model_validator(mode="after")
    def _balanced_once(self) -> Data:
        if self.sampler == self.class_weights == "balanced":
            raise ValueError("class_weights=balanced: not with data.sampler=balanced; allowed: one of them")
        return self

    def source(self) -> Source:
        """Return which images `ImageData` reads."""
        return Source(
            name=self.name,
            root=self.root,
            size=self.size,
            eval_crop=self.eval_crop,
            num_classes=self.num_classes,
            mean=None if self.mean is None else tuple(self.mean),
            std=None if self.std is None else tuple(self.std),
        )

    def splitting(self) -> Splitting:
        """Return how `ImageData` splits them."""
        return Splitting(
            val_fraction=self.val_fraction,
            split_seed=self.split_seed,
            limit=self.limit,
            limit_test=self.limit_test,
        )

    def batching(self, seed: int) -> Batching:
        """Return how `ImageData` batches them, in the order that follows from `seed`."""
        return Batching(
            batch_size=self.batch_size,
            seed=seed,
            in_memory=self.in_memory,
            sampler=self.sampler,
            drop_last=self.drop_last,
            num_workers=self.num_workers,
            decode_mib=self.decode_mib,
        )
