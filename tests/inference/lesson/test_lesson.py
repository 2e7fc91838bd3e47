"""What the page of a lesson is made of, against the network itself."""

import base64
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from cnnbench.data.preprocessing import Preparation
from cnnbench.inference import trained_model
from cnnbench.inference.explain.examples import Examples
from cnnbench.inference.lesson.calls import IMAGE, calls
from cnnbench.inference.lesson.kinds import curve, kind, scale_and_shift
from cnnbench.inference.lesson.matrix import matrix
from cnnbench.inference.lesson.page import page
from cnnbench.inference.lesson.sprites import sprite
from cnnbench.inference.network import Network
from cnnbench.settings.described import described
from cnnbench.training.model import sketch

pytest_plugins = ["finished_fixtures"]

PIXELS = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CPU = {"accelerator": "cpu", "precision": "32-true", "memory_format": "contiguous", "threads": 1}


@dataclass(frozen=True, kw_only=True)
class Untrained(Network):
    """A network with the weights of its start."""

    name = weights = origin = "untrained"
    facts = {}  # noqa: RUF012


def untrained(words):
    model, (channels, size, _), classes, _ = sketch(described(words.split()))
    torch.manual_seed(0)
    model = model.to_empty(device="cpu") if next(model.parameters()).is_meta else model
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    for name, buffer in model.named_buffers():
        buffer.fill_(1 if "var" in name else 0)
    prepared = Preparation(
        classes=[str(k) for k in range(classes)], size=size, colours=channels, channels=channels,
        mean=[0.5] * channels, std=[0.25] * channels, centre=None,
    )  # fmt: skip
    return Untrained(model=model.eval().requires_grad_(False), preparation=prepared, device=CPU)


def data_of(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_calls_are_what_the_layers_take_and_return(digits):
    """Though activations work in place: each layer is called again, with a copy."""
    trained = trained_model.load(digits)
    found = calls(trained, PIXELS)
    features, head = trained.model.features, trained.model.head
    layers = [
        *features.block1,
        *features.block2,
        *(layer for layer in head if not isinstance(layer, nn.Dropout)),
    ]
    assert [call.module for call in found] == layers
    assert [call.source for call in found] == [IMAGE, *range(len(found) - 1)]
    x = trained.inputs(PIXELS)
    for call, layer in zip(found, layers, strict=True):
        assert torch.equal(call.taken, x), call.name
        x = layer(x.clone())
        assert torch.equal(call.returned, x), call.name
    assert not [module for module in trained.model.modules() if module._forward_hooks]


def test_sums_and_pooling_in_place_of_a_stride():
    network = untrained("arch=resnet20 data=digits ops.pool=max")
    found = calls(network, PIXELS)
    names = [call.name for call in found]
    for name in ("layer2.0.conv1", "layer2.0.conv1.down"):
        assert name in names
    conv = found[names.index("layer2.0.conv1")]
    pooled = found[names.index("layer2.0.conv1.down")]
    assert conv.returned.shape[2:] == (8, 8)
    assert pooled.returned.shape[2:] == (4, 4)
    assert pooled.source == names.index("layer2.0.conv1")
    assert torch.equal(pooled.returned, pooled.module(conv.returned))
    after_sum = [call for call in found if call.source is None]
    assert len(after_sum) >= 9, "the activation behind each sum"
    assert {kind(call) for call in found} >= {"convolution", "norm", "activation", "pooling", "linear"}


def test_batch_norm_is_a_scale_and_a_shift(digits):
    trained = trained_model.load(digits)
    norms = [call for call in calls(trained, PIXELS) if kind(call) == "norm"]
    assert len(norms) == 2
    for call in norms:
        scale, shift = (part.view(1, -1, 1, 1) for part in scale_and_shift(call))
        assert torch.allclose(scale * call.taken + shift, call.returned.double(), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "function"),
    [(nn.ReLU(inplace=True), F.relu), (nn.SiLU(), F.silu), (nn.Tanh(), torch.tanh), (nn.PReLU(2, 0.5), None)],
)
def test_the_curve_of_an_activation(layer, function):
    from cnnbench.inference.lesson.calls import Call

    maps = torch.zeros(1, 2, 4, 4)
    found = torch.tensor(curve(Call("act", layer, maps, maps, None)))
    x = torch.linspace(-4, 4, 81)
    y = function(x) if function else torch.where(x < 0, 0.5 * x, x)
    assert torch.allclose(found, torch.stack([x, y], 1), atol=1e-4)


def test_the_counts_and_the_part_of_a_matrix(digits):
    """A 3x3 kernel with padding 1: 3 n - 2 of the n n pairs of rows are neighbours."""
    first, *_ = [call for call in calls(trained_model.load(digits), PIXELS) if kind(call) == "convolution"]
    found = matrix(first)
    assert (found.unconstrained, found.nonzero, found.free) == (8 * 64 * 64, 8 * 22**2, 8 * 9)
    images = torch.eye(found.side**2).view(-1, 1, found.side, found.side)
    answers = F.conv2d(images, first.module.weight[:1, :1], padding=1).flatten(1)
    assert torch.allclose(found.part, answers.T, atol=1e-7)
    assert found.places == (found.side, found.side)


def test_a_sprite_keeps_the_numbers_to_half_a_level():
    maps = torch.randn(3, 5, 7, 6) * torch.tensor([1, 10, 0.1, 3, 0]).view(1, 5, 1, 1)
    found = sprite(maps)
    levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["src"].partition(",")[2]))))
    assert levels.shape == (3 * 7, 5 * 6)
    for n in range(3):
        for c in range(5):
            low, high = found["low"][c], found["high"][c]
            part = levels[7 * n : 7 * n + 7, 6 * c : 6 * c + 6].astype(float)
            assert np.abs(low + (high - low) * part / 255 - maps[n, c].numpy()).max() <= (high - low) / 509


def test_a_large_map_is_averaged_and_a_vector_is_not():
    maps = torch.randn(1, 1, 128, 128)
    found = sprite(maps)
    assert (found["rows"], found["columns"]) == (64, 64)
    assert found["high"][0] == pytest.approx(float(F.avg_pool2d(maps, 2).max()))
    vector = torch.randn(1, 1, 1, 200)
    found = sprite(vector)
    assert (found["rows"], found["columns"]) == (1, 200)
    assert found["high"][0] == float(vector.max())


def test_the_page_of_a_run(digits, copied, cli):
    run = copied(digits)
    code, out, err = cli("lesson", run.path)
    assert (code, out) == (0, "")
    assert err.splitlines()[-1] == f"written: {run.path / 'lesson.html'}"
    text = (run.path / "lesson.html").read_text()
    assert len(text) < 500_000
    data = data_of(text)
    assert [step["kind"] for step in data["steps"]] == [
        *("convolution", "norm", "activation", "pooling") * 2,
        *("other", "flatten", "linear", "activation", "linear"),
    ]
    assert [image["label"] for image in data["images"]] == ["0", "1", "2", "3"]
    fields = [step["field"]["rows"]["size"] for step in data["steps"][:8]]
    assert fields == [3, 3, 3, 4, 8, 8, 8, 10]
    assert cli("verify", run.path)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "broken.png"], "--image broken.png: not an image"),
        (["--output", "nowhere/x.html"], "--output nowhere/x.html: its folder does not exist"),
        (["seed=3"], "seed=3: not a setting of an evaluation"),
    ],
)
def test_bad_input_is_one_line(digits, cli, arguments, message):
    Path("broken.png").write_text("no image")
    code, out, err = cli("lesson", digits.path, "--output", "x.html", *arguments)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert message in line
    assert not Path("x.html").exists()


def test_a_link_that_a_run_brought_along_is_not_followed(digits, copied, cli):
    run = copied(digits)
    Path("precious").write_text("mine")
    (run.path / "lesson.html").symlink_to(Path("precious").resolve())
    code, _, err = cli("lesson", run.path)
    assert code == 2
    assert "is a link, and would be followed" in err
    assert Path("precious").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "arch=alexnet data=imagenette data.size=224", "arch=vgg16_bn data=imagenette data.size=224",
        "arch=googlenet data=cifar10", "arch=resnet18 data=imagenette data.size=224",
        "arch=resnet152 data=imagenette data.size=224", "arch=efficientnet_b0 data=imagenette data.size=224",
        "arch=mobilenet_v2 data=cifar10", "arch=torchvision arch.name=densenet121 data=cifar10",
        "arch=mlp data=digits",
        "arch=timm arch.name=convnext_atto data=imagenette",
        "arch=torchvision arch.name=resnet18 data=cifar10",
    ],
)  # fmt: skip
def test_a_page_stays_below_2_mb(words):
    """Noise for images and random weights: hardly anything can be compressed."""
    network = untrained(words)
    prepared = network.preparation
    pixels = torch.randint(0, 256, (4, prepared.colours, prepared.size, prepared.size), dtype=torch.uint8)
    text = page(network, Examples(pixels, list("abcd"), [0, 1, 2, 3]), words, [])
    assert len(text.encode()) < 2_000_000
    steps = data_of(text)["steps"]
    weights = sum(step["params"] for step in steps)
    assert weights >= 0.95 * sum(p.numel() for p in network.model.parameters())
