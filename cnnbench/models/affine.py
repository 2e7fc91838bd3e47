"""Networks without non-linearity: one affine map of the image, however many layers they have."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.errors import InputError
from cnnbench.models.complexity import Shape

ROWS = 64
"""Rows of the matrix that are computed at a time."""

EXACT = 1e-9
"""Largest relative deviation from an affine map in float64."""


class Affine(nn.Module):
    """A matrix and a bias in place of a network.

    Args:
        matrix: (K, C * H * W).
        bias: (K,).
    """

    def __init__(self, matrix: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, K)."""
        return x.flatten(1) @ self.matrix.T + self.bias


def collapse(model: nn.Module, shape: Shape) -> Affine:
    """Return the one affine map that a network in eval mode is.

    The rows of the matrix are the gradients of the logits, computed in float64: those of an affine map are
    the same at each image.

    Args:
        model: any classifier; it is not changed.
        shape: (C, H, W) of the image.

    Raises:
        InputError: a layer is not affine. It is named: the first one that ends.
    """
    weights = next(model.parameters())
    exact = copy.deepcopy(model).cpu().double().eval().requires_grad_(False)
    if (name := first_nonlinear(exact, shape)) is not None:
        kind = type(exact.get_submodule(name)).__name__
        raise InputError(
            f"{name or 'the model'} ({kind}): not affine, so that the network is no single matrix; allowed: "
            "ops.act=identity with a linear ops.pool (avg, blur, stride, none) and ops.norm=batch or none"
        )
    with torch.no_grad():
        bias = exact(torch.zeros(1, *shape, dtype=torch.float64))[0]
    rows = []
    for classes in torch.split(torch.arange(len(bias)), ROWS):
        images = torch.zeros(len(classes), *shape, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            chosen = exact(images)[torch.arange(len(classes)), classes].sum()
        rows.append(torch.autograd.grad(chosen, images)[0].flatten(1))
    return Affine(torch.cat(rows), bias).to(weights.device, weights.dtype).eval()


def first_nonlinear(model: nn.Module, shape: Shape) -> str | None:
    """Return the name of the first module, in the order in which they end, that is not affine; None: all.

    Each gets random inputs a and b in place of its own: the output of their mean must be the mean of their
    outputs. So operations outside of any layer count, too, as those of the module in which they are.

    Args:
        model: in float64 and eval mode.
        shape: (C, H, W) of the image.
    """
    calls: dict[str, torch.Size] = {}
    names = {module: name for name, module in model.named_modules()}

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            calls.setdefault(names[module], inputs[0].shape)

    hooks = [module.register_forward_hook(record) for module in names]
    with torch.no_grad():
        model(torch.zeros(1, *shape, dtype=torch.float64))
    for hook in hooks:
        hook.remove()
    generator = torch.Generator().manual_seed(0)
    for name, size in calls.items():
        module = model.get_submodule(name)
        a, b = torch.randn(2, *size, dtype=torch.float64, generator=generator) * 4
        with torch.no_grad():
            ends, middle = (module(a.clone()) + module(b.clone())) / 2, module((a + b) / 2)
        if not (ends - middle).abs().max() <= EXACT * max(1.0, float(ends.abs().max())):
            return name
    return None
