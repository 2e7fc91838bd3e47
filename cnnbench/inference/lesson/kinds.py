"""What a layer is, and the numbers that explain it."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnnbench.inference.lesson.calls import Call
from cnnbench.models.complexity import window
from cnnbench.ops.layers import ThresholdedLinear

Kind = Literal["convolution", "norm", "activation", "pooling", "global pooling", "flatten", "linear", "other"]

CURVE = 4.0, 81
"""An activation is drawn from minus this number to it, at so many points."""


def kind(call: Call) -> Kind:
    """Return what a layer is, by its class and by the shapes of its maps."""
    module, (before, after) = call.module, (call.taken.shape[1:], call.returned.shape[1:])
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor) and weight.ndim == 4:
        return "convolution"
    if isinstance(module, nn.Linear):
        return "linear"
    if "Norm" in type(module).__name__:
        return "norm"
    if "activation" in type(module).__module__ or isinstance(module, ThresholdedLinear):
        return "activation"
    if isinstance(module, nn.Flatten):
        return "flatten"
    if len(before) == 3 and before[0] == after[0] and (len(after) == 1 or after[1:] == (1, 1)):
        return "global pooling" if before[1:] != (1, 1) else "other"
    return "pooling" if window(module) is not None else "other"


def curve(call: Call) -> list[list[float]] | None:
    """Return points [x, y] of an activation, for its first channel; None: it is none."""
    if kind(call) != "activation":
        return None
    limit, points = CURVE
    x = torch.linspace(-limit, limit, points)
    parameter = next(call.module.parameters(), None)
    given = x.view(1, 1, -1, 1).repeat(1, call.taken.shape[1], 1, 1)
    if parameter is not None:
        given = given.to(parameter)
    with torch.no_grad():
        y = call.module(given)[0, 0, :, 0].float().cpu()
    return [[round(float(a), 4), round(float(b), 4)] for a, b in zip(x, y, strict=True)]


def scale_and_shift(call: Call) -> tuple[Tensor, Tensor] | None:
    """Return a and b (C,) of a x + b, which batch norm is in evaluation; None: it is none."""
    module = call.module
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return None
    if module.running_mean is None or module.running_var is None:
        return None
    mean, variance = module.running_mean.double().cpu(), module.running_var.double().cpu()
    scale = (variance + module.eps).rsqrt()
    if module.weight is not None:
        scale = scale * module.weight.detach().double().cpu()
    shift = -mean * scale
    if module.bias is not None:
        shift = shift + module.bias.detach().double().cpu()
    return scale, shift


def geometry(call: Call) -> dict[str, Any] | None:
    """Return kernel, stride, dilation, padding and groups of a window; None: there is none."""
    found = window(call.module)
    if found is None or kind(call) not in ("convolution", "pooling"):
        return None
    return {
        "kernel": list(found.kernel),
        "stride": list(found.stride),
        "dilation": list(found.dilation),
        "padding": found.padding if isinstance(found.padding, str) else list(found.padding),
        "groups": found.groups,
    }
