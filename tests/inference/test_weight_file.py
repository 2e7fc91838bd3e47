"""`cnnbench evaluate arch.weights=FILE`: weights without a run, as the settings take them."""

import json
from pathlib import Path

import pytest
import torch
from finished_runs import SMALL

pytest_plugins = ["finished_fixtures"]


def evaluated(cli, *arguments):
    code, out, err = cli("evaluate", *arguments, "--json", "-")
    return code, json.loads(out) if out else None, " ".join(err.split())


@pytest.fixture
def theirs(digits, tmp_path):
    """Weights of the digits run as others may keep them: wrapped, and the last layer has another name."""
    state = torch.load(digits.checkpoints / "best.ckpt", weights_only=True)["state_dict"]
    names = {name: name.replace("model.", "module.").replace("head.5", "linear") for name in state}
    path = tmp_path / "theirs.pth"
    torch.save({"net": {names[name]: value for name, value in state.items()}}, path)
    return path


@pytest.mark.parametrize("split", ["test", "val"])
def test_it_gives_what_the_run_with_these_weights_gives(digits, theirs, cli, split):
    code, found, err = evaluated(cli, *SMALL, f"arch.weights={theirs}", "--split", split)
    assert code == 0, err
    assert "linear as head.5" in err
    _, expected, _ = evaluated(cli, digits.path, "--split", split)
    for key in ("images", "accuracy", "accuracy_interval", "loss", "classes", "confusion"):
        assert found[key] == expected[key], key
    assert len(found["digest"]) == 16
    assert (found["run"], found["arch"], found["checkpoint"]) == (None, "basic", str(theirs))
    assert ("cannot tell" in " ".join(found["notes"])) == (split == "val")
    assert not Path("outputs").exists(), "nothing is trained or written"


def test_the_settings_decide_images_and_normalisation(theirs, cli):
    words = [*SMALL, f"arch.weights={theirs}", "--csv", "rows.csv"]
    code, found, err = evaluated(cli, *words, "data.limit_test=50")
    assert (code, found["images"]) == (0, 50), err
    assert len(Path("rows.csv").read_text().splitlines()) == 51
    other = evaluated(cli, *words, "data.limit_test=50", "data.mean=[0.5]", "data.std=[0.1]")[1]
    assert other["loss"] != found["loss"]
    code, out, err = cli("evaluate", *words[:-2])
    assert code == 0, err
    assert str(theirs) in "".join(out.split()).replace("│", "")


def test_what_the_network_does_not_have_is_a_warning(theirs, cli):
    """The weights of a deeper network fit a shallower one of its family by name and size."""
    state = torch.load(theirs, weights_only=True)["net"]
    deeper = state | {name.replace("block1", "block9"): value for name, value in state.items()}
    torch.save({"net": deeper, "optimizer": {"exp_avg": torch.ones(2)}}, "deeper.pth")
    code, found, err = evaluated(cli, *SMALL, "arch.weights=deeper.pth")
    assert code == 2, "which layer is the last one is not known"
    own = {name.replace("linear", "head.5"): value for name, value in deeper.items()}
    torch.save({"net": own, "optimizer": {"exp_avg": torch.ones(2)}}, "deeper.pth")
    code, found, err = evaluated(cli, *SMALL, "arch.weights=deeper.pth")
    extra = len(deeper) - len(state)
    said = f"the file also holds {extra} tensors that basic does not have, such as features.block9.0.weight"
    assert (code, found["notes"], said in err) == (0, [f"warning: {said}"], True), err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data=digits"], ["arch.weights=null", "allowed: RUN", "arch.weights=FILE"]),
        (["data=digits", "arch.weights=nowhere.pth"], ["arch.weights=nowhere.pth", "No such file"]),
        (["arch.weights=part.pth"], ["has no head.5.weight, head.5.bias", "10 classes", "allowed: a file"]),
        (["arch.weights=part.pth", "arch.freeze=true"], ["has no head.5.weight"]),
        (
            ["arch.weights=theirs.pth", "arch.width=0.5"],
            ["features.block1.0.weight is 8x1x3x3, here 16x1x3x3", "arch=basic", "allowed: a file"],
        ),
        (
            ["arch.weights=theirs.pth", "data.val_fraction=0", "--split", "val"],
            ["--split val: there are no val"],
        ),
        (["arch.weights=theirs.pth", "data.sise=3"], ["data.sise", "no such setting"]),
        (["arch.weights=theirs.pth", "device.threads=0"], ["device.threads=0"]),
        (["arch.weights=theirs.pth", "--csv", "theirs.pth"], ["--csv theirs.pth", "would replace"]),
        (["arch.weights=theirs.pth", "outputs"], ["outputs: not a setting"]),
    ],
)
def test_one_line_says_what_is_wrong(theirs, cli, words, expected):
    state = torch.load(theirs, weights_only=True)["net"]
    torch.save({key: value for key, value in state.items() if "linear" not in key}, "part.pth")
    Path("theirs.pth").write_bytes(theirs.read_bytes())
    code, _, err = cli("evaluate", *words[:1], *SMALL, *words[1:])
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert all(text in line for text in expected), line
