"""The training does what the recipe says: rates, groups of batches, and the images of an epoch."""

import copy

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from running import TINY, runs, the_run
from torch import nn
from torch.utils.data import DataLoader

from cnnbench.errors import InputError
from cnnbench.processes.logs import quiet
from cnnbench.run_store.run import Run
from cnnbench.settings.recipe import EarlyStopping, Trainer
from cnnbench.training.accumulation import Accumulation
from cnnbench.training.classifier import Classifier
from cnnbench.training.recorder import Recorder

ONE_BATCH = [*TINY, "data.limit=100", "data.batch_size=90", "data.augment.crop=0"]
"""An epoch of one batch."""


def rates(cli, *overrides):
    """Return the column lr, in units of the first rate that is not part of a warm-up."""
    assert cli("train", *ONE_BATCH, "optimizer.lr=0.01", *overrides)[0] == 0
    return [row["lr"] / 0.01 for row in Run(the_run()).rows()]


def test_milestones_count_from_the_start(cli):
    overrides = ["scheduler=step", "scheduler.warmup_epochs=4", "trainer.max_epochs=12"]
    expected = [0.2, 0.4, 0.6, 0.8, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    assert rates(cli, *overrides) == pytest.approx(expected)


def test_a_plateau_lowers_the_rate_of_the_next_step(cli):
    never_better = ["scheduler=plateau", "scheduler.patience=1", "scheduler.threshold=0.99"]
    expected = [1, 1, 1, 0.1, 0.1, 0.01, 0.01]
    assert rates(cli, *never_better, "trainer.max_epochs=7") == pytest.approx(expected)


def test_the_column_is_the_rate_of_the_last_step(cli):
    found = rates(cli, "scheduler=cosine", "trainer.max_epochs=4")
    assert found == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])


@pytest.mark.parametrize(("accumulate", "batches"), [(3, 7), (4, 4), (3, 5), (2, 1)])
def test_a_step_takes_the_mean_gradient_of_its_batches(accumulate, batches):
    accumulate = min(accumulate, batches)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    alone = copy.deepcopy(model)
    data = [(torch.randn(6, 3, 2, 2), torch.arange(6) % 3) for _ in range(batches)]

    def sgd(parameters):
        return torch.optim.SGD(parameters, 0.5)

    weight = Accumulation(accumulate, batches).weight
    task = Classifier(model, 3, sgd, torch.optim.lr_scheduler.ConstantLR, seed=0, weight=weight)
    task.make_schedule = lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    options = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "num_sanity_val_steps": 0,
    }
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", accumulate_grad_batches=accumulate, **options)
    with quiet():
        trainer.fit(task, *[DataLoader(data, batch_size=None)] * 2)

    optimizer = sgd(alone.parameters())
    for _ in range(2):
        for first in range(0, batches, accumulate):
            group = data[first : first + accumulate]
            optimizer.zero_grad()
            for images, labels in group:
                (nn.functional.cross_entropy(alone(images), labels) / len(group)).backward()
            optimizer.step()
    for found, expected in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_group_larger_than_an_epoch_is_refused(cli):
    with pytest.raises(InputError, match="allowed: 1 to 7"):
        Accumulation(8, 7)
    for sweep in ([], ["-m", "seed=0,1"]):
        code, _, err = cli("train", *TINY, "trainer.accumulate=1000", *sweep)
        assert code == 2
        assert "trainer.accumulate=1000: an epoch has 4 batches; allowed: 1 to 4" in err
    assert not runs()


@pytest.mark.parametrize("given", [[], ["data.drop_last=true"], ["data.drop_last=false"]])
def test_images_that_do_not_fill_a_batch(given, cli):
    assert cli("train", *TINY, *given, "trainer.max_epochs=1")[0] == 0
    run = Run(the_run())
    drops = given != ["data.drop_last=false"]
    assert run.summary()["data/dropped"] == (270 % 64 if drops else 0)
    (row,) = run.rows()
    assert row["time/images"] == (256 if drops else 270)
    assert row["step"] == (4 if drops else 5)


def test_networks_without_a_norm_have_a_learning_rate_that_trains_them(cli):
    """SGD's usual 0.1 leaves VGG-11 at 23 % of digits."""
    code, _, err = cli("train", "arch=vgg11", "arch.width=0.25", "trainer.max_epochs=8", "logger=none")
    assert code == 0, err
    run = Run(the_run())
    assert run.config()["optimizer"]["lr"] == 0.01
    assert run.summary()["best/val_acc"] > 0.9
    assert cli("train", "arch=vgg11_bn", "--cfg", "job", "--resolve")[1].count("lr: 0.1\n") == 1


@pytest.mark.parametrize(
    ("monitor", "best"), [("val/acc", np.argmax), ("val/loss", np.argmin), ("val/ece", np.argmin)]
)
def test_the_best_epoch_is_that_of_the_monitored_metric(monitor, best, cli):
    """Its weights are kept and tested. Early learning at a high rate has epochs that differ by metric."""
    words = [
        *TINY,
        "trainer.max_epochs=6",
        "optimizer.lr=0.3",
        "scheduler=constant",
        f"trainer.monitor={monitor}",
    ]
    code, out, _ = cli("train", *words)
    assert code == 0
    run = Run(the_run())
    values, epoch = [row[monitor] for row in run.rows()], run.summary()["best/epoch"]
    assert values[epoch] == values[best(values)]
    assert run.summary()[f"best/{monitor.replace('/', '_')}"] == values[epoch]
    assert (f"by {monitor}" in out) == (monitor != "val/acc")
    code, out, _ = cli("evaluate", run.path, "--split", "val")
    assert (code, "the same (accuracy" in " ".join(out.split())) == (0, True)


def test_a_training_stops_by_the_monitored_metric(cli):
    """The loss of a model that does not change never improves."""
    words = [
        *TINY,
        "ops.norm=none",
        "trainer.max_epochs=6",
        "optimizer.lr=1e-12",
        "trainer.early_stopping.patience=2",
    ]
    assert cli("train", *words, "trainer.monitor=val/loss")[0] == 0
    assert len(Run(the_run()).rows()) < 6


@pytest.mark.parametrize(("given", "minutes"), [("1:30:00", 90), ("0:00:30", 0.5), ("90", 90), ("0.5", 0.5)])
def test_a_limit_of_time_is_the_same_however_it_is_written(given, minutes):
    assert (
        Trainer._minutes(int(given) if given.isdecimal() else given if ":" in given else float(given))
        == minutes
    )


def test_a_training_that_runs_out_of_time_ends_with_that_epoch(cli):
    code, out, err = cli("train", *TINY, "trainer.max_epochs=8", "trainer.max_time=1e-9")
    assert code == 0, err
    run = Run(the_run())
    assert (len(run.rows()), run.summary()["epochs"], run.summary()["stopped"]) == (1, 1, "trainer.max_time")
    assert "by trainer.max_time" in out


def test_the_time_of_earlier_attempts_counts(tmp_path):
    recipe = Trainer.model_construct(
        max_epochs=3, max_time=1.0, monitor="val/acc", early_stopping=EarlyStopping(patience=None)
    )
    rows = [{"time/epoch_s": seconds} for seconds in (29.0, 30.0, 1.5)]
    found = [Recorder(Run(tmp_path), rows[:n], recipe) for n in (2, 3)]
    assert [one.stops for one in found] == [False, True]
    assert found[1].facts == {}  # it was the last epoch anyway


@pytest.mark.parametrize("wrong", ["0", "-1", "1:75:00", "soon", "true"])
def test_a_limit_that_is_no_time(wrong, cli):
    code, _, err = cli("train", *TINY, f"trainer.max_time={wrong}")
    assert (code, "allowed: null, minutes (more than 0), or H:MM:SS" in " ".join(err.split())) == (2, True), (
        err
    )
    assert not runs()
