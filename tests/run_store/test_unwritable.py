"""Run folders that cannot be written any more: full, read-only, deleted or moved while they are written."""

import subprocess
import sys
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
from disks import fill, lose, read_only, small_disk
from running import TINY, command, epochs, runs

from cnnbench.errors import InputError
from cnnbench.run_store import lease
from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run

LONG = [*TINY, "data.limit=600", "trainer.max_epochs=40", "device.threads=1", "output_dir=disk/o"]
SWEEP = ["-m", *LONG, "seed=0,1,2", "sweep.jobs=2"]
GONE = "its folder was removed"
REASONS = {
    "full": "No space left on device; free some space",
    "read-only": "Read-only file system; make it writable",
    "deleted": GONE,
    "moved": GONE,
}


def launch(*arguments):
    with Path("output").open("w") as output:
        return subprocess.Popen(command("train", *arguments), stdout=output, stderr=output)


def ended(process):
    """Wait for a process; return its exit code and what it printed."""
    code = process.wait(200)
    return code, Path("output").read_text()


def trained(process):
    """Wait until a run has two epochs, and return its folder."""
    while not (found := [run for run in runs("disk") if epochs(run) >= 2]):
        assert process.poll() is None, Path("output").read_text()
        time.sleep(0.01)
    return found[0]


def take_away(how, folder, until_again):
    """Make a folder full or read-only, until the stack is closed, or delete or move it."""
    if how == "full":
        until_again.callback(fill("disk").unlink)
    elif how == "read-only":
        until_again.enter_context(read_only(folder))
    else:
        lose(folder, how)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_the_lease_of_a_killed_process_where_it_cannot_be_taken_over(how):
    """The process is known to be gone; one that lives is left alone."""
    script = (
        "import sys, time; from pathlib import Path; from cnnbench.run_store import lease\n"
        "held = lease.of(Path('disk/r')); held.acquire(); print('held', flush=True); time.sleep(60)"
    )
    with small_disk("disk"), ExitStack() as until_again:
        Path("disk/r").mkdir()
        run = Run(Path("disk/r"))
        run.write_status({"state": "running", "attempts": [{}], "device": {}})
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
            until_again.callback(holder.kill)
            holder.stdout.readline()
            take_away(how, Path("disk"), until_again)
            assert run.state == "running"
            assert not lease.frees(lease.of(run.path))
            holder.kill()
        assert run.state == "interrupted"
        assert lease.frees(lease.of(run.path))
        with pytest.raises(InputError, match=f"disk/r: {REASONS[how]}"):
            lease.check_writable(run.path)
        until_again.close()
        lease.check_writable(run.path)
        assert lease.frees(lease.of(run.path))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_killed_run_on_a_disk_that_cannot_be_written(cli, how):
    """Its lease cannot be taken over, and yet it is seen to be interrupted, and nobody waits for it."""
    with small_disk("disk"):
        process = launch(*LONG)
        path = trained(process)
        process.kill()
        process.wait()
        filled = fill("disk") if how == "full" else None
        with read_only("disk") if how == "read-only" else nullcontext():
            assert Run(path).status()["state"] == "running"
            assert (path / "lease").exists()
            assert "1 run, 1 interrupted" in cli("runs", "disk")[1]
            code, _, err = cli("train", *LONG)
            assert (code, err) == (2, f"error: output_dir: {path}: {REASONS[how]}\n")
        if filled:
            filled.unlink()
        assert cli("train", *LONG)[0] == 0
        assert [attempt["state"] for attempt in Run(path).status()["attempts"]] == ["interrupted", "finished"]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["run", "all"])
@pytest.mark.parametrize("how", list(REASONS))
def test_a_run_that_loses_its_folder(how, which):
    """One line says which folder and why, nothing is written elsewhere, and the same command goes on."""
    with small_disk("disk"), ExitStack() as until_again:
        process = launch(*LONG)
        path = trained(process)
        take_away(how, path if which == "run" else Path("disk/o"), until_again)
        code, output = ended(process)
        assert "Traceback" not in output
        if REASONS[how] == GONE:  # the command goes on by itself, in a new folder
            assert code == 0, output
            assert f"{path.name}: {GONE}" in output
            moved = list(Path("disk").rglob("*.moved/**/status.json"))
            assert [Run(status.parent).state for status in moved] == ["interrupted"] * (how == "moved")
        else:
            assert code == 1
            (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
            assert line.startswith(f"error: {path}: {REASONS[how]}; then run the same command again")
            assert Run(path).state in ("failed", "interrupted")
        until_again.close()
        assert ended(launch(*LONG))[0] == 0
        assert Run(path).state == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["read-only", "deleted", "moved"])
def test_a_sweep_whose_run_loses_its_folder_goes_on(how):
    """The others are trained, and so is this one, where another try can succeed."""
    with small_disk("disk"), ExitStack() as until_again:
        process = launch(*SWEEP)
        path = trained(process)
        take_away(how, path, until_again)
        code, output = ended(process)
        lost = how == "read-only"
        assert code == lost, output
        assert REASONS[how] in output
        assert "Traceback" not in output
        here = [run for run in find(Path("disk")) if not run.path.name.endswith(("moved", "aside"))]
        assert sorted(run.state for run in here) == [
            "finished",
            "finished",
            "interrupted" if lost else "finished",
        ]
        until_again.close()
        assert ended(launch(*SWEEP))[0] == 0
        assert Run(path).state == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("how", list(REASONS))
@pytest.mark.parametrize("sweeper", ["grid", "optuna"])
def test_a_sweep_that_loses_everything(how, sweeper):
    """Also its own files: multirun.yaml, compare.html, the study of a search."""
    sweep = [*SWEEP, f"hydra/sweeper={sweeper}", "name=s"]
    with small_disk("disk"), ExitStack() as until_again:
        process = launch(*sweep)
        trained(process)
        take_away(how, Path("disk/o"), until_again)
        code, output = ended(process)
        assert "Traceback" not in output, output
        assert code in (0, 1, 2), output
        assert code == 0 or REASONS[how].partition(";")[0] in output, output
        until_again.close()
        code, output = ended(launch(*sweep))
        assert code == 0, output
        assert {run.state for run in find(Path("disk/o"))} == {"finished"}
