"""Receptive fields: the published ones, and those that gradients show, for every family with every op."""

import math

import pytest
import torch
import torchvision
from cells import WIDTH, families, make
from covering import covering
from hypothesis import given, reject
from hypothesis import strategies as st
from search import examples, sample
from seen_pixels import differences
from torch import nn

from cnnbench.errors import OpsError
from cnnbench.models.receptive_field import receptive_fields
from cnnbench.ops.values import AXES


def field(model, name, side=224):
    return receptive_fields(model, (3, side, side)).layers[name]


@pytest.mark.parametrize(
    ("arch", "layer", "size"), [("alexnet", "features.12", 195), ("vgg16", "features.30", 212)]
)
def test_published_fields(arch, layer, size):
    """After the last pooling window, as Araujo et al. (2019) publish them."""
    with torch.device("meta"):
        model = torchvision.models.get_model(arch, weights=None)
    found = field(model, layer)
    assert (found.rows.size, found.columns.size) == (size, size)
    assert found.rows.narrowest == size, "there is one path"
    assert found.rows.jump == 32


def test_branches_have_a_largest_and_a_narrowest_path():
    """Of a residual sum the narrowest path is the shortcut, of Inception's blocks the convolution of 1x1."""
    with torch.device("meta"):
        resnet, googlenet = (make(arch, size=224)[0] for arch in ("resnet18", "googlenet"))
    block = field(resnet, "layer1.1").rows
    assert (block.size, block.narrowest, block.jump) == (43, 11, 4)
    block = field(googlenet, "inception3a").rows
    assert (block.size, block.narrowest, block.jump) == (43, 27, 8)  # 3x3, as in torchvision


def test_what_grows_with_the_image_has_no_size():
    """Global pooling and squeeze-excitation see everything; the path beside the latter does not."""
    with torch.device("meta"):
        model, _ = make("efficientnet_b0", size=224)
    fields = receptive_fields(model, (3, 224, 224)).layers
    excited = fields["features.1.0"].rows
    assert (excited.size, excited.narrowest) == (math.inf, 7)
    assert fields["features.1.0"].share == 1
    assert fields["features.0"].rows.size == 3
    assert fields[""].rows.size == math.inf


def sides(family):
    """Return the side of images on which the gradient is looked at: odd, so that windows do not fit."""
    return 129 if family == "inception_v3" else 65


def wrong(case):
    """Return where a family's traced fields are not those of its gradients; None: it has not these ops."""
    ops = {"act": "identity"} | {axis: value for axis, value in case.items() if axis != "arch"}
    size = sides(case["arch"])
    try:
        model, _ = make(case["arch"], size=size, ops=ops, width=WIDTH)
    except OpsError:
        return None
    return differences(model, (3, size, size))


LONG = {"inception_v3", "efficientnet_b0", "mobilenet_v2"}
FAMILIES = [pytest.param(f, marks=[pytest.mark.slow] * (f in LONG)) for f in families() if f != "mlp"]


@pytest.mark.parametrize("family", FAMILIES)
def test_fields_are_those_of_the_gradient(family):
    assert wrong({"arch": family}) == []


CASES = covering(
    {
        "arch": [family for family in families() if family != "mlp"],
        **{axis: ["native", *AXES[axis]] for axis in ("norm", "pool", "padding")},
    }
)


@pytest.mark.slow
def test_every_family_with_every_op():
    """Each pair of values occurs together, if a family can have both; a third of the cases at a time."""
    tried = sample(CASES, 0.33)
    found = {tuple(case.values()): wrong(case) for case in tried}
    assert {case: places[:3] for case, places in found.items() if places} == {}
    assert sum(places is not None for places in found.values()) > len(tried) / 2


LINES = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3))


class Branches(nn.Module):
    """Branches of the same output size, added or concatenated."""

    def __init__(self, branches, *, add):
        super().__init__()
        self.branches, self.add = nn.ModuleList(branches), add

    def forward(self, x):
        maps = [branch(x) for branch in self.branches]
        side = min(y.shape[2] for y in maps), min(y.shape[3] for y in maps)
        maps = [y[:, :, : side[0], : side[1]] for y in maps]
        return sum(maps[1:], maps[0]) if self.add else torch.cat(maps, 1)


@st.composite
def layers(draw, channels):
    """Return a random layer of as many channels as it takes."""
    kind = draw(st.sampled_from(["conv", "grouped", "max", "mean", "transposed", "pad", "shuffle"]))
    (k, s, p, d), (k2, s2, p2, d2) = draw(LINES), draw(LINES)
    p, p2 = min(p, k // 2), min(p2, k2 // 2)
    if kind in ("conv", "grouped"):
        groups = channels if kind == "grouped" else 1
        return nn.Conv2d(channels, channels, (k, k2), (s, s2), (p, p2), (d, d2), groups)
    if kind in ("max", "mean"):
        pool = nn.MaxPool2d if kind == "max" else nn.AvgPool2d
        return pool((k, k2), (s, s2), (p, p2), ceil_mode=draw(st.booleans()))
    if kind == "pad":
        pad = draw(st.sampled_from([nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d]))
        return pad((p, p2, d - 1, d2 - 1))
    return nn.ChannelShuffle(2) if kind == "shuffle" else Transposed()


class Transposed(nn.Module):
    """Rows for columns."""

    def forward(self, x):
        return x.transpose(2, 3).contiguous()


@st.composite
def networks(draw):
    """Return a random stack of layers and branches."""
    stack = []
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            stack.append(draw(layers(4)))
        else:
            two = [
                nn.Sequential(*(draw(layers(4)) for _ in range(draw(st.integers(0, 2))))) for _ in range(2)
            ]
            add = draw(st.booleans())
            stack += [Branches(two, add=add), *([] if add else [nn.Conv2d(8, 4, 1)])]
    return nn.Sequential(nn.Conv2d(3, 4, 1), *stack)


@examples(40)
@given(networks(), st.integers(20, 40), st.integers(20, 40))
def test_random_stacks_and_branches(model, rows, columns):
    try:
        model.double()(torch.zeros(1, 3, rows, columns, dtype=torch.float64))
    except RuntimeError:  # a layer leaves nothing of the map
        reject()
    assert differences(model, (3, rows, columns)) == []
