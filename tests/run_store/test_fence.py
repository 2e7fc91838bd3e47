"""Fencing: a process that was suspended and wakes changes nothing in a run that another one took over."""

import json
import os
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from search import ALL, SEED, sample

from cnnbench.errors import InputError, Superseded
from cnnbench.processes.forked import Child
from cnnbench.run_store import lease
from cnnbench.run_store.attempt import attempt
from cnnbench.run_store.fence import PREFIX, Fence, check_links
from cnnbench.run_store.run import Run

TRAIN = [
    "train", "arch=mlp", "arch.hidden=[8]", "data=synthetic", "data.size=8", "data.limit=100",
    "data.limit_test=20", "data.batch_size=16", "trainer.max_epochs=3", "trainer.checkpoint_every_n_steps=4",
    "device.accelerator=cpu", "device.threads=1", "logger=none",
]  # fmt: skip


def content(folder):
    """Return all files of a folder, except the lease's."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def suspended(child):
    """Wait until a process has stopped itself; return False if it has ended before."""
    stat = Path(f"/proc/{child.process.pid}/stat")
    while not child.ended:
        if stat.read_text().rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.01)
    return False


def metrics(folder):
    """Return what a run has measured, without times."""
    (path,) = folder.glob("outputs/default/*/summary.json")
    return {key: value for key, value in json.loads(path.read_text()).items() if not key.startswith("time/")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Metrics of a run that nothing disturbs, and the number of changes that it makes to its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    child = Child("suspending:run", [*TRAIN, f"output_dir={folder}/outputs"], folder, folder / "log")
    code, changes = child.answer()
    assert code == 0, (folder / "log").read_text()
    assert changes > 60
    return metrics(folder), changes


def taken_over_at(point, folder, undisturbed, *overrides, name=""):
    """Suspend a training before a change, let another process complete the run, and wake the first."""
    arguments, outputs = [*TRAIN, f"output_dir={folder}/outputs", *overrides], folder / "outputs"
    first = Child("suspending:run", arguments, outputs, folder / "first", point, 0.3, name)
    try:
        if not suspended(first):
            assert first.answer()[0] == 0
            return ""
        second = Child("suspending:run", arguments, outputs, folder / "second", 0, 0.3)
        assert second.answer()[0] == 0, (folder / "second").read_text()
        assert metrics(folder) == undisturbed[0]
        after = content(outputs)
        os.kill(first.process.pid, signal.SIGCONT)
        assert first.answer()[0] == 0, (folder / "first").read_text()
    finally:
        if first.process._closed is False and first.process.is_alive():
            first.process.kill()
    assert content(outputs) == after
    text = (folder / "first").read_text()
    assert "Traceback" not in text
    assert not list(outputs.rglob(f"{PREFIX}*"))
    return text


def test_a_suspended_training_that_wakes_changes_nothing(tmp_path, undisturbed):
    """It says so in a line, and shows the result of the process that took over."""
    text = taken_over_at(3, tmp_path, undisturbed, "logger=csv", name="last.ckpt")
    assert text.count("another process took over") + text.count("its lease was released") == 1
    assert "already finished" in text


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_wherever_it_was_suspended(tmp_path, undisturbed):
    points = sample(range(1, undisturbed[1] + 1))
    lost = 0
    for point in points:
        folder = tmp_path / str(point)
        folder.mkdir()
        try:
            lost += ": " in taken_over_at(point, folder, undisturbed)
        except AssertionError as error:
            raise AssertionError(f"suspended before change {point} (search seed {SEED})") from error
    print(f"suspended before {len(points)} of {undisturbed[1]} changes{' (all)' * ALL}")


def acquired(path):
    path.mkdir(exist_ok=True)
    held = lease.of(path)
    held.acquire()
    return held


def test_a_file_that_was_begun_is_not_completed_after_a_takeover(tmp_path):
    run = tmp_path / "run"
    held = acquired(run)
    first = Fence(run, held)
    first.write(run / "summary.json", "of the first")
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(Superseded, match="another process took over"))
        stack.enter_context(first.replacing(run / "summary.json")).write(b"late")
        (run / lease.NAME).unlink()
        later = acquired(run)
        second = Fence(run, later)
    assert (run / "summary.json").read_text() == "of the first"
    second.write(run / "summary.json", "of the second")
    for change in (
        lambda: first.write(run / "summary.json", "late"),
        lambda: first.remove(run / "summary.json"),
        lambda: first.link(run / "summary.json", run / lease.NAME),
    ):
        with pytest.raises(Superseded):
            change()
        first.check, check = lambda: None, first.check  # as if it were suspended just after it has looked
        with suppress(FileNotFoundError):
            change()
        first.check = check
    assert (run / "summary.json").read_text() == "of the second"
    second.close()
    held.release()  # not its own any more
    assert sorted(path.name for path in run.iterdir()) == [lease.NAME, "summary.json"]
    later.release()


def test_a_run_whose_folder_is_deleted_meanwhile_is_lost_not_taken_over(tmp_path, capsys):
    run = Run(tmp_path / "run")
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(Superseded, match="its folder was removed"))
        this = stack.enter_context(attempt(run, "", {"threads": 1}, afresh=False))
        run.path.rename(tmp_path / "elsewhere")
        this.run.write_summary({"test/acc": 1.0})
    assert not run.path.exists()
    assert capsys.readouterr().err.count("its folder was removed") == 1


# --- links ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["checkpoints", "train.log", "wandb", "repeats", "status.json", "csv", ".attempt-x"]
)
def test_links_out_of_a_run_are_refused_before_anything_is_written(tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    for file in (".hidden", "last.ckpt", "text"):
        (outside / file).write_text("precious")
    run = Run(tmp_path / "run")
    run.path.mkdir()
    target = outside / "text" if "." in name.lstrip(".") else outside
    (run.path / name).symlink_to(target)
    before = content(outside)
    with (
        pytest.raises(InputError, match=f"{name}: is a link"),
        attempt(run, "", {"threads": 1}, afresh=False),
    ):
        raise AssertionError
    assert content(outside) == before
    assert [path.name for path in run.path.iterdir()] == [name]


def test_links_of_wandb_within_the_run_are_allowed(tmp_path):
    folder = tmp_path / "run" / "wandb"
    (folder / "run-1").mkdir(parents=True)
    (folder / "latest-run").symlink_to("run-1")
    check_links(tmp_path / "run")
    (folder / "debug.log").symlink_to("../../outside.log")
    with pytest.raises(InputError, match="is a link"):
        check_links(tmp_path / "run")


# --- force=true -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [[], ["status.json"], ["status.json", "config.yaml"]])
def test_an_interrupted_move_of_earlier_results_is_completed(tmp_path, moved):
    choice = {"arch": {"name": "basic"}, "data": {"name": "digits"}}
    run, results = Run(tmp_path / "run", choice), {"test/acc": 1.0, "best/val_acc": 0.5}
    with attempt(run, json.dumps(choice), {"threads": 1}, afresh=False) as this:
        this.run.write_rows([])
        this.run.write_summary(results)
    moving = run.path / "repeats" / ".moving"
    moving.mkdir(parents=True)
    for name in moved:
        (run.path / name).rename(moving / name)
    with attempt(run, json.dumps(choice), {"threads": 1}, afresh=not moved) as this:
        assert this.status["repeats"] == 1
        assert not (run.path / "summary.json").exists()
        this.run.write_summary({"test/acc": 0.5})
    aside = Run(run.path / "repeats" / "0")
    assert (aside.state, aside.summary()) == ("finished", results)
    assert not moving.exists()
