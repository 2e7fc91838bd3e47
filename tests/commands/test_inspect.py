"""`cnnbench inspect` shows the model that training would build; nothing is read, trained or written."""

import json
from pathlib import Path

import pytest
from running import TINY, the_run

from cnnbench.run_store.run import Run


def test_json_adds_up(cli):
    code, out, _ = cli("inspect", "--json", "arch=resnet18", "data=cifar10", "ops.norm=group")
    assert code == 0
    model = json.loads(out)
    assert model["input"] == [3, 32, 32]
    assert model["ops"] == {"norm": "group", "act": "relu", "pool": "native", "padding": "zeros"}
    assert model["params"] == sum(layer["params"] for layer in model["layers"]) == 11_173_962
    assert model["macs"] == sum(layer["macs"] for layer in model["layers"]) == 555_422_720
    first, last = model["layers"][0], model["layers"][-1]
    assert first == {
        "name": "conv1", "kind": "Conv2d", "output": [64, 32, 32], "params": 1728, "macs": 1728 * 32 * 32,
        "window": {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1},
        "activation_bytes": 4 * 64 * 32 * 32,
        "receptive_field": {
            "size": [3, 3], "narrowest": [3, 3], "jump": [1, 1], "centre": [0, 0], "seen": [3, 3],
            "share": 9 / 1024,
        },
    }  # fmt: skip
    assert last["name"] == "fc"
    assert last["output"] == [10]
    assert list(Path().iterdir()) == [], "nothing is downloaded or written"


def test_a_run_has_the_figures_that_inspect_shows(cli):
    described = json.loads(cli("inspect", "--json", *TINY)[1])
    assert cli("train", *TINY)[0] == 0
    summary = Run(the_run()).summary()
    code, out, err = cli("inspect", the_run(), "--json")
    assert code == 0, err
    assert {**json.loads(out), "label": described["label"], "run": ""} == {**described, "run": ""}
    assert {key: described[key] for key in ("params", "macs", "init")} == {
        key: summary[key] for key in ("params", "macs", "init")
    }


def test_the_table_has_every_layer_and_the_totals(cli):
    code, out, _ = cli("inspect", "arch=basic", "data=fashion_mnist")
    assert code == 0
    for text in ("basic on fashion_mnist: 1x28x28, 10 classes", "features.block1.0", "32x28x28"):
        assert text in out
    for total in ("241,770", "7,599,872", "norm=batch act=relu pool=max padding=zeros", "gain 1.414"):
        assert total in out


def test_the_table_says_what_units_see(cli):
    """A residual sum has a narrower path, and after global pooling a unit sees all."""
    lines = cli("inspect", "arch=resnet20", "data=cifar10")[1].splitlines()
    cells = {line.split()[0]: " ".join(line.split()[2:]) for line in lines if len(line.split()) > 2}
    assert cells["conv1"].startswith("16x32x32 3 ")
    assert cells["layer1.0.act2"].startswith("16x32x32 7 (3)")
    assert cells["fc"].startswith("10 all ")
    assert "the field exceeds the image from layer2.2.conv1 on" in "\n".join(lines)
    assert "downsampling: layer2.0.conv1 (2), layer2.0.downsample.down (2), layer3.0.conv1 (2)" in " ".join(
        " ".join(lines).split()
    )


def test_pooling_that_replaces_a_stride_is_shown(cli):
    model = json.loads(cli("inspect", "--json", "arch=resnet18", "data=cifar10", "ops.pool=max_blur")[1])
    layers = {layer["name"]: layer for layer in model["layers"]}
    assert layers["layer2.0.conv1.down"]["kind"] == "MaxBlur"
    assert layers["layer2.0.conv1.down"]["macs"] == 9 * 128 * 16 * 16
    assert layers["layer2.0.conv1"]["output"] == [128, 32, 32]
    assert layers["layer2.0.conv1.down"]["output"] == [128, 16, 16]
    assert sum(layer["macs"] for layer in layers.values()) == model["macs"]


@pytest.mark.parametrize(
    "arch", [["arch=torchvision", "arch.name=resnet18"], ["arch=timm", "arch.name=resnet18"]]
)
def test_models_of_other_libraries(cli, arch):
    code, out, err = cli("inspect", "--json", *arch, "arch.name=resnet18", "data=imagenette", "data.size=224")
    assert code == 0, err
    model = json.loads(out)
    assert model["arch"] == f"{arch[0].partition('=')[2]}.resnet18"
    assert model["params"] == 11_689_512 - 990 * 513
    assert sum(layer["macs"] for layer in model["layers"]) == model["macs"]


def test_auxiliary_classifiers_are_shown_though_only_training_calls_them(cli):
    model = json.loads(cli("inspect", "--json", "arch=googlenet", "arch.aux=true", "data=cifar10")[1])
    assert sum(layer["params"] for layer in model["layers"]) == model["params"]
    (fc1,) = [layer for layer in model["layers"] if layer["name"] == "aux1.fc1"]
    assert (fc1["output"], fc1["params"], fc1["macs"]) == ([], 2048 * 1024 + 1024, 0)


def test_a_model_that_multiplies_outside_of_layers(cli):
    """In a transformer, attention multiplies outside of layers, and projections are called as functions."""
    overrides = ["arch=torchvision", "arch.name=vit_b_16", "data=imagenette", "data.size=224"]
    code, out, err = cli("inspect", "--json", *overrides)
    assert code == 0, err
    model = json.loads(out)
    for figure in ("params", "macs"):
        assert sum(layer[figure] for layer in model["layers"]) == model[figure]


def test_images_of_ones_own_need_only_their_folder(cli, tmp_path):
    for name in ("cat", "dog", "emu"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        (folder / "1.png").write_bytes(b"never opened")
    model = json.loads(cli("inspect", "--json", "data=imagefolder", "data.root=photos", "data.size=64")[1])
    assert (model["input"], model["classes"]) == ([3, 64, 64], 3)


def test_two_models_are_compared_layer_by_layer(cli):
    words = ["arch=resnet20", "data=cifar10", "arch.width=0.5", "--vs", "ops.norm=none"]
    code, out, err = cli("inspect", *words, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [model["label"] for model in found["models"]] == ["as it is", "ops.norm=none"]
    assert [model["arch"] for model in found["models"]] == ["resnet20", "resnet20"]
    alone = [pair["first"] for pair in found["layers"] if pair["second"] is None]
    assert alone
    assert all("bn" in name or "downsample" in name for name in alone)
    macs = found["totals"]["macs"]
    assert (macs["first"], macs["second"]) == tuple(model["macs"] for model in found["models"])
    code, out, _ = cli("inspect", *words)
    assert code == 0
    assert "as it is → ops.norm=none" in out
    assert any(line.split()[:2] == ["-", alone[0]] for line in out.splitlines())


def test_a_list_stands_for_several_models(cli):
    words = ["arch=vgg11,resnet18", "data=cifar10", "arch.width=0.25"]
    code, out, err = cli("inspect", *words, "--json")
    assert code == 0, err
    models = json.loads(out)["models"]
    assert [(model["label"], model["arch"]) for model in models] == [
        ("arch=vgg11", "vgg11"), ("arch=resnet18", "resnet18"),
    ]  # fmt: skip
    code, out, _ = cli("inspect", *words, "--html", "page.html", "--plot", "fields.svg")
    assert code == 0
    for model in models:
        assert f"{model['macs']:,}" in out
        assert model["label"] in Path("page.html").read_text()
        assert model["label"] in Path("fields.svg").read_text()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["-m", "arch=basic,mlp"], ["-m: ", "lists without it, as in arch=vgg16,resnet50"]),
        (["arch=vgg11", "--vs", "arch=vgg13,vgg16"], ["--vs", "two models", "2"]),
        (["no/run"], ["no/run", "no such folder"]),
        (["arch=vgg11", "--vs", "no/run"], ["no/run", "no such folder"]),
        (["--html", "no/page.html"], ["--html no/page.html", "its folder does not exist"]),
        (["--plot", "fields.gif"], ["--plot fields.gif", ".png, .svg, .pdf"]),
        (
            ["arch=torchvision", "arch.name=alexnet", "data=cifar10"],
            ["3x32x32", "features.12 (MaxPool2d), which gets 256x1x1", "allowed: data.size=63 or more"],
        ),
        (["arch=basik"], ["did you mean basic?"]),
        (["arch=resnet18", "ops.padding=valid"], ["ops.padding=valid", "differ in size"]),
        (["arch=alexnet", "ops.padding=valid"], ["too small", "8 pixels", "allowed: data.size=195 or more"]),
        (["arch=mlp", "ops.pool=max"], ["ops.pool=max", "no such layer"]),
        (
            ["arch=torchvision", "arch.name=resnet18", "ops.norm=none"],
            ["ops.norm=none", "models of cnnbench"],
        ),
        (["arch=torchvision", "arch.name=resnet81"], ["arch.name=resnet81", "did you mean resnet18?"]),
        (["arch=timm", "arch.name=resnet81"], ["arch.name=resnet81", "timm has no such model"]),
        (["arch=torchvision"], ["arch.name", "must be given"]),
        (["ops.norm=bach"], ["ops.norm=bach", "'batch'"]),
        (["arch=vgg16", "arch.depth=17"], ["arch.depth=17", "11, 13, 16, 19"]),
        (["arch=alexnet", "arch.width=0.001"], ["arch.width=0.001", "or more"]),
        (["arch=googlenet", "arch.large_kernel=7"], ["arch.large_kernel=7", "3 or 5"]),
        (["data=imagenette", "data.size=null"], ["data.size=null", "4 or more"]),
        (["data=cifar10", "arch.in_channels=1"], ["arch.in_channels=1", "cifar10 have 3", "null"]),
        (["data=cifar10", "+data.num_classes=5"], ["data.num_classes=5", "only data=synthetic"]),
        (["select=[optimizer.rate]"], ["select=optimizer.rate", "optimizer.lr"]),
    ],
)
def test_bad_input_is_one_line(cli, overrides, expected):
    code, out, err = cli("inspect", *overrides)
    assert code == 2
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert all(text in line for text in expected), line
    assert list(Path().iterdir()) == []
