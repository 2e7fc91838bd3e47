"""`cnnbench inspect … --linear LAYER`: a layer as a matrix, in figures, in letters and as a picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DIGITS = ["inspect", "arch=basic", "--linear", "features.block1.0"]


def test_the_figures_of_a_convolution(cli):
    """8x8 to 32 maps of 8x8: of each side's 8 x 3 pairs of place and pixel two are outside."""
    code, out, _ = cli(*DIGITS, "--json")
    assert code == 0
    assert json.loads(out) == {
        "arch": "basic", "data": "digits", "layer": "features.block1.0", "kind": "Conv2d",
        "input": [1, 8, 8], "output": [32, 8, 8], "unconstrained": 64 * 64 * 32, "nonzero": 22 * 22 * 32,
        "free": 9 * 32, "biases": 0,
    }  # fmt: skip
    assert list(Path().iterdir()) == []


def test_a_block_in_letters(cli):
    small = ["data.size=4", "arch.blocks=2", "ops.padding=circular"]
    lines = cli(*DIGITS, *small)[1].splitlines()
    block = [line for line in lines if len(line) == 16 and not set(line) - set("abcdefghi.")]
    assert len(block) == 16
    assert block[5] == "abc.def.ghi....."
    assert block[0] == "ef.dhi.g....bc.a", "around the edges: the same weights"
    assert "same letter is the same weight" in lines[-1]
    lines = cli("inspect", "arch=locally_connected", "--linear", "features.block1.0", *small[:2])[
        1
    ].splitlines()
    assert "##..##.........." in lines, "each a weight of its own"
    assert any("free" in line and "3,200" in line for line in lines)


@pytest.mark.parametrize(
    ("layer", "ops", "expected"),
    [("features.block1.3", "ops.pool=blur", {"kind": "Blur", "free": 0, "nonzero": 32 * 11 * 11}),
     ("features.block1.3", "ops.pool=avg", {"kind": "AvgPool2d", "free": 0, "nonzero": 32 * 64}),
     ("head.2", "ops.act=gelu", {"kind": "Linear", "free": 128 * 128, "nonzero": 128 * 128})],
)  # fmt: skip
def test_other_linear_layers(cli, layer, ops, expected):
    code, out, err = cli("inspect", "arch=basic", ops, "--linear", layer, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {key: found[key] for key in expected} == expected


def test_the_stride_that_pooling_replaces_is_a_layer_of_its_own(cli):
    words = ["inspect", "arch=resnet18", "data=cifar10", "ops.pool=avg", "--json", "--linear"]
    conv, down = (json.loads(cli(*words, f"layer2.0.conv1{end}")[1]) for end in ("", ".down"))
    assert (conv["output"], down["input"], down["output"]) == ([128, 32, 32], [128, 32, 32], [128, 16, 16])


def test_the_picture_has_the_diagonals(cli):
    code, out, err = cli(*DIGITS, "--plot", "matrix.png", "--json")
    assert code == 0, err
    assert json.loads(out)["free"] == 288
    pixels = np.asarray(Image.open("matrix.png").convert("RGB")).astype(int)
    coloured = np.ptp(pixels, axis=2) > 60
    share = coloured.sum() / coloured.size
    assert 0.02 < share < 0.15, "a tenth of both matrices, on about half of the picture"


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["--linear", "features.blok1.0"], ["features.blok1.0: no such layer", "mean features.block1.0?"]),
     (["--linear", "features.block1.2"], ["features.block1.2: ReLU is no linear map", "features.block2.0"]),
     (["--linear", "features"], ["Sequential is no linear map"]),
     (["arch=basic,mlp", "--linear", "features"], ["features: not with several models", "one model"]),
     (["--linear", "features.block1.0", "--html", "x.html"], ["not with --html x.html"]),
     (["--linear=features.block1.0", "--plot", "x.doc"], ["--plot x.doc", ".png, .svg, .pdf"]),
     (["--linear", "features.block1.0", "--plot", "no/x.png"], ["--plot no/x.png", "folder does not exist"])],
)  # fmt: skip
def test_bad_input_is_one_line(cli, words, expected):
    code, out, err = cli("inspect", "arch=basic", *words)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert all(text in line for text in expected), line
    assert list(Path().iterdir()) == []
