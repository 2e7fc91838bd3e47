"""Thirty kills over one sweep: nothing is lost, nothing is done twice, nothing comes out different."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from resuming import assert_same
from running import command

from cnnbench.run_store.find import find
from cnnbench.run_store.run import DONE

EPOCHS, JOBS, KILLS = 30, 2, 30
ASKED = [
    *("arch=basic,mlp", "optimizer.lr=0.05,0.1", "seed=range(6)"),
    *(f"trainer.max_epochs={EPOCHS}", "data.limit=600", "device.threads=1", f"sweep.jobs={JOBS}", "name=k"),
    "logger=none",
]


def launch(folder, said):
    env = {**os.environ, "CNNBENCH_OUTPUTS": folder}
    return subprocess.Popen(command("train", "-m", *ASKED), stdout=said, stderr=said, env=env)


def at_work(folder):
    """The living processes that train, and how many runs are done."""
    found = find(Path(folder)) if Path(folder).is_dir() else []
    status = [run.status() for run in found]
    done = sum(s.get("state") in DONE for s in status)
    pids = [s["pid"] for s in status if s.get("state") == "running"]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()], done


def epochs_trained(run):
    """How many epochs were trained to their end, over all attempts."""
    return sum('{"epoch"' in line for line in (run.path / "train.log").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_kills():
    rng = random.Random(os.environ.get("CNNBENCH_KILLS_SEED", "kills"))
    with Path("said").open("a") as said:
        assert launch("undisturbed", said).wait() == 0
        kills = {"driver": 0, "worker": 0}
        driver = launch("killed", said)
        while sum(kills.values()) < KILLS:
            time.sleep(rng.uniform(0.1, 1.2))
            workers, done = at_work("killed")
            if driver.poll() is not None:
                assert done < 24, f"all was done after {kills}: make the runs longer"
                driver = launch("killed", said)
            elif not workers:
                continue  # it is still starting
            elif rng.random() < 0.35:
                driver.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
                driver.wait()
                kills["driver"] += 1
            else:
                try:
                    os.kill(rng.choice(workers), rng.choice([signal.SIGKILL, signal.SIGTERM]))
                except ProcessLookupError:
                    continue
                kills["worker"] += 1
        driver.wait()
        for _ in range(10):
            if (code := launch("killed", said).wait()) == 0:
                break
        assert code == 0, Path("said").read_text()[-3000:]
    assert min(kills.values()) >= 5, kills
    runs = {run.path.name: run for run in find(Path("killed"))}
    assert len(runs) == 24
    for reference in find(Path("undisturbed")):
        run = runs[reference.path.name]
        assert run.state == "finished"
        assert_same(reference.path, run.path)
        ends = [attempt.get("state") for attempt in run.status()["attempts"]]
        assert ends.count("finished") == 1
    extra = sum(map(epochs_trained, runs.values())) - 24 * EPOCHS
    attempts = sum(len(run.status()["attempts"]) for run in runs.values())
    figures = {"kills": kills, "attempts": attempts, "epochs trained twice": extra}
    print(json.dumps(figures))
    assert 0 <= extra <= KILLS * JOBS
