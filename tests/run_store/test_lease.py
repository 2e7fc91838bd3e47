"""Leases of runs: a dead holder is detected at once on this machine, by its heartbeat on another one."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from running import TINY, the_run

from cnnbench.errors import Superseded
from cnnbench.run_store import lease
from cnnbench.run_store.attempt import attempt
from cnnbench.run_store.run import Run


def a_run(name):
    """Make a run whose status says that another machine trains it."""
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
    """`elsewhere(run, seconds)`: start a process that holds a run's lease under the name of another machine.

    It stands for a second machine: its process id means nothing here, only its heartbeat counts.
    """
    monkeypatch.setattr(lease, "LEASE_S", 2.0)
    monkeypatch.setenv("CNNBENCH_LEASE_S", "2.0")
    holders = []

    def hold(run, seconds):
        command = [sys.executable, "-c", HOLDER, str(run.path), str(seconds)]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
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
    assert lease.is_free(silent.path) is False, "unknown without waiting"
    out = cli("runs")[1]
    assert "1 interrupted, 1 running" in out
    assert beating.state == "running"


def test_the_clock_of_another_machine_does_not_matter(cli, elsewhere):
    """A holder that renews its lease is alive even if the file's times are far in the past."""
    run = a_run("r0")
    holder = elsewhere(run, 60)
    stop = threading.Event()

    def skew():
        while not stop.wait(0.2):
            past = time.time() - 100_000 + time.monotonic() % 1000
            os.utime(run.path / "lease", (past, past))

    thread = threading.Thread(target=skew)
    thread.start()
    try:
        assert "1 running" in cli("runs")[1]
    finally:
        stop.set()
        thread.join()
    assert holder.poll() is None


def test_a_lease_without_content_blocks_nobody(tmp_path):
    """A kill between the creation of the file and the write leaves one."""
    run = Run(tmp_path / "x")
    run.path.mkdir()
    (run.path / "lease").touch()
    assert not lease.is_free(run.path), "it may be about to be written"
    long_ago = time.time() - 10
    os.utime(run.path / "lease", (long_ago, long_ago))
    assert lease.is_free(run.path)
    with attempt(run, "a: 1\n", {"threads": 1}, afresh=False) as this:
        this.run.write_summary({"test/acc": 1.0})
    assert run.status()["state"] == "finished"


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("taken_over", [False, True])
def test_a_lease_that_cannot_be_removed_is_named(taken_over, error, cli, monkeypatch):
    """The folder takes new files but gives none back, as by `chattr +a`: nobody waits for ever.

    Either the lease of a dead process cannot be taken over, or it can, but not be released again.
    """
    assert cli("train", *TINY, "trainer.max_epochs=1")[0] == 0
    run = Run(the_run())
    dead = subprocess.Popen(["true"])
    dead.wait()
    with lease.of(run.path):
        held = (run.path / "lease").read_text().replace(str(os.getpid()), str(dead.pid))
    (run.path / "lease").write_text(held)
    run.write_status(
        {key: value for key, value in run.status().items() if key != "files"} | {"state": "running"}
    )
    long_ago = time.time() - 2 * lease.LEASE_S
    os.utime(run.path / "lease", (long_ago, long_ago))
    unlink = os.unlink

    def kept(path, *args, **options):
        name = Path(path).name
        refused = name == "lease" if taken_over else name.startswith("lease")
        if refused and Path(path).parent.name == run.path.name:
            raise OSError(error, os.strerror(error), str(path))
        unlink(path, *args, **options)

    with monkeypatch.context() as refusing:
        refusing.setattr(os, "unlink", kept)
        code, _, err = cli("train", *TINY, "trainer.max_epochs=1")
    assert (code, "lease: cannot be removed, though no process holds it" in " ".join(err.split())) == (
        2,
        True,
    ), err
    assert cli("train", *TINY, "trainer.max_epochs=1")[0] == 0
    assert run.state == "finished"


def test_a_suspended_holder_finds_its_lease_lost(tmp_path, monkeypatch):
    """It stops before it writes anything; the result of the other process is kept."""
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    choice = {"arch": {"name": "basic"}, "data": {"name": "digits"}}
    run = Run(tmp_path / "x", choice)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with attempt(run, "", {"threads": 1}, afresh=False) as this:
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
    held = lease.of(run.path)
    deadline = time.monotonic() + 30
    while not lease.frees(held):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with attempt(run, json.dumps(choice), {"threads": 1}, afresh=False):
        os.kill(child, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        run.write_rows([])
        run.write_summary({"test/acc": 1.0, "best/val_acc": 1.0})
    assert run.state == "finished"
    assert [attempt.get("state") for attempt in run.status()["attempts"]] == ["interrupted", "finished"]
