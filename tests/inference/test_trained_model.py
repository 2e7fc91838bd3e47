"""A finished run as a model: content of its checkpoint, trust, damaged runs."""

import json
import math
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from finished_runs import SMALL, train
from PIL import Image
from running import command
from sealing import configure, of_before, seal

from cnnbench.data.datasets import IMAGENET
from cnnbench.data.preprocessing import Preparation, grey
from cnnbench.data.transforms import decode, eval_transform
from cnnbench.errors import InputError
from cnnbench.inference import trained_model
from cnnbench.run_store.finished import finished
from cnnbench.training.images import make_data

pytest_plugins = ["finished_fixtures"]


def checkpoint(run):
    return torch.load(run.checkpoints / "best.ckpt", weights_only=True)


def changed(run, change):
    """A checkpoint with something changed."""
    found = checkpoint(run)
    change(found)
    return saved(run, found)


def saved(run, content):
    """A run of before there were digests, with another checkpoint; that of a later one would not be read."""
    torch.save(content, run.checkpoints / "best.ckpt")
    return of_before(run)


def configured(run, **arch):
    config = run.config()
    config["arch"] |= arch
    return configure(run, config)


# --- what a checkpoint carries --------------------------------------------------------------------


def test_a_checkpoint_says_what_its_model_was_trained_to_see(digits, photos):
    assert checkpoint(digits)["ImageData"] == {
        "classes": [str(k) for k in range(10)], "size": 8, "colours": 1, "channels": 1,
        "mean": [0.3058], "std": [0.3762], "centre": None,
    }  # fmt: skip
    mean, std = map(list, IMAGENET)
    assert checkpoint(photos)["ImageData"] == {
        "classes": ["ape", "bee", "cow"], "size": 16, "colours": 3, "channels": 3,
        "mean": mean, "std": std, "centre": 0.875,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["digits", "photos"])
def test_the_model_computes_what_the_test_of_its_training_did(name, request):
    run = request.getfixturevalue(name)
    model = trained_model.load(run)
    assert not model.model.training
    data = make_data(model.settings.data, model.settings.arch, model.settings.seed)
    right = 0
    for pixels, labels, *_ in data.test_dataloader():
        right += int((model.logits(pixels).argmax(1) == labels).sum())
    assert right / len(data.test.labels) == pytest.approx(run.summary()["test/acc"], abs=1e-6)
    images = data.test.pixels
    if name == "photos":
        sample = torch.stack([model.preparation.open(path) for path in images])
        assert torch.equal(
            sample, torch.stack([eval_transform(16, 0.875)(decode(path, 16)) for path in images])
        )
        assert model.shape == (3, 16, 16)


def test_a_run_needs_nothing_but_its_folder(photos, copied):
    run = copied(photos)
    config = run.config()
    config["data"]["root"] = "/nowhere/at/all"
    configure(run, config)
    shutil.rmtree(run.path / "train.log", ignore_errors=True)
    there, here = trained_model.load(photos), trained_model.load(run)
    pixels = torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(there.logits(pixels), here.logits(pixels))


@pytest.mark.parametrize("name", ["digits", "photos"])
def test_a_run_of_before_asks_its_data_set(name, request, copied):
    run = copied(request.getfixturevalue(name))
    expected = trained_model.load(run).preparation
    changed(run, lambda found: found.pop("ImageData"))
    assert trained_model.load(run).preparation == expected


def test_a_run_of_before_without_its_data_set(photos, copied):
    run = changed(copied(photos), lambda found: found.pop("ImageData"))
    config = run.config()
    config["data"]["root"] = "/nowhere/at/all"
    of_before(configure(run, config))
    with pytest.raises(InputError, match=r"before checkpoints stored class names .*/nowhere/at/all"):
        trained_model.load(run)


def test_a_run_of_before_downloads_nothing(digits, copied, tmp_path):
    run = changed(copied(digits), lambda found: found.pop("ImageData"))
    config = run.config()
    config["data"] |= {"name": "mnist", "root": str(tmp_path / "nothing")}
    of_before(configure(run, config))
    with pytest.raises(InputError, match="downloads are disabled here"):
        trained_model.load(run)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_precision_is_that_of_the_training(precision, tmp_path, cli):
    run = train(tmp_path, f"device.precision={precision}", "trainer.max_epochs=1", "data.limit=300", *SMALL)
    model = trained_model.load(run)
    dtype = torch.float64 if precision == "64-true" else torch.float32
    assert next(model.model.parameters()).dtype == dtype
    saved = torch.load(run.checkpoints / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[f"model.{name}"]) for name, value in model.model.state_dict().items())
    code, out, err = cli("evaluate", run.path, "--json", "-")
    assert code == 0, err
    assert json.loads(out)["loss"] == pytest.approx(run.summary()["test/loss"], rel=1e-4)


# --- what becomes of an image ---------------------------------------------------------------------


def test_grey_is_what_pillow_calls_l():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    pixels[0, :, :] = np.arange(50)[:, None] * 5
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.array_equal(grey(torch.from_numpy(pixels).permute(2, 0, 1))[0].numpy(), expected)


def preparation(**changes):
    values = {"classes": ["a", "b"], "size": 8, "colours": 1, "channels": 1, "mean": [0.5], "std": [0.5]}
    return Preparation(**{**values, "centre": None, **changes})


def test_an_image_file_is_squeezed_or_cut(tmp_path):
    pixels = np.zeros((16, 64, 3), np.uint8)
    pixels[:, 24:40] = 255  # the middle square is white
    Image.fromarray(pixels).save(tmp_path / "x.png")
    whole = preparation().open(tmp_path / "x.png")
    assert whole.shape == (1, 8, 8)
    assert (whole[0, 0, 0], whole[0, 0, -1]) == (0, 0)
    cut = preparation(centre=0.875, colours=3, channels=3, mean=[0.5] * 3, std=[0.5] * 3)
    assert cut.open(tmp_path / "x.png").shape == (3, 8, 8)
    assert cut.open(tmp_path / "x.png").min() > 200


def test_arrays_are_seen_as_files_are(tmp_path):
    prepared = preparation(size=32, centre=0.875, colours=3, channels=3, mean=[0.5] * 3, std=[0.5] * 3)
    pixels = torch.randint(256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "x.png")
    assert torch.equal(prepared.fit(pixels[None])[0], prepared.open(tmp_path / "x.png"))


def test_normalised_and_repeated():
    pixels = torch.tensor([[[[0, 51], [102, 255]]]], dtype=torch.uint8)
    found = preparation(channels=3).normalise(pixels)
    assert found.shape == (1, 3, 2, 2)
    assert found[0, 2].flatten().tolist() == pytest.approx([-1, -0.6, -0.2, 1])
    found = preparation(channels=3, mean=[0.0, 0.5, 0.5], std=[1.0, 0.5, 1.0]).normalise(pixels)
    assert found[0, :, 1, 1].tolist() == pytest.approx([1, 1, 0.5])


def test_a_strip_is_cut_before_it_is_resized():
    """Resized as a whole it would be 224 x 4,480,000 pixels: 3 GB."""
    strip = torch.zeros(3, 1, 20_000, dtype=torch.uint8)
    strip[:, :, 9_990:10_010] = 200
    cut = eval_transform(224, 0.875)(strip)
    assert cut.shape == (3, 224, 224)
    assert cut.eq(200).all()


# --- what is trusted ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.call",
        "cnnbench.data.download.shutil.rmtree",
        "cnnbench.processes.forked.Child",
        "torch.load",
        "cnnbench.models.basic.torch.load",
        None,
    ],
)
def test_only_architectures_of_cnnbench_are_called(digits, copied, target):
    run = configured(copied(digits), _target_=target)
    with pytest.raises(InputError, match=r"not an architecture of cnnbench.*--trust-code"):
        trained_model.load(run)


def test_a_module_of_ones_own_needs_to_be_trusted(digits, copied, tmp_path, cli):
    (tmp_path / "mynet.py").write_text(
        "import pathlib\npathlib.Path('ran').touch()\nfrom cnnbench.models.basic import *\n"
    )
    factory = digits.config()["arch"]["_target_"].rpartition(".")[2]
    run = configured(copied(digits), _target_=f"mynet.{factory}")
    code, _, err = cli("evaluate", run.path)
    assert (code, "--trust-code" in err) == (2, True)
    assert not Path("ran").exists()
    assert "mynet" not in sys.modules
    assert cli("evaluate", run.path, "--trust-code")[0] == 0
    assert Path("ran").exists()


class Touches:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def test_a_checkpoint_runs_no_code(digits, copied):
    run = copied(digits)
    saved(run, {"state_dict": {"model.x": Touches()}})
    with pytest.raises(InputError, match="could run code"):
        trained_model.load(run)
    (run.checkpoints / "best.ckpt").write_bytes(pickle.dumps(Touches()))
    with pytest.raises(InputError, match="could run code"):
        trained_model.load(run)
    assert not Path("ran").exists()


def not_finite(run):
    return changed(
        run, lambda found: next(t for t in found["state_dict"].values() if t.dim() == 4)[0].fill_(math.nan)
    )


def cut_short(run):
    path = run.checkpoints / "best.ckpt"
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "is not as it was written (it has no checksum)"),
        (lambda run: (run.checkpoints / "best.ckpt").unlink(), "best.ckpt: does not exist"),
        (lambda run: saved(run, [1, 2]), "no weights"),
        (lambda run: saved(run, {"state_dict": {"a": 1}}), "no weights"),
        (lambda run: changed(run, lambda c: c["state_dict"].update({1: torch.ones(1)})), "no weights"),
        (not_finite, ".weight contains values that are not finite"),
        (lambda run: changed(run, lambda c: c["state_dict"].popitem()), "does not match basic"),
        (lambda run: configured(run, width=0.5), "does not match basic"),
        (lambda run: configured(run, wdith=0.5), "arch.wdith"),
        (lambda run: changed(run, lambda c: c["ImageData"].update(size="8")), "not as expected (size"),
        (lambda run: changed(run, lambda c: c["ImageData"].update(std=[0.0])), "not as expected (std"),
        (lambda run: changed(run, lambda c: c["ImageData"]["classes"].pop()), "does not match basic"),
        (lambda run: (run.path / "config.yaml").unlink(), "config.yaml: is missing"),
        (lambda run: (run.path / "config.yaml").write_text("arch: [1"), "config.yaml: was changed since"),
        (lambda run: configure(run, ["a"]), "config.yaml: is not a mapping"),
        (lambda run: configure(run, {"a": 1}), "config.yaml: has no arch"),
        (
            lambda run: configure(run, {key: run.config()[key] for key in ("arch", "data")}),
            "not the config of a run (seed: Field",
        ),
        (lambda run: configured(run, width=-1), "config.yaml: arch.width=-1"),
    ],
)  # fmt: skip
def test_a_damaged_run_is_one_line(digits, copied, cli, damage, message):
    run = copied(digits)
    damage(run)
    code, out, err = cli("predict", run.path, "x.png")
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert message in line


def plain_pickle(run):
    (of_before(run).checkpoints / "best.ckpt").write_bytes(pickle.dumps({"a": 1}))


def sparse(run):
    def change(found):
        name = next(name for name, tensor in found["state_dict"].items() if tensor.dim() == 2)
        found["state_dict"][name] = found["state_dict"][name].to_sparse_csr()

    changed(run, change)


@pytest.mark.filterwarnings("ignore")  # those of torch here, not those of the other process
@pytest.mark.parametrize(
    ("damage", "message"), [(plain_pickle, "is not a checkpoint"), (sparse, "does not match")]
)
def test_what_torch_warns_of_is_said_once(digits, copied, damage, message):
    run = copied(digits)
    damage(run)
    done = subprocess.run(command("evaluate", run.path), check=False, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {run.checkpoints / 'best.ckpt'}: {message}")


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_weights_that_are_finite_but_huge(digits, copied, cli, verb):
    Image.new("L", (8, 8), 200).save("x.png")
    run = changed(copied(digits), lambda c: [t.mul_(1e30) for t in c["state_dict"].values() if t.dim() > 1])
    code, out, err = cli(verb, run.path, *["x.png"] * (verb == "predict"), "--json", "x.json")
    assert (code, out) == (2, "")
    assert err == f"error: {run.path}: its model's outputs are not finite; allowed: other weights\n"
    assert not Path("x.json").exists()


# --- which run is meant ---------------------------------------------------------------------------


def test_a_run_by_its_folder_its_checkpoint_or_as_the_only_one(digits):
    assert finished(digits.path) == digits
    assert finished(digits.path.parent.parent) == digits
    assert finished(digits.checkpoints / "best.ckpt") == digits


def test_a_run_from_within_its_folder(digits, monkeypatch):
    monkeypatch.chdir(digits.path)
    assert finished(Path()).path.name == digits.path.name, "files are named after it"
    monkeypatch.chdir(digits.checkpoints)
    assert finished(Path("..")).path.name == digits.path.name


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: seal(run, state="diverged"), "has diverged"),
        (lambda run: seal(run, state="failed"), "is failed"),
        (lambda run: seal(run, state="running"), "is interrupted"),
        (lambda run: seal(run, state="pruned"), "is pruned"),
        (
            lambda run: (run.path / "summary.json").unlink(),
            "summary.json is missing",
        ),
        (lambda run: (run.path / "status.json").write_text("{"), "damaged"),
    ],
)
@pytest.mark.parametrize("verb", ["evaluate", "export", "predict"])
def test_only_finished_runs_are_used(digits, copied, cli, verb, damage, message):
    run = copied(digits)
    damage(run)
    code, out, err = cli(verb, run.path, *(["x.png"] if verb == "predict" else []))
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert message in line
    assert "a finished run" in line


def test_what_is_no_run(digits, copied, cli, tmp_path):
    a, b = copied(digits, "a"), copied(digits, "b")
    for path, message in (
        ("nowhere", "no such folder"),
        (tmp_path / "empty", "no run here"),
        (a.path.parent, f"holds 2 runs; allowed: one of {a.path.name}, {b.path.name}"),
        (a.checkpoints / "last.ckpt", "is a file; allowed: the folder of a run"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        code, _, err = cli("evaluate", path)
        assert code == 2
        assert message in err
