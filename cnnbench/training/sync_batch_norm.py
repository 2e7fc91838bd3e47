"""Batch norm with the statistics of the whole batch, of which each process has a part.

Torch's own `nn.SyncBatchNorm` refuses tensors of the CPU, and takes the place of a layer: it loses the
activation of timm's `BatchNormAct2d`, and who holds the layer that it replaced (`arch.freeze` does) is left
with one that is no longer used. Here a layer stays the object that it is, under its name: only the function
by which it normalises, `torch.nn.functional.batch_norm`, is exchanged while it is called. The same code runs
on CPUs and GPUs.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from cnnbench.errors import InputError


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm` over the images of all processes: (N, C, …) -> (N, C, …), of which N are here.

    The parts may be of unequal size, and of one image; together they are normalised as by one process
    (arXiv:1502.03167). Called by all processes, or by none. The gradients of weight and bias are those of
    this part, as of any other parameter: DistributedDataParallel puts them together.
    """
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    mean, var, count = _of_all(x.detach())
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.mul_(1 - momentum).add_(momentum * mean)
            running_var.mul_(1 - momentum).add_(momentum * var * (count / (count - 1)))
    mean, var = mean.to(_kind(x)), var.to(_kind(x))
    return _Normalise.apply(x, weight, bias, mean, var, count, eps)  # type: ignore[no-any-return]


def _of_all(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and values per channel () over all processes: float64, equal in all.

    Those of the parts are put together as in Chan, Golub and LeVeque, "Algorithms for Computing the Sample
    Variance" (1983), without the cancellation that a sum of squares suffers.
    """
    channels = x.shape[1]
    # In torch's one pass over x, which has the precision of the statistics that it is given to update.
    own = torch.zeros(2, channels, dtype=_kind(x), device=x.device)
    mean, var = torch.batch_norm_update_stats(x, own[0], own[1], 0.0)
    count = mean.new_full((1,), x.numel() // channels, dtype=torch.float64)
    mine = torch.cat([mean.double(), var.double(), count])
    parts = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, mine)
    means, variances, counts = torch.stack(parts).tensor_split((channels, 2 * channels), 1)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    return mean, (counts * (variances + (means - mean).square())).sum(0) / total, total


def _kind(x: Tensor) -> torch.dtype:
    """What statistics of x are computed in: no less than float32."""
    return torch.promote_types(x.dtype, torch.float32)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and var depend on the x of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        """By torch's kernel for evaluation, with these statistics."""
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Torch's kernel takes mean and var for constants; what x does through them is then taken off.

        With x' the normalised x, and means over the values of all processes:
        dx = weight / sqrt(var + eps) * (dy - mean(dy) - x' mean(dy x')).
        """
        x, weight, mean, var, count = ctx.saved_tensors
        wanted, *affine = ctx.needs_input_grad[:3]
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, var, None, None, False, ctx.eps, [wanted, True, True]
        )
        if wanted:
            sums = torch.cat([dweight, dbias])
            distributed.all_reduce(sums)
            scale = torch.rsqrt(var + ctx.eps) if weight is None else weight * torch.rsqrt(var + ctx.eps)
            slope, shift = (-scale * (part / count).to(scale.dtype) for part in sums.chunk(2))
            dx += F.batch_norm(x, mean, var, slope, shift, False, 0.0, ctx.eps)
        return dx, dweight if affine[0] else None, dbias if affine[1] else None, None, None, None, None


class SyncBatchNorm(LayerSync):
    """Lightning's plugin that synchronises the batch norm of a model for the length of a training."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Exchange the function by which each layer normalises."""
        for _, layer in _layers(model):
            layer.forward = functools.partial(_forward, layer, layer.forward)  # type: ignore[method-assign]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave the layers as they were. Lightning asks for it also if it failed before they were changed."""
        for _, layer in _layers(model):
            vars(layer).pop("forward", None)
        return model


def check(model: nn.Module, arch: str) -> None:
    """Whether each batch norm of a model normalises by the function that is exchanged.

    Raises:
        InputError: a layer that computes its statistics by other means.
    """
    for name, layer in _layers(model):
        if isinstance(layer, nn.SyncBatchNorm) or not _reached(layer):
            kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
            raise InputError(
                f"device.sync_batch_norm=true: {name} of arch={arch} is a {kind}, which has its own way to "
                "normalise, not torch.nn.functional.batch_norm; allowed: false"
            )


def _layers(model: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, _BatchNorm))


class _Exchanged(TorchFunctionMode):
    """Calls another function where `F.batch_norm` is called, and remembers that it was."""

    def __init__(self, instead: Callable[..., Tensor]) -> None:
        super().__init__()
        self.instead, self.called = instead, False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.batch_norm:
            self.called = True
            function = self.instead
        return function(*args, **(kwargs or {}))


def _forward(layer: _BatchNorm, forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """The layer's own; in eval mode (frozen layers, evaluation) it needs nothing of other processes."""
    if not layer.training:
        return forward(*args, **kwargs)
    with _Exchanged(batch_norm):
        return forward(*args, **kwargs)


def _reached(layer: _BatchNorm) -> bool:
    """Try a copy of the layer on a few zeros; it may lie on the meta device."""
    watch = _Exchanged(lambda x, *args, **kwargs: x)
    for space in ((1, 1), (), (1, 1, 1)):
        try:
            trial = copy.deepcopy(layer).to_empty(device="cpu").train()
            with watch, torch.no_grad():
                for tensor in (*trial.parameters(), *trial.buffers()):
                    tensor.zero_()
                trial(torch.zeros(2, layer.num_features, *space, device="cpu"))
        except Exception:  # not its number of dimensions; or anything else, of any model's code
            continue
    return watch.called
