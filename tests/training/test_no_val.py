"""`data.val_fraction=0`: all images are trained on, nothing is chosen, and the last epoch is tested."""

import json

import pytest
import torch
from data_support import image_data
from running import TINY, runs, the_run

from cnnbench.run_store.run import Run
from cnnbench.training.checkpoints import read_checkpoint

NO_VAL = [*TINY, "data.val_fraction=0"]


def test_all_images_are_trained_on_and_the_last_epoch_is_tested(cli):
    code, out, err = cli("train", *NO_VAL, "trainer.max_epochs=3")
    assert code == 0, err
    run = Run(the_run())
    summary, rows = run.summary(), run.rows()
    assert run.state == "finished"
    assert (summary["data/train"], summary["data/val"], summary["last/epoch"]) == (300, 0, 2)
    assert not [key for key in (*summary, *rows[0]) if key.startswith(("best/", "val/"))]
    assert all(row["time/train_s"] > 0 for row in rows)
    best, last = (read_checkpoint(run.checkpoints / f"{name}.ckpt") for name in ("best", "last"))
    assert all(torch.equal(best["state_dict"][key], value) for key, value in last["state_dict"].items())
    assert "3 of 3, the last: no val images" in out

    code, out, err = cli("evaluate", str(run.path), "--json", "-")
    assert code == 0, err
    assert json.loads(out)["accuracy"] == pytest.approx(summary["test/acc"], abs=1e-6)
    _, out, _ = cli("evaluate", str(run.path))
    assert ("from the last epoch (3; data.val_fraction=0)" in out, "best epoch" in out) == (True, False), out
    code, _, err = cli("evaluate", str(run.path), "--split", "val")
    assert (code, "data.val_fraction=0" in err) == (2, True), err


@pytest.mark.parametrize(
    "recipe",
    [
        ["trainer.ema_decay=0.9"],
        ["trainer.swa=0.4"],
        ["optimizer=sgd_schedulefree", "scheduler=constant"],
    ],
)
def test_an_average_of_the_weights_is_what_is_tested(recipe, cli):
    """It has batch statistics of its own, although no validation asks for them."""
    code, _, err = cli("train", *NO_VAL, "trainer.max_epochs=4", "ops.norm=batch", *recipe)
    assert code == 0, err
    best = read_checkpoint(Run(the_run()).checkpoints / "best.ckpt")
    averaged, trained = best["state_dict"], best["current_model_state"]
    weights = [name for name in averaged if name.endswith("weight")]
    assert all(not torch.equal(averaged[name], trained[name]) for name in weights)
    statistics = [name for name in averaged if name.endswith("running_mean")]
    assert statistics
    assert all(not torch.equal(averaged[name], trained[name]) for name in statistics)


def test_the_images_of_an_official_val_split_are_trained_on(tmp_path):
    from PIL import Image

    for part, count in (("train", 6), ("val", 3), ("test", 2)):
        for label in "ab":
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("L", (8, 8), 20 * i + len(part) + ord(label)).save(folder / f"{part}{i}.png")
    for in_memory in (False, True):
        options = {"size": 8, "in_memory": in_memory, "batch_size": 4}
        data = image_data("imagefolder", tmp_path, val_fraction=0, **options)
        assert [len(part.labels) for part in (data.train, data.val, data.test)] == [18, 0, 4]
        assert len(image_data("imagefolder", tmp_path, val_fraction=0.1, **options).train.labels) == 12


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["trainer.early_stopping.patience=2"], "trainer.early_stopping.patience=2"),
        (["trainer.monitor=val/loss"], "trainer.monitor=val/loss"),
        (["select=[optimizer.lr]"], "select="),
        (["scheduler=plateau"], "scheduler=plateau"),
        (
            ["-m", "hydra/sweeper=optuna", "optimizer.lr=interval(0.01,0.1)"],
            "hydra.sweeper.metric=best/val_acc",
        ),
    ],
)
def test_what_chooses_by_val_is_refused(overrides, named, cli):
    code, _, err = cli("train", *NO_VAL, *overrides)
    assert (code, named in err, "data.val_fraction=0" in err) == (2, True, True), err
    assert not runs()


def test_a_comparison_tells_them_apart_and_chooses_nothing_by_test(cli):
    for fraction, rate in ((0, 0.01), (0, 0.02), (0.2, 0.01), (0.2, 0.02)):
        assert cli("train", *TINY, f"data.val_fraction={fraction}", f"optimizer.lr={rate}")[0] == 0
    code, out, err = cli("compare", "outputs")
    assert code == 0, err
    said = " ".join(out.split())
    assert "2 of 4 runs trained on the val images, too (data.val_fraction=0)" in said
    for tuned in ("optimizer.lr", "data.val_fraction"):
        code, _, err = cli("compare", "outputs", "--select", tuned)
        assert (code, "runs without val images" in err, "data.val_fraction=0" in err) == (2, True, True), err
