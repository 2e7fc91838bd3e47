"""Sweeps on this machine: planned, trained side by side, and never lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest
from PIL import Image
from resuming import assert_same
from running import TINY, command, epochs, kill_when, runs
from sweeping import gone, logged_epochs, states, trained

from cnnbench.data import image_folder as folders
from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run

LONG = [*TINY, "data.limit=600", "trainer.max_epochs=12", "device.threads=1", "name=s"]


def pids(folder="outputs", least=0):
    """Return the ids of the processes that train a run, by its status, with at least so many epochs."""
    statuses = [Run(path).status() for path in runs(folder) if epochs(path) >= least]
    return [status["pid"] for status in statuses if status.get("state") == "running"]


def start(*arguments, verb="train", **options):
    """Start a sweep in a process of its own."""
    return subprocess.Popen(
        command(verb, "-m", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def test_output_of_a_sweep(cli):
    overrides = ["-m", *TINY, "arch.kernel=3,5", "seed=0,1", "name=s", "sweep.jobs=2"]
    code, out, err = cli("train", *overrides)
    assert code == 0
    assert "4 runs: 4 new; " in err
    assert "; about " in err
    assert "[4/4]" in err
    assert "ETA" in err
    for run in find(Path("outputs")):
        assert run.path.name in out
    first = find(Path("outputs"))[0]
    first.write_status(first.status() | {"state": "failed"})
    code, out, err = cli("train", *overrides[:-2], "seed=0,1,2", "name=s")
    assert "6 runs: 3 done, 1 failed, 2 new; " in err
    assert (code, states()) == (0, ["finished"] * 6)
    assert all(len(run.status()["attempts"]) == 1 + (run == first) for run in find(Path("outputs")))


def test_a_sweep_trains_what_single_runs_train(cli):
    """Same folders, same metrics: a run does not depend on the machine or on the runs beside it."""
    overrides = [*TINY, "device.threads=1"]
    assert cli("train", "-m", *overrides, "seed=0,1", "arch=basic", "output_dir=swept")[0] == 0
    for seed in (0, 1):
        assert cli("train", *overrides, f"seed={seed}", "output_dir=single")[0] == 0
    assert {run.path.name for run in find(Path("swept"))} == {run.path.name for run in find(Path("single"))}
    for run in find(Path("single")):
        assert_same(run.path, Path("swept/default") / run.path.name)


def test_images_are_fingerprinted_once_for_a_sweep(cli, monkeypatch):
    """A folder's content is part of a run's identity; a sweep reads it once for all its runs."""
    folder = Path("images")
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for i in range(20):
            Image.new("L", (8, 8), 10 * i).save(folder / label / f"{i}.png")
    read = []
    original = folders.contents
    monkeypatch.setattr(folders, "contents", lambda path: read.append(path) or original(path))
    overrides = [
        "data=imagefolder",
        "data.root=images",
        "data.size=8",
        "data.limit=null",
        "data.batch_size=8",
    ]
    assert cli("train", "-m", *TINY, *overrides, "seed=0,1,2")[0] == 0
    assert read == [folder]
    assert states() == ["finished"] * 3


def test_basic_launcher_of_hydra(cli):
    """Train in this process, one run after the other, for a debugger."""
    code, out, _ = cli("train", "-m", *TINY, "seed=0,1", "hydra/launcher=basic")
    assert code == 0
    assert "2 runs" in out
    assert states() == ["finished"] * 2


BREAKS = '''
import os, signal
from torch import nn

class Breaks(nn.Module):
    """Model that calls its method `how` at its third training step."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int, how: str):
        super().__init__()
        self.how, self.steps, self.linear = how, 0, nn.Linear(in_channels * image_size**2, num_classes)

    def forward(self, x):
        self.steps += self.training and x.device.type == "cpu"
        if self.steps == 3:
            getattr(self, self.how)()
        return self.linear(x.flatten(1))

    def raises(self):
        raise RuntimeError("torn")

    def killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def exits(self):
        os._exit(3)

    def crashes(self):
        import ctypes
        ctypes.string_at(0)

    def works(self):
        pass
'''


@pytest.fixture
def breaking():
    """Return the arguments of sweeps over `arch.how`."""
    Path("breaks.py").write_text(BREAKS)
    Path("mine/arch").mkdir(parents=True)
    Path("mine/arch/breaks.yaml").write_text("name: breaks\n_target_: breaks.Breaks\nhow: works\n")
    recipe = ["trainer.max_epochs=2", "data.limit=250", "logger=none"]
    return ["-m", "--config-dir", "mine", "arch=breaks", *recipe]


def test_a_failure_affects_only_its_run(cli, breaking):
    code, out, err = cli("train", *breaking, "arch.how=raises,killed,exits,crashes,works", "sweep.retries=0")
    assert code == 1
    assert "5 runs: 5 new" in err
    by_failure = {run.config()["arch"]["how"]: run for run in find(Path("outputs"))}
    expected = {"raises": "failed", "works": "finished"} | dict.fromkeys(
        ("killed", "exits", "crashes"), "interrupted"
    )
    assert {how: run.state for how, run in by_failure.items()} == expected
    for how, reason in (
        ("raises", "RuntimeError: torn"),
        ("killed", "killed by SIGKILL"),
        ("exits", "ended with exit code 3"),
        ("crashes", "killed by SIGSEGV"),
    ):
        (line,) = [line for line in out.splitlines() if line.startswith(f"{by_failure[how].path.name}: ")]
        assert reason in line
        assert str(by_failure[how].path / "train.log") in line
    assert "RuntimeError: torn" in (by_failure["raises"].path / "train.log").read_text()
    assert "Segmentation fault" in (by_failure["crashes"].path / "train.log").read_text()


def test_failed_runs_are_retried_as_often_as_set(cli, breaking):
    code, _, err = cli("train", *breaking, "arch.how=raises,works", "sweep.retries=2")
    assert code == 1
    assert err.count("will be retried  RuntimeError: torn") == 2
    attempts = {run.config()["arch"]["how"]: len(run.status()["attempts"]) for run in find(Path("outputs"))}
    assert attempts == {"raises": 3, "works": 1}


def test_on_failure_stop(cli, breaking):
    overrides = [*breaking, "arch.how=raises,works", "seed=0,1", "sweep.jobs=1", "sweep.retries=0"]
    code, out, _ = cli("train", *overrides, "sweep.on_failure=stop")
    assert code == 1
    assert states() == ["failed"]
    assert "RuntimeError: torn" in out
    assert out.count("not started: another run failed") == 3
    code, _, err = cli("train", *overrides)
    assert "4 runs: 1 failed, 3 new" in err
    assert states() == ["failed", "failed", "finished", "finished"]


def test_divergence_is_a_result(cli):
    overrides = ["-m", *TINY, "optimizer.lr=0.1,1e30", "seed=0,1"]
    assert cli("train", *overrides)[0] == 0
    assert states() == ["diverged", "diverged", "finished", "finished"]
    assert "4 runs: 4 done" in cli("train", *overrides)[2]


def test_ctrl_c_and_resuming(cli):
    """An interrupted sweep saves the state of its runs, and resumes from it."""
    overrides = [*LONG, "seed=0,1,2,3", "sweep.jobs=2", "device.threads=1"]
    driver = start(*overrides)
    kill_when(driver, lambda: any(epochs(run) >= 2 for run in runs()), signal.SIGINT)
    output = driver.communicate()[0]
    assert driver.returncode == 130, output
    assert "run the same command again to resume" in output
    assert "interrupted" in states()
    assert "running" not in states()
    done = {run.path: len(run.rows()) for run in find(Path("outputs"))}
    code, _, err = cli("train", "-m", *overrides)
    assert code == 0
    assert "to resume" in err
    assert states() == ["finished"] * 4
    for run in find(Path("outputs")):
        assert logged_epochs(run) == list(range(12)), f"{done[run.path]} epochs were stored"


def test_modules_in_the_working_folder_do_not_shadow_installed_ones():
    """Workers import what the command itself imports, not a user's `cnnbench` or `secrets.py`."""
    Path("cnnbench").mkdir()
    Path("cnnbench/__init__.py").touch()
    Path("secrets.py").write_text("raise SystemExit('mine')")
    script = Path(sys.executable).with_name("cnnbench")
    done = subprocess.run([script, "train", "-m", *TINY, "seed=0,1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert states() == ["finished"] * 2


@pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_signal_to_all_processes_of_a_sweep(signum):
    """As sent by `timeout`, a service manager or a cluster, to the server process, too."""
    overrides = ["arch.width=0.25", "data=digits", "batch_sizes=[1]", "rounds=500", "seed=0,1"]
    driver = start(*overrides, verb="bench", start_new_session=True)
    while not runs():
        assert driver.poll() is None
        time.sleep(0.02)
    time.sleep(2)  # while another process measures
    os.killpg(driver.pid, signum)
    output = driver.communicate(timeout=60)[0]
    assert driver.returncode == 128 + signum, output
    table = [line.split() for line in output.splitlines() if line.startswith("  basic-")]
    assert sorted(row[1] for row in table) == ["interrupted", "new"], output
    assert "val acc" not in output, "a measurement has none"
    assert " interrupted: SIGTERM\n" in output or " interrupted: SIGHUP\n" in output
    (run,) = find(Path("outputs"))
    assert "BrokenPipeError" not in (run.path / "train.log").read_text()


def test_ctrl_c_while_a_sweep_starts():
    driver = start(*TINY, "seed=0,1", start_new_session=True)
    time.sleep(2.5)  # while the server imports its modules
    os.killpg(driver.pid, signal.SIGINT)
    output = driver.communicate(timeout=60)[0]
    assert driver.returncode == 130, output
    assert output.count("\n") <= 2, output
    assert "interrupted" in output


@pytest.mark.parametrize(
    "signum",
    [signal.SIGKILL, *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGTERM, signal.SIGHUP))],
)
def test_workers_end_with_their_driver(signum):
    driver = start(*LONG, "trainer.max_epochs=500", "seed=0,1", "sweep.jobs=2")
    with driver.stdout:
        kill_when(driver, lambda: sum(epochs(run) >= 1 for run in runs()) == 2, signum)
    workers = [run.status()["pid"] for run in find(Path("outputs"))]
    assert len(set(workers)) == 2
    assert all(gone(pid) for pid in workers)
    assert states() == ["interrupted"] * 2
    assert all(run.status()["state"] == "interrupted" for run in find(Path("outputs"))), (
        "each run recorded it"
    )


def test_a_killed_worker_affects_only_its_run():
    driver = start(*LONG, "trainer.max_epochs=20", "seed=0,1,2", "sweep.jobs=2", "sweep.retries=0")
    while not (training := pids(least=1)):  # another run may have begun, but have no log yet
        time.sleep(0.02)
    os.kill(training[0], signal.SIGKILL)
    output = driver.communicate(timeout=120)[0]
    assert driver.returncode == 1, output
    assert states() == ["finished", "finished", "interrupted"]
    assert "killed by SIGKILL" in output
    assert "train.log" in output


@pytest.mark.slow
def test_a_killed_worker_is_retried():
    driver = start(*LONG, "seed=0,1", "sweep.jobs=2")
    while not (training := pids(least=2)):
        time.sleep(0.02)
    os.kill(training[0], signal.SIGKILL)
    output = driver.communicate(timeout=120)[0]
    assert driver.returncode == 0, output
    assert "will be retried  its process was killed by SIGKILL" in output
    assert states() == ["finished"] * 2
    attempts = sorted(len(run.status()["attempts"]) for run in find(Path("outputs")))
    assert attempts == [1, 2]
    assert all(trained(run, 12, again=1) for run in find(Path("outputs")))


@pytest.mark.slow
def test_two_sweeps_at_once_share_the_runs():
    """With the same command twice, each run is trained once, and both sweeps end with all of them."""
    overrides = [*LONG, "seed=0,1,2,3", "sweep.jobs=1"]
    drivers = [start(*overrides), start(*overrides)]
    output = [driver.communicate(timeout=200)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], output
    assert states() == ["finished"] * 4
    for run in find(Path("outputs")):
        assert len(run.status()["attempts"]) == 1
        assert logged_epochs(run) == list(range(12))
        assert all(run.path.name in text for text in output)


@pytest.mark.slow
def test_a_single_run_waits_for_the_process_that_trains_it():
    first, second = (
        subprocess.Popen(command("train", *LONG), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    output = [process.communicate(timeout=120) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], output
    (run,) = find(Path("outputs"))
    assert len(run.status()["attempts"]) == 1
    assert output[0][0] == output[1][0], "both print the result"
    assert sum("is already being trained" in err for _, err in output) == 1


def usage(pid):
    """Return the memory (KiB) and the number of open files of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    return memory, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_runs_leave_nothing_behind():
    """The processes that live as long as the sweep do not leak memory or open files."""
    overrides = ["arch=mlp", "data.limit=200", "trainer.max_epochs=1", "logger=none", "seed=range(200)"]
    with Path("output").open("w") as log:
        driver = subprocess.Popen(command("train", "-m", *overrides), stdout=log, stderr=log)
        samples = {}
        while driver.poll() is None:
            done = len(list(Path("outputs").glob("*/*/summary.json")))
            if 30 <= done < 200:  # the comparison at the end may use more
                server = [pid for pid in children(driver.pid) if "forkserver" in cmdline(pid)]
                for pid in (driver.pid, *server):
                    samples.setdefault(pid, []).append(usage(pid))
            time.sleep(0.5)
    assert driver.returncode == 0, Path("output").read_text()[-2000:]
    assert states() == ["finished"] * 200
    assert len(samples) == 2, "the driver and the server process"
    for pid, usages in samples.items():
        memory, files = zip(*usages, strict=True)
        figures = f"{pid}: {memory[0]} to {memory[-1]} KiB, {files[0]} to {files[-1]} files"
        print(figures)
        assert memory[-1] < 1.05 * memory[0], figures
        assert median(files[-20:]) <= median(files[:20]) + 1, figures


def cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
