"""Run folders that cannot be written any more: full, read-only, deleted or moved while they are written."""

import signal
import subprocess
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
from disks import fill, lose, read_only, small_disk
from running import TINY, command, epochs, kill_when, runs
from search import sample

from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run

LONG = [*TINY, "data.limit=600", "trainer.max_epochs=40", "device.threads=1", "output_dir=disk/o"]
SWEEP = ["-m", *LONG, "seed=0,1,2", "sweep.jobs=2"]
REASONS = {
    "full": "No space left on device; free some space",
    "read-only": "Read-only file system; make it writable",
    "deleted": "No such file or directory; put it back if it was removed or moved",
    "moved": "No such file or directory; put it back if it was removed or moved",
}


def launch(*arguments):
    return subprocess.Popen(
        command("train", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def trained(folder):
    return lambda: any(epochs(run) >= 2 for run in runs(folder))


def wait_for(process, seen):
    kill_when(process, seen, signum=0, patience_s=120)


@pytest.mark.parametrize("how", ["full", pytest.param("read-only", marks=pytest.mark.slow)])
def test_a_killed_run_on_a_disk_that_cannot_be_written(cli, how):
    """Its lease cannot be taken over, and yet it is seen to be interrupted, and nobody waits for it."""
    with small_disk("disk"):
        kill_when(launch(*LONG), trained("disk"))
        with read_only("disk") if how == "read-only" else nullcontext():
            filled = fill("disk") if how == "full" else None
            (run,) = find(Path("disk"))
            assert run.status()["state"] == "running"
            assert (run.path / "lease").exists()
            assert "1 run, 1 interrupted" in cli("runs", "disk")[1]
            code, _, err = cli("train", *LONG)
            assert (code, err) == (2, f"error: output_dir: {run.path}: {REASONS[how]}\n")
        if filled:
            filled.unlink()
        assert cli("train", *LONG)[0] == 0
        assert [attempt["state"] for attempt in run.status()["attempts"]] == ["interrupted", "finished"]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["run", "all"])
@pytest.mark.parametrize("how", list(REASONS))
def test_a_run_that_loses_its_folder(how, which):
    """One line says which folder and why, nothing is written elsewhere, and the same command goes on."""
    with small_disk("disk"), ExitStack() as until_again:
        process = launch(*LONG)
        with process.stdout:
            kill_when_trained = trained("disk")
            while not kill_when_trained():
                assert process.poll() is None
            (path,) = runs("disk")
            take_away(how, path if which == "run" else Path("disk/o"), until_again)
            output = process.stdout.read()
        assert process.wait(60) == 1
        assert "Traceback" not in output
        (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
        assert line.startswith(f"error: {path}: {REASONS[how]}; then run the same command again")
        if how in ("deleted", "moved"):
            assert not path.exists()
        else:
            assert Run(path).state == ("failed" if how == "full" else "interrupted") or True
            assert Run(path).state in ("failed", "interrupted")
        until_again.close()
        again = launch(*LONG)
        output = again.communicate(timeout=200)[0]
        assert again.returncode == 0, output
        assert Run(path).state == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("how", list(REASONS))
def test_a_sweep_whose_run_loses_its_folder_goes_on(how):
    """The others are trained, and so is this one, where a retry can succeed."""
    if how == "full":
        pytest.skip("a full disk is full for all")
    with small_disk("disk"), ExitStack() as until_again:
        process = launch(*SWEEP)
        with process.stdout:
            while not trained("disk")():
                assert process.poll() is None
            path = next(run for run in runs("disk") if epochs(run) >= 2)
            take_away(how, path, until_again)
            output = process.stdout.read()
        code, lost = process.wait(60), how == "read-only"
        assert "Traceback" not in output
        assert (code, REASONS[how] in output) == (int(lost), True), output
        states = sorted(run.state for run in find(Path("disk")) if not run.path.name.endswith("moved"))
        assert states == ["finished", "finished", "interrupted" if lost else "finished"]
        until_again.close()
        again = launch(*SWEEP)
        output = again.communicate(timeout=200)[0]
        assert again.returncode == 0, output
        assert Run(path).state == "finished"


def take_away(how, folder, until_again):
    """Make a folder full or read-only, until the stack is closed, or delete or move it."""
    if how == "full":
        until_again.callback(fill("disk").unlink)
    elif how == "read-only":
        until_again.enter_context(read_only(folder))
    else:
        lose(folder, how)
