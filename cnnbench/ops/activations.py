"""Activations by name, and the gains of their initialisation."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

ACTS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "prelu": nn.PReLU,  # arXiv:1502.01852, one slope for all channels of a layer
    "gelu": nn.GELU,  # arXiv:1606.08415
    "silu": lambda: nn.SiLU(inplace=True),  # arXiv:1702.03118
    "relu6": lambda: nn.ReLU6(inplace=True),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


GAINS = {
    "leaky_relu": nn.init.calculate_gain("leaky_relu", 0.01),
    "prelu": nn.init.calculate_gain("leaky_relu", 0.25),
    "tanh": nn.init.calculate_gain("tanh"),
    "sigmoid": 1.0,
    "identity": 1.0,
}
"""Gain of the initialisation; that of ReLU, the square root of 2, for the others."""


XAVIER = ("tanh", "sigmoid")
