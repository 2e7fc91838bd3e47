"""Commands in a process that stops itself, as SIGSTOP would, just before one of its changes to a folder."""

import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from cnnbench.cli import main
from cnnbench.run_store import lease

CHANGES = {"os.rename": (0, 1), "os.remove": (0,), "os.link": (0, 1), "os.mkdir": (0,), "os.rmdir": (0,)}
"""Audit events of changes, with the positions of their paths."""


def run(arguments, folder, output, point=0, lease_s=60.0, name=""):
    """Carry out a command; return its exit code and the number of changes that it has made below a folder.

    Args:
        arguments: of the command.
        folder: whose changes are counted.
        output: file for all that it prints.
        point: number of the change before which the process stops; 0 for none.
        lease_s: seconds after which its lease expires.
        name: part of the paths whose changes count.
    """
    lease.LEASE_S = lease_s
    count = 0

    def hook(event, args):
        nonlocal count
        if event == "open":
            writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            paths = [args[0]] if writes else []
        else:
            paths = [args[i] for i in CHANGES.get(event, ())]
        if any(
            isinstance(path, str | Path) and Path(path).is_relative_to(folder) and name in str(path)
            for path in paths
        ):
            count += 1
            if count == point:
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(hook)
    with Path(output).open("w") as file, redirect_stdout(file), redirect_stderr(file):
        code = main(arguments)
    return code, count
