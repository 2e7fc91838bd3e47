"""Memory traffic of a model's layers, for the roofline model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.models import complexity


def traffic(model: nn.Module, shape: complexity.Shape) -> tuple[int, int]:
    """Count the numbers moved to and from memory if each layer reads its inputs and writes its output once.

    Fused layers and caches move less, so this is an upper bound.

    Args:
        model: its layers are the modules without children.
        shape: (C, H, W) of an image.

    Returns:
        The count for one image, and the number of weights, which a batch of any size reads once.
    """
    moved = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal moved
        moved += sum(tensor.numel() for tensor in (*_tensors(inputs), *_tensors(output)))

    leaves = [module for module in model.modules() if not list(module.children())]
    hooks = [m.register_forward_hook(count) for m in leaves if not isinstance(m, nn.Identity)]
    try:
        try:
            complexity.forward(model, shape, 1, "meta")
        except Exception:  # an operation without a meta kernel
            moved = 0
            complexity.forward(model, shape, 1, "cpu")
    finally:
        for hook in hooks:
            hook.remove()
    return moved, complexity.params(model)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


def itemsize(precision: str) -> int:
    """Return the bytes of one activation in a precision."""
    return {"bf16-mixed": 2, "16-mixed": 2, "64-true": 8}.get(precision, torch.float32.itemsize)
