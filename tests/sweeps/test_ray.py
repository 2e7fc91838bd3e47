"""Sweeps on a real Ray cluster of two nodes and on a local Ray: equal results, and no run is lost."""

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
def ray_cluster():
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="ray") as folder, cluster(Path(folder) / "c") as running:
        yield running


@pytest.fixture
def ray(ray_cluster, monkeypatch):
    """Return the overrides that select the cluster."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    return ["hydra/launcher=ray", f"hydra.launcher.address={ray_cluster.address}"]


def train(*arguments):
    """Run a sweep in a process of its own; return its exit code and output."""
    done = subprocess.run(
        command("train", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def start(*arguments):
    return subprocess.Popen(
        command("train", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_same_runs_as_on_this_machine(ray):
    code, output = train(*SHORT, *ray, "seed=0,1,2", "output_dir=there")
    assert code == 0, output
    assert "3 runs: 3 new; on a Ray cluster of 2 nodes with 2 cores" in output
    assert "3 runs: 3 done" in train(*SHORT, "seed=0,1,2", "output_dir=there")[1]
    assert train(*SHORT, "seed=0,1,2", "output_dir=here")[0] == 0
    for run in find(Path("there")):
        assert_same(run.path, Path("here/s") / run.path.name)


def test_local_ray():
    code, output = train(*SHORT, "hydra/launcher=ray", "seed=0,1")
    assert code == 0, output
    assert "on a Ray cluster of 1 node" in output
    assert states() == ["finished"] * 2


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["hydra.launcher.address=127.0.0.1:1"], ["address=127.0.0.1:1", "nothing answers there"]),
        (["hydra.launcher.address=somewhere"], ["address=somewhere", "allowed: auto, host:port"]),
        (["hydra.launcher.cpus_per_run=64"], ["cpus_per_run=64", "at most 1"]),
        (["device=gpu"], ["gpus_per_run=1", "at most 0"]),
        (["arch.blocks=2,9"], ["2 of 4", "arch.blocks=9"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_before_anything_is_trained(ray, overrides, named):
    code, output = train(*SHORT, *ray, "seed=0,1", *overrides)
    assert code == 2, output
    assert output.count("error:") == 1
    assert "Traceback" not in output
    for part in named:
        assert part in output
    assert not runs()


def test_a_killed_worker_affects_only_its_run(ray):
    driver = start(*LONG, *ray, "seed=0,1,2", "sweep.retries=0")
    while not any(epochs(run) >= 1 for run in runs()):
        time.sleep(0.05)
    victim = next(Run(run) for run in runs() if epochs(run) >= 1)
    os.kill(victim.status()["pid"], signal.SIGKILL)
    output = driver.communicate()[0]
    assert driver.returncode == 1, output
    assert states() == ["finished", "finished", "interrupted"]
    assert "killed by SIGKILL" in output


def test_a_killed_ray_worker_is_retried(ray):
    """Kill Ray's own process, and with it the one that trains the run."""
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
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert gone(trainer)
    assert states() == ["finished"] * 2
    assert all(trained(run, 40, again=1) for run in find(Path("outputs")))


def test_the_runs_of_a_lost_node_are_retried_on_another(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory(prefix="ray") as folder, cluster(Path(folder) / "c") as running:
        address = f"hydra.launcher.address={running.address}"
        driver = start(*LONG, "trainer.max_epochs=100", "hydra/launcher=ray", address, "seed=0,1,2")
        while sum(epochs(run) >= 2 for run in runs()) < 2:
            assert driver.poll() is None
            time.sleep(0.05)
        running.lose_node()
        output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert "will be retried" in output
    assert states() == ["finished"] * 3
    assert sorted(len(run.status()["attempts"]) for run in find(Path("outputs"))) == [1, 1, 2]
    assert all(trained(run, 100, again=1) for run in find(Path("outputs")))


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_runs_end_with_their_driver_and_are_resumed(ray, signum):
    overrides = [*LONG, "trainer.max_epochs=150", "seed=0,1"]
    with start(*overrides, *ray) as driver:
        kill_when(driver, lambda: any(epochs(run) >= 2 for run in runs()), signum)
        pids = [run.status()["pid"] for run in find(Path("outputs"))]
        assert all(gone(pid) for pid in pids)
    code, output = train(*overrides)  # without Ray
    assert code == 0, output  # a killed process that nobody has waited for yet still counts as running
    assert states() == ["finished"] * 2
    assert all(trained(run, 150, again=1) for run in find(Path("outputs")))
