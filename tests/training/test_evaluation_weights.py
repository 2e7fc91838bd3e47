"""Weights that are evaluated instead of the trained ones: SWA and optimizers with modes."""

import json
import sys
from pathlib import Path

import pytest
import torch
from resuming import assert_same, interrupted_after
from running import TINY, runs, the_run

from cnnbench.cli import main
from cnnbench.run_store.run import Run
from cnnbench.training import batch_norm
from cnnbench.training.checkpoints import read_checkpoint
from cnnbench.training.recorder import Recorder

RECIPE = [
    *("arch.width=0.25", "arch.blocks=2", "logger=none", "device.threads=1", "data.limit=600"),
    *("data.batch_size=32", "trainer.max_epochs=6", "scheduler=constant"),
]
SWA = [*RECIPE, "trainer.swa=0.5", "optimizer.lr=0.02"]

DOUBLING = """
import torch

class Doubling(torch.optim.SGD):
    training = False

    def train(self):
        self.scale(self.training, 0.5)
        self.training = True

    def eval(self):
        self.scale(not self.training, 2)
        self.training = False

    @torch.no_grad()
    def scale(self, already, factor):
        for p in self.param_groups[0]["params"]:
            if not already and p in self.state:
                p.mul_(factor)

    def step(self, closure=None):
        assert self.training
        return super().step(closure)

def halving(optimizer, total_steps):
    return torch.optim.lr_scheduler.StepLR(optimizer, total_steps // 2, 0.5)
"""
"""An optimizer, whose weights for evaluation are twice those of the training, and a schedule."""


@pytest.fixture
def doubling():
    Path("own.py").write_text(DOUBLING)
    return ["optimizer._target_=own.Doubling", "optimizer.name=doubling", "optimizer.lr=0.02"]


@pytest.fixture
def trained(monkeypatch):
    """Collect the weights with which the training goes on after each checkpoint."""
    states, save = [], Recorder._save

    def saving(self, trainer, *, best):
        save(self, trainer, best=best)
        states.append({k: v.clone() for k, v in trainer.lightning_module.state_dict().items()})

    monkeypatch.setattr(Recorder, "_save", saving)
    return states


def checkpoint(name, folder="outputs"):
    return read_checkpoint(the_run(folder) / "checkpoints" / f"{name}.ckpt")


def parameters(state):
    return {k: v for k, v in state.items() if k.endswith(("weight", "bias"))}


def assert_close(state, expected):
    for name, value in parameters(expected).items():
        torch.testing.assert_close(state[name], value, msg=name, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [[], ["optimizer.lr=1", "scheduler=step", "scheduler.milestones=[0.4]"]])
def test_swa_is_the_mean_of_the_weights_at_the_ends_of_the_last_epochs(cli, trained, options):
    """And the best epoch may be one before, of which the weights are kept as they are."""
    code, out, _ = cli("train", *SWA, *options)
    assert code == 0
    mean = {k: torch.stack([state[k] for state in trained[3:]]).mean(0) for k in parameters(trained[0])}
    last = checkpoint("last")
    assert_close(last["state_dict"], mean)
    for name, value in last["current_model_state"].items():
        assert torch.equal(value, trained[-1][name]), name
    row = max(Run(the_run()).rows(), key=lambda row: (row["val/acc"], -row["val/loss"]))
    text = " ".join(out.replace("│", " ").split())
    epoch = int(row["epoch"])
    assert (epoch < 3) == bool(options) == ("before the first that trainer.swa averages, 4" in text)
    best = checkpoint("best")["state_dict"]
    if epoch < 3:
        assert all(torch.equal(value, trained[epoch][name]) for name, value in best.items())
    else:
        ends = trained[3 : epoch + 1]
        assert_close(best, {k: torch.stack([state[k] for state in ends]).mean(0) for k in mean})


def test_swa_changes_nothing_in_the_training_nor_before_its_start(cli):
    assert cli("train", *SWA)[0] == 0
    assert cli("train", *SWA, "trainer.swa=null", "output_dir=plain")[0] == 0
    rows, plain = Run(the_run()).rows(), Run(the_run("plain")).rows()
    assert [row["train/loss"] for row in rows] == [row["train/loss"] for row in plain]
    same = [row["val/loss"] == other["val/loss"] for row, other in zip(rows, plain, strict=True)]
    assert same == [True] * 3 + [False] * 3


OPTIMIZERS = {
    "swa": SWA,
    "sgd": [*RECIPE, "optimizer=sgd_schedulefree"],
    "adamw": [*RECIPE, "optimizer=adamw_schedulefree", "scheduler.warmup_epochs=1"],
}


@pytest.mark.parametrize("name", ["swa", "sgd", pytest.param("adamw", marks=pytest.mark.slow)])
def test_the_statistics_are_of_the_evaluated_weights(cli, name, monkeypatch):
    """As torch's update_bn computes them from the images of the epoch, without dropout."""
    seen, original = [], batch_norm.training_images

    def images(trainer, device):
        seen.append([batch.clone() for batch in original(trainer, device)])
        return iter(seen[-1])

    monkeypatch.setattr(batch_norm, "training_images", images)
    models = []
    monkeypatch.setattr(Recorder, "on_train_start", lambda self, trainer, task: models.append(task.model))
    assert cli("train", *OPTIMIZERS[name], "arch.dropout=0", "trainer.accumulate=1")[0] == 0
    assert len(seen) == (3 if name == "swa" else 6)
    assert not torch.equal(seen[-1][0], seen[-2][0])  # another epoch
    state = checkpoint("last")["state_dict"]
    (model,) = models
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    torch.optim.swa_utils.update_bn([(batch,) for batch in seen[-1]], model)
    compared = [k for k in state if k.endswith(("running_mean", "running_var"))]
    assert compared
    for key in compared:
        torch.testing.assert_close(model.state_dict()[key.removeprefix("model.")], state[key], msg=key)


def test_fewer_images_than_an_epoch_has(cli, monkeypatch):
    monkeypatch.setattr(batch_norm, "IMAGES", 100)
    assert cli("train", *SWA)[0] == 0
    log = "".join(path.read_text() for path in the_run().rglob("*.log"))
    assert log.count("batch norm: statistics of 128 images in ") == 3  # whole batches


def test_a_model_without_batch_norm_needs_no_images(cli):
    assert cli("train", *SWA, "ops.norm=group")[0] == 0
    assert "batch norm" not in "".join(path.read_text() for path in the_run().rglob("*.log"))


@pytest.mark.parametrize("name", ["swa", "sgd", pytest.param("adamw", marks=pytest.mark.slow)])
def test_the_best_checkpoint_has_the_weights_that_were_evaluated(cli, name):
    assert cli("train", *OPTIMIZERS[name])[0] == 0
    assert cli("evaluate", the_run(), "--split", "val", "--json", "val.json")[0] == 0
    (best,) = [row for row in Run(the_run()).rows() if row["epoch"] == Run(the_run()).summary()["best/epoch"]]
    assert json.loads(Path("val.json").read_text())["loss"] == pytest.approx(best["val/loss"], rel=1e-5)


@pytest.mark.parametrize("momentum", [0.9, pytest.param(0.5, marks=pytest.mark.slow)])
def test_schedule_free_evaluates_x_and_goes_on_with_y(monkeypatch, momentum):
    """x = y + (1 - 1/β) (z - y): y = (1 - β) z + β x, arXiv:2405.15682, equation 3."""
    recipe = [*RECIPE, "optimizer=sgd_schedulefree", f"optimizer.momentum={momentum}", "output_dir=broken"]
    interrupted_after(3, monkeypatch, recipe)
    last = checkpoint("last", "broken")
    x, y = last["state_dict"], last["current_model_state"]
    (optimizer,) = last["optimizer_states"]
    assert all(group["train_mode"] for group in optimizer["param_groups"])
    names = [name for name in x if name.endswith(("weight", "bias"))]
    z = [optimizer["state"][i]["z"] for group in optimizer["param_groups"] for i in group["params"]]
    assert len(z) == len(names)
    for name, value in zip(names, z, strict=True):
        torch.testing.assert_close(x[name], torch.lerp(y[name], value, 1 - 1 / momentum), msg=name)
        assert not torch.equal(x[name], y[name])


@pytest.mark.parametrize(
    "name", ["swa", "own", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sgd", "adamw"))]
)
def test_resumed_within_an_epoch_after_the_start(monkeypatch, name, doubling):
    recipe = [*(OPTIMIZERS.get(name) or [*RECIPE, *doubling]), "trainer.checkpoint_every_n_steps=7"]
    recipe += ["arch.dropout=0.2", "data.augment.crop=1"]
    assert main(["train", "output_dir=undisturbed", *recipe]) == 0
    interrupted_after(13, monkeypatch, ["output_dir=broken", *recipe])  # three an epoch: after 4 epochs
    assert len(checkpoint("last", "broken")["cnnbench"]["rows"]) == 4
    assert main(["train", "output_dir=broken", *recipe]) == 0
    assert_same(the_run("undisturbed"), the_run("broken"))
    one, other = (checkpoint("last", folder)["current_model_state"] for folder in ("undisturbed", "broken"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_checkpoints_within_an_epoch_change_nothing(cli):
    for folder, every in (("one", "null"), ("two", "3")):
        recipe = [*RECIPE, "optimizer=sgd_schedulefree", f"output_dir={folder}"]
        assert cli("train", *recipe, f"trainer.checkpoint_every_n_steps={every}")[0] == 0
    assert_same(the_run("one"), the_run("two"))


def test_an_optimizer_of_ones_own_is_known_by_its_methods(cli, doubling):
    """And its user may choose a schedule of his own for it."""
    code, _, err = cli("train", *TINY, *doubling)
    assert code == 2
    assert "scheduler=onecycle: not with optimizer=doubling" in err
    assert "allowed: constant" in err
    assert (
        cli("train", *RECIPE, *doubling, "scheduler._target_=own.halving", "~scheduler.warmup_epochs")[0] == 0
    )
    last = checkpoint("last")
    for name, value in parameters(last["current_model_state"]).items():
        assert torch.equal(last["state_dict"][name], 2 * value), name


@pytest.mark.slow
def test_in_a_sweep_as_alone(cli):
    assert cli("train", "-m", *SWA, "seed=0,1", "sweep.jobs=2", "output_dir=sweep")[0] == 0
    assert cli("train", *SWA, "seed=1", "output_dir=alone")[0] == 0
    (second,) = [run for run in runs("sweep") if "-s1-" in run.name]
    assert_same(second, the_run("alone"))


FREE = ["optimizer=sgd_schedulefree"]
COSINE = ["scheduler=cosine", "scheduler.warmup_epochs=1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["trainer.swa=0.5", "trainer.ema_decay=0.9"], "trainer.swa=0.5: not with trainer.ema_decay=0.9"),
        (["trainer.swa=0.7"], "trainer.swa=0.7: fewer than two of trainer.max_epochs=6 epochs follow"),
        (["trainer.swa=0.5", "trainer.max_epochs=1"], "trainer.max_epochs=1 epochs follow; allowed: null"),
        (["trainer.swa=1.0"], "trainer.swa=1.0: should be less than 1"),
        (["trainer.swa=0"], "trainer.swa=0"),
        ([*FREE, "trainer.swa=0.5"], "trainer.swa=0.5: not with optimizer=sgd_schedulefree"),
        ([*FREE, "trainer.ema_decay=0.5"], "trainer.ema_decay=0.5: not with optimizer=sgd_schedulefree"),
        ([*FREE, "scheduler=cosine"], "scheduler=cosine: not with optimizer=sgd_schedulefree"),
        ([*COSINE, "scheduler.until=0.1"], "scheduler.until=0.1: allowed: a share of the training after"),
        ([*COSINE, "scheduler.until=1.1"], "scheduler.until=1.1: allowed: a share of the training after"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_training(cli, options, message):
    code, _, err = cli("train", *RECIPE, *options)
    assert code == 2
    assert message in err.replace("\n", " ")
    assert "Traceback" not in err
    assert not list(Path().rglob("metrics.csv"))


def test_and_before_a_sweep_starts(cli):
    code, _, err = cli("train", "-m", *RECIPE, *FREE, "scheduler=constant,cosine")
    assert code == 2
    assert "scheduler=cosine: not with optimizer=sgd_schedulefree" in " ".join(err.split())
    assert not list(Path().rglob("metrics.csv"))


def test_without_the_package_the_error_names_the_extra(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "schedulefree", None)  # as if it were not installed
    code, _, err = cli("train", *RECIPE, *FREE)
    assert code == 2
    assert "run `pip install 'cnnbench[schedulefree]'`" in " ".join(err.split())
