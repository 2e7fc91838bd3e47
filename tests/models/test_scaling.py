"""Widths, strides and heads for small images, compared with torchvision or with an explicit formula."""

import pytest
from ops_support import close
from torch import nn
from torchvision.models._utils import _make_divisible

from cnnbench.errors import OpsError
from cnnbench.models import scaling

# Stems


@pytest.mark.parametrize(
    ("stem", "size", "small"),
    [("auto", 64, True), ("auto", 65, False), ("small", 224, True), ("imagenet", 32, False)],
)
def test_stem(stem, size, small):
    assert scaling.is_small(stem, size) == small
    assert scaling.is_small("auto", 64, imagenet_from=64) is False


@pytest.mark.parametrize("strides", [[2] * 5, [2, 2, 1, 2, 2], [1, 2, 1], [2, 1, 2, 2, 1], []])
@pytest.mark.parametrize("shrink", [lambda n: -(-n // 2), lambda n: n // 2, lambda n: (n - 1) // 2])
def test_small_strides_keep_as_many_of_the_last_twos_as_fit(strides, shrink):
    for size in range(1, 70):
        for smallest in (1, 4, 7):
            twos = [i for i, stride in enumerate(strides) if stride == 2]
            sides = [size]
            while len(sides) <= len(twos) and shrink(sides[-1]) >= smallest:
                sides.append(shrink(sides[-1]))
            kept = twos[len(twos) - len(sides) + 1 :]
            want = [2 if i in kept else 1 for i in range(len(strides))]
            assert scaling.small_strides(strides, size, smallest, shrink) == (want, sides[-1])


def test_small_strides_halve_upwards_unless_told():
    assert scaling.small_strides([2, 2, 2], 9, 3) == ([1, 2, 2], 3)


def test_widths():
    for by in (4, 8):
        for tenths in range(1, 3000):
            channels = tenths / 7
            assert scaling.divisible(channels, by) == _make_divisible(channels, by)
    assert scaling.divisible(37) == _make_divisible(37, 8) == 40
    assert [scaling.scaled(c, w) for c, w in [(64, 1), (64, 0.25), (10, 0.26), (3, 0.2)]] == [64, 16, 3, 1]
    with pytest.raises(ValueError, match="width=0\\.1"):
        scaling.scaled(3, 0.1)


def test_last_side_learns_nothing():
    features = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4))
    before = [value.clone() for value in features.state_dict().values()]
    assert scaling.last_side(features, 3, 15, most=9) == 7
    assert scaling.last_side(features, 3, 15, most=6) == 6
    close(list(features.state_dict().values()), before)
    assert features.training
    assert features[1].training
    with pytest.raises(OpsError, match="2 pixels") as error:
        scaling.last_side(features, 3, 2, most=6)
    assert error.value.reason == "small"
