"""A sweep of small runs whose processes are killed, interrupted and stopped at random, until all are done.

    python benchmarks/soak.py [--runs 500] [--every 1] [--lease 5] [--seed 0]

Beside it run a second sweep over half of the runs and `compare --watch`. Prints what was done to which
processes, and checks that nothing was lost or trained twice, that each result equals that of an undisturbed
sweep bit for bit, and that memory and open files do not grow. Ends with 1 if any of it does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

import psutil
import torch

from cnnbench.run_store.find import find
from cnnbench.run_store.run import DONE, Run

EPOCHS = 12
SMALL = [
    *("arch=basic,mlp", "data.limit=300", f"trainer.max_epochs={EPOCHS}", "arch.width=0.25", "logger=none"),
    *("trainer.checkpoint_every_n_steps=2", "device.threads=1", "sweep.jobs=2", "name=soak"),
]
SIGNALS = {"KILL": 4, "TERM": 3, "INT": 2, "STOP, short": 2, "STOP, long": 3}
"""Weights with which each is drawn. A long stop lasts longer than a lease."""

VICTIMS = {"worker": 18, "driver": 1, "server": 1}


class Soak:
    """The commands in one folder, and what is done to their processes."""

    def __init__(self, folder: Path, runs: int, lease_s: float, draw: random.Random, log: IO[str]) -> None:
        self.folder, self.runs, self.lease_s, self.draw, self.log = folder, runs, lease_s, draw, log
        self.done_to: Counter[tuple[str, str]] = Counter()
        self.stopped: dict[psutil.Process, float] = {}
        self.begun: set[psutil.Process] = set()
        self.started: list[psutil.Popen] = []
        self.sizes: dict[str, list[tuple[int, int]]] = {}

    def start(self, *arguments: str) -> psutil.Popen:
        """Start a command of cnnbench."""
        env = {**os.environ, "CNNBENCH_OUTPUTS": str(self.folder), "CNNBENCH_LEASE_S": str(self.lease_s)}
        command = [sys.executable, "-m", "cnnbench", *arguments]
        self.started.append(psutil.Popen(command, env=env, stdout=self.log, stderr=self.log))
        return self.started[-1]

    def close(self) -> None:
        """Kill what still runs, as after Ctrl-C."""
        for process in self.started:
            if process.poll() is None:
                process.kill()

    def sweep(self, share: int = 1) -> psutil.Popen:
        """Start the sweep, or one over a part of its runs."""
        return self.start("train", "-m", *SMALL, f"seed=range({self.runs // 2 // share})")

    def look(self) -> tuple[int, set[int]]:
        """Return how many runs are done, and the processes that train the others."""
        folder = self.folder / "soak"
        statuses = [run.status() for run in (find(folder) if folder.is_dir() else [])]
        done = sum(status.get("state") in DONE for status in statuses)
        return done, {status["pid"] for status in statuses if status.get("state") == "running"}

    def measure(self, name: str, process: psutil.Process) -> None:
        """Note the memory and the open files of a process."""
        with suppress(psutil.Error):
            self.sizes.setdefault(name, []).append((process.memory_info().rss, process.num_fds()))

    def disturb(self, drivers: list[psutil.Popen], training: set[int]) -> None:
        """Send a random signal to a random process of the sweeps, of its workers to one that trains a run."""
        victims: dict[str, list[psutil.Process]] = {kind: [] for kind in VICTIMS}
        for driver in drivers:
            with suppress(psutil.Error):
                servers = driver.children()
                workers = [worker for server in servers for worker in server.children()]
                if workers or driver in self.begun:  # or no run would ever start
                    self.begun.add(driver)
                    victims["driver"].append(driver)
                    victims["server"] += servers
                    victims["worker"] += [worker for worker in workers if worker.pid in training]
        kinds = [kind for kind in VICTIMS if victims[kind]]
        if not kinds:
            return
        (kind,) = self.draw.choices(kinds, [VICTIMS[kind] for kind in kinds])
        victim = self.draw.choice(victims[kind])
        (name,) = self.draw.choices(list(SIGNALS), list(SIGNALS.values()))
        with suppress(psutil.Error):
            victim.send_signal(getattr(signal, f"SIG{name.partition(',')[0]}"))
            self.done_to[name, kind] += 1
            if name.startswith("STOP"):
                lasts = (0.05, 0.5) if name.endswith("short") else (1.3 * self.lease_s, 2.5 * self.lease_s)
                self.stopped[victim] = time.monotonic() + self.draw.uniform(*lasts)

    def wake(self, *, everything: bool = False) -> None:
        """Let go on what was stopped for long enough."""
        for process in [p for p, until in self.stopped.items() if everything or until < time.monotonic()]:
            del self.stopped[process]
            with suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)


def undisturbed(soak: Soak) -> None:
    """Carry out the sweep once, and watch its processes."""
    driver = soak.sweep()
    while driver.poll() is None:
        soak.measure("driver", driver)
        with suppress(psutil.Error):
            for child in driver.children():
                if "forkserver" in " ".join(child.cmdline()):
                    soak.measure("server", child)
        time.sleep(0.2)
    assert driver.returncode == 0, "the undisturbed sweep failed"


def disturbed(soak: Soak, every_s: float, patience_s: float) -> int:
    """Carry out the sweep while its processes are disturbed; return how many commands were started."""
    soak.folder.mkdir()
    page = str(soak.folder / "compare.html")
    watch = soak.start("compare", str(soak.folder / "soak"), "--watch", "--html", page)
    drivers = [soak.sweep(), soak.sweep(share=2)]
    launches = len(drivers)
    deadline = time.monotonic() + patience_s
    assert watch.poll() is None
    while time.monotonic() < deadline:
        time.sleep(soak.draw.uniform(0.2, 1.8) * every_s)
        soak.wake()
        done, training = soak.look()
        if done == soak.runs:
            break
        soak.disturb(drivers, training)
        soak.measure("compare --watch", watch)
        for i, driver in enumerate(drivers):
            if driver.poll() is not None:
                drivers[i] = soak.sweep(share=i + 1)
                launches += 1
    soak.wake(everything=True)
    for driver in drivers:
        driver.wait(patience_s)
    for _ in range(3):
        launches += 1
        if soak.sweep().wait(patience_s) == 0:
            break
    assert watch.poll() is None, f"compare --watch ended with {watch.returncode}"
    watch.send_signal(signal.SIGINT)
    watch.wait(60)
    return launches


def result(run: Run) -> tuple[object, object, dict[str, torch.Tensor]]:
    """Return what must not differ: rows and summary without times, and weights."""
    rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in run.rows()]
    summary = {k: v for k, v in run.summary().items() if not k.startswith("time/")}
    weights: dict[str, torch.Tensor] = {}
    for name in ("best", "last"):
        content = torch.load(run.checkpoints / f"{name}.ckpt", map_location="cpu", weights_only=True)
        weights |= {f"{name} {key}": value for key, value in content["state_dict"].items()}
    return rows, summary, weights


def faults_of(run: Run, reference: Run) -> list[str]:
    """Return what is wrong with a run that was disturbed."""
    if run.state != "finished":
        return [f"is {run.state}"]
    faults = []
    (rows, summary, weights), (rows_0, summary_0, weights_0) = result(run), result(reference)
    if rows != rows_0 or summary != summary_0:
        faults.append("other metrics")
    if weights.keys() != weights_0.keys() or not all(torch.equal(weights[k], weights_0[k]) for k in weights):
        faults.append("other weights")
    ends = [attempt.get("state") for attempt in run.status()["attempts"]]
    if ends.count("finished") != 1 or ends[-1] != "finished":
        faults.append("trained twice")
    if left := [
        path.name for path in run.path.rglob("*") if path.name.startswith(".") or path.name == "lease"
    ]:
        faults.append(f"leaves {left[0]}")
    return faults


def epochs_logged(run: Run) -> int:
    """Return how many epochs all attempts completed together."""
    return (run.path / "train.log").read_text().count('{"epoch"')


def early_and_late(sizes: list[tuple[int, int]]) -> list[tuple[float, float]]:
    """Return the medians of memory and of open files in the second fifth of the time and in the last."""
    part = max(1, len(sizes) // 5)
    fifths = (sizes[part : 2 * part] or sizes, sizes[-part:])
    return [
        (statistics.median(s[0] for s in fifth), statistics.median(s[1] for s in fifth)) for fifth in fifths
    ]


def main() -> None:
    """Carry out both sweeps, compare them, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=500, help="a multiple of 4 (default: 500)")
    parser.add_argument("--every", type=float, default=1.0, help="signals in the time of a run (default: 1)")
    parser.add_argument("--lease", type=float, default=5.0, help="CNNBENCH_LEASE_S (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the signals (default: 0)")
    parser.add_argument("--patience", type=float, default=7200.0, help="seconds at most (default: 7200)")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    # A shell that starts this in the background has it and all its commands ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as temporary, Path(temporary, "log").open("w") as log:
        start = time.perf_counter()
        with closing(Soak(Path(temporary, "calm"), args.runs, args.lease, draw, log)) as calm:
            undisturbed(calm)
        calm_s = time.perf_counter() - start
        with closing(Soak(Path(temporary, "rough"), args.runs, args.lease, draw, log)) as rough:
            run_s = statistics.mean(run.summary()["time/wall_s"] for run in find(calm.folder / "soak"))
            launches = disturbed(rough, run_s / args.every, args.patience)
        rough_s = time.perf_counter() - start - calm_s
        runs = {run.path.name: run for run in find(rough.folder / "soak")}
        references = find(calm.folder / "soak")
        wrong: Counter[str] = Counter()
        for reference in references:
            run = runs.get(reference.path.name)
            wrong.update(faults_of(run, reference) if run else ["lost"])
        attempts = sum(len(run.status().get("attempts", [])) for run in runs.values())
        again = sum(map(epochs_logged, runs.values())) - args.runs * EPOCHS
        text = Path(temporary, "log").read_text(errors="replace")
        tracebacks = Counter(re.findall(r"^Traceback.*\n(?:[ |].*\n)+(\S.*)", text, re.MULTILINE))
    print(
        f"{'runs':24}{len(references)} undisturbed ({calm_s:.0f} s), {len(runs)} disturbed ({rough_s:.0f} s)"
    )
    print(f"{'signals':24}{sum(rough.done_to.values())}")
    for name in SIGNALS:
        to = ", ".join(f"{rough.done_to[name, kind]} to a {kind}" for kind in VICTIMS)
        print(f"  {name:22}{to}")
    print(f"{'commands started':24}{launches}")
    print(f"{'attempts':24}{attempts}")
    print(f"{'epochs trained again':24}{again} of {args.runs * EPOCHS}")
    print(f"{'tracebacks':24}{json.dumps(tracebacks) if tracebacks else 'none'}")
    grown = False
    for name, sizes in {**calm.sizes, **rough.sizes}.items():
        (memory, files), (memory_1, files_1) = early_and_late(sizes)
        grown |= len(sizes) > 100 and (memory_1 > 1.2 * memory or files_1 > files + 8)
        print(
            f"{name:24}memory {memory / 2**20:.0f} to {memory_1 / 2**20:.0f} MiB ({memory_1 / memory:.2f}), "
            f"open files {files:.0f} to {files_1:.0f} ({len(sizes)} samples)"
        )
    print(f"{'wrong':24}{json.dumps(wrong) if wrong else 'nothing'}")
    sys.exit(bool(wrong or grown or tracebacks or len(references) != args.runs))


if __name__ == "__main__":
    main()
