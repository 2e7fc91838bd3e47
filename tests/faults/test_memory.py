"""Memory that a control group of the kernel limits: the run that exceeds it is killed, and nothing else."""

import os
import subprocess
from pathlib import Path

import pytest
from cgroups import limited_to
from resuming import assert_same
from running import command, the_run

from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run

LIMIT = 1300 * 2**20
"""The command, the server of its processes and a small run need some 800 MB together."""

SIZES = ["data=synthetic", "data.limit=2400", "data.limit_test=20", "arch.blocks=2"]
RECIPE = [*SIZES, "trainer.max_epochs=1", "device.threads=1", "logger=none"]
LARGE = "data.batch_size=2048"  # whose feature maps need 3 GB


def train(*arguments, within=(), output_dir="outputs"):
    env = {**os.environ, "CNNBENCH_OUTPUTS": output_dir}
    line = [*within, *command("train", *RECIPE, *arguments)]
    return subprocess.run(line, capture_output=True, text=True, env=env, check=False)


@pytest.mark.slow
def test_one_run_of_a_sweep_exceeds_the_memory():
    sweep = ["-m", "data.batch_size=128,256,2048", "sweep.jobs=1"]
    with limited_to(LIMIT) as within:
        ended = train(*sweep, within=within)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    states = {run.config()["data"]["batch_size"]: run for run in find(Path("outputs"))}
    assert {size: run.state for size, run in states.items()} == {
        128: "finished",
        256: "finished",
        2048: "interrupted",
    }
    killed = states[2048]
    (line,) = [line for line in ended.stdout.splitlines() if "out of memory" in line]
    assert line.startswith(f"{killed.path.name}: its process was killed by SIGKILL (out of memory?)")

    before = {run.path: run.status() for run in states.values()}
    again = train(*sweep)
    assert again.returncode == 0, again.stderr
    assert killed.state == "finished"
    assert [run.status() == before[run.path] for run in states.values()] == [
        run != killed for run in states.values()
    ]
    assert train(*sweep, output_dir="undisturbed").returncode == 0
    for run in states.values():
        assert_same(run.path, Path("undisturbed") / run.path.relative_to("outputs"))


@pytest.mark.slow
def test_a_run_of_its_own_exceeds_the_memory():
    """Nothing can say so but the kernel; the same command then trains it."""
    with limited_to(LIMIT) as within:
        assert train(LARGE, within=within).returncode == -9
    assert Run(the_run()).state == "interrupted"
    assert train(LARGE).returncode == 0
    assert train(LARGE, output_dir="undisturbed").returncode == 0
    assert_same(the_run("outputs"), the_run("undisturbed"))
