"""The fully connected baseline."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def mlp(
    *,
    in_channels: int,
    num_classes: int,
    image_size: int,
    hidden: Sequence[int],
    width: float,
    dropout: float,
) -> nn.Sequential:
    """Hidden layers with ReLU on the flattened image; it knows nothing of neighbouring pixels.

    Shapes: (N, in_channels, image_size, image_size) -> (N, num_classes).

    Raises:
        ValueError: a hidden layer without units.
    """
    units = [round(n * width) for n in hidden]
    if any(n < 1 for n in units):
        raise ValueError(f"width={width} x hidden={list(hidden)}: each layer needs one unit or more")
    layers: list[nn.Module] = [nn.Flatten()]
    before = in_channels * image_size**2
    for n in units:
        layers += [nn.Linear(before, n), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        before = n
    return nn.Sequential(*layers, nn.Linear(before, num_classes))
