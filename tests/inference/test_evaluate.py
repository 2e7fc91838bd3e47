"""`cnnbench evaluate`: metrics against their definitions, selection of images, bad input."""

import csv
import io
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from finished_runs import SMALL, train, write_photos
from PIL import Image
from sealing import configure, of_before
from sklearn.metrics import balanced_accuracy_score, f1_score

from cnnbench.inference import trained_model
from cnnbench.inference.evaluate.metrics import per_class, wilson
from cnnbench.training.images import make_data

pytest_plugins = ["finished_fixtures"]


def evaluated(cli, *arguments):
    code, out, err = cli("evaluate", *arguments, "--json", "-")
    return code, json.loads(out) if out else None, err


@pytest.fixture(scope="session")
def truth(digits):
    """Probabilities and labels of the digits run's test set, computed here."""
    model = trained_model.load(digits)
    data = make_data(model.settings.data, model.settings.arch, model.settings.seed)
    mean, std = data.mean[0], data.std[0]
    images = (data.test.pixels.double() / 255 - mean) / std
    with torch.no_grad():
        probabilities = model.model.double()(images).softmax(1).numpy()
    return probabilities, data.test.labels


def test_its_own_test_set_gives_what_training_recorded(digits, photos, cli):
    for run in (digits, photos):
        code, found, err = evaluated(cli, run.path)
        assert code == 0, err
        summary = run.summary()
        assert found["accuracy"] == pytest.approx(summary["test/acc"], abs=1e-7)
        assert found["loss"] == pytest.approx(summary["test/loss"], rel=1e-6)
        for key, name in (("f1_macro",) * 2, ("balanced_acc", "balanced_accuracy"), ("ece",) * 2):
            assert found[name] == pytest.approx(summary[f"test/{key}"], abs=1e-6)
        assert found["training"]["same"] is True
        assert found["images"] == summary["data/test"]
        code, found, _ = evaluated(cli, run.path, "--split", "val")
        assert code == 0
        assert found["accuracy"] == pytest.approx(summary["best/val_acc"], abs=1e-7)
        assert found["loss"] == pytest.approx(summary["best/val_loss"], rel=1e-6)
        assert "optimistic" in found["data"]


def test_part_is_the_former_name_of_split(digits, cli, capfd):
    assert evaluated(cli, digits.path, "--part", "val") == evaluated(cli, digits.path, "--split", "val")
    with pytest.raises(SystemExit, match="0"):
        cli("evaluate", "--help")
    usage = capfd.readouterr().out
    assert "--split {test,val}" in usage
    assert "--part" not in usage


def test_figures_follow_their_definitions(digits, truth, cli):
    probabilities, labels = truth
    _, found, _ = evaluated(cli, digits.path)
    predicted = probabilities.argmax(1)
    n = len(labels)
    assert 0.5 < found["accuracy"] < 1, "a run that is always right or wrong would show nothing"
    assert found["accuracy"] == pytest.approx((predicted == labels).mean())
    rank = (probabilities >= probabilities[np.arange(n), labels][:, None]).sum(1)
    assert found["top5"] == pytest.approx((rank <= 5).mean())
    assert found["loss"] == pytest.approx(-np.log(probabilities[np.arange(n), labels]).mean(), rel=1e-5)
    confidence, right, ece = probabilities.max(1), predicted == labels, 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert found["ece"] == pytest.approx(ece, abs=1e-5)
    assert found["f1_macro"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (labels, predicted), 1)
    assert found["confusion"] == confusion.tolist()
    for k, one in enumerate(found["classes"]):
        assert one["images"] == confusion[k].sum()
        assert one["recall"] == pytest.approx(confusion[k, k] / confusion[k].sum())
        assert one["precision"] == pytest.approx(confusion[k, k] / confusion[:, k].sum())
        harmonic = 2 * one["precision"] * one["recall"] / (one["precision"] + one["recall"])
        assert one["f1"] == pytest.approx(harmonic)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (7, 10), (9_800, 10_000)])
def test_wilson(right, n):
    """The bounds are the shares p with |right/n - p| = z sqrt(p (1 - p) / n), a quadratic equation."""
    z = 1.959963984540054
    for p in wilson(right, n):
        assert abs(right / n - p) == pytest.approx(z * math.sqrt(p * (1 - p) / n), abs=1e-9)


def test_what_nothing_tells_is_not_zero():
    labels, predicted = np.array([0, 0, 1]), np.array([0, 1, 1])
    never = per_class(labels, predicted, ["a", "b", "c"])[2]
    assert (never.precision, never.recall, never.images) == (None, None, 0)


def test_the_terminal(digits, cli):
    code, out, err = cli("evaluate", digits.path)
    assert (code, err) == (0, "")
    for shown in (
        "the run's own test split of digits", "best.ckpt", "best epoch on val", "the same (accuracy",
        "precision", "rows) and predicted class", "Wilson", "arXiv:1706.04599",
    ):  # fmt: skip
        assert shown in " ".join(out.split()), shown


def test_the_csv_has_each_image(digits, truth, cli):
    code, out, _ = cli("evaluate", digits.path, "--csv", "-")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    probabilities, labels = truth
    assert [row["true"] for row in rows] == [str(k) for k in labels]
    assert [row["predicted"] for row in rows] == [str(k) for k in probabilities.argmax(1)]
    found = [[float(row[f"p({k})"]) for k in range(10)] for row in rows]
    assert np.allclose(found, probabilities, atol=1e-5)
    assert [row["image"] for row in rows[:2]] == ["0", "1"]


# --- other images ---------------------------------------------------------------------------------


def test_another_folder_by_the_names_of_its_classes(photos, cli, tmp_path):
    """Classes match by name, whatever their order on disk, also when one is missing."""
    own = evaluated(cli, photos.path, f"data.root={photos.config()['data']['root']}")[1]
    assert own["data"] == "the run's own test split of imagefolder"
    write_photos(tmp_path / "all", ["ape", "bee", "cow"], 6, seed=1)
    code, all_three, err = evaluated(cli, photos.path, "data=imagefolder", f"data.root={tmp_path / 'all'}")
    assert code == 0
    assert (all_three["images"], all_three["training"]) == (18, None)
    assert "cannot tell whether the run was trained on some of these images" in err
    (tmp_path / "all" / "ape").rename(tmp_path / "ape")
    code, two, err = evaluated(cli, photos.path, "data=imagefolder", f"data.root={tmp_path / 'all'}")
    assert code == 0
    assert "matched by name; 2 of the run's 3 classes" in err
    assert two["images"] == 12
    assert two["confusion"] == [[0, 0, 0], *all_three["confusion"][1:]]


def test_other_names_are_warned_about(photos, cli, tmp_path):
    write_photos(tmp_path / "x", ["ant", "bee", "cat"], 4)
    code, found, err = evaluated(cli, photos.path, "data=imagefolder", f"data.root={tmp_path / 'x'}")
    assert code == 0
    assert "matched by order: ant counts as ape, cat counts as cow" in err
    assert [one["name"] for one in found["classes"]] == ["ape", "bee", "cow"]


def test_the_same_names_in_another_order_are_refused(photos, cli, tmp_path):
    """Matched by order, bees would count as apes."""
    write_photos(tmp_path / "shifted", ["bee", "cow", "dog"], 2)
    code, _, err = cli("evaluate", photos.path, "data=imagefolder", f"data.root={tmp_path / 'shifted'}")
    assert code == 2
    assert "data: dog: not a class of the run, which has ape; allowed: classes with the same names" in err
    assert "bee would count as ape" in err


def test_the_same_set_by_name_is_its_own_test_set(digits, cli):
    """All of digits would mostly be images that it was trained on."""
    _, found, _ = evaluated(cli, digits.path, "data=digits")
    assert found["images"] == 360
    assert found["training"]["same"] is True
    _, few, _ = evaluated(cli, digits.path, "data.limit_test=50")
    assert (few["images"], few["training"]) == (50, None)


def test_files_for_a_model_of_arrays(digits, truth, cli, tmp_path):
    """The test set of digits as files, in classes whose names are in another order."""
    model = trained_model.load(digits)
    test = make_data(model.settings.data, model.settings.arch, model.settings.seed).test
    for i, (pixels, label) in enumerate(zip(test.pixels, test.labels, strict=True)):
        (tmp_path / "x" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(tmp_path / "x" / str(label) / f"{i:03}.png")
    code, found, _ = evaluated(cli, digits.path, "data=imagefolder", f"data.root={tmp_path / 'x'}")
    assert code == 0
    assert found["accuracy"] == pytest.approx(digits.summary()["test/acc"])
    assert found["loss"] == pytest.approx(digits.summary()["test/loss"], rel=1e-5)


def test_colour_arrays_for_a_grey_model_of_ten_classes(digits, cli):
    overrides = ["data=synthetic", "data.num_classes=10", "data.limit_test=40"]
    code, found, err = evaluated(cli, digits.path, *overrides)
    assert code == 0
    assert found["images"] == 40
    assert "pattern 0 counts as 0" in err


# --- what goes wrong ------------------------------------------------------------------------------


def test_other_weights_than_recorded_are_loud(digits, copied, cli):
    run = of_before(copied(digits))
    found = torch.load(run.checkpoints / "best.ckpt", weights_only=True)
    for tensor in found["state_dict"].values():
        if tensor.is_floating_point():
            tensor.mul_(0.9)
    torch.save(found, run.checkpoints / "best.ckpt")
    code, out, err = cli("evaluate", run.path)
    assert code == 1
    assert "differs from the recorded accuracy" in err
    assert "differs from the recorded accuracy" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=3"], "seed=3: not a setting of an evaluation; allowed: data=NAME"),
        (["other"], "other: not a setting of an evaluation"),
        (["data=cifra10"], "did you mean cifar10?"),
        (["data=imagefolder", "data.root=nowhere"], "no such folder"),
        (["data=imagefolder"], "data.root=null"),
        (["data.split_seed=1"], "data.split_seed: not a setting of an evaluation; "),
        (["data=synthetic", "data.num_classes=3"], "data: 3 classes (pattern 0, pattern 1, pattern 2)"),
        (["data=synthetic", "data.num_classes=10", "--split", "val"], "--split val: synthetic has no val"),
        (["data.limit_test=50", "--split", "val"], "data.limit_test=50: has no effect on --split val"),
        (["data.limit_test=0"], "data.limit_test=0"),
        (["data.batch_size=x"], "data.batch_size=x"),
        (["data.batch_size=[1"], "data.batch_size=[1: cannot be read; allowed: a number"),
        (["data.batch_size=2024-13-45"], "data.batch_size=2024-13-45: cannot be read"),
        (["data.batch_size=2024-01-01"], "data.batch_size=2024-01-01: cannot be read"),
        (["data.batch_size=${"], "data.batch_size=${: cannot be read"),
        (["data=imagefolder", "data.root=${"], "data.root=${: cannot be read"),
        (["device=gpu"], "device.accelerator=gpu: not available here"),
        (["device.threads=0"], "device.threads=0"),
        (["data=imagefolder", "data.root=~nobody7/x"], "data.root=~nobody7/x: no such user"),
        (["device.wings=2"], "device.wings: not a setting of an evaluation"),
        (["--json", "nowhere/x.json"], "--json nowhere/x.json: its folder does not exist"),
        (["--csv", "."], "--csv .: is a folder"),
        (["--csv", "-", "--json", "-"], "the same target as"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(digits, cli, arguments, message):
    code, out, err = cli("evaluate", digits.path, *arguments)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert message in line
    assert list(Path().iterdir()) == []


def test_settings_may_be_left_out(cli, capfd):
    with pytest.raises(SystemExit, match="2"):
        cli("evaluate")
    assert capfd.readouterr().err.splitlines()[-1].endswith("the following arguments are required: RUN")


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU, it is there")
def test_a_run_of_a_gpu_is_computed_on_what_is_here(digits, copied, cli):
    run = copied(digits)
    status = run.status()
    status["device"]["accelerator"] = "gpu"
    run.write_status(status)
    code, found, err = evaluated(cli, run.path)
    assert code == 0, err
    assert found["device"]["accelerator"] == "cpu"
    assert "another device" in found["training"]["said"]


def test_a_run_of_another_precision_and_compiled_is_evaluated_here(digits, copied, cli):
    """A precision that this device does not support becomes float32."""
    run = copied(digits)
    config = run.config()
    config["device"] |= {"accelerator": "gpu", "precision": "16-mixed", "compile": True}
    configure(run, config)
    for override in ("device.accelerator=cpu", "device=cpu"):
        code, found, err = evaluated(cli, run.path, override)
        assert code == 0, err
        assert found["device"]["precision"] == "32-true"
        assert not found["device"].get("compile")
    assert cli("predict", run.path, *photo(), "--device", "cpu")[0] == 0


def photo():
    Image.new("L", (8, 8)).save("one.png")
    return ["one.png"]


def test_names_of_files_that_are_no_text(photos, cli, tmp_path):
    write_photos(tmp_path / "odd", ["ape", "bee", "cow"], 1, seed=1)
    (one, *_) = (tmp_path / "odd" / "ape").iterdir()
    one.rename(one.with_name(os.fsdecode(b"\xff.png")))
    named = ["data=imagefolder", f"data.root={tmp_path / 'odd'}", "--csv", "x.csv", "--json", "x.json"]
    code, _, err = cli("evaluate", photos.path, *named)
    assert code == 0, err
    assert b"\xff.png" in Path("x.csv").read_bytes()
    assert json.loads(Path("x.json").read_bytes())["images"] == 3


def test_device_settings(digits, cli):
    _, found, _ = evaluated(cli, digits.path, "device.threads=1", "device.memory_format=contiguous")
    assert (found["device"]["threads"], found["device"]["memory_format"]) == (1, "contiguous")


def test_a_network_without_non_linearity_is_as_accurate_as_its_matrix(digits, cli, tmp_path_factory):
    """Many layers, one matrix of 10 x 64: the same classes for the same images."""
    folder = tmp_path_factory.mktemp("linear")
    linear = ["arch.convs=2", "ops.act=identity", "ops.pool=avg", "trainer.max_epochs=2", *SMALL]
    run = train(folder, *linear)
    code, found, err = evaluated(cli, run.path, "--collapse")
    assert code == 0, err
    matrix = found["collapsed"]
    assert (matrix["rows"], matrix["columns"], matrix["differing"]) == (10, 64, 0)
    assert matrix["accuracy"] == found["accuracy"] > 0.3
    assert 0 < matrix["largest_difference"] < 1e-4
    code, out, _ = cli("evaluate", run.path, "--collapse")
    assert "as one matrix" in out
    assert f"10 x 64 and a bias: accuracy {100 * found['accuracy']:.2f} %" in " ".join(out.split())
    code, out, err = cli("evaluate", digits.path, "--collapse", "--json", "-")
    assert (code, out) == (2, "")
    assert "features.block1.2 (ReLU): not affine" in err
