"""Rules for what operations of torch do to reaches, one for each kind of operation.

What acts on single values unites reaches, what moves values moves reaches, windows and reductions widen them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnbench.models import reach

aten = torch.ops.aten


@dataclass(frozen=True)
class Call:
    """An operation, along one axis of the image.

    Attributes:
        func: the operation.
        args, kwargs: its arguments, with reaches in place of tensors.
        result: what it returned.
        boundless: as of `reach.reduction`.
    """

    func: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    result: Any
    boundless: bool

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument, given by its place or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    @property
    def x(self) -> Tensor:
        """The first argument, a reach."""
        return self.args[0]  # type: ignore[no-any-return]

    @property
    def output(self) -> Tensor:
        """The first tensor that the operation returned."""
        return self.result[0] if isinstance(self.result, tuple | list) else self.result  # type: ignore[no-any-return]

    def over(self, value: Tensor, dims: Sequence[int]) -> Tensor:
        """Return the reach of a reduction of `value` over dimensions, which stay with size 1."""
        dims = [dim % (value.ndim - 1) for dim in dims]
        return reach.reduction(value, dims, boundless=self.boundless)


Rule = Callable[[Call], Any]
"""Returns the reach of the result, a list of them for several tensors, or None: it is not known."""


def of(func: Any) -> Rule | None:
    """Return the rule of an operation; None: there is none."""
    rule = RULES.get(func.overloadpacket)
    return _pointwise if rule is None and torch.Tag.pointwise in func.tags else rule


def _pointwise(call: Call) -> Tensor:
    reaches = [x for x in (*call.args, *call.kwargs.values()) if isinstance(x, Tensor)]
    return reach.union(*reaches).expand(4, *call.output.shape)


def _same(call: Call) -> Tensor | None:
    return call.x if call.output.shape == call.x.shape[1:] else None


def _constant(call: Call) -> list[Tensor]:
    return []


def _moved(call: Call) -> Any:
    """Move reaches as the values: a view of them."""
    moved = call.func(call.x[0], *call.args[1:], **call.kwargs)
    views = moved if isinstance(moved, list | tuple) else [moved]
    result = [
        call.x.as_strided((4, *view.shape), (call.x.stride(0), *view.stride()), view.storage_offset())
        for view in views
    ]
    return result if views is moved else result[0]


def _turned(call: Call) -> Tensor:
    """Move reaches within their tensor, where they change."""
    sides = [call.func(side, *call.args[1:], **call.kwargs) for side in reach.compact(call.x)]
    return torch.stack(sides).expand_as(call.x)


def _reshaped(call: Call) -> Tensor:
    return reach.reshaped(call.x, call.output.shape)


def _shuffled(call: Call) -> Tensor:
    n, channels, *spatial = call.output.shape
    x = reach.reshaped(call.x, (n, call.args[1], channels // call.args[1], *spatial)).transpose(2, 3)
    return reach.reshaped(x, call.output.shape)


def _joined(call: Call) -> Tensor:
    return reach.joined(call.args[0], call.argument(1, "dim", 0) % call.output.ndim)


def _stacked(call: Call) -> Tensor:
    dim = call.argument(1, "dim", 0) % call.output.ndim
    return reach.joined([x.unsqueeze(dim + 1) for x in call.x], dim)


def _padded(call: Call) -> Tensor:
    result, pad = call.x, call.args[1]
    for back, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True), 1):
        result = reach.padded(result, call.output.ndim - back, before, after)
    return result


def _mirrored(mode: str) -> Rule:
    def rule(call: Call) -> Tensor:
        result, pad = call.x, call.args[1]
        for back, sides in enumerate(zip(pad[::2], pad[1::2], strict=True), 1):
            places = torch.arange(result.shape[-back], dtype=torch.float32)[None]
            index = F.pad(places, sides, mode=mode)[0].long()
            result = reach.selected(result, call.output.ndim - back, index)
        return result

    return rule


def _enlarged(call: Call) -> Tensor:
    result = call.x
    for dim in (2, 3):
        before, after = result.shape[dim + 1], call.output.shape[dim]
        result = reach.selected(result, dim, torch.arange(after) * before // after)
    return result


def _convolved(call: Call) -> Tensor | None:
    x, weight, _, stride, padding, dilation, transposed, _, groups = call.args
    if transposed:
        return None
    out, n, spatial = call.output.shape[1], x.shape[1], x.shape[3:]
    if groups == 1:
        x = reach.alternatives(x, 1).expand(4, n, out, *spatial)
    else:
        x = reach.reshaped(x, (n, groups, x.shape[2] // groups, *spatial))
        x = reach.alternatives(x, 2).expand(4, n, groups, out // groups, *spatial)
        x = reach.reshaped(x, (n, out, *spatial))
    return _in_windows(call, x, weight.shape[3:], stride, padding, dilation)


def _pooled(dilated: bool) -> Rule:
    def rule(call: Call) -> Tensor:
        kernel = call.args[1]
        stride = call.argument(2, "stride") or kernel
        padding = call.argument(3, "padding", 0)
        return _in_windows(
            call, call.x, kernel, stride, padding, call.argument(4, "dilation", 1) if dilated else 1
        )

    return rule


def _in_windows(call: Call, x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Tensor:
    count = len(kernel)
    first = call.output.ndim - count
    for i in range(count):
        k, s, p, d = (
            value if isinstance(value, int) else value[i if len(value) > 1 else 0]
            for value in (kernel, stride, padding, dilation)
        )
        x = reach.windows(x, first + i, k, s, p, d, call.output.shape[first + i])
    return x


def _adaptive(call: Call) -> Tensor:
    """Windows that share the map evenly, so that they grow with the image."""
    x = call.x
    for dim in (call.output.ndim - 2, call.output.ndim - 1):
        side, count = x.shape[dim + 1], call.output.shape[dim]
        if side == count:
            continue
        if call.boundless or count == 1:
            whole = call.over(x, [dim])
            if call.boundless and dim in reach.varied(x):
                whole = torch.full_like(whole, reach.EVERYTHING)
            x = whole.expand(*x.shape[: dim + 1], count, *x.shape[dim + 2 :])
        else:
            parts = [
                x.narrow(dim + 1, i * side // count, -(-(i + 1) * side // count) - i * side // count)
                for i in range(count)
            ]
            x = reach.joined([call.over(part, [dim]) for part in parts], dim)
    return x


def _reduced(place: int) -> Rule:
    """Reductions over the dimensions that the argument at a place names; over all if it names none."""

    def rule(call: Call) -> Tensor:
        dims = call.argument(place, "dim")
        dims = [dims] if isinstance(dims, int) else dims or range(call.x.ndim - 1)
        return reach.reshaped(call.over(call.x, dims), call.output.shape)

    return rule


def _along_one(call: Call) -> Tensor:
    """Softmax and sums so far: of a value and of those beside it."""
    return reach.union(call.x, call.over(call.x, [call.args[1]]).expand_as(call.x))


def _layer_norm(call: Call) -> Tensor:
    dims = range(-len(call.args[1]), 0)
    return reach.union(call.x, call.over(call.x, dims).expand_as(call.x))


def _group_norm(call: Call) -> Tensor:
    shape, groups = call.output.shape, call.args[6]
    x = reach.reshaped(call.x, (shape[0], groups, shape[1] // groups, *shape[2:]))
    whole = call.over(x, range(2, x.ndim - 1)).expand_as(x)
    return reach.reshaped(reach.union(x, whole), shape)


def _batch_norm(call: Call) -> Tensor:
    if not call.args[5]:  # in eval mode it acts on single values
        return call.x
    dims = [dim for dim in range(call.output.ndim) if dim != 1]
    return reach.union(call.x, call.over(call.x, dims).expand_as(call.x))


def _product(first: int) -> Rule:
    """Matrix products of the arguments `first` and `first + 1`; an earlier one is added."""

    def rule(call: Call) -> Tensor:
        left, right = call.args[first], call.args[first + 1]
        shape = (4, *call.output.shape)
        parts = [call.over(left, [-1]).expand(shape), call.over(right, [-2]).expand(shape)]
        return reach.union(*parts, *call.args[:first]).expand(shape)

    return rule


def _attention(call: Call) -> Tensor:
    query, key, value = call.args[:3]
    shape = (4, *call.output.shape)
    whole = [call.over(x, [-1, -2]).expand(shape) for x in (key, value)]
    return reach.union(call.over(query, [-1]).expand(shape), *whole)


def _table(*rules: tuple[Rule, str]) -> dict[Any, Rule]:
    named = {name: rule for rule, names in rules for name in names.split()}
    return {getattr(aten, name): rule for name, rule in named.items() if hasattr(aten, name)}


RULES = _table(
    (_same, "clone alias detach lift_fresh _to_copy contiguous native_dropout as_strided_"),
    (
        _constant,
        "empty_like zeros_like ones_like full_like rand_like randn_like new_zeros new_ones new_empty",
    ),
    (_constant, "new_full"),
    (
        _moved,
        "permute transpose t slice select unsqueeze squeeze expand split split_with_sizes unbind unfold",
    ),
    (_turned, "roll flip"),
    (_reshaped, "view _unsafe_view reshape"),
    (_shuffled, "channel_shuffle native_channel_shuffle"),
    (_joined, "cat"),
    (_stacked, "stack"),
    (_padded, "constant_pad_nd"),
    (_mirrored("reflect"), "reflection_pad1d reflection_pad2d"),
    (_mirrored("replicate"), "replication_pad1d replication_pad2d"),
    (_enlarged, "upsample_nearest2d"),
    (_convolved, "convolution"),
    (_pooled(dilated=True), "max_pool2d_with_indices max_pool2d"),
    (_pooled(dilated=False), "avg_pool1d avg_pool2d"),
    (_adaptive, "_adaptive_avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d"),
    (_reduced(1), "mean sum amax amin var var_mean std prod logsumexp max min"),
    (_reduced(2), "linalg_vector_norm norm"),
    (_along_one, "_softmax _log_softmax _safe_softmax cumsum"),
    (_layer_norm, "native_layer_norm"),
    (_group_norm, "native_group_norm"),
    (_batch_norm, "native_batch_norm _native_batch_norm_legit cudnn_batch_norm"),
    (_product(0), "mm bmm"),
    (_product(1), "addmm baddbmm"),
    (_attention, "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention"),
    (_attention, "_scaled_dot_product_flash_attention _scaled_dot_product_attention_math"),
)
"""Rules of operations; those that act on single values, as torch marks them, need none."""
