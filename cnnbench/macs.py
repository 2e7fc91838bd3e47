"""The cost of a model: parameters and multiply-accumulate operations."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbench.errors import InputError


def params(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module, shape: tuple[int, int, int], num_classes: int) -> int:
    """Multiply-accumulates of one image of `shape` (C, H, W): half of what torch's FLOP counter counts.

    Runs on the meta device, so that nothing is computed; also shows that the model takes such images.

    Raises:
        InputError: the model cannot take images of this shape, or returns anything but (1, K) logits.
    """
    try:
        count, logits = _forward(copy.deepcopy(model).to("meta"), shape, "meta")
    except (RuntimeError, NotImplementedError):  # an operation without a meta kernel, or a real fault
        try:
            count, logits = _forward(copy.deepcopy(model), shape, "cpu")
        except (RuntimeError, ValueError) as error:
            c, h, w = shape
            raise InputError(
                f"arch: cannot take images of {c}x{h}x{w}: {str(error).splitlines()[0]}"
            ) from error
    if tuple(logits.shape) != (1, num_classes):
        raise InputError(
            f"arch: returns {tuple(logits.shape)} for one image; expected (1, {num_classes}) logits"
        )
    return count


def _forward(model: nn.Module, shape: tuple[int, int, int], device: str) -> tuple[int, Tensor]:
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = model.eval()(torch.zeros((1, *shape), device=device, dtype=dtype))
    return counter.get_total_flops() // 2, logits
