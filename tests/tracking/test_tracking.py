"""Logging: the files that the real W&B client writes offline, ends of runs, and the other loggers."""

import csv
import json
import signal
from pathlib import Path

import pytest
import wandb
from tracking_support import (
    BASIC,
    EPOCHS,
    ONLINE,
    OPS,
    Troublesome,
    epochs,
    folder_of,
    has_rows,
    logged,
    signalled,
    the_run,
)

from cnnbench.cli import main
from cnnbench.run_store.find import find

# --- offline -------------------------------------------------------------------------------------


def test_offline_run_is_complete(server, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    assert main([*BASIC, "name=mine"]) == 0
    assert server.requests == []
    run = the_run("mine")
    wandb_run = logged(run)
    assert wandb_run.exit_code == 0
    assert (wandb_run.group, wandb_run.job_type) == ("mine", "train")
    assert wandb_run.tags == ["arch:basic", "data:digits", *OPS, "optimizer:sgd"]
    assert wandb_run.config["arch"]["width"] == 0.25
    assert wandb_run.config["trainer"]["max_epochs"] == EPOCHS
    assert wandb_run.config["run"] == run.path.name
    stored = run.rows()
    rows = [row for row in wandb_run.history if "val/acc" in row]
    assert [{key: row[key] for key in stored[0]} for row in rows] == stored


def test_summary_has_the_best_epoch_and_the_final_metrics():
    assert main(BASIC) == 0
    run = the_run()
    wandb_run = logged(run)
    assert wandb_run.metrics["*"].step_metric == wandb_run.metrics["val/acc"].step_metric == "epoch"
    assert wandb_run.summary["val/acc"] == {"max": max(row["val/acc"] for row in run.rows())}
    assert wandb_run.summary["val/loss"] == {"min": min(row["val/loss"] for row in run.rows())}
    metrics = run.summary()
    assert {"params", "best/val_acc", "test/acc", "time/train_s"} <= set(metrics)
    assert {key: wandb_run.summary[key] for key in metrics} == metrics


def test_confusion_matrix_and_worst_mistakes():
    assert main([*BASIC, "logger.images=5"]) == 0
    files = folder_of(the_run()) / "files"
    last = logged(the_run()).history[-1]
    assert last["epoch"] == EPOCHS - 1
    table = json.loads((files / last["test/confusion_table"]["path"]).read_text())
    assert sum(count for _, _, count in table["data"]) == the_run().summary()["data/test"]
    images = last["test/worst_mistakes"]
    assert len(images["filenames"]) == 5
    assert all((files / name).read_bytes().startswith(b"\x89PNG") for name in images["filenames"])
    assert all("classified as" in caption for caption in images["captions"])


# --- every end is recorded, and the next run starts afresh ---------------------------------------


def test_crash_is_recorded_and_the_next_run_is_separate(troublesome, monkeypatch):
    def crash(epoch):
        if epoch == 2:
            raise RuntimeError("a bug")

    monkeypatch.setattr(Troublesome, "trouble", staticmethod(crash))
    assert main(troublesome) == 1
    crashed = logged(the_run())
    assert crashed.exit_code == 1
    assert epochs(crashed.history) == [0, 1]
    assert wandb.run is None
    assert main([*BASIC, "name=next"]) == 0
    following = logged(the_run("next"))
    assert following.exit_code == 0
    assert following.id != crashed.id
    assert epochs(following.history) == list(range(EPOCHS))
    assert logged(the_run()) == crashed


@pytest.mark.filterwarnings("ignore:Encountered `nan` values")  # torchmetrics
def test_divergence_is_a_finished_run():
    assert main([*BASIC, "optimizer.lr=1e30"]) == 0
    assert the_run().state == "diverged"
    wandb_run = logged(the_run())
    assert wandb_run.exit_code == 0
    assert wandb_run.summary["state"] == "diverged"
    assert "is not finite in epoch" in wandb_run.summary["error"]
    assert "state:diverged" in wandb_run.tags


def test_a_failure_is_distinguished_from_a_finish(server, monkeypatch):
    """Also at W&B, where a resumed run loses its failed state."""
    with monkeypatch.context() as patch:
        patch.delattr("lightning.pytorch.Trainer.test")
        assert main([*BASIC, ONLINE]) == 1
    (run,) = server.runs.values()
    assert run.summary["state"] == "failed"
    assert run.summary["error"].startswith("AttributeError: ")
    assert run.told["tags"][-1] == "state:failed"
    assert main([*BASIC, ONLINE]) == 0
    assert (run.summary["state"], run.summary["error"]) == ("finished", "")
    assert not [tag for tag in run.told["tags"] if tag.startswith("state:")]


@pytest.mark.slow
def test_interrupt_is_recorded(troublesome):
    assert signalled(troublesome, signal.SIGINT, has_rows(2)) == 130
    wandb_run = logged(the_run())
    assert wandb_run.exit_code == 130
    assert wandb_run.summary["state"] == "interrupted"
    assert 0 in epochs(wandb_run.history)


def test_runs_of_a_sweep_are_separate():
    assert main(["train", "-m", *BASIC[1:], "seed=0,1"]) == 0
    runs = [logged(run) for run in find(Path("outputs"))]
    assert [run.config["seed"] for run in runs] == [0, 1]
    assert [run.exit_code for run in runs] == [0, 0]
    assert [epochs(run.history) for run in runs] == [list(range(EPOCHS))] * 2
    assert runs[0].id != runs[1].id


def test_logs_stay_with_their_run_after_a_change_of_the_working_folder(tmp_path, monkeypatch):
    """W&B's service outlives the first run and keeps the working folder that it was started in."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        assert main(BASIC) == 0
        assert epochs(logged(the_run()).history) == list(range(EPOCHS))


def test_forced_repeat_is_another_run():
    assert main(BASIC) == 0
    first = logged(the_run())
    assert main([*BASIC, "force=true"]) == 0
    assert logged(the_run()).id != first.id


def test_long_tags_are_cut_to_the_limit_of_wandb(troublesome, tmp_path):
    name = "a" * 90
    config = (
        (tmp_path / "conf/arch/troublesome.yaml").read_text().replace("name: troublesome", f"name: {name}")
    )
    (tmp_path / f"conf/arch/{name}.yaml").write_text(config)
    assert main([*troublesome, f"arch={name}"]) == 0
    assert f"arch:{name}"[:64] in logged(the_run()).tags


def test_a_logger_that_cannot_start_does_not_end_the_run(monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.delattr("lightning.pytorch.Trainer.test")
        assert main([*BASIC, "logger=none"]) == 1
    (the_run().path / "wandb").write_text("a file instead of a folder")
    assert main(BASIC) == 0
    assert the_run().state == "finished"
    assert "logging failed (FileExistsError" in capfd.readouterr().err


# --- other loggers -------------------------------------------------------------------------------


def csv_epochs(folder):
    with (folder / "csv/metrics.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["val/acc"]]


def tensorboard_epochs(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [event.step for event in events.Scalars("val/acc")]


@pytest.mark.parametrize(("name", "read"), [("csv", csv_epochs), ("tensorboard", tensorboard_epochs)])
def test_lightning_logger_has_each_epoch_once(troublesome, monkeypatch, name, read):
    def crash(epoch):
        if epoch == 2:
            raise RuntimeError("a bug")

    command = [*troublesome, f"logger={name}"]
    with monkeypatch.context() as patch:
        patch.setattr(Troublesome, "trouble", staticmethod(crash))
        assert main(command) == 1
    assert read(the_run().path) == [0, 1]
    assert main(command) == 0
    assert read(the_run().path) == list(range(EPOCHS))


def test_no_logger():
    assert main([*BASIC, "logger=none"]) == 0
    assert the_run().state == "finished"
    assert not (the_run().path / "wandb").exists()
