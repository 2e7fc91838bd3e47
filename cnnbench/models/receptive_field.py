"""Receptive fields of a model's layers (Araujo et al., 2019, doi 10.23915/distill.00021).

They are computed from the operations that a model runs, whoever wrote it: nothing is known here of families.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cnnbench.models import reach_tracing
from cnnbench.models.complexity import Shape, in_mode, watched
from cnnbench.models.reach import NOTHING, varied
from cnnbench.models.reach_tracing import Reach, ReachTracing, Untraceable
from cnnbench.models.running import running
from cnnbench.safe_text import legible

STEPS = (512, 2048, 4096, 8192, 16384)
"""By how many pixels an image is enlarged, until no field exceeds it. So each map keeps the remainder of its
size by its stride, and with it the padding of TensorFlow's rule."""

SMALL = 64
"""Side of images up to which fields are mostly below 512 pixels: models begin with smaller windows there."""


@dataclass(frozen=True)
class Line:
    """The field of a layer's units along one axis, in pixels.

    Attributes:
        size: of the field, by any path; inf: it grows with the image without bound; nan: not known.
        narrowest: its size by the path with the smallest windows; a skip connection is such a path.
        jump: from the field of a unit to that of the next; None: there is no next, or steps are unequal.
        centre: middle of the first unit's field; 0 is the middle of the first pixel.
        seen: pixels of the image that its middle unit sees.
    """

    size: float
    narrowest: float
    jump: float | None
    centre: float | None
    seen: int


@dataclass(frozen=True)
class Field:
    """The receptive field of a layer's units.

    Attributes:
        rows, columns: along each axis.
        share: of the image that the middle unit sees, from 0 to 1.
    """

    rows: Line
    columns: Line
    share: float


@dataclass(frozen=True)
class Fields:
    """The receptive fields of a model.

    Attributes:
        layers: by name of the module; without those that do not depend on the image.
        untraceable: what is not understood, and in which layer; fields behind it are unknown; "": nothing.
    """

    layers: Mapping[str, Field]
    untraceable: str = ""


def receptive_fields(model: nn.Module, shape: Shape) -> Fields:
    """Return the receptive field of what each module returns, in eval mode.

    Args:
        model: any classifier.
        shape: (C, H, W) of the image.
    """
    with one_thread():
        return _receptive_fields(model, shape)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: reaches are small, and threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _receptive_fields(model: nn.Module, shape: Shape) -> Fields:
    actual, untraceable = _trace(model, shape, boundless=False)
    large: dict[str, Reach] = {}
    c, h, w = shape
    for step in STEPS if max(h, w) <= SMALL else STEPS[1:]:
        sides = (h + step, w + step)
        found, _ = _trace(model, (c, *sides), boundless=True)
        within = {name: reach for name, reach in found.items() if _within(reach, sides)}
        large = within | large
        if len(within) == len(found):
            break
    fields = {}
    for name, reach in actual.items():
        if _central(reach[0])[1] == NOTHING:
            continue
        far = large.get(name, (None, None))
        rows, columns = _line(reach[0], far[0], h), _line(reach[1], far[1], w)
        fields[name] = Field(rows, columns, rows.seen * columns.seen / (h * w))
    return Fields(fields, untraceable)


def _trace(model: nn.Module, shape: Shape, *, boundless: bool) -> tuple[dict[str, Reach], str]:
    """Return the reach of what each module returns, in the order of execution, and what could not be traced.

    A model whose head needs a certain size ends early with another; what came before counts.
    """
    found: dict[str, Reach] = {}

    def see(name: str, output: Tensor) -> None:
        if (reach := reach_tracing.of(output)) is not None:
            found.setdefault(name, reach)

    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    images = torch.zeros((1, *shape), device="meta", dtype=dtype)
    state = {k: v.to("meta") for k, v in (*model.named_parameters(), *model.named_buffers())}
    tracing = ReachTracing(images, boundless=boundless)
    try:
        with (
            torch.no_grad(),
            in_mode(model, training=False),
            running(model) as calls,
            watched(model, see),
            tracing,
        ):
            functional_call(model, state, (images,))
    except Exception as error:  # of any model's code; with boundless, a head that needs the actual size
        known = isinstance(error, Untraceable)
        what = error.operation if known else f"what shapes do not decide ({legible(str(error), 100)})"  # type: ignore[attr-defined]
        return found, f"{what} in {calls[-1].name or 'the model'}" if calls else what
    return found, ""


def _central(reach: Tensor, along: int | None = None, by: int = 0) -> list[float]:
    """Return what the middle unit reaches, over its channels, or one `by` places away along a dimension."""
    place: list[int | slice] = [size // 2 for size in reach.shape[1:]]
    channels = 1 if reach.ndim == 5 else None  # (N, C, H, W)
    if channels is not None:
        place[channels] = slice(None)
    if along is not None:
        place[along] += by  # type: ignore[operator]
    sides = reach[(slice(None), *place)].reshape(4, -1)
    width = torch.where(sides[2] == NOTHING, math.inf, sides[2] + sides[3])
    best = int(width.argmin())
    return [*(float(side) for side in sides[:2].amax(1)), *(float(side) for side in sides[2:, best])]


def _within(reach: Reach, sides: tuple[int, int]) -> bool:
    """Return whether the middle unit's field lies within the image, or has no bound."""
    for axis, side in zip(reach, sides, strict=True):
        first, last = _central(axis)[:2]
        if not (last == math.inf or last == NOTHING or (first < 0 and last < side - 1)):
            return False
    return True


def _line(actual: Tensor, large: Tensor | None, side: int) -> Line:
    first, last = _central(actual)[:2]
    seen = int(first + last + 1)
    if large is None:  # a head for images of this size alone, or a field of tens of thousands of pixels
        size = math.inf if seen == side else math.nan
        return Line(size, size, None, None, seen)
    first, last, small_first, small_last = _central(large)
    size, narrowest = first + last + 1, small_first + small_last + 1
    jump = centre = None
    if size < math.inf:
        for dim in varied(large):
            if (dim == 1 and large.ndim == 5) or large.shape[dim + 1] < 4:
                continue
            after = _central(large, dim, 1)
            if after[1] != last and after[0] + after[1] == first + last:
                jump = after[1] - last
                centre = (last - first) / 2 - jump * (large.shape[dim + 1] // 2)
                break
    return Line(size, narrowest, jump, centre, seen)
