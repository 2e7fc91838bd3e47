"""Sweeps on a real SLURM cluster of two nodes: the same runs, never lost."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from resuming import assert_same
from running import TINY, command, epochs, kill_when, runs
from slurm_cluster import cluster
from sweeping import states, trained

from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.poll_s=2"]
SHORT = ["-m", *TINY, "device.threads=1", "name=s"]
LONG = [*SHORT, "data.limit=600", "trainer.max_epochs=40"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("slurm") / "cluster") as here:
        yield here


@pytest.fixture(autouse=True)
def _there(slurm, monkeypatch):
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    yield
    slurm.run("scancel", "--user=root")
    slurm.wait(lambda said: not said, "squeue", "-h")


def start(*arguments):
    """A sweep in a process of its own."""
    return subprocess.Popen(
        command("train", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_same_runs_as_here(cli):
    """Trained there, found here, and the same to the last bit; by the cnnbench that is installed."""
    Path("cnnbench").mkdir()
    Path("cnnbench/__init__.py").touch()
    code, out, err = cli("train", *SHORT, *SLURM, "seed=0,1,2", "output_dir=there")
    assert code == 0, err
    assert "3 runs: 3 new; as SLURM jobs" in err
    assert "3 runs in there/s: 3 finished" in out
    code, _, err = cli("train", *SHORT, "seed=0,1,2", "output_dir=there")
    assert "3 runs: 3 done" in err
    assert cli("train", *SHORT, "seed=0,1,2", "output_dir=here")[0] == 0
    for run in find(Path("there")):
        assert_same(run.path, Path("here/s") / run.path.name)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (["hydra.launcher.partition=gpu"], ["hydra.launcher.partition=gpu", "allowed: main, small"]),
        (["hydra.launcher.partitoin=main"], ["hydra.launcher.partitoin", "did you mean partition?"]),
        (["hydra.launcher.time_min=0"], ["hydra.launcher.time_min=0", "greater than or equal to 1"]),
        (["+hydra.launcher.sbatch.reservation=none"], ["not accepted", "reservation"]),
        (["arch.blocks=2,9"], ["2 of 4", "arch.blocks=9"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_before_anything_is_trained(cli, asked, named):
    code, _, err = cli("train", *SHORT, *SLURM, "seed=0,1", *asked)
    assert code == 2, err
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    for part in named:
        assert part in err
    assert not runs()


def test_no_cluster(cli, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_CONF", "/nowhere/slurm.conf")
        code, _, err = cli("train", *SHORT, *SLURM, "seed=0,1")
        assert code == 2
        assert "the cluster does not answer" in err
        patch.setenv("PATH", "/nowhere")
        assert "there is no SLURM here" in cli("train", *SHORT, *SLURM, "seed=0,1")[2]


def test_a_killed_worker_costs_that_run_alone():
    driver = start(*LONG, *SLURM, "seed=0,1,2", "sweep.retries=0")
    while not any(epochs(run) >= 1 for run in runs()):
        time.sleep(0.05)
    victim = next(Run(run) for run in runs() if epochs(run) >= 1)
    os.kill(victim.status()["pid"], signal.SIGKILL)
    said = driver.communicate()[0]
    assert driver.returncode == 1, said
    assert victim.state == "interrupted"
    assert states() == ["finished", "finished", "interrupted"]
    (line,) = [line for line in said.splitlines() if line.startswith(f"{victim.path.name}: ")]
    assert re.search(r"SLURM job \d+_\d+.*; see .*\.slurm/", line), line


def test_a_cancelled_job_is_tried_again(slurm):
    driver = start(*LONG, *SLURM, "seed=0,1")
    while not any(epochs(run) >= 1 for run in runs()):
        time.sleep(0.05)
    victim = next(Run(run) for run in runs() if epochs(run) >= 1)
    jobs = json.loads(Path("outputs/s/.slurm/jobs.json").read_text())
    slurm.run("scancel", "--signal=KILL", "--full", jobs[victim.path.name])
    said = driver.communicate()[0]
    assert driver.returncode == 0, said
    assert states() == ["finished"] * 2
    assert len(victim.status()["attempts"]) == 2
    assert trained(victim, 40, again=1)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_jobs_outlive_the_driver_and_are_taken_up_again(cli, slurm, signum):
    asked = [*LONG, *SLURM, "seed=range(6)"]
    with start(*asked) as driver:
        kill_when(driver, lambda: any(epochs(run) >= 1 for run in runs()), signum)
        said = driver.stdout.read()
    assert ("stay with SLURM" in said) == (signum == signal.SIGINT), said
    before = slurm.run("squeue", "-h", "-r", "-o", "%i").split()
    assert before, "the jobs are still there"
    code, _, err = cli("train", *asked)
    assert code == 0, err
    assert states() == ["finished"] * 6
    assert all(len(run.status()["attempts"]) == 1 for run in find(Path("outputs")))
    arrays = {job.partition("_")[0] for job in slurm.run("sacct", "-n", "-X", "-o", "JobID%20").split()}
    assert max(map(int, arrays)) == int(before[0].partition("_")[0]), "nothing was submitted again"


def test_a_run_that_meets_the_time_limit_goes_on(slurm):
    """SLURM ends it, submitit queues it again, and it ends with every epoch trained once."""
    recipe = ["arch.width=1", "arch.blocks=3", "data.limit=1400", "trainer.max_epochs=400"]
    limits = ["hydra.launcher.time_min=1", "hydra.launcher.signal_delay_s=30"]
    driver = start(*LONG, *recipe, *SLURM, *limits, "seed=0,1")
    said = driver.communicate()[0]
    assert driver.returncode == 0, said
    assert states() == ["finished"] * 2
    attempts = [run.status()["attempts"] for run in find(Path("outputs"))]
    assert any(len(one) > 1 for one in attempts), "make the runs longer than the limit"
    for run in find(Path("outputs")):
        assert trained(run, 400, again=len(run.status()["attempts"]) - 1)
        assert [one["state"] for one in run.status()["attempts"]][:-1] == ["interrupted"] * (
            len(run.status()["attempts"]) - 1
        )


TWO_NODES = [
    *SLURM,
    *("device=ddp_cpu", "device.devices=1", "device.nodes=2"),
    "hydra.launcher.setup=['export MASTER_ADDR=127.0.0.1','export GLOO_SOCKET_IFNAME=lo']",
]


def test_one_run_on_two_nodes(cli, slurm):
    """The same as by two processes of one machine, to the last bit."""
    code, _, err = cli("train", *SHORT, *TWO_NODES, "seed=0,1", "output_dir=there")
    assert code == 0, err
    assert states("there") == ["finished"] * 2
    jobs = slurm.run("sacct", "-n", "-X", "-o", "AllocNodes").split()
    assert jobs[-2:] == ["2", "2"]
    assert cli("train", *SHORT, "device=ddp_cpu", "seed=0,1", "output_dir=here")[0] == 0
    here, there = (sorted(find(Path(d)), key=lambda run: run.config()["seed"]) for d in ("here", "there"))
    for one, other in zip(here, there, strict=True):
        assert_same(one.path, other.path)
        assert other.status()["device"]["nodes"] == 2


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_task_of_a_run_on_two_nodes(rank):
    driver = start(*LONG, *TWO_NODES, "seed=0")
    while not any(epochs(run) >= 1 for run in runs()):
        assert driver.poll() is None
        time.sleep(0.05)
    (task,) = tasks(rank)
    os.kill(task, signal.SIGKILL)
    said = driver.communicate()[0]
    assert driver.returncode == 0, said
    assert "to be tried again" in said
    (run,) = find(Path("outputs"))
    assert run.state == "finished"
    assert len(run.status()["attempts"]) == 2
    assert trained(run, 40, again=1)


def tasks(rank):
    """The processes of cnnbench that SLURM has started as this task of a job."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            program, *words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"SLURM_PROCID=" + rank.encode() in environment and b"submitit.core._submit" in words:
            found += [int(process.name)] * (b"python" in program)  # and not srun
    return found


def test_a_sweep_moves_between_launchers(cli):
    asked = [*LONG, "seed=0,1,2"]
    with start(*asked, *SLURM) as driver:
        kill_when(driver, lambda: any(epochs(run) >= 3 for run in runs()), signal.SIGINT)
    subprocess.run(["scancel", "--user=root"], check=True)
    code, _, err = cli("train", *asked)
    assert code == 0, err
    assert states() == ["finished"] * 3
    assert all(trained(run, 40, again=1) for run in find(Path("outputs")))
