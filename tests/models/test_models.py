"""Architectures: torchvision's names, sizes and outputs, published figures, ablation axes, and learning."""

import ast
import re
from pathlib import Path

import pytest
import torch
import torchvision
from cells import ARCHS, SIZES, VALUES, asked, composed, documented_values, families, make, row

import cnnbench.models
from cnnbench.errors import InputError
from cnnbench.models import complexity
from cnnbench.models.family import family
from cnnbench.ops.residual import is_stochastic_depth

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf" / "arch"
OWN = [arch for arch in ARCHS if composed(arch)["arch"].get("native")]
REFERENCED = [arch for arch in OWN if arch in torchvision.models.list_models(module=torchvision.models)]
QUICK = {"alexnet", "googlenet", "resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0"}
SOME = [pytest.param(a, marks=() if a in QUICK else pytest.mark.slow) for a in REFERENCED]
AUX = ("googlenet", "inception_v3")
HEAVY = {*AUX, "efficientnet_b0"}
DOCUMENTED = {"alexnet", "basic", "efficientnet_b0", "googlenet", "inception_v3", "locally_connected", "mlp",
              "mobilenet_v2", "plain20", "resnet18", "resnet20", "vgg11"}  # fmt: skip
"""Families in docs/appendix/ops-table.md; one that a user adds need not be among them."""


def published(arch):
    """Return torchvision's first weights of a model, with the published figures."""
    return next(iter(torchvision.models.get_model_weights(arch)))


def reference(arch, **options):
    """Return torchvision's model."""
    more = {"aux_logits": True, "init_weights": False} if arch in AUX else {}
    return torchvision.models.get_model(arch, weights=None, **more, **options)


def ours(arch, size, **changed):
    """Return cnnbench's model, with the auxiliary heads of torchvision's."""
    return make(arch, 3, 1000, size, **({"aux": True} if arch in AUX else {}), **changed)


# --- as torchvision has them --------------------------------------------------------------------


def test_every_model_of_torchvision_in_these_families_is_here():
    names = torchvision.models.list_models(
        module=torchvision.models, include=["alexnet", "vgg*", "googlenet", "inception*", "resnet*",
                                            "mobilenet_v2", "efficientnet_b*"],
    )  # fmt: skip
    assert set(names) == set(REFERENCED)


@pytest.mark.parametrize("arch", REFERENCED)
def test_names_sizes_and_costs_are_the_published_ones(arch):
    """State dict, settings of batch norm, parameters exactly, MACs to torchvision's three decimals."""
    weights = published(arch)
    with torch.device("meta"):
        theirs, (model, facts) = reference(arch), ours(arch, weights.transforms().crop_size[0])
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    norms = [
        {n: (m.eps, m.momentum) for n, m in x.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
        for x in (model, theirs)
    ]
    assert norms[0] == norms[1]
    assert facts["macs"] / 1e9 == pytest.approx(weights.meta["_ops"], abs=0.0005)
    if arch == "googlenet":
        assert facts["params"] == 13_004_888
        with torch.device("meta"):
            facts = make(arch, 3, 1000, 224)[1]
    assert facts["params"] == weights.meta["num_params"]
    header = (CONF / f"{arch}.yaml").read_text()
    assert f"{weights.meta['num_params']:,} parameters" in header
    assert f"{weights.meta['_ops']:.3f} GMACs" in header.replace("\n# ", " ")
    assert f"{weights.meta['_metrics']['ImageNet-1K']['acc@1']:.3f} % top-1" in header.replace("\n# ", " ")


@pytest.mark.parametrize("arch", SOME)
def test_outputs_and_gradients_are_torchvisions(arch):
    """torchvision's weights load strictly; then outputs and gradients agree, in eval and train mode."""
    size = 299 if arch == "inception_v3" else 96  # smaller images are too small for its auxiliary head
    theirs = reference(arch).double()
    with torch.device("meta"):
        model = ours(arch, size, stem="imagenet")[0]
    model.load_state_dict({k: v.clone() for k, v in theirs.state_dict().items()}, assign=True)
    for module in (*theirs.modules(), *model.modules()):  # random layers draw in another order
        if isinstance(module, torch.nn.Dropout) or is_stochastic_depth(module):
            module.p = 0.0
    images = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), theirs.eval()(images), rtol=0, atol=1e-5)
    outputs = []
    for net in (theirs.train(), model.train()):
        output = net(images)
        logits = [output] if torch.is_tensor(output) else list(output)
        sum(x.square().mean() for x in logits).backward()
        outputs.append(logits)
    if arch == "googlenet":  # torchvision returns the second auxiliary head first
        outputs[0][1:] = outputs[0][:0:-1]
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    gradients = dict(model.named_parameters())
    for name, parameter in theirs.named_parameters():
        expected = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        scale = expected.abs().max().clamp(min=1)
        torch.testing.assert_close(gradients[name].grad / scale, expected / scale, rtol=0, atol=1e-5)
    assert all(
        torch.allclose(buffer, theirs.get_buffer(name), atol=1e-5)
        for name, buffer in model.named_buffers()
        if "running" in name
    )


@pytest.mark.parametrize("arch", AUX)
def test_transform_input_is_torchvisions(arch):
    theirs = reference(arch, transform_input=True).eval()
    model = ours(arch, 299, stem="imagenet", transform_input=True)[0].eval()
    model.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(model(images), theirs(images))


def test_no_family_takes_its_layers_from_elsewhere():
    """A layer that a model builds without `Ops` would not be part of the ablation."""
    layers = r"(Lazy)?(Conv|\w*Pool|\w*Norm|\w*Pad|Dropout)\d?d?|\w*LU\d?|Linear|Tanh|Sigmoid|Softplus|Mish"
    functions = r"\w*lu6?|\w*_pool[12]d|\w*_norm|conv[12]d|linear|tanh|sigmoid|hard\w+"
    ours = {"AdaptiveAvgPool2d", "adaptive_avg_pool2d", "Dropout", "linear", "sigmoid"}  # heads, ops, a gate
    names = {name for module in (torch.nn, torch.nn.functional) for name in dir(module)}
    forbidden = {n for n in names if re.fullmatch(f"{layers}|{functions}", n)} - ours
    assert forbidden >= {"Conv2d", "GELU", "PReLU", "GroupNorm", "LPPool2d", "Tanh", "relu", "batch_norm"}
    for path in Path(cnnbench.models.__file__).parent.glob("*.py"):
        if path.stem in (
            "complexity",
            "linear_map",
            "shapes",
        ):  # they build none
            continue
        tree = ast.parse(path.read_text())
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used |= {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
        assert not used & forbidden, path
        imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)} | {
            alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
        }
        if path.stem != "adapters":
            assert not [m for m in imported if m and m.startswith(("torchvision.models", "timm"))], path


# --- the ablation axes --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [pytest.param(s, marks=() if s == 32 else pytest.mark.slow) for s in SIZES])
@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=pytest.mark.slow if f in HEAVY else ()) for f in families()]
)
def test_every_family_trains_with_every_op_or_says_why_not(family, size):
    """One training step for each value; docs/appendix/ops-table.md lists which values are refused."""
    text = (ROOT / "docs" / "appendix" / "ops-table.md").read_text()
    line = row(family, size, documented_values(text))
    assert line in text.splitlines() or family not in DOCUMENTED, line
    row(family, size, sorted(set(VALUES) - set(documented_values(text))))  # those that were added since


def test_the_count_of_cells_in_the_documentation():
    text = (ROOT / "docs" / "appendix" / "ops-table.md").read_text()
    rows = [
        line.split("|")
        for line in text.splitlines()
        if line.startswith("| ") and line.split("|")[2].strip().isdigit()
    ]
    assert len(rows) % len(SIZES) == 0
    assert DOCUMENTED <= {cells[1].strip() for cells in rows} <= set(families())
    trained, refused = (sum(int(cells[i]) for cells in rows) for i in (3, 4))
    assert trained + refused == len(rows) * len(documented_values(text))
    assert f"{trained:,} cells train, {refused:,} are refused" in text


def test_names_of_parameters_do_not_depend_on_values():
    names = {
        norm: [n for n, _ in make("resnet18", width=0.125, ops={"norm": norm})[0].named_parameters()]
        for norm in ("batch", "group", "none")
    }
    assert names["batch"] == names["group"]
    assert set(names["none"]) < {*names["batch"], *(n.replace("weight", "bias") for n in names["batch"])}
    plain, normed = (make("vgg11", width=0.125, ops={"norm": n})[0].state_dict() for n in ("none", "batch"))
    assert set(plain) < set(normed)


def test_native_and_what_it_stands_for_are_one_choice():
    assert asked("resnet18").choice() == asked("resnet18", {"norm": "batch", "act": "relu"}).choice()
    assert asked("resnet18").choice() != asked("resnet18", {"norm": "group"}).choice()


def test_plain_nets_are_residual_ones_without_shortcuts():
    """Parameters and cost are the same; a plain block computes the residual branch."""
    for depth in (20, 56):
        plain, facts = make(f"plain{depth}", width=0.25)
        residual, others = make(f"resnet{depth}", width=0.25)
        assert (facts["params"], facts["macs"]) == (others["params"], others["macs"])
        plain.load_state_dict(residual.state_dict())
        one, other = plain.layer2[0].eval(), residual.layer2[0].eval()
        other.downsample.forward = lambda x: 0.0
        x = torch.randn(2, 4, 8, 8)
        torch.testing.assert_close(one(x), other(x))
    assert make("plain20", size=224, width=0.125, ops={"padding": "valid"})[1]["params"], (
        "no maps are added that would differ in size"
    )


def test_new_channels_of_a_shortcut_after_those_of_its_input_or_around_them():
    x = torch.randn(2, 4, 8, 8)
    for zeros, before, after in (("after", 0, 4), ("around", 2, 2)):
        block = make("resnet20", width=0.25, shortcut_zeros=zeros)[0].layer2[0]
        assert torch.equal(
            block.downsample(x), torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, after))
        )


# --- stems --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", OWN)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 9), (1, 28), (3, 224)])
def test_logits(arch, size, channels):
    with torch.device("meta"):
        model, _ = make(arch, channels, 7, size)
        assert model.eval()(torch.randn(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("family", [f for f in families() if f != "mlp"])
@pytest.mark.parametrize("size", [8, 28, 32, 64])
def test_small_stems_leave_a_map_to_the_deep_layers(family, size):
    """No convolution sees a single pixel (except in squeeze-and-excitation), and maps shrink."""
    with torch.device("meta"):
        layers = complexity.layers(make(family, size=size)[0], (3, size, size))
    sides = [
        x.output[1] for x in layers if x.kind in ("Conv2d", "LocallyConnected2d") and ".fc" not in x.name
    ]
    assert 1 < min(sides) <= max(8, size // 2)


@pytest.mark.parametrize("arch", ["alexnet", "vgg11"])
@pytest.mark.parametrize("size", [8, 28, 32, 64])
def test_small_heads_copy_no_pixels(arch, size):
    with torch.device("meta"):
        layers = {x.name: x for x in complexity.layers(make(arch, size=size)[0], (3, size, size))}
    features = [x for x in layers.values() if x.name.startswith("features")][-1]
    assert layers["avgpool"].output == features.output


def test_the_stem_can_be_chosen():
    assert make("resnet18", size=32, width=0.125, stem="imagenet")[0].conv1.kernel_size == (7, 7)
    assert make("resnet18", size=224, width=0.125, stem="small")[0].conv1.kernel_size == (3, 3)


# --- sizes and learning -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=pytest.mark.slow if f in HEAVY else ()) for f in families()]
)
def test_overfits_64_images(family):
    settings = composed(family)["arch"]
    still = {key: 0.0 for key in ("dropout", "stochastic_depth") if key in settings}
    overfit(make(family, 1, 10, 16, width=0.25, **still)[0])


@pytest.mark.parametrize(
    ("arch", "changed"),
    [
        ("vgg16", {"dropout": 0.0}),
        pytest.param("vgg19", {"dropout": 0.0}, marks=pytest.mark.slow),
        ("basic", {"convs": 6}),
    ],
)
def test_deep_plain_networks_train_without_norm(arch, changed):
    """16, 19 and 20 layers: the initialisation preserves the signal, at a suitable learning rate."""
    overfit(make(arch, 1, 10, 16, width=0.25, ops={"norm": "none"}, **changed)[0], lr=0.001)


def overfit(model, lr=0.003, steps=150):
    """Train on 64 images until all are classified correctly; fail if they never are."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(64, 1, 16, 16, generator=generator), torch.arange(64) % 10
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = model(images)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        if (logits.argmax(1) == labels).all():
            return
        loss.backward()
        optimizer.step()
    pytest.fail(f"loss {loss.item():.3f} after {steps} steps")


@pytest.mark.parametrize(
    ("arch", "published"),
    [
        ("resnet20", 0.27e6),
        ("resnet32", 0.46e6),
        ("resnet44", 0.66e6),
        ("resnet56", 0.85e6),
        ("resnet110", 1.7e6),
    ],
)
def test_cifar_resnets_have_the_papers_sizes(arch, published):
    with torch.device("meta"):
        assert make(arch)[1]["params"] == pytest.approx(published, rel=0.02)


def test_resnet20_by_hand():
    """Parameters and MACs of ResNet-20 on 32x32x3, summed over the layers."""
    stages = [(16, 16, 32), (16, 32, 16), (32, 64, 8)]
    weights, work = 3 * 16 * 9 + 2 * 16, 3 * 16 * 9 * 32 * 32
    for c_in, c_out, side in stages:
        for convolution in range(6):
            c = c_in if convolution == 0 else c_out
            weights += c * c_out * 9 + 2 * c_out
            work += c * c_out * 9 * side * side
    weights, work = weights + 64 * 10 + 10, work + 64 * 10
    facts = make("resnet20")[1]
    assert facts["params"] == weights == 269_722
    assert facts["macs"] == work


def test_basic_by_hand():
    sides, channels = [28, 14, 7], [1, 32, 64, 128]
    work = sum(a * b * 9 * s * s for a, b, s in zip(channels, channels[1:], sides, strict=False))
    assert make("basic", 1, 10, 28)[1]["macs"] == work + 128 * 3 * 3 * 128 + 128 * 10


@pytest.mark.parametrize("family", families())
def test_layers_add_up_to_the_model(family):
    for ops in ({}, {"pool": "blur"}) if family != "mlp" else ({},):
        with torch.device("meta"):
            model, facts = make(family, ops=ops)
            layers = complexity.layers(model, (3, 32, 32))
        assert sum(layer.macs for layer in layers) == facts["macs"]
        assert sum(layer.params for layer in layers) == facts["params"]


def test_a_pool_that_takes_over_strides_costs_what_is_said():
    """Convolutions at stride 1 cost four times as much as those that halve the map."""
    native, pooled = (make("mobilenet_v2", width=0.25, ops={"pool": p})[1]["macs"] for p in ("native", "avg"))
    assert pooled > native


@pytest.mark.parametrize("family", families())
def test_counting_leaves_the_model_as_it_was(family):
    model, _ = make(family, width=0.25)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.eval()
    complexity.forward(model, (3, 32, 32), 4, "meta", training=True)
    complexity.macs(model, (3, 32, 32), 10)
    assert not any(m.training for m in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_model_that_cannot_take_the_images():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 9), torch.nn.Flatten(), torch.nn.LazyLinear(3))
    with pytest.raises(InputError, match="cannot take images of 1x8x8"):
        complexity.macs(torch.nn.Sequential(model[0]), (1, 8, 8), 3)
    with pytest.raises(InputError, match=r"expected \(1, 3\) logits"):
        complexity.macs(torch.nn.Flatten(), (1, 8, 8), 3)


@pytest.mark.parametrize("message", ["", "'not these images'"])
def test_a_users_model_whose_forward_pass_fails(message):
    Path("mynet.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, **settings):\n"
        "        super().__init__()\n"
        "    def forward(self, x):\n"
        f"        raise ValueError({message})\n"
    )
    with pytest.raises(InputError, match=f"which gets 3x32x32: {message.strip(chr(39)) or 'ValueError'}$"):
        make("basic", _target_="mynet.Net")


def test_every_architecture_says_where_it_comes_from():
    for arch in ARCHS:
        text = (CONF / f"{arch}.yaml").read_text()
        assert text.startswith("# "), arch
        assert composed(arch)["arch"]["name"] in (arch, "resnet18")
        if arch in OWN:
            assert "Native: " in text, arch
            assert "width" in composed(arch)["arch"], arch
        if arch in OWN and family(arch) not in ("basic", "locally_connected", "mlp"):
            assert "arXiv" in text, arch
            assert "Published" in text, arch
