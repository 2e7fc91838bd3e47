"""Sweeps on a real Ray cluster of two nodes, and on a Ray of this machine: the same runs, never lost."""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from ray_cluster import cluster
from resuming import assert_same
from running import TINY, command, epochs, kill_when, runs
from sweeping import gone, states, trained

from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHORT = ["-m", *TINY, "device.threads=1", "name=s"]
LONG = [*SHORT, "data.limit=600", "trainer.max_epochs=40"]


@pytest.fixture(scope="module")
def there():
    # Ray's sockets want a short path.
    with tempfile.TemporaryDirectory(prefix="ray") as folder, cluster(Path(folder) / "c") as here:
        yield here


@pytest.fixture
def ray(there, monkeypatch):
    """What asks for the cluster."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    return ["hydra/launcher=ray", f"hydra.launcher.address={there.address}"]


def train(*arguments):
    """A sweep in a process of its own: exit code and what it says."""
    asked = command("train", *arguments)
    done = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def start(*arguments):
    return subprocess.Popen(
        command("train", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_same_runs_as_here(ray):
    code, said = train(*SHORT, *ray, "seed=0,1,2", "output_dir=there")
    assert code == 0, said
    assert "3 runs: 3 new; on a Ray cluster of 2 nodes with 2 cores" in said
    assert "3 runs: 3 done" in train(*SHORT, "seed=0,1,2", "output_dir=there")[1]
    assert train(*SHORT, "seed=0,1,2", "output_dir=here")[0] == 0
    for run in find(Path("there")):
        assert_same(run.path, Path("here/s") / run.path.name)


def test_a_ray_of_this_machine():
    code, said = train(*SHORT, "hydra/launcher=ray", "seed=0,1")
    assert code == 0, said
    assert "on a Ray cluster of 1 node" in said
    assert states() == ["finished"] * 2


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (["hydra.launcher.address=127.0.0.1:1"], ["address=127.0.0.1:1", "nothing answers there"]),
        (["hydra.launcher.address=somewhere"], ["address=somewhere", "allowed: auto, host:port"]),
        (["hydra.launcher.cpus_per_run=64"], ["cpus_per_run=64", "1 at most"]),
        (["device=gpu"], ["gpus_per_run=1", "0 at most"]),
        (["arch.blocks=2,9"], ["2 of 4", "arch.blocks=9"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_before_anything_is_trained(ray, asked, named):
    code, said = train(*SHORT, *ray, "seed=0,1", *asked)
    assert code == 2, said
    assert said.count("error:") == 1
    assert "Traceback" not in said
    for part in named:
        assert part in said
    assert not runs()


def test_a_killed_worker_costs_that_run_alone(ray):
    driver = start(*LONG, *ray, "seed=0,1,2", "sweep.retries=0")
    while not any(epochs(run) >= 1 for run in runs()):
        time.sleep(0.05)
    victim = next(Run(run) for run in runs() if epochs(run) >= 1)
    os.kill(victim.status()["pid"], signal.SIGKILL)
    said = driver.communicate()[0]
    assert driver.returncode == 1, said
    assert states() == ["finished", "finished", "interrupted"]
    assert "killed by SIGKILL" in said


def test_a_killed_ray_worker_is_tried_again(ray):
    """Ray's own process this time, with the one that trains for it."""
    driver = start(*LONG, *ray, "seed=0,1")
    while not any(epochs(run) >= 1 for run in runs()):
        time.sleep(0.05)
    victim = next(Run(run) for run in runs() if epochs(run) >= 1)
    trainer = victim.status()["pid"]
    ancestors = []
    pid = trainer
    while "ray::" not in Path(f"/proc/{pid}/cmdline").read_text():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        ancestors.append(pid)
    os.kill(ancestors[-1], signal.SIGKILL)
    said = driver.communicate()[0]
    assert driver.returncode == 0, said
    assert gone(trainer)
    assert states() == ["finished"] * 2
    assert all(trained(run, 40, again=1) for run in find(Path("outputs")))


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_runs_end_with_their_driver_and_go_on(ray, signum):
    asked = [*LONG, "trainer.max_epochs=150", "seed=0,1"]
    with start(*asked, *ray) as driver:
        kill_when(driver, lambda: any(epochs(run) >= 2 for run in runs()), signum)
        pids = [run.status()["pid"] for run in find(Path("outputs"))]
        assert all(gone(pid) for pid in pids)
    code, said = train(*asked)  # on this machine this time
    assert code == 0, said
    assert "to resume" in said
    assert states() == ["finished"] * 2
    assert all(trained(run, 150, again=1) for run in find(Path("outputs")))
