"""Who trains a run: told at once on this machine, by the heartbeat on another one."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cnnbench.errors import Superseded
from cnnbench.run_store import lease
from cnnbench.run_store.attempt import attempt
from cnnbench.run_store.run import Run


def a_run(name):
    """A run that another machine says it trains."""
    path = Path("outputs/x") / name
    path.mkdir(parents=True)
    status = {"state": "running", "attempts": [{}], "device": {}, "host": "another-machine"}
    (path / "status.json").write_text(json.dumps(status))
    return Run(path)


HOLDER = """
import os, socket, sys, time
from pathlib import Path
socket.gethostname = lambda: "another-machine"
from cnnbench.run_store import lease
held = lease.of(Path(sys.argv[1]))
held.acquire()
print("held", flush=True)
time.sleep(float(sys.argv[2]))
os._exit(0)
"""


@pytest.fixture
def elsewhere(monkeypatch):
    """`elsewhere(run, seconds)`: a process that holds a run's lease and says that its machine is another.

    It takes the place of a second machine: its process id says nothing here, only its heartbeat does.
    """
    monkeypatch.setattr(lease, "LEASE_S", 2.0)
    monkeypatch.setenv("CNNBENCH_LEASE_S", "2.0")
    holders = []

    def hold(run, seconds):
        asked = [sys.executable, "-c", HOLDER, str(run.path), str(seconds)]
        holder = subprocess.Popen(asked, stdout=subprocess.PIPE, text=True)
        holders.append(holder)
        assert holder.stdout.readline() == "held\n"
        assert "another-machine" in (run.path / "lease").read_text()
        return holder

    yield hold
    for holder in holders:
        holder.kill()
        holder.communicate()


def test_a_run_on_another_machine_is_judged_by_its_heartbeat(cli, elsewhere):
    beating = a_run("r0")
    silent = a_run("r1")
    elsewhere(beating, 60)
    elsewhere(silent, 0).wait()
    assert lease.is_free(silent.path) is False, "it cannot be told at once"
    out = cli("runs")[1]
    assert "1 interrupted, 1 running" in out
    assert beating.state == "running"


def test_the_clock_of_another_machine_says_nothing(cli, elsewhere):
    """A holder that beats is alive though its times lie far in the past."""
    found = a_run("r0")
    holder = elsewhere(found, 60)
    stop = threading.Event()

    def skew():
        while not stop.wait(0.2):
            past = time.time() - 100_000 + time.monotonic() % 1000
            os.utime(found.path / "lease", (past, past))

    thread = threading.Thread(target=skew)
    thread.start()
    try:
        assert "1 running" in cli("runs")[1]
    finally:
        stop.set()
        thread.join()
    assert holder.poll() is None


def test_a_holder_that_slept_finds_that_its_run_is_taken(tmp_path, monkeypatch):
    """It stops before it writes anything; the other one's result stands."""
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    found = Run(tmp_path / "x")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with attempt(found, "", {"threads": 1}, afresh=False) as this:
                (tmp_path / "started").touch()
                for _ in range(200):
                    time.sleep(0.05)
                    this.check()
        except Superseded:
            code = 7
        finally:
            os._exit(code)
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGSTOP)
    held = lease.of(found.path)
    deadline = time.monotonic() + 30
    while not lease.frees(held):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with attempt(found, "", {"threads": 1}, afresh=False):
        os.kill(child, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        found.write_summary({"test/acc": 1.0})
    assert found.state == "finished"
    assert [one.get("state") for one in found.status()["attempts"]] == ["interrupted", "finished"]
