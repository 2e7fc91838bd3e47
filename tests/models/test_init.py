"""`ops.init`: how residual branches start, in every family that adds shortcuts."""

import math

import pytest
import torch
from cells import asked, composed, make
from torch.nn import functional as F

from cnnbench.errors import InputError, OpsError
from cnnbench.models.efficientnet import MBConv
from cnnbench.models.mobilenet_v2 import InvertedResidual
from cnnbench.models.resnet_blocks import BasicBlock, Bottleneck
from cnnbench.ops.layers import Conv2d
from cnnbench.ops.residual import Multiplier
from cnnbench.ops.values import INITS
from cnnbench.training import pretrained
from cnnbench.training.weight_decay import decay_groups

BRANCHES = {"resnet20": 9, "resnet56": 27, "resnet18": 8, "resnet50": 16, "mobilenet_v2": 12,
            "efficientnet_b0": 11}  # fmt: skip
"""Architectures that add shortcuts, with the number of their sums at `WIDTH`."""

WIDTH = 0.25
"""Narrow enough for more blocks than natively to have as many channels before as after."""
SLOW = ("resnet18", "resnet56")
archs = pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=pytest.mark.slow if arch in SLOW else ()) for arch in BRANCHES]
)
inits = pytest.mark.parametrize("init", INITS)


def made(arch, init="native", norm="none", **changed):
    still = {k: 0.0 for k in ("dropout", "stochastic_depth") if k in composed(arch)["arch"]}
    return make(arch, width=WIDTH, ops={"norm": norm, "init": init}, **still | changed)[0]


def first_loss(model):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 3, 32, 32, generator=generator)
    with torch.no_grad():
        return F.cross_entropy(model.train()(images), torch.arange(40) % 10).item()


def blocks(model):
    """Return the blocks that add a shortcut."""
    return [
        module
        for module in model.modules()
        if isinstance(module, BasicBlock | Bottleneck)
        or (isinstance(module, InvertedResidual | MBConv) and module.residual)
    ]


def branch(block):
    """Return the convolutions of a block's residual branch that are in series."""
    kept = ("downsample", "fc1", "fc2")
    return [m for n, m in block.named_modules() if isinstance(m, Conv2d) and not any(k in n for k in kept)]


@archs
def test_without_a_norm_the_loss_starts_near_chance(arch):
    chance = math.log(10)
    assert first_loss(made(arch, "fixup")) == pytest.approx(chance, rel=1e-6)
    assert first_loss(made(arch, "skipinit")) == pytest.approx(chance, rel=0.15)
    assert first_loss(made(arch, "zero")) == first_loss(made(arch, "skipinit"))
    assert first_loss(made(arch)) > 1.3 * chance


@archs
@pytest.mark.parametrize(
    ("init", "norm"), [("zero", "none"), ("skipinit", "none"), ("fixup", "none"), ("zero", "batch"),
                       ("zero", "frn"), ("skipinit", "batch")],
)  # fmt: skip
def test_each_block_starts_as_its_shortcut(arch, init, norm):
    model = made(arch, init, norm)
    assert len(blocks(model)) == BRANCHES[arch]
    for block in blocks(model):
        x = torch.randn(2, branch(block)[0].in_channels, 8, 8)
        shortcut = getattr(block, "downsample", lambda x: x)(x)
        expected = shortcut.relu() if hasattr(block, "downsample") else shortcut
        torch.testing.assert_close(block.train()(x), expected, rtol=0, atol=0)


@archs
@inits
def test_all_else_starts_as_natively(arch, init):
    """With one seed only what the value is about differs; parameters are added, none is renamed."""
    native, other = made(arch).state_dict(), made(arch, init).state_dict()
    assert native.keys() <= other.keys()
    assert all(other[name].ndim == 0 for name in other.keys() - native.keys())
    assert (other.keys() == native.keys()) == (init == "zero")
    changed = {name for name in native if not torch.equal(native[name], other[name])}
    model = made(arch, init)
    names = {module: name for name, module in model.named_modules()}
    weights = [[f"{names[conv]}.weight" for conv in branch(block)] for block in blocks(model)]
    expected = {
        "zero": {convs[-1] for convs in weights},
        "skipinit": set(),
        "fixup": {name for convs in weights for name in convs}
        | {name for name in native if name.startswith(("fc.w", "classifier.1.w"))},
    }
    assert changed == expected[init]


@archs
def test_fixup_is_the_papers(arch):
    """Section 3.2 of arXiv:1901.09321: L^(-1 / (2m - 2)) in branches of m layers, zeros, and the scalars."""
    native, model = blocks(made(arch)), made(arch, "fixup")
    lengths = set()
    for before, after in zip(native, blocks(model), strict=True):
        m = len(branch(after))
        lengths.add(m)
        factor = {2: len(native) ** -0.5, 3: len(native) ** -0.25}[m]
        for one, other in zip(branch(before)[:-1], branch(after)[:-1], strict=True):
            torch.testing.assert_close(other.weight, one.weight * factor)
        assert not branch(after)[-1].weight.any()
        assert (after.end.scale, after.end.bias) == (1, 0)
    expected = {"resnet20": {2}, "resnet56": {2}, "resnet18": {2}, "resnet50": {3}}
    assert lengths == expected.get(arch, {2, 3})  # the first inverted residual has no expansion
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert all(layer.shift == 0 and layer.bias is not None for layer in layers)
    assert not layers[-1].weight.any()


def test_scalars_are_added_where_they_belong():
    model = made("resnet20", "fixup")
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 0:
                parameter += 1 + len(name) / 10
        model.layer1[1].conv2.weight.normal_()
        model.fc.weight.normal_()
    block = model.layer1[1]
    y = F.conv2d(x + block.conv1.shift, block.conv1.weight, block.conv1.bias, padding=1).relu()
    y = F.conv2d(y + block.conv2.shift, block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(x), (y * block.end.scale + block.end.bias + x).relu())
    torch.testing.assert_close(model.fc(x[:, :, 0].flatten(1)[:, :16]), F.linear(
        x[:, :, 0].flatten(1)[:, :16] + model.fc.shift, model.fc.weight, model.fc.bias))  # fmt: skip


@archs
@pytest.mark.parametrize("init", ["skipinit", "fixup"])
def test_branches_open_in_the_first_steps(arch, init):
    model = made(arch, init)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(2 if init == "fixup" else 1):  # Fixup's logits must move before the gradient passes them
        optimizer.zero_grad()
        F.cross_entropy(model.train()(images), torch.arange(16) % 10).backward()
        optimizer.step()
    assert all(block.end.scale != 0 for block in blocks(model))
    assert all(branch(block)[-1].weight.any() for block in blocks(model))


@pytest.mark.slow
@pytest.mark.parametrize("init", ["native", "skipinit", "fixup"])
def test_deep_residual_networks_train_without_norm(init):
    """56 layers, with a rate at which the loss is otherwise not finite after a few steps."""
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = made("resnet56", init)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(model.train()(images), torch.arange(64) % 10)
        loss.backward()
        optimizer.step()
    assert loss.isfinite() == (init != "native")
    assert init == "native" or loss < 2.2


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "instance", "frn"])
def test_fixup_is_for_networks_without_norm(norm):
    with pytest.raises(OpsError, match=rf"ops\.init=fixup with ops\.norm={norm}: .*allowed: ops\.norm=none"):
        made("resnet18", "fixup", norm)
    with pytest.raises(OpsError, match=r"ops\.init=fixup with arch=vgg11") as error:
        made("vgg11", "fixup", norm)
    assert error.value.reason == "absent"


@pytest.mark.parametrize("arch", ["torchvision", "timm"])
def test_models_of_other_libraries_refuse_it(arch):
    with pytest.raises(OpsError, match=r"ops\.init=zero") as error:
        asked(arch, {"init": "zero"})
    assert error.value.reason == "foreign"


@inits
def test_zero_init_is_the_older_setting_for_one_of_the_values(init):
    """It stays, since it is part of the identity of every ResNet's run."""
    by_setting, by_value = made("resnet18", norm="batch", zero_init=True), made("resnet18", "zero", "batch")
    for one, other in zip(by_setting.parameters(), by_value.parameters(), strict=True):
        assert torch.equal(one, other)
    message = rf"^arch\.zero_init=true: not together with ops\.init={init}; allowed: false$"
    with pytest.raises(InputError, match=message):
        made("resnet18", init, zero_init=True)


def test_scalars_have_no_weight_decay_unless_norms_and_biases_do():
    model = made("mobilenet_v2", "fixup")
    scalars = {id(p) for p in model.parameters() if p.ndim == 0}
    assert len(scalars) == 2 * BRANCHES["mobilenet_v2"] + sum(
        isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in model.modules()
    )
    decayed, free = decay_groups(model, norm_and_bias=False)
    assert free["weight_decay"] == 0
    assert scalars <= {id(p) for p in free["params"]}
    (decayed,) = decay_groups(model, norm_and_bias=True)
    assert scalars <= {id(p) for p in decayed["params"]}


@pytest.mark.parametrize(
    ("init", "norm"), [("skipinit", "none"), ("skipinit", "batch"), ("fixup", "none"), ("zero", "none")]
)
def test_weights_of_a_network_without_factors_keep_their_function(init, norm, tmp_path):
    """A factor of 0 would switch off what was loaded."""
    torch.manual_seed(3)
    trained = made("resnet18", norm=norm)
    for parameter in trained.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    model = made("resnet18", init, norm)
    settings = asked("resnet18", {"norm": norm, "init": init}, weights=str(tmp_path / "weights.pt"))
    facts = pretrained.load(model, settings.arch)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model.eval()(x), trained.eval()(x))
    names = {name for name, p in model.named_parameters() if p.ndim == 0}
    assert set(facts["weights/left"].split()) == names


def test_factors_in_a_file_are_loaded(tmp_path):
    trained = made("resnet18", "skipinit")
    for module in trained.modules():
        if isinstance(module, Multiplier):
            module.scale.data.fill_(0.25)
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    model = made("resnet18", "skipinit")
    settings = asked("resnet18", {"init": "skipinit"}, weights=str(tmp_path / "weights.pt"))
    assert pretrained.load(model, settings.arch)["weights/left"] == ""
    assert all(block.end.scale == 0.25 for block in blocks(model))


@inits
def test_initialisation_in_words(init):
    text = make("resnet20", width=WIDTH, ops={"norm": "none", "init": init})[1]["init"]
    assert text.endswith(f"logits: {'zero' if init == 'fixup' else 'gain 1'}; 9 residual branches: {init}")
