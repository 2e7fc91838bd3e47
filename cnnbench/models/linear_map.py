"""Layers as matrices: a convolution is a linear layer with most weights zero, and the others shared.

The map (C, H, W) is flattened in this order, as `nn.Flatten` does it. What a window covers is read from an
image whose pixels are their own numbers, padded and cut into windows as the layer does it, so that every
padding that moves or repeats pixels is right by construction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.ops.layers import Conv2d, Linear
from cnnbench.ops.local import LocallyConnected2d
from cnnbench.ops.padding import padded
from cnnbench.ops.pooling import Blur, Stride

CHANNELWISE = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, Blur, Stride)
"""Pooling that is linear, and the same in each channel."""

PROBES = 2**24
"""Most pixels of images with a single bright pixel, by which pooling is asked, at a time."""


@dataclass(frozen=True)
class LinearMap:
    """The affine map that a layer is.

    Attributes:
        matrix: sparse (outputs, inputs), coalesced.
        bias: (outputs,).
        input, output: shapes before flattening, of one image.
    """

    matrix: Tensor
    bias: Tensor
    input: tuple[int, ...]
    output: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Map (N, *input) to (N, *output)."""
        flat = (self.matrix @ x.flatten(1).T).T + self.bias
        return flat.reshape(len(x), *self.output)


@dataclass(frozen=True)
class Counts:
    """Weights of a layer as a linear map of the flattened input; biases are not counted.

    Attributes:
        unconstrained: of the fully connected layer between the same maps.
        nonzero: entries of the matrix that the layer does not fix at zero.
        free: learned weights that occur in it; each may stand in many entries.
        output: shape before flattening, of one image.
    """

    unconstrained: int
    nonzero: int
    free: int
    output: tuple[int, ...]


def is_linear(layer: nn.Module) -> bool:
    """Return whether a layer can be written as a matrix, by its class."""
    forward = type(layer).forward  # that of a subclass may do more
    return (
        forward in (nn.Conv2d.forward, Conv2d.forward, LocallyConnected2d.forward)
        or forward in (nn.Linear.forward, Linear.forward)
        or type(layer) in CHANNELWISE
    )


def linear_map(layer: nn.Module, shape: tuple[int, ...]) -> LinearMap:
    """Return a layer as a matrix.

    A convolution is taken without the pooling that replaces its stride (`down`), which is a layer of its own.
    Gradients with respect to the weights flow through the matrix.

    Args:
        layer: a convolution, with or without shared weights, a fully connected layer, or linear pooling.
        shape: (C, H, W) of the input, or (C,).

    Raises:
        ValueError: the layer is of another kind, or does not take such an input.
    """
    check(layer, shape)
    if isinstance(layer, nn.Conv2d | LocallyConnected2d):
        return _convolution(layer, shape)
    if isinstance(layer, nn.Linear):
        matrix = layer.weight.to_sparse().coalesce()
        return LinearMap(matrix, _bias(layer, matrix, 1), shape, (layer.out_features,))
    block, output = channel_block(layer, shape)
    (rows, columns), (height, width) = block.indices(), block.shape
    channels = torch.arange(shape[0]).view(-1, 1)
    matrix = torch.sparse_coo_tensor(
        torch.stack([(rows + channels * height).flatten(), (columns + channels * width).flatten()]),
        block.values().repeat(shape[0]),
        (shape[0] * height, shape[0] * width),
        check_invariants=True,
    ).coalesce()
    return LinearMap(matrix, matrix.new_zeros(shape[0] * height).to_dense(), shape, output)


def counts(layer: nn.Module, shape: tuple[int, ...]) -> Counts:
    """Return the weights that a layer needs as a matrix, without building it.

    Args:
        layer, shape: as of `linear_map`; the layer may lie on the meta device if it is no pooling.

    Raises:
        ValueError: as of `linear_map`.
    """
    check(layer, shape)
    if isinstance(layer, nn.Conv2d | LocallyConnected2d):
        taps, places = windows(layer, shape)
        pairs = layer.out_channels * layer.in_channels // layer.groups
        inside = taps >= 0
        entries = torch.arange(taps.shape[1]) * math.prod(shape[1:]) + taps
        nonzero = len(torch.unique(entries[inside]))
        used = inside if isinstance(layer, LocallyConnected2d) else inside.any(1)
        unconstrained = layer.out_channels * taps.shape[1] * math.prod(shape)
        free = pairs * int(used.sum())
        return Counts(unconstrained, pairs * nonzero, free, (layer.out_channels, *places))
    if isinstance(layer, nn.Linear):
        dense = layer.in_features * layer.out_features
        return Counts(dense, dense, dense, (layer.out_features,))
    block, output = channel_block(layer, shape)
    return Counts(math.prod(output) * math.prod(shape), shape[0] * block.values().numel(), 0, output)


def check(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Check that a layer can be written as a matrix of inputs of this shape.

    Raises:
        ValueError: it cannot.
    """
    if not is_linear(layer):
        raise ValueError(f"{type(layer).__name__}: no convolution, fully connected layer or linear pooling")
    if len(shape) != (1 if isinstance(layer, nn.Linear) else 3):
        raise ValueError(f"{type(layer).__name__} of {'x'.join(map(str, shape))}: not for one image")


def windows(layer: nn.Conv2d | LocallyConnected2d, shape: tuple[int, ...]) -> tuple[Tensor, tuple[int, int]]:
    """Return which pixel lies under each weight of a kernel, at each place, and rows and columns of places.

    Args:
        layer: a convolution.
        shape: (C, H, W) of its input.

    Returns:
        (k k, H'W') numbers of pixels, from 0; -1 for zeros of the padding. And (H', W').
    """
    _, height, width = shape
    image = torch.arange(1, height * width + 1, dtype=torch.float64).view(1, 1, height, width)
    image = padded(layer, image)
    taps = F.unfold(image, layer.kernel_size, layer.dilation, 0, layer.stride)[0]
    rows, columns = (
        (side - d * (k - 1) - 1) // s + 1
        for side, k, s, d in zip(
            image.shape[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True
        )
    )
    return taps.long() - 1, (rows, columns)


def channel_block(layer: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Return what pooling does to one channel, sparse (H'W', HW) in float64, and (C, H', W').

    It is asked by images with a single bright pixel.
    """
    channels, height, width = shape
    pixels = height * width
    parts = []
    for numbers in torch.split(torch.arange(pixels), max(1, PROBES // pixels)):
        images = F.one_hot(numbers, pixels).double().view(-1, 1, height, width)
        with torch.no_grad():
            responses = layer(images)
        parts.append(responses.flatten(1).to_sparse())
    block = torch.cat(parts).T.coalesce()
    return block, (channels, *responses.shape[2:])


def _convolution(layer: nn.Conv2d | LocallyConnected2d, shape: tuple[int, ...]) -> LinearMap:
    """Return a matrix with an entry for each channel, neighbour and place; where two meet they are added."""
    taps, places = windows(layer, shape)
    count, pixels, c_out = taps.shape[1], math.prod(shape[1:]), layer.out_channels
    c_group = layer.in_channels // layer.groups
    if isinstance(layer, LocallyConnected2d):
        weight = layer.weight.view(count, c_out, c_group, -1).permute(1, 2, 3, 0)
    else:
        weight = layer.weight.flatten(2)[..., None].expand(-1, -1, -1, count)
    tap, place = (taps >= 0).nonzero(as_tuple=True)
    out = torch.arange(c_out).view(-1, 1, 1)
    first = out // (c_out // layer.groups) * c_group  # channel that the group reads first
    channel = first + torch.arange(c_group).view(1, -1, 1)
    values = weight[:, :, tap, place]  # (c_out, c_in / groups, entries of one block)
    rows = (out * count + place).expand(values.shape)
    columns = channel * pixels + taps[tap, place]
    matrix = torch.sparse_coo_tensor(
        torch.stack([rows.flatten(), columns.flatten()]),
        values.flatten(),
        (c_out * count, math.prod(shape)),
        check_invariants=True,
    ).coalesce()
    return LinearMap(matrix, _bias(layer, matrix, count), shape, (c_out, *places))


def _bias(layer: nn.Conv2d | LocallyConnected2d | nn.Linear, matrix: Tensor, count: int) -> Tensor:
    """Return what is added to each output: the bias, and what a `shift` of the input amounts to."""
    outputs, inputs = matrix.shape
    bias = matrix.values().new_zeros(outputs)
    if layer.bias is not None:
        repeats = 1 if isinstance(layer, LocallyConnected2d) else count
        bias = bias + layer.bias.repeat_interleave(repeats)
    shift = getattr(layer, "shift", None)
    return bias if shift is None else bias + matrix @ (shift * bias.new_ones(inputs))
