"""Batch norm with the statistics of the full batch, of which each process has a shard.

Torch's own `nn.SyncBatchNorm` rejects CPU tensors, and replaces layers: it loses the activation of timm's
`BatchNormAct2d`, and references to the original layer (`arch.freeze` keeps some) become stale. Here each
layer remains the same object under the same name: only the function by which it normalises,
`torch.nn.functional.batch_norm`, is substituted while the layer is called. The same code runs on CPUs and
GPUs.
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
    """Normalise (N, C, …) -> (N, C, …) as `F.batch_norm`, with statistics over the images of all processes.

    The shards may differ in size, and consist of a single image; the result is that of one process with the
    full batch (arXiv:1502.03167). All processes must call it, or none. The gradients of weight and bias are
    those of this shard, as of any other parameter: DistributedDataParallel averages them.

    Args:
        x: the shard of this process, (N, C, …).
        running_mean, running_var: (C,), updated in training; None: not tracked.
        weight, bias: (C,).
        training: whether to use the statistics of the batch rather than the running ones.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
    """
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    mean, var, count = _of_all(x.detach())
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.mul_(1 - momentum).add_(momentum * mean)
            running_var.mul_(1 - momentum).add_(momentum * var * (count / (count - 1)))
    mean, var = mean.to(_statistics_type(x)), var.to(_statistics_type(x))
    return _Normalise.apply(x, weight, bias, mean, var, count, eps)  # type: ignore[no-any-return]


def _of_all(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (C,), biased variance (C,) and values per channel () over all processes, in float64.

    Those of the shards are combined as in Chan, Golub and LeVeque, "Algorithms for Computing the Sample
    Variance" (1983), without the cancellation of a sum of squares. The result is equal in all processes.
    """
    channels = x.shape[1]
    # In a single pass over x, in the precision of the running statistics that are passed to it.
    running = torch.zeros(2, channels, dtype=_statistics_type(x), device=x.device)
    mean, var = torch.batch_norm_update_stats(x, running[0], running[1], 0.0)
    count = mean.new_full((1,), x.numel() // channels, dtype=torch.float64)
    shard = torch.cat([mean.double(), var.double(), count])
    shards = [torch.empty_like(shard) for _ in range(distributed.get_world_size())]
    distributed.all_gather(shards, shard)
    means, variances, counts = torch.stack(shards).tensor_split((channels, 2 * channels), 1)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    return mean, (counts * (variances + (means - mean).square())).sum(0) / total, total


def _statistics_type(x: Tensor) -> torch.dtype:
    """Return the type in which statistics of x are computed: at least float32."""
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
        """Normalise by torch's kernel for evaluation, with the given statistics."""
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients: those with mean and var as constants, less what flows through mean and var.

        With x' the normalised x, and means over the values of all processes:
        dx = weight / sqrt(var + eps) * (dy - mean(dy) - x' mean(dy x')).
        """
        x, weight, mean, var, count = ctx.saved_tensors
        needs_dx, *affine = ctx.needs_input_grad[:3]
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, var, None, None, False, ctx.eps, [needs_dx, True, True]
        )
        if needs_dx:
            sums = torch.cat([dweight, dbias])
            distributed.all_reduce(sums)
            scale = torch.rsqrt(var + ctx.eps) if weight is None else weight * torch.rsqrt(var + ctx.eps)
            slope, shift = (-scale * (total / count).to(scale.dtype) for total in sums.chunk(2))
            dx += F.batch_norm(x, mean, var, slope, shift, False, 0.0, ctx.eps)
        return dx, dweight if affine[0] else None, dbias if affine[1] else None, None, None, None, None


class SyncBatchNorm(LayerSync):
    """Lightning plugin that synchronises the batch norm of a model during a training."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Substitute the function by which each batch norm layer normalises."""
        for _, layer in _layers(model):
            layer.forward = functools.partial(_forward, layer, layer.forward)  # type: ignore[method-assign]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Restore the layers. Lightning calls this even if it failed before they were changed."""
        for _, layer in _layers(model):
            vars(layer).pop("forward", None)
        return model


def check(model: nn.Module, arch: str) -> None:
    """Check that each batch norm layer of a model normalises by the function that is substituted.

    Args:
        model: the model.
        arch: its name, for the error message.

    Raises:
        InputError: a layer normalises in another way.
    """
    for name, layer in _layers(model):
        if isinstance(layer, nn.SyncBatchNorm) or not _uses_batch_norm(layer):
            kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
            raise InputError(
                f"device.sync_batch_norm=true: {name} of arch={arch} is a {kind}, which does not use "
                "torch.nn.functional.batch_norm; allowed: false"
            )


def _layers(model: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, _BatchNorm))


class _Substituted(TorchFunctionMode):
    """Mode that replaces calls of `F.batch_norm` by another function, and records whether there were any."""

    def __init__(self, replacement: Callable[..., Tensor]) -> None:
        super().__init__()
        self.replacement, self.called = replacement, False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.batch_norm:
            self.called = True
            function = self.replacement
        return function(*args, **(kwargs or {}))


def _forward(layer: _BatchNorm, forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """Run a layer's forward pass with synchronised statistics; in eval mode it uses the running ones."""
    if not layer.training:
        return forward(*args, **kwargs)
    with _Substituted(batch_norm):
        return forward(*args, **kwargs)


def _uses_batch_norm(layer: _BatchNorm) -> bool:
    """Return whether a layer, perhaps on the meta device, calls `F.batch_norm`, by trying a copy of it."""
    watch = _Substituted(lambda x, *args, **kwargs: x)
    for space in ((1, 1), (), (1, 1, 1)):
        try:
            trial = copy.deepcopy(layer).to_empty(device="cpu").train()
            with watch, torch.no_grad():
                for tensor in (*trial.parameters(), *trial.buffers()):
                    tensor.zero_()
                trial(torch.zeros(2, layer.num_features, *space, device="cpu"))
        except Exception:  # a wrong number of dimensions, or any error in a model's own code
            continue
    return watch.called
