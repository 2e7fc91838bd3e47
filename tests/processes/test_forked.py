"""Processes of a sweep whose server is killed, and machines that have room for no more of them."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from running import TINY, command, epochs, runs
from sweeping import gone, states

from cnnbench.processes import forked
from cnnbench.processes.forked import Child, Died
from cnnbench.run_store.run import Run

LONG = [*TINY, "data.limit=600", "trainer.max_epochs=30", "device.threads=1"]
SWEEP = ["train", "-m", *LONG, "seed=0,1,2", "sweep.jobs=2"]

KINDS = {"alone": ["train", *LONG], "sweep": SWEEP, "together": ["train", *LONG, "device.devices=2"]}


def launch(*arguments, **options):
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def server_of(process):
    """Return the id of the server process; None if there is none yet."""
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    return None


def kill_server(process, when=lambda: True):
    """Kill the server as soon as there is one and `when()` is true."""
    deadline = time.monotonic() + 60
    while not ((server := server_of(process)) and when()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(server, signal.SIGKILL)


def trained(count):
    return lambda: sum(epochs(run) >= 2 for run in runs()) >= count


@pytest.mark.parametrize(
    "delay_s", [0, *(pytest.param(delay_s, marks=pytest.mark.slow) for delay_s in (1, 2, 3))]
)
def test_a_server_killed_while_a_sweep_starts(delay_s):
    driver = launch("train", "-m", *TINY, "seed=0,1,2")
    while not server_of(driver):
        time.sleep(0.005)
    time.sleep(delay_s)
    kill_server(driver)
    output = driver.communicate(timeout=200)[0]
    assert driver.returncode == 0, output
    assert states() == ["finished"] * 3
    assert "Traceback" not in output
    assert output.count("the server of processes was killed") <= 1
    assert "about" in output, "the preflight was repeated"


@pytest.mark.slow
def test_a_server_killed_while_runs_are_trained():
    """Its processes live on, and the next run gets another server."""
    driver = launch(*SWEEP)
    kill_server(driver, trained(2))
    output = driver.communicate(timeout=200)[0]
    assert driver.returncode == 0, output
    assert states() == ["finished"] * 3
    assert [len(run.status()["attempts"]) for run in map(Run, runs())] == [1] * 3
    assert "Traceback" not in output
    assert "retried" not in output


@pytest.mark.slow
def test_a_server_and_then_a_worker_are_killed():
    """Nobody reports the end of the worker any more, and yet it is noticed and repeated."""
    driver = launch(*SWEEP, "trainer.max_epochs=100")
    kill_server(driver, trained(2))
    victim = next(run for run in map(Run, runs()) if run.status()["state"] == "running")
    os.kill(victim.status()["pid"], signal.SIGKILL)
    output = driver.communicate(timeout=200)[0]
    assert driver.returncode == 0, output
    assert output.count("will be retried") == 1
    assert states() == ["finished"] * 3


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_without_its_server_is_interrupted(signum):
    driver = launch(*SWEEP, "trainer.max_epochs=400")
    kill_server(driver, trained(2))
    workers = [Run(run).status()["pid"] for run in runs()]
    time.sleep(0.5)
    driver.send_signal(signum)
    output = driver.communicate(timeout=60)[0]
    assert driver.returncode == 128 + signum, output
    assert all(gone(pid) for pid in workers)
    assert "interrupted" in states()
    assert "running" not in states()


@pytest.mark.slow
def test_the_server_of_processes_that_train_together_is_killed(monkeypatch):
    """They need it no more: the run is not interrupted, however long it takes after that."""
    script = "import sys\nfrom cnnbench.training import distributed\ndistributed.GRACE_S = 1.0\n"
    script += "from cnnbench.cli import main\nsys.exit(main(sys.argv[1:]))"
    arguments = ["train", *LONG, "trainer.max_epochs=100", "device.devices=2"]
    driver = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    kill_server(driver, trained(1))
    killed = time.monotonic()
    output = driver.communicate(timeout=200)[0]
    assert driver.returncode == 0, output
    assert time.monotonic() - killed > 2, "make it longer"
    assert states() == ["finished"]


def test_a_process_that_cannot_be_started(monkeypatch):
    """It counts as one that died, so that every caller deals with it as with any other."""
    monkeypatch.setattr(forked, "PAUSE_S", 0)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        child = Child("os:getpid")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert child.ended
    child.terminate()
    child.kill_after(time.monotonic() + 1)
    reason = "its process could not be started: Too many open files; raise `ulimit -n`"
    with pytest.raises(Died, match=reason):
        child.answer()


def lines_of(process):
    return [line for line in process.communicate(timeout=200)[0].splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.parametrize(("how", "files"), [("sweep", 9), ("sweep", 19), ("sweep", 27), ("together", 17)])
def test_too_few_files(how, files):
    """From where nothing works to where all does: a line, and the same command goes on."""
    arguments = KINDS[how]

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    limited = launch(*arguments, preexec_fn=limit)
    output = "\n".join(lines_of(limited))
    assert "Traceback" not in output, output
    assert limited.returncode in (0, 1), output
    assert limited.returncode == 0 or "oo many open files" in output, output
    again = launch(*arguments)
    again.communicate(timeout=200)
    assert again.returncode == 0
    assert set(states()) == {"finished"}


SOMEBODY = ["setpriv", "--reuid=47321", "--clear-groups"]
SOMEBODY += [f"--{kind}-caps=+dac_override,+dac_read_search" for kind in ("inh", "ambient")]
"""Run a command as a user whose processes are counted, unlike those of root, with root's rights to files."""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="root may become another user")
@pytest.mark.parametrize(
    ("how", "processes"),
    [("alone", 3), ("sweep", 9), ("sweep", 23), ("together", 9), ("together", 23)],
)
def test_too_few_processes(how, processes, monkeypatch):
    """A limit on processes and threads, from where nothing works to where all does."""
    arguments = KINDS[how]
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o777)
        monkeypatch.chdir(folder)
        check_with_few_processes(arguments, processes)
        monkeypatch.undo()


def check_with_few_processes(arguments, processes):
    limit = ["prlimit", f"--nproc={processes}:{processes}"]
    limited = subprocess.run(
        [*SOMEBODY, *limit, *command(*arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    assert "Traceback" not in limited.stdout, limited.stdout
    assert limited.returncode in (0, 1), limited.stdout
    assert set(states() if Path("outputs").exists() else []) <= {"finished", "failed", "interrupted", "new"}
    again = launch(*arguments)
    output = again.communicate(timeout=200)[0]
    assert again.returncode == 0, output
    assert set(states()) == {"finished"}
