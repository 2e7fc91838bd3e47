"""Calls in processes of their own that start warm, cannot harm each other, and never outlive who asked.

A server process imports torch, Lightning and the rest once; each call runs in a fork of it, so it starts
within a few hundredths of a second and leaves nothing behind, whatever becomes of it. There is no pool of
workers to share a pipe or a lock that one of them could take along when it is killed.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any

import cnnbench
from cnnbench.processes import logs

CONTEXT = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
GRACE_S = 20.0
"""How long a process may take to end once it is told to: a run writes its state, W&B its last rows."""


class Died(Exception):  # noqa: N818 - what happened to it, and no fault of this code
    """The process ended without an answer."""

    def __init__(self, exit_code: int | None) -> None:
        reason = f"its process ended with exit code {exit_code}"
        if exit_code is not None and exit_code < 0:
            name = signal.Signals(-exit_code).name
            reason = f"its process was killed by {name}" + " (out of memory?)" * (name == "SIGKILL")
        super().__init__(reason)


class Child:
    """A call that has been started.

    Args:
        function: `module:name` of a function, so that only the new process has to import it.
        args: what it is called with; has to be picklable, as what it returns.
        environment: what to change in the environment variables of this process.
        captured: what it prints goes into the log of its run; else to where this process prints.
    """

    def __init__(
        self, function: str, *args: Any, environment: Mapping[str, str] | None = None, captured: bool = True
    ) -> None:
        if os.name == "posix":
            _serve()
        self.answers, sender = CONTEXT.Pipe(duplex=False)
        variables = {**os.environ, **(environment or {})}
        self.process = CONTEXT.Process(  # type: ignore[attr-defined]  # typeshed has it in each context
            target=_main, args=(sender, variables, captured, function, args)
        )
        self.process.start()
        sender.close()

    @property
    def ended(self) -> bool:
        """Whether there is an answer, or will never be one."""
        return self.answers.poll() or not self.process.is_alive()

    def answer(self) -> Any:
        """What the function returned; waits for it.

        Raises:
            Died: the process was killed, or crashed.
            Exception: what the function raised.
        """
        try:
            fine, found = self.answers.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Died(self.process.exitcode) from None
        finally:
            self.answers.close()
        self.process.join()
        self.process.close()
        if not fine:
            raise found
        return found

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.terminate()

    def kill_after(self, deadline: float) -> None:
        """Wait until `deadline` (of `time.monotonic`) for it to end, then end it."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve() -> None:
    """Start the server, unless it runs."""
    from multiprocessing import forkserver, resource_tracker

    CONTEXT.set_forkserver_preload(["cnnbench.sweeps.preload"])
    with imports_as_here():
        resource_tracker.ensure_running()  # it would let Ctrl-C through again
        with _without_interruption():
            forkserver.ensure_running()  # which keeps these signals blocked


@contextmanager
def imports_as_here() -> Iterator[None]:
    """Have the server take cnnbench, and all else, from where this process does.

    Python would put the working folder first, with whatever `cnnbench` or `secrets.py` lies there.
    """
    root = str(Path(cnnbench.__file__).parent.parent)
    first = [root] if sys.path[:1] == [root] else []  # `python -m cnnbench` in a checkout
    given = os.environ.get("PYTHONPATH")
    wanted = {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join([*first, *([given] if given else [])]),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


INTERRUPTIONS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""What a terminal, `timeout`, a service manager or a cluster sends to all processes of a command at once."""


@contextmanager
def _without_interruption() -> Iterator[None]:
    """They are for who starts the server, not for the server: only it can tell when its forks have ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _main(sender: Any, environment: Mapping[str, str], captured: bool, function: str, args: Any) -> None:
    """The life of a child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started it, who then says what to do
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)
    # Workers that read images are started as in any other process, and not each by a server of its own.
    multiprocessing.set_start_method(None, force=True)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_follow_parent, daemon=True).start()
    if captured:
        logs.capture()
    try:
        answer = True, pkgutil.resolve_name(function)(*args)
    except Exception as error:  # travels to who asked
        error.add_note(f"In another process:\n{traceback.format_exc()}")
        answer = False, error
    with suppress(BrokenPipeError):  # who asked has gone
        sender.send(answer)
    sender.close()


def _follow_parent() -> None:
    """End when who started this process has ended, however that happened."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)  # the run writes that it was interrupted
    time.sleep(GRACE_S)
    faulthandler.dump_traceback()
    os._exit(1)
