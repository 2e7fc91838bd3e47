"""Effective receptive fields against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cnnbench.models.effective_field import VISIBLE, effective_field


def boxes(layers, kernel, channels=2):
    """Linear box filters without bias."""
    convs = [nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False) for _ in range(layers)]
    for conv in convs:
        nn.init.constant_(conv.weight, 0.5)
    return nn.Sequential(*convs)


@pytest.mark.parametrize(("layers", "kernel"), [(1, 3), (4, 3), (3, 5), (12, 3)])
def test_a_stack_of_boxes_has_their_convolution(layers, kernel):
    """Its profile is the n-fold convolution of a box, and its width sqrt(n (k² - 1) / 12)."""
    side = 2 * layers * kernel + 1
    field = effective_field(boxes(layers, kernel), torch.randn(3, 2, side, side))
    profile = np.ones(1)
    for _ in range(layers):
        profile = np.convolve(profile, np.ones(kernel) / kernel)
    expected = np.zeros(side)
    start = side // 2 - len(profile) // 2
    expected[start : start + len(profile)] = profile
    np.testing.assert_allclose(field.picture.numpy(), np.outer(expected, expected), atol=1e-7)
    width = math.sqrt(layers * (kernel**2 - 1) / 12)
    assert field.deviations == pytest.approx((width, width), rel=1e-5)


def test_a_deep_stack_is_a_gaussian_whose_visible_part_is_a_circle():
    field = effective_field(boxes(40, 3), torch.randn(1, 2, 101, 101))
    radius = math.sqrt(40 * 8 / 12) * math.sqrt(-2 * math.log(VISIBLE))
    assert field.size == pytest.approx(math.sqrt(math.pi) * radius, rel=0.02)


def test_the_model_is_left_alone_and_the_last_map_counts():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AvgPool2d(2),
        nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    nn.init.constant_(model[0].weight, 1.0)  # each pixel of a window counts
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    field = effective_field(model, torch.randn(8, 1, 12, 12))
    assert (field.layer, field.units) == ("4", (5, 5))
    assert field.size == 4.0  # a window of 2 and a kernel of 3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert not model[1].training
    assert effective_field(model, torch.randn(2, 1, 12, 12), "0").size == 3.0
    assert effective_field(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.randn(1, 1, 2, 2)) is None


def test_what_counts_nothing_has_no_size():
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    nn.init.constant_(model[0].bias, -1e6)
    field = effective_field(model, torch.randn(1, 1, 8, 8))
    assert field.size == 0
    assert math.isnan(field.deviations[0])
