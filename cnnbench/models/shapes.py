"""Forward passes on meta tensors, which compute shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

SHAPE_KEPT = {torch.Tag.pointwise, torch.Tag.nondeterministic_seeded}
"""Tags of operations that return their first argument with its shape, if they work in place."""


def answer(func: Any, args: Any, kwargs: Any) -> Any:
    """Return what an operation returns; on meta tensors without what torch decomposes in Python.

    That takes most of the time of a forward pass, and the first time imports torch's compiler (a second).
    """
    rule = RULES.get(func)
    if rule is None and func.overloadpacket.__name__.endswith("_") and SHAPE_KEPT.intersection(func.tags):
        rule = _first
    if rule is not None and all(x.is_meta for x in _tensors(args)):
        found = rule(*args, **kwargs)
        if found is not None:
            return found
    return func(*args, **kwargs)


def _tensors(args: Any) -> Iterator[Tensor]:
    for value in args:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _first(x: Any, *args: Any, **kwargs: Any) -> Any:
    return x


def _like(x: Tensor, *args: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    return x.new_empty(x.shape, dtype=dtype)


def _arithmetic(x: Tensor, y: Any, **scales: Any) -> Tensor | None:
    """Return the sum, product, … of numbers of one floating type; None for others, and sides that differ."""
    if not isinstance(y, Tensor):
        return x.new_empty(x.shape) if x.is_floating_point() else None
    count = max(x.ndim, y.ndim)
    pairs = list(zip(*([1] * (count - z.ndim) + list(z.shape) for z in (x, y)), strict=True))
    if x.dtype != y.dtype or not x.is_floating_point() or any(m != n and 1 not in (m, n) for m, n in pairs):
        return None
    return x.new_empty([n if m == 1 else m for m, n in pairs])


def _batch_norm(x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    statistics = x.new_empty(x.shape[1] if args[4] else 0)
    return x.new_empty(x.shape), statistics, statistics


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor | None:
    """Return the output of a convolution; None for one that is transposed, or that torch has to refuse."""
    lines = (
        x.shape[2:],
        weight.shape[2:],
        *(_each(value, x.ndim - 2) for value in (stride, padding, dilation)),
    )
    if transposed or x.shape[1] != groups * weight.shape[1]:
        return None
    sides = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(*lines, strict=True)]
    return x.new_empty((x.shape[0], weight.shape[0], *sides)) if min(sides) > 0 else None


def _each(value: list[int], count: int) -> list[int]:
    return value * count if len(value) == 1 else value


def _pooled(
    x: Tensor,
    kernel: list[int],
    stride: list[int] | None = None,
    padding: list[int] | None = None,
    dilation: list[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor | None:
    """Return pooled maps; None where torch has to refuse. With `ceil_mode` a last window may be cut off."""
    given = (kernel, stride or kernel, padding or [0], dilation or [1])
    lines = x.shape[-2:], *(_each(value, 2) for value in given)
    sides = []
    for n, k, s, p, d in zip(*lines, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        count = (-(-room // s) if ceil_mode else room // s) + 1
        sides.append(count - (ceil_mode and (count - 1) * s >= n + p))
        if 2 * p > k:
            return None
    return x.new_empty((*x.shape[:-2], *sides)) if min(sides) > 0 else None


def _max_pooled(*args: Any) -> tuple[Tensor, Tensor] | None:
    found = _pooled(*args)
    return None if found is None else (found, found.new_empty(found.shape, dtype=torch.int64))


def _mean_pooled(
    x: Tensor,
    kernel: list[int],
    stride: list[int] | None = None,
    padding: list[int] | None = None,
    ceil_mode: bool = False,
    *rest: Any,
) -> Tensor | None:
    return _pooled(x, kernel, stride, padding, None, ceil_mode)


def _adaptive(x: Tensor, sides: list[int]) -> Tensor:
    return x.new_empty((*x.shape[:-2], *sides))


def _mean(x: Tensor, dims: list[int] | None, keepdim: bool = False, **options: Any) -> Tensor:
    over = {dim % x.ndim for dim in dims or range(x.ndim)}
    sides = [1 if dim in over else n for dim, n in enumerate(x.shape) if keepdim or dim not in over]
    return x.new_empty(sides)


def _affine(bias: Tensor, x: Tensor, weight: Tensor, **scales: Any) -> Tensor:
    if x.shape[1] != weight.shape[0]:  # of a head that is for another size; torch imports much to say so
        sides = " and ".join("x".join(map(str, matrix.shape)) for matrix in (x, weight))
        raise RuntimeError(f"matrices cannot be multiplied ({sides})")
    return x.new_empty((x.shape[0], weight.shape[1]))


def _concatenation(tensors: list[Tensor], dim: int = 0) -> Tensor | None:
    """Return concatenated tensors; None for those that torch has to convert or to refuse."""
    first = tensors[0]
    dim %= max(1, first.ndim)
    others = {(x.dtype, *x.shape[:dim], -1, *x.shape[dim + 1 :]) for x in tensors}
    if len(others) != 1 or any(x.ndim != first.ndim for x in tensors):
        return None
    return first.new_empty((*first.shape[:dim], sum(x.shape[dim] for x in tensors), *first.shape[dim + 1 :]))


RULES: dict[Any, Callable[..., Any]] = {
    aten.native_batch_norm.default: _batch_norm,
    aten.convolution.default: _convolution,
    aten.cat.default: _concatenation,
    aten.max_pool2d_with_indices.default: _max_pooled,
    aten.avg_pool2d.default: _mean_pooled,
    aten._adaptive_avg_pool2d.default: _adaptive,
    aten.mean.dim: _mean,
    aten.addmm.default: _affine,
    **dict.fromkeys(
        (
            aten.empty_like.default,
            aten.silu.default,
            aten.relu.default,
            aten.sigmoid.default,
            aten.gelu.default,
        ),
        _like,
    ),
    **dict.fromkeys((aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor), _arithmetic),
}
"""Operations, and what they return for the same arguments; None: torch is asked."""


class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode that is never compiled, so that torch need not import its compiler (a second)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class QuickShapes(Watching):  # type: ignore[no-untyped-call]
    """While this is active, batch norm and what works in place on meta tensors take microseconds."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return answer(func, args, kwargs or {})
