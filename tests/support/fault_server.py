"""A process that imports torch, Lightning and cnnbench once, and forks a child for each command.

Started by `faults.Server`, with `faults.c` preloaded. A child arms the faults and runs `cnnbench.cli.main`.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback

PATIENCE_S = 120


def run(request, library):
    """Run one command in this process, which is a fork, and return its exit code."""
    os.chdir(request["folder"])
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
    if fault := request["fault"]:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        library.arm(
            os.fsencode(request["folder"]),
            *(fault[name] for name in ("action", "n", "error", "kinds")),
            log,
            os.fsencode(request["durable"]),
        )
    if "-m" in request["command"]:
        fork_at_once()
    from cnnbench.cli import main

    try:
        return main(request["command"])
    except BaseException:
        traceback.print_exc()
        return 70


def fork_at_once():
    """Fork the processes of a sweep from its driver, which is warm, not from a server of its own."""
    from cnnbench.processes import forked

    forked.CONTEXT = multiprocessing.get_context("fork")
    forked._start_server = lambda: None


def in_fork(request, library):
    """Run a command in a fork; return how that ended, as `subprocess` does, or None if it hangs."""
    child = os.fork()
    if child == 0:
        code = run(request, library)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def serve():
    """Answer requests, a line of JSON each, until standard input ends."""
    import torch

    import cnnbench.cli
    import cnnbench.commands.train
    import cnnbench.sweeps.preload  # noqa: F401
    import hydra_plugins.cnnbench_sweeps  # noqa: F401

    torch.set_num_threads(1)
    library = ctypes.CDLL(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        json.dump({"code": in_fork(json.loads(line), library)}, answers)
        answers.write("\n")
        answers.flush()


if __name__ == "__main__":
    serve()
