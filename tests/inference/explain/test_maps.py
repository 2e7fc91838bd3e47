"""Which layers return maps, where stages end, and what Grad-CAM looks at, in any architecture."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnbench.errors import InputError
from cnnbench.inference.explain.maps import Maps, seen
from cnnbench.settings.described import described
from cnnbench.training.model import sketch

QUICK = {
    "arch=basic data=digits": "features.block3.2",
    "arch=basic data=digits arch.head=gap": "features.block3.2",
    "arch=basic data=digits ops.pool=none": "features",
    "arch=vgg11 data=digits": "features.19",
    "arch=torchvision arch.name=resnet18 data=cifar10": "layer3",  # the map of layer4 is a single position
}
"""The layer that the pooling behind the last convolution takes, as one finds it by reading the models."""

SLOW = {
    "arch=alexnet data=cifar10": "features.11",
    "arch=vgg11 data=cifar10": "features.19",
    "arch=googlenet data=cifar10": "inception5b",
    "arch=resnet18 data=cifar10": "layer4",
    "arch=resnet20 data=digits": "layer3",
    "arch=resnet20 data=cifar10 ops.pool=max": "layer3",
    "arch=efficientnet_b0 data=fashion_mnist": "features",
    "arch=mobilenet_v2 data=fashion_mnist": "features",
    "arch=torchvision arch.name=densenet121 data=imagenette": "features",
    "arch=torchvision arch.name=resnet18 data=imagenette": "layer4",
    "arch=timm arch.name=convnext_atto data=imagenette": "norm_pre",
    "arch=timm arch.name=resnet26d data=imagenette": "layer4",
    "arch=timm arch.name=mobilenetv3_small_050 data=imagenette": "blocks",
}
"""The same of larger models, which take seconds to build."""


def maps_of(words):
    model, shape, _, _ = sketch(described(words.split()))
    return Maps(model, shape)


@pytest.mark.parametrize("words", QUICK)
def test_grad_cam_looks_at_the_last_maps_before_pooling(words):
    assert maps_of(words).last == QUICK[words]


@pytest.mark.slow
@pytest.mark.parametrize("words", SLOW)
def test_also_of_larger_models(words):
    assert maps_of(words).last == SLOW[words]


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        ("arch=basic data=fashion_mnist", ["features.block1.2", "features.block2.2", "features.block3.2"]),
        ("arch=resnet20 data=digits", ["layer1", "layer2", "layer3"]),
        ("arch=mlp data=digits", []),
    ],
)
def test_stages_end_where_maps_shrink(words, stages):
    found = maps_of(words)
    assert found.stages == stages
    sides = [found.shapes[name][1] for name in stages]
    assert sides == sorted({*sides}, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "stages"),
    [
        ("arch=resnet18 data=imagenette", ["act1", "layer1", "layer2", "layer3", "layer4"]),
        ("arch=googlenet data=cifar10", ["conv3", "inception3b", "inception4e", "inception5b"]),
        ("arch=mobilenet_v2 data=fashion_mnist", ["features.3", "features.6", "features.13", "features"]),
    ],
)
def test_stages_of_larger_models(words, stages):
    assert maps_of(words).stages == stages


def test_a_net_without_maps():
    found = maps_of("arch=mlp data=digits")
    assert found.last is None
    with pytest.raises(InputError, match="the model has no feature maps; allowed: a convolutional network"):
        found.named("1")


class Shared(nn.Module):
    """A ReLU that is called twice, and pooling that is no module."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(4, 2)

    def forward(self, x):
        x = self.relu(self.two(self.relu(self.one(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def test_a_layer_that_is_called_twice_is_not_meant():
    found = Maps(Shared().eval(), (1, 8, 8))
    assert [*found.shapes] == ["one", "two"]
    assert found.shapes["two"] == (4, 4, 4)
    assert found.last == "two"
    with pytest.raises(InputError, match=r"--layer tow: .* did you mean two\? allowed: one, two"):
        found.named("tow")


def test_what_is_seen_is_what_the_layer_returned():
    """Though the ReLU behind it works in place; and nothing stays behind in the model."""
    model, found = Shared().eval(), {}
    images = torch.randn(2, 1, 8, 8)
    with torch.no_grad(), seen(model, ["one"], found.__setitem__):
        model(images)
    assert torch.equal(found["one"], model.one(images))
    assert found["one"].min() < 0
    assert not model.one._forward_hooks
