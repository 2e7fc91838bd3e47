"""Layers as matrices: equal to the layers for any geometry, with the counts that a definition gives."""

import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from search import examples
from torch import nn

from cnnbench.errors import TooSmall
from cnnbench.models.linear_map import counts, is_linear, linear_map
from cnnbench.ops.factory import Ops
from cnnbench.ops.pooling import Blur, MaxBlur, Stride
from cnnbench.ops.values import PADDINGS

SIDE = st.integers(1, 9)


def agrees(layer, shape, expected=None):
    """Check a matrix and its counts against the layer itself, asked by images of a single bright pixel."""
    layer = layer.double().eval()
    found = linear_map(layer, shape)
    x = torch.randn(3, *shape, dtype=torch.float64)
    torch.testing.assert_close(found(x), layer(x))
    probes = torch.eye(x[0].numel(), dtype=torch.float64).view(-1, *shape)
    with torch.no_grad():
        dense = (layer(probes) - layer(0 * probes)).flatten(1).T
    torch.testing.assert_close(found.matrix.to_dense(), dense)
    number = counts(layer, shape)
    assert number.unconstrained == dense.numel()
    assert number.output == found.output
    assert number.nonzero == found.matrix.values().numel()
    assert number.nonzero == (dense.abs() > 1e-12).sum(), "weights are random, so none cancels"
    return found, number


@st.composite
def convolutions(draw):
    """Return a convolution of torch and the shape of a map for it."""
    groups = draw(st.integers(1, 3))
    kernel, stride, dilation = (draw(st.tuples(st.integers(1, n), st.integers(1, n))) for n in (4, 3, 2))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    padding = draw(st.sampled_from(["valid", "same", "pixels"]))
    if padding == "same":
        stride = (1, 1)
    elif padding == "pixels":
        padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    layer = nn.Conv2d(
        groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)), kernel, stride, padding, dilation,
        groups, draw(st.booleans()), mode,
    )  # fmt: skip
    return layer, (layer.in_channels, draw(SIDE), draw(SIDE))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@examples(60)
@given(convolutions())
def test_a_convolution_of_torch_with_any_geometry(case):
    layer, shape = case
    try:
        layer(torch.zeros(1, *shape))
    except (RuntimeError, ValueError):  # the map is too small
        reject()
    agrees(layer, shape)


@pytest.mark.parametrize("padding", ["native", *PADDINGS])
@pytest.mark.parametrize("kernel", [1, 2, 3, (1, 5)])
def test_our_convolutions_with_every_padding(padding, kernel):
    ops = Ops(padding=padding, norm="none")
    for stride, groups, sides in ((1, 1, (5, 7)), (2, 2, (6, 5)), (3, 4, (7, 7))):
        layer = ops.conv(4, 8, kernel, stride, groups=groups)
        nn.init.normal_(layer.bias)
        found, number = agrees(layer, (4, *sides))
        assert number.free == layer.weight.numel(), "each weight of the kernel meets the map somewhere"
        assert found.output == tuple(layer(torch.zeros(1, 4, *sides, dtype=torch.float64)).shape[1:])


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 1, 5), (2, 2, 6), (3, 2, 7)])
def test_without_sharing_the_pattern_is_that_of_the_convolution(padding, kernel, stride, side):
    """And with the weights of the convolution at each place, the layer is that convolution."""
    ops = Ops(padding=padding, norm="none")
    shared, local = ops.conv(2, 3, kernel, stride), ops.local(2, 3, kernel, stride, side=side)
    found, number = agrees(local, (2, side, side))
    constrained, other = agrees(shared, (2, side, side))
    assert torch.equal(found.matrix.indices(), constrained.matrix.indices())
    assert (number.unconstrained, number.nonzero) == (other.unconstrained, other.nonzero)
    assert number.free >= number.nonzero, "two weights meet where padding repeats a pixel"
    if padding in ("zeros", "same", "valid", "circular"):
        assert number.free == number.nonzero
    with torch.no_grad():
        local.weight.copy_(shared.weight.flatten(1).expand_as(local.weight))
        nn.init.normal_(shared.bias)
        local.bias.copy_(shared.bias.repeat_interleave(local.weight.shape[0]))
    x = torch.randn(4, 2, side, side, dtype=torch.float64)
    torch.testing.assert_close(local(x), shared(x))


def test_the_counts_of_a_layer_by_hand():
    """28x28 to 28x28 with 3x3: of each side's 28 x 3 pairs of pixel and place two are outside."""
    number = counts(Ops().conv(1, 32, 3), (1, 28, 28))
    assert (number.unconstrained, number.nonzero, number.free) == (32 * 784**2, 32 * 82**2, 32 * 9)
    assert counts(Ops().local(1, 32, 3, side=28), (1, 28, 28)).free == number.nonzero
    assert counts(nn.Linear(5, 7), (5,)).free == 35
    assert counts(nn.Conv2d(1, 1, 3, padding=1), (1, 1, 1)).free == 1, "eight weights see only padding"


@pytest.mark.parametrize(
    "layer",
    [nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.AdaptiveAvgPool2d(2),
     Blur(2, 2, 0, False), Blur(3, 2, 1, False), Stride(2, 2, 0, False), Stride(3, 2, 1, True)],
    ids=str,
)  # fmt: skip
def test_linear_pooling(layer):
    assert agrees(layer, (3, 6, 7))[1].free == 0


def test_probes_are_asked_in_parts(monkeypatch):
    monkeypatch.setattr("cnnbench.models.linear_map.PROBES", 100)
    agrees(Blur(3, 2, 1, False), (2, 6, 7))


def test_a_shift_of_the_input_is_part_of_the_bias():
    layer = Ops(init="fixup", norm="none").conv(2, 3, 3)
    linear = Ops(init="fixup", norm="none").linear(5, 4)
    for module in (layer, linear):
        nn.init.constant_(module.shift, 0.7)
    agrees(layer, (2, 5, 5))
    agrees(linear, (5,))


def test_weights_learn_through_the_matrix():
    layer = nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect").double()
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    gradients = [
        torch.autograd.grad(f(x).square().sum(), [layer.weight, layer.bias])
        for f in (layer, linear_map(layer, (2, 4, 5)))
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    "layer",
    [nn.ReLU(), nn.MaxPool2d(2), MaxBlur(2, 2, 0, False), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 3, 2)],
)
def test_other_layers_are_refused(layer):
    assert not is_linear(layer)
    for function in (linear_map, counts):
        with pytest.raises(ValueError, match=type(layer).__name__):
            function(layer, (3, 6, 6))


def test_a_map_without_windows_is_refused_when_it_is_built():
    with pytest.raises(TooSmall, match="a kernel of 3 pixels on a map of 2"):
        Ops(padding="valid").local(1, 1, 3, side=2)
    with pytest.raises(TooSmall, match="reflect padding"):
        Ops(padding="reflect").local(1, 1, 5, side=2)
