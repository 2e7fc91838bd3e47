"""Reaches: what each value of a tensor depends on along one axis of the image, its rows or its columns.

A reach is a tensor (4, *shape) beside a tensor of `shape`. It holds for each value the first and the last row
(or column) of the image that the value depends on, by any path (as -first, last) and by the narrowest one
(likewise). So a union is a maximum, and what depends on nothing, such as padding with zeros, is -inf. Along
dimensions where nothing changes (the batch, mostly the channels, and the other axis) a reach is expanded:
it takes no memory there, and operations cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

NOTHING, EVERYTHING = -math.inf, math.inf

KEPT = "_cnnbench_alternatives"

LARGEST = 2**24
"""Numbers in a reach that is written out, at most: those of an image of 2,048 pixels that is flattened."""


def of_image(shape: Sequence[int], axis: int) -> Tensor:
    """Return the reach of images (N, C, H, W) along axis 2 or 3: each pixel depends on itself."""
    line = torch.arange(shape[axis], dtype=torch.float32)
    line = line.view(*[-1 if dim == axis else 1 for dim in range(len(shape))])
    return torch.stack([-line, line, -line, line]).expand(4, *shape)


def of_constant(shape: Sequence[int]) -> Tensor:
    """Return the reach of what does not depend on the image."""
    return torch.full((), NOTHING).expand(4, *shape)


def varied(reach: Tensor) -> list[int]:
    """Return the dimensions of the tensor along which its reach changes, or may change."""
    return [d for d in range(reach.ndim - 1) if reach.shape[d + 1] > 1 and reach.stride(d + 1) != 0]


def compact(reach: Tensor) -> Tensor:
    """Return a reach with size 1 along the dimensions in which it is expanded."""
    changing = varied(reach)
    for dim in range(reach.ndim - 1):
        if dim not in changing and reach.shape[dim + 1] > 1:
            reach = reach.narrow(dim + 1, 0, 1)
    return reach


def union(*reaches: Tensor) -> Tensor:
    """Return the reach of what depends on several values: all of theirs, and the narrowest path of any."""
    ndim = max(reach.ndim for reach in reaches)
    aligned = [reach[(slice(None), *[None] * (ndim - reach.ndim))] for reach in reaches]
    shape = [max(sides) for sides in zip(*(reach.shape for reach in aligned), strict=True)]  # as broadcast
    whole, *others = map(compact, aligned)
    for other in others:
        whole, other = torch.broadcast_tensors(whole, other)  # type: ignore[no-untyped-call]
        narrower = _width(other) < _width(whole)
        whole = torch.cat([torch.maximum(whole[:2], other[:2]), torch.where(narrower, other[2:], whole[2:])])
    return whole.expand(shape)


def _width(reach: Tensor) -> Tensor:
    """Return the width of the narrowest paths, less one; what depends on nothing is no path."""
    width = reach[2] + reach[3]
    return torch.where(width == NOTHING, EVERYTHING, width)


def alternatives(reach: Tensor, dim: int) -> Tensor:
    """Reduce a dimension of the tensor to size 1, over which there are several paths: input channels.

    The result is kept beside the reach, since the branches of a block all begin with the same.
    """
    kept: tuple[int, Tensor] | None = getattr(reach, KEPT, None)
    if kept is not None and kept[0] == dim:
        return kept[1]
    small = compact(reach)
    if small.shape[dim + 1] > 1:
        best = _width(small).argmin(dim, keepdim=True).expand(2, *[-1] * (small.ndim - 1))
        small = torch.cat([small[:2].amax(dim + 1, keepdim=True), small[2:].gather(dim + 1, best)])
    result = small.expand(_with(reach, [dim]))
    setattr(reach, KEPT, (dim, result))
    return result


def reduction(reach: Tensor, dims: Sequence[int], *, boundless: bool) -> Tensor:
    """Reduce dimensions of the tensor to size 1, over positions.

    Args:
        reach: of the tensor.
        dims: dimensions, from 0.
        boundless: what depends on the whole map then depends on everything, however large the image is.
    """
    small = compact(reach)
    over = [d + 1 for d in dims if small.shape[d + 1] > 1]
    if over:
        whole = small.amax(over, keepdim=True)
        if boundless and (whole[1].min() == small[1].max() > small[1].min()):
            whole = torch.full_like(whole, EVERYTHING)
        small = whole
    return small.expand(_with(reach, dims))


def _with(reach: Tensor, ones: Sequence[int]) -> list[int]:
    return [1 if d - 1 in ones else size for d, size in enumerate(reach.shape)]


def windows(
    reach: Tensor, dim: int, kernel: int, stride: int, padding: int, dilation: int, count: int
) -> Tensor:
    """Return the reach of windows along a dimension of the tensor; padding depends on nothing.

    Args:
        reach: of the tensor.
        dim: dimension, from 0.
        kernel, stride, padding, dilation: in values.
        count: number of windows; the last may exceed the map further than by `padding`.
    """
    side, small = reach.shape[dim + 1], compact(reach)
    if small.shape[dim + 1] == 1:
        places = torch.arange(count)[:, None] * stride + torch.arange(kernel) * dilation - padding
        if bool(((places >= 0) & (places < side)).any(1).all()):
            return _resized(small, reach, dim, count)  # equal everywhere, and no window is all padding
    line = small.expand(*small.shape[: dim + 1], side, *small.shape[dim + 2 :]).movedim(dim + 1, -1)
    extent = dilation * (kernel - 1) + 1
    beyond = max(0, (count - 1) * stride + extent - padding - side)
    taps = F.pad(line, (padding, beyond), value=NOTHING).unfold(-1, extent, stride)[..., :count, ::dilation]
    found = taps.amax(-1).movedim(-1, dim + 1)
    return _resized(_simplified(found, dim), reach, dim, count)


def selected(reach: Tensor, dim: int, index: Tensor) -> Tensor:
    """Return the reach of the values at the places `index` of a dimension of the tensor."""
    small = compact(reach)
    if small.shape[dim + 1] > 1:
        small = small.index_select(dim + 1, index)
    return _resized(small, reach, dim, len(index))


def padded(reach: Tensor, dim: int, before: int, after: int) -> Tensor:
    """Return the reach after padding of a dimension of the tensor with a constant; negative amounts crop."""
    side, small = reach.shape[dim + 1], compact(reach)
    if small.shape[dim + 1] > 1 or before > 0 or after > 0:
        line = small.expand(*small.shape[: dim + 1], side, *small.shape[dim + 2 :]).movedim(dim + 1, -1)
        small = F.pad(line, (before, after), value=NOTHING).movedim(-1, dim + 1)
    return _resized(small, reach, dim, side + before + after)


def joined(reaches: Sequence[Tensor], dim: int) -> Tensor:
    """Return the reach of tensors that are concatenated along a dimension."""
    changing = {dim}.union(*(varied(reach) for reach in reaches))
    parts = [
        compact(reach).expand([4, *(n if d in changing else 1 for d, n in enumerate(reach.shape[1:]))])
        for reach in reaches
    ]
    shape = list(reaches[0].shape)
    shape[dim + 1] = sum(reach.shape[dim + 1] for reach in reaches)
    return torch.cat(parts, dim + 1).expand(shape)


def _resized(small: Tensor, reach: Tensor, dim: int, count: int) -> Tensor:
    return small.expand(*reach.shape[: dim + 1], count, *reach.shape[dim + 2 :])


def reshaped(reach: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the reach of the same values in another shape."""
    small = compact(reach)
    kept: list[int] = []
    result: list[int] = []
    regrouped: list[int] = []
    for old, new in _groups(reach.shape[1:], shape):
        uniform = all(small.shape[d + 1] == 1 for d in old)
        if not uniform and not len(old) == len(new) == 1:
            regrouped += range(len(result), len(result) + len(new))
        kept += [1 if uniform else reach.shape[d + 1] for d in old]
        result += [1] * len(new) if uniform else new
    if regrouped and 4 * math.prod(kept) > LARGEST:
        raise MemoryError(f"the reach of {math.prod(kept)} values that all differ")
    found = small.expand(4, *kept).reshape(4, *result)
    for dim in regrouped:
        found = _simplified(found, dim)
    return found.expand(4, *shape)


def _simplified(reach: Tensor, dim: int) -> Tensor:
    """Return a reach with size 1 along a dimension in which it has become the same everywhere."""
    count = reach.shape[dim + 1]
    first = reach.narrow(dim + 1, 0, min(1, count))
    if count > 1 and bool((reach.narrow(dim + 1, count - 1, 1) != first).any()):  # mostly; and soon found out
        return reach
    return first if bool((reach == first).all()) else reach


def _groups(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[range, list[int]]]:
    """Return the dimensions that become others, in the smallest groups."""
    i = j = 0
    while i < len(old) or j < len(new):
        start, first = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while (before := math.prod(old[start:i])) != (after := math.prod(new[first:j])):
            i, j = (i + 1, j) if before < after else (i, j + 1)
        yield range(start, i), list(new[first:j])
