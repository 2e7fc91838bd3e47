"""Layers refuse exactly the maps for which torch raises an error of its own."""

import copy

import pytest
import torch
from torch import nn

from cnnbench.errors import TooSmall
from cnnbench.ops.factory import Ops
from cnnbench.ops.layers import Conv2d
from cnnbench.ops.limits import checked
from cnnbench.ops.values import NORMS, PADDINGS, POOLS

SIZES = [(side, other) for side in (1, 2, 3, 4, 5, 7) for other in (side, 9)]


def refused(layer, x) -> bool:
    """Check that the layer refuses the map if torch does, on the CPU and on meta tensors; return whether."""
    try:
        layer(x)
    except (RuntimeError, ValueError):
        fails = True
    else:
        fails = False
    for tensor, module in ((x, layer), (x.to("meta"), copy.deepcopy(layer).to("meta"))):
        with checked(module):
            if fails:
                with pytest.raises(TooSmall):
                    module(tensor)
            else:
                module(tensor)
    assert not any(m._forward_pre_hooks for m in layer.modules())
    return fails


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7, (1, 7), (7, 1)])
@pytest.mark.parametrize("padding", ["native", *PADDINGS])
def test_convolutions(kernel, padding):
    results = set()
    for size in SIZES:
        for own in (None, 0, 2):
            for stride in (1, 2):
                layer = Ops(padding=padding).conv(2, 3, kernel, stride, padding=own)
                results.add(refused(layer, torch.zeros(2, 2, *size)))
    if kernel in (5, 7) and padding in ("native", "valid", "reflect", "circular"):
        assert results == {True, False}


@pytest.mark.parametrize("options", [{"dilation": 2}, {"padding": "same"}, {"padding": "valid"}])
def test_a_users_own_convolutions(options):
    results = {refused(nn.Conv2d(2, 3, 3, **options), torch.zeros(2, 2, *size)) for size in SIZES}
    assert results == ({False} if options == {"padding": "same"} else {True, False})


def test_a_subclass_that_pads_the_map_itself():
    class Padded(Conv2d):
        def forward(self, x):
            return super().forward(nn.functional.pad(x, (1, 1, 1, 1), value=1.0))

    layer = Padded(2, 3, (3, 3), 1, (0, 0), "zeros", 1, False, nn.Identity())
    assert not refused(layer, torch.zeros(2, 2, 1, 1))


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pools(kind, ceil_mode):
    results = set()
    for size in SIZES:
        for kernel, stride, padding in [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 0), (2, 3, 0)]:
            layer = POOLS[kind].make(kernel, stride, padding, ceil_mode=ceil_mode)
            results.add(refused(layer, torch.zeros(2, 2, *size)))
    assert results == ({False} if kind == "none" else {True, False})


@pytest.mark.parametrize("options", [{"kernel_size": (3, 2)}, {"kernel_size": 2, "dilation": 3}])
def test_a_users_own_pools(options):
    assert {refused(nn.MaxPool2d(**options), torch.zeros(2, 2, *size)) for size in SIZES} == {True, False}


@pytest.mark.parametrize("norm", NORMS)
def test_norms(norm):
    results = set()
    for channels in (1, 2, 6):
        for batch in (1, 2):
            for size in ((1, 1), (1, 2), (3, 3)):
                for training in (True, False):
                    layer = Ops(norm=norm).norm(channels).train(training)
                    results.add(refused(layer, torch.zeros(batch, channels, *size)))
    assert results == ({False} if norm == "none" else {True, False})


def test_norms_of_vectors():
    for layer in (nn.BatchNorm1d(4), nn.BatchNorm1d(4, track_running_stats=False).eval(), nn.GroupNorm(4, 4)):
        assert refused(layer, torch.zeros(1, 4))
        assert not refused(layer, torch.zeros(2, 4))


def test_layers_within_a_model_are_checked():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 4, 3)))
    with checked(model):
        model(torch.zeros(1, 3, 8, 8))
        with pytest.raises(TooSmall, match="a kernel of 3 pixels on a map of 2"):
            model(torch.zeros(1, 3, 7, 7))
