"""Thirty kills during one sweep: no run is lost or trained twice, and no result changes."""

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
OVERRIDES = [
    *("arch=basic,mlp", "optimizer.lr=0.05,0.1", "seed=range(6)"),
    *(f"trainer.max_epochs={EPOCHS}", "data.limit=600", "device.threads=1", f"sweep.jobs={JOBS}", "name=k"),
    "logger=none",
]


def launch(folder, log):
    env = {**os.environ, "CNNBENCH_OUTPUTS": folder}
    return subprocess.Popen(command("train", "-m", *OVERRIDES), stdout=log, stderr=log, env=env)


def at_work(folder):
    """Return the ids of living processes that train, and the number of runs that are done."""
    statuses = [run.status() for run in (find(Path(folder)) if Path(folder).is_dir() else [])]
    done = sum(status.get("state") in DONE for status in statuses)
    pids = [status["pid"] for status in statuses if status.get("state") == "running"]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()], done


def epochs_trained(run):
    """Return the number of completed epochs over all attempts."""
    return sum('{"epoch"' in line for line in (run.path / "train.log").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_kills():
    rng = random.Random(os.environ.get("CNNBENCH_KILLS_SEED", "kills"))
    with Path("output").open("a") as log:
        assert launch("undisturbed", log).wait() == 0
        kills = {"driver": 0, "worker": 0}
        driver = launch("killed", log)
        while sum(kills.values()) < KILLS:
            time.sleep(rng.uniform(0.1, 1.2))
            workers, done = at_work("killed")
            if driver.poll() is not None:
                assert done < 24, f"all runs are done after {kills}: make them longer"
                driver = launch("killed", log)
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
            if (code := launch("killed", log).wait()) == 0:
                break
        assert code == 0, Path("output").read_text()[-3000:]
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
