"""The reach of every value that a model computes, found while it computes on meta tensors.

Whoever wrote the model, it ends in operations of torch, and each of them is met here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cnnbench.models import reach, reach_rules
from cnnbench.models.shapes import Watching, answer

Reach = tuple[Tensor, Tensor]
"""Reach of a tensor along the rows and along the columns of the image."""

MARK = "_cnnbench_reach"


class Untraceable(Exception):  # noqa: N818 - of a model, which is no fault of it
    """An operation whose reach is not known.

    Attributes:
        operation: its name in torch.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(operation)
        self.operation = operation


def of(tensor: Tensor) -> Reach | None:
    """Return the reach of a tensor; None: it does not depend on the images."""
    return getattr(tensor, MARK, None)


class ReachTracing(Watching):
    """While this is active, everything that is computed from the images gets a reach.

    Args:
        images: (N, C, H, W).
        boundless: what depends on the whole map depends on everything, however large the image is.
    """

    def __init__(self, images: Tensor, *, boundless: bool) -> None:
        super().__init__()
        self.boundless, self._padding = boundless, _Padding()
        setattr(images, MARK, tuple(reach.of_image(images.shape, axis) for axis in (2, 3)))

    def __enter__(self) -> ReachTracing:
        self._padding.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._padding.__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        marked = any(of(tensor) is not None for tensor in _tensors((args, kwargs)))
        # Before the operation, which may change its input in place.
        rule = reach_rules.of(func) if marked else None
        if marked and rule is None:
            raise Untraceable(str(func.overloadpacket))
        before = [(_along(args, axis), _along(kwargs, axis)) for axis in (0, 1) if rule is not None]
        result = answer(func, args, kwargs)
        if rule is not None:
            found = [rule(reach_rules.Call(func, a, k, result, self.boundless)) for a, k in before]
            if any(reaches is None for reaches in found):
                raise Untraceable(str(func.overloadpacket))
            for tensor, *axes in zip(_outputs(result), *map(_outputs, found), strict=False):
                setattr(tensor, MARK, tuple(axes))
        return result


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)


def _along(values: Any, axis: int) -> Any:
    """Return arguments with the reach along an axis in place of each tensor; constants depend on nothing."""
    if isinstance(values, Tensor):
        known = of(values)
        return reach.of_constant(values.shape) if known is None else known[axis]
    if isinstance(values, dict):
        return {key: _along(value, axis) for key, value in values.items()}
    if isinstance(values, tuple | list):
        return type(values)(_along(value, axis) for value in values)
    return values


def _outputs(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


class _Padding(TorchFunctionMode):
    """Circular padding, which torch writes piece by piece into an empty tensor, as a concatenation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        mode = kwargs.get("mode", args[2] if len(args) > 2 else "constant")
        if func is not F.pad or mode != "circular":
            return func(*args, **kwargs)
        x, pad = args[0], kwargs.get("pad", args[1] if len(args) > 1 else ())
        for dim, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True), 1):
            side = x.shape[-dim]
            x = torch.cat([x.narrow(-dim, side - before, before), x, x.narrow(-dim, 0, after)], -dim)
        return x
