"""Sweeps on a real SLURM cluster of two nodes: equal results, and no run is lost."""

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
    with cluster(tmp_path_factory.mktemp("slurm") / "cluster") as running:
        yield running


@pytest.fixture(autouse=True)
def _on_slurm(slurm, monkeypatch):
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    yield
    slurm.run("scancel", "--user=root")
    slurm.wait(lambda output: not output, "squeue", "-h")


def start(*arguments):
    """Start a sweep in a process of its own."""
    return subprocess.Popen(
        command("train", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_same_runs_as_on_this_machine(cli):
    """Runs on SLURM are bit-equal, and import the installed cnnbench, not that of the working folder."""
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
    ("overrides", "named"),
    [
        (["hydra.launcher.partition=gpu"], ["hydra.launcher.partition=gpu", "allowed: main, small"]),
        (["hydra.launcher.partitoin=main"], ["hydra.launcher.partitoin", "did you mean partition?"]),
        (["hydra.launcher.time_min=0"], ["hydra.launcher.time_min=0", "greater than or equal to 1"]),
        (["+hydra.launcher.sbatch.reservation=none"], ["rejected", "reservation"]),
        (["arch.blocks=2,9"], ["2 of 4", "arch.blocks=9"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_before_anything_is_trained(cli, overrides, named):
    code, _, err = cli("train", *SHORT, *SLURM, "seed=0,1", *overrides)
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
        assert "no SLURM on this machine" in cli("train", *SHORT, *SLURM, "seed=0,1")[2]


def test_a_killed_worker_affects_only_its_run():
    driver = start(*LONG, *SLURM, "seed=0,1,2", "sweep.retries=0")
    while not any(epochs(run) >= 1 for run in runs()):
        time.sleep(0.05)
    victim = next(Run(run) for run in runs() if epochs(run) >= 1)
    os.kill(victim.status()["pid"], signal.SIGKILL)
    output = driver.communicate()[0]
    assert driver.returncode == 1, output
    assert victim.state == "interrupted"
    assert states() == ["finished", "finished", "interrupted"]
    (line,) = [line for line in output.splitlines() if line.startswith(f"{victim.path.name}: ")]
    assert re.search(r"SLURM job \d+_\d+.*; see .*\.slurm/", line), line


def test_a_cancelled_job_is_retried(slurm):
    driver = start(*LONG, *SLURM, "seed=0,1")
    while not any(epochs(run) >= 1 for run in runs()):
        time.sleep(0.05)
    victim = next(Run(run) for run in runs() if epochs(run) >= 1)
    jobs = json.loads(Path("outputs/s/.slurm/jobs.json").read_text())
    slurm.run("scancel", "--signal=KILL", "--full", jobs[victim.path.name])
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert states() == ["finished"] * 2
    assert len(victim.status()["attempts"]) == 2
    assert trained(victim, 40, again=1)


def test_a_requeued_job_resumes_its_run(slurm):
    """As an administrator or the loss of a node requeues it, without asking the job."""
    driver = start(*LONG, *SLURM, "trainer.max_epochs=150", "seed=0,1")
    while not any(epochs(run) >= 2 for run in runs()):
        assert driver.poll() is None
        time.sleep(0.05)
    victim = next(Run(run) for run in runs() if epochs(run) >= 2)
    jobs = json.loads(Path("outputs/s/.slurm/jobs.json").read_text())
    slurm.run("scontrol", "requeue", jobs[victim.path.name])
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert states() == ["finished"] * 2
    assert len(victim.status()["attempts"]) == 2
    assert trained(victim, 150, again=1)
    assert "will be retried" not in output, "no try of the sweep was used up"


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_jobs_outlive_the_driver_and_are_adopted(cli, slurm, signum):
    overrides = [*LONG, *SLURM, "seed=range(6)"]
    jobs = Path("outputs/s/.slurm/jobs.json")  # without it, the next driver submits the runs again
    with start(*overrides) as driver:
        kill_when(driver, lambda: jobs.exists() and any(epochs(run) >= 1 for run in runs()), signum)
        output = driver.stdout.read()
    assert ("stay with SLURM" in output) == (signum == signal.SIGINT), output
    before = slurm.run("squeue", "-h", "-r", "-o", "%i").split()
    assert before, "the jobs remain"
    code, _, err = cli("train", *overrides)
    assert code == 0, err
    assert states() == ["finished"] * 6, err
    assert all(len(run.status()["attempts"]) == 1 for run in find(Path("outputs"))), err
    arrays = {job.partition("_")[0] for job in slurm.run("sacct", "-n", "-X", "-o", "JobID%20").split()}
    assert max(map(int, arrays)) == int(before[0].partition("_")[0]), f"something was submitted again: {err}"


def test_a_run_at_the_time_limit_is_resumed(slurm):
    """SLURM ends the job, submitit requeues it, and the run ends with every epoch trained."""
    recipe = ["arch.width=1", "arch.blocks=3", "data.limit=1400", "trainer.max_epochs=400"]
    limits = ["hydra.launcher.time_min=1", "hydra.launcher.signal_delay_s=30"]
    driver = start(*LONG, *recipe, *SLURM, *limits, "seed=0,1")
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert states() == ["finished"] * 2
    attempts = [run.status()["attempts"] for run in find(Path("outputs"))]
    assert any(len(of_run) > 1 for of_run in attempts), "make the runs longer than the limit"
    for run in find(Path("outputs")):
        *earlier, _ = run.status()["attempts"]
        assert trained(run, 400, again=len(earlier))
        assert [attempt["state"] for attempt in earlier] == ["interrupted"] * len(earlier)


TWO_NODES = [
    *SLURM,
    *("device=ddp_cpu", "device.devices=1", "device.nodes=2"),
    "hydra.launcher.setup=['export MASTER_ADDR=127.0.0.1','export GLOO_SOCKET_IFNAME=lo']",
]


def test_one_run_on_two_nodes(cli, slurm):
    """Bit-equal to a run by two processes of one machine."""
    code, _, err = cli("train", *SHORT, *TWO_NODES, "seed=0,1", "output_dir=there")
    assert code == 0, err
    assert states("there") == ["finished"] * 2
    jobs = slurm.run("sacct", "-n", "-X", "-o", "AllocNodes").split()
    assert jobs[-2:] == ["2", "2"]
    assert cli("train", *SHORT, "device=ddp_cpu", "seed=0,1", "output_dir=here")[0] == 0
    local, remote = (sorted(find(Path(d)), key=lambda run: run.config()["seed"]) for d in ("here", "there"))
    for expected, run in zip(local, remote, strict=True):
        assert_same(expected.path, run.path)
        assert run.status()["device"]["nodes"] == 2


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_task_of_a_run_on_two_nodes(rank):
    driver = start(*LONG, *TWO_NODES, "seed=0")
    while not any(epochs(run) >= 1 for run in runs()):
        assert driver.poll() is None
        time.sleep(0.05)
    (task,) = tasks(rank)
    os.kill(task, signal.SIGKILL)
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert "will be retried" in output
    (run,) = find(Path("outputs"))
    assert run.state == "finished"
    assert len(run.status()["attempts"]) == 2
    assert trained(run, 40, again=1)


def tasks(rank):
    """Return the ids of cnnbench's processes that SLURM has started as this task of a job."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            program, *words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"SLURM_PROCID=" + rank.encode() in environment and b"submitit.core._submit" in words:
            pids += [int(process.name)] * (b"python" in program)  # and not srun
    return pids


def test_a_sweep_moves_between_launchers(cli):
    overrides = [*LONG, "seed=0,1,2"]
    with start(*overrides, *SLURM) as driver:
        kill_when(driver, lambda: any(epochs(run) >= 3 for run in runs()), signal.SIGINT)
    subprocess.run(["scancel", "--user=root"], check=True)
    code, _, err = cli("train", *overrides)
    assert code == 0, err
    assert states() == ["finished"] * 3
    assert all(trained(run, 40, again=1) for run in find(Path("outputs")))
