"""Architectures: shapes, published sizes, and that they learn."""

from pathlib import Path

import pytest
import torch
import yaml

from cnnbench import macs
from cnnbench.build import factory
from cnnbench.errors import InputError
from cnnbench.settings import Part

CONF = Path(__file__).parent.parent / "conf" / "arch"
ARCHS = sorted(path.stem for path in CONF.glob("*.yaml"))


def part(name, **changed):
    return Part.model_validate(yaml.safe_load((CONF / f"{name}.yaml").read_text()) | changed)


def make(name, channels=3, classes=10, size=32, **changed):
    torch.manual_seed(0)
    return factory(
        part(name, **changed), "arch", in_channels=channels, num_classes=classes, image_size=size
    )()


@pytest.mark.parametrize("name", ARCHS)
@pytest.mark.parametrize("size", [8, 9, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_logits(name, size, channels):
    model = make(name, channels, 7, size, width=0.25).eval()
    assert model(torch.randn(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("name", ["basic", "mlp", "resnet20"])
def test_overfits_64_images(name):
    model = make(name, 1, 10, 16, width=0.5)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(64, 1, 16, 16, generator=generator), torch.arange(64) % 10
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        optimizer.step()
    assert (model(images).argmax(1) == labels).all()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet20", 0.27e6),
        ("resnet32", 0.46e6),
        ("resnet44", 0.66e6),
        ("resnet56", 0.85e6),
        ("resnet110", 1.7e6),
    ],
)
def test_cifar_resnets_have_the_papers_sizes(name, published):
    assert macs.params(make(name)) == pytest.approx(published, rel=0.02)


def test_resnet20_by_hand():
    """Parameters and MACs of ResNet-20 on 32x32x3, summed up layer by layer."""
    stages = [(16, 16, 32), (16, 32, 16), (32, 64, 8)]
    weights, work = 3 * 16 * 9 + 2 * 16, 3 * 16 * 9 * 32 * 32
    for c_in, c_out, side in stages:
        for convolution in range(6):
            c = c_in if convolution == 0 else c_out
            weights += c * c_out * 9 + 2 * c_out
            work += c * c_out * 9 * side * side
    weights, work = weights + 64 * 10 + 10, work + 64 * 10
    model = make("resnet20")
    assert macs.params(model) == weights == 269_722
    assert macs.macs(model, (3, 32, 32), 10) == work


def test_basic_by_hand():
    model = make("basic", 1, 10, 28)
    sides, channels = [28, 14, 7], [1, 32, 64, 128]
    work = sum(a * b * 9 * s * s for a, b, s in zip(channels, channels[1:], sides, strict=False))
    assert macs.macs(model, (1, 28, 28), 10) == work + 128 * 3 * 3 * 128 + 128 * 10


@pytest.mark.parametrize("name", ARCHS)
def test_counting_leaves_the_model_as_it_was(name):
    model = make(name, width=0.25)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    macs.macs(model, (3, 32, 32), 10)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_model_that_cannot_take_the_images():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 9), torch.nn.Flatten(), torch.nn.LazyLinear(3))
    with pytest.raises(InputError, match="cannot take images of 1x8x8"):
        macs.macs(torch.nn.Sequential(model[0]), (1, 8, 8), 3)
    with pytest.raises(InputError, match=r"expected \(1, 3\) logits"):
        macs.macs(torch.nn.Flatten(), (1, 8, 8), 3)


def test_every_architecture_says_where_it_comes_from():
    for name in ARCHS:
        text = (CONF / f"{name}.yaml").read_text()
        assert text.startswith("# "), name
        assert yaml.safe_load(text)["name"] == name
