"""Parameter groups with and without weight decay."""

from __future__ import annotations

from typing import Any

from torch import nn


def decay_groups(model: nn.Module, *, norm_and_bias: bool) -> list[dict[str, Any]]:
    """Return the trainable parameters of a model in two groups: with and without weight decay.

    PReLU's slopes never decay: that would pull them towards those of a ReLU (arXiv:1502.01852, section 2.1).

    Args:
        model: the model to be trained.
        norm_and_bias: whether one-dimensional parameters, those of norm layers and biases, decay.
    """
    slopes = {id(module.weight) for module in model.modules() if isinstance(module, nn.PReLU)}
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            exempt = parameter.ndim <= 1 and not norm_and_bias
            (free if exempt or id(parameter) in slopes else decayed).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}]
    return [*groups, {"params": free, "weight_decay": 0.0}] if free else groups
