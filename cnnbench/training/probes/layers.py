"""The layers of a model with weights, and what each of them sends into its activation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from cnnbench.ops.layers import ThresholdedLinear
from cnnbench.ops.norms import FilterResponseNorm

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, FilterResponseNorm)

ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU),
    *(nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, ThresholdedLinear),
)

PEAK = {nn.Sigmoid: 0.25, nn.Hardsigmoid: 1 / 6}
"""Largest slopes of activations, where it is not about 1."""

See = Callable[[str, Tensor, "nn.Module | None"], object]


def weighted(model: nn.Module) -> dict[nn.Module, str]:
    """Return the layers that multiply by weights (convolutions, fully connected ones) with their names."""
    return {
        module: name
        for name, module in model.named_modules()
        if isinstance(weight := getattr(module, "weight", None), nn.Parameter) and weight.ndim >= 2
    }


def weights_by_layer(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of each layer, by its name."""
    return {name: layer.get_parameter("weight") for layer, name in weighted(model).items()}


@contextmanager
def watched_layers(model: nn.Module, see: See) -> Iterator[None]:
    """Call `see` for each layer with what it sends into its activation, and with the activation.

    That is the input of the first activation after the layer: after its norm, and after the sum if a residual
    branch ends with the layer. If no activation follows before the next layer, it is what the layer returns,
    or its norm, and the activation is None. Layers come in the order of execution, each at its first call.
    """
    names = weighted(model)
    seen: set[nn.Module] = set()
    pending: list[tuple[nn.Module, Tensor]] = []

    def flush(activation: nn.Module | None = None, entering: Tensor | None = None) -> None:
        if pending:
            layer, output = pending.pop()
            if layer not in seen:
                seen.add(layer)
                see(names[layer], output if entering is None else entering, activation)

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, ACTIVATIONS):
            flush(module, inputs[0])
        else:
            flush()

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if module in names:
            pending[:] = [(module, output)]
        elif pending:
            pending[:] = [(pending[0][0], output)]

    hooks = []
    for module in model.modules():
        if module in names or isinstance(module, ACTIVATIONS):
            hooks.append(module.register_forward_pre_hook(before))
        if module in names or isinstance(module, NORMS):
            hooks.append(module.register_forward_hook(after))
    try:
        yield
        flush()
    finally:
        for hook in hooks:
            hook.remove()


def slopes(activation: nn.Module, x: Tensor) -> Tensor:
    """Return the derivative of an elementwise activation at each value of x, of the shape of x."""
    if isinstance(activation, nn.ReLU):
        return (x > 0).to(x.dtype)
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(activation.forward(leaf.clone()).sum(), leaf)
    return slope


def by_channel(x: Tensor) -> Tensor:
    """Return (N, C, …) as float32 (C, all else)."""
    return x.detach().float().transpose(0, 1).flatten(1)
