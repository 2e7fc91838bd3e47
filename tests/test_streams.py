"""A terminal, a pipe or a disk behind the standard streams that is gone, or was never there."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from running import TINY, command, the_run

from cnnbench.run_store.run import Run

SWEEP = ["train", "-m", *TINY, "seed=0,1", "sweep.jobs=1"]


@pytest.mark.parametrize("closed", [(0, 1, 2), (2,)], ids=str)
def test_closed_streams(closed):
    """No file gets their numbers, in which a message of Python or a C library would land."""
    script = (
        "import os, sys\nfrom cnnbench.cli import main\nmain(['--version'])\n"
        "assert os.open('file', os.O_CREAT | os.O_WRONLY) > 2\n"
        "print('lost', file=sys.stderr)\nos.write(2, b'lost')\n"
        "os.system('echo lost >&2')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], preexec_fn=lambda: [os.close(number) for number in closed]
    )
    assert done.returncode == 0
    assert Path("file").read_text() == ""


@pytest.mark.slow
def test_a_sweep_with_all_streams_closed():
    done = subprocess.run(command(*SWEEP), preexec_fn=lambda: [os.close(number) for number in range(3)])
    assert done.returncode == 0
    assert [Run(path.parent).state for path in Path("outputs").rglob("status.json")] == ["finished"] * 2


@pytest.mark.parametrize("arguments", [["train", *TINY], pytest.param(SWEEP, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "gone", ["pipe", *(pytest.param(gone, marks=pytest.mark.slow) for gone in ("disk", "terminal"))]
)
def test_notes_that_nobody_can_read_end_no_training(arguments, gone):
    """As in `cnnbench train 2>&1 | head -1`, with a full disk, or with a terminal that was closed."""
    if gone == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    elif gone == "disk":
        writer = os.open("/dev/full", os.O_WRONLY)
    else:
        master, writer = pty.openpty()
        os.close(master)
    done = subprocess.run(command(*arguments), stderr=writer, stdout=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 0
    assert "finished" in done.stdout
    assert all(Run(path.parent).state == "finished" for path in Path("outputs").rglob("status.json"))


@pytest.mark.parametrize("arguments", [["train", *TINY], pytest.param(SWEEP, marks=pytest.mark.slow)])
def test_a_result_that_nobody_reads(arguments):
    """As in `cnnbench train | head -1`: quiet, and the page of a sweep is written nevertheless."""
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    notes = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert "rror" not in notes
    if arguments == SWEEP:
        assert Path("outputs/default/compare.html").exists()
    else:
        assert Run(the_run()).state == "finished"


@pytest.mark.slow
def test_a_closed_terminal_interrupts_a_sweep_and_all_its_processes():
    """The shell is gone, and with it the terminal: SIGHUP, and nothing can be written any more."""
    pid, master = pty.fork()
    if not pid:
        os.execv(sys.executable, command(*SWEEP, "trainer.max_epochs=400"))
    while not any(Path("outputs").rglob("metrics.csv")):
        os.read(master, 1024)
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
    assert Run(the_run()).state == "interrupted"
