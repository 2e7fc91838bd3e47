"""Function calls in processes of their own: they start warm, are isolated, and never outlive their parent.

A server process imports torch, Lightning and the rest once. Each call runs in a fork of the server, which
starts within a few hundredths of a second and leaves nothing behind, however it ends. There is no pool of
workers, in which a killed worker could corrupt a shared pipe or keep a lock.
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
from cnnbench.console import console
from cnnbench.errors import of_system
from cnnbench.processes import logs

CONTEXT = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
GRACE_S = 20.0
"""Time for a process to end after SIGTERM, in which a run writes its state and W&B its last rows."""

STARTS = 3
"""Times that a process is started if its server is killed meanwhile."""

PAUSE_S = 0.5
"""Time for a server that was killed to be gone."""

LOOK_S = 0.02
"""Interval of looking whether a process has ended."""


class Died(Exception):  # noqa: N818 - not an error of this code
    """The process ended without returning a result."""

    def __init__(self, exit_code: int | None, reason: str = "") -> None:
        reason = reason or f"its process ended with exit code {exit_code}"
        if exit_code is not None and exit_code < 0:
            name = signal.Signals(-exit_code).name
            reason = f"its process was killed by {name}" + " (out of memory?)" * (name == "SIGKILL")
        elif exit_code == SERVER_LOST:
            reason = "its process ended, after the server of processes, which would know why"
        super().__init__(reason)


KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has no SIGKILL

SERVER_LOST = 255
"""Exit code that Python reports of a process whose server was killed, whether or not it lives on."""


class Child:
    """A function call running in a process of its own.

    A process that could not be started, for want of files, processes or memory, counts as one that died.
    If only the server was killed, another is started; the processes that it had started live on.

    Args:
        function: `module:name`, so that only the new process imports it.
        args: its arguments, picklable like its result.
        environment: environment variables to add or change.
        captured: what the process prints goes to its run's log instead of this process's output.
    """

    def __init__(
        self, function: str, *args: Any, environment: Mapping[str, str] | None = None, captured: bool = True
    ) -> None:
        self.process: Any = None
        self.obstacle = ""
        variables = {**os.environ, **(environment or {})}
        for attempt in range(STARTS):
            time.sleep(PAUSE_S * bool(attempt))
            try:
                self._start((variables, captured, function, args))
                return
            except (EOFError, ConnectionError):
                self.obstacle = "the server of processes was killed, or may start no more (`ulimit -u`)"
                if not attempt:
                    console.print(f"{self.obstacle}; trying again", style="yellow", soft_wrap=True)
            except (OSError, RuntimeError) as error:
                if not (line := of_system(error)):
                    raise
                self.obstacle = line

    def _start(self, call: tuple[Any, ...]) -> None:
        if os.name == "posix":
            _start_server()
        self.answers, sender = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_main, args=(sender, *call))  # type: ignore[attr-defined]
        with sender:
            process.start()
        self.process = process

    @property
    def ended(self) -> bool:
        """True once there is a result, or the process has ended without one."""
        try:
            return self.process is None or self.answers.poll() or self._is_gone
        except (OSError, ValueError):  # it was waited for, by another thread
            return True

    @property
    def _is_gone(self) -> bool:
        """True if the process has ended; if its server was killed, nobody reports that."""
        if self.process.is_alive():
            return False
        return self.process.exitcode != SERVER_LOST or not _exists(self.process.pid)

    def answer(self) -> Any:
        """Wait for the result of the function and return it.

        Raises:
            Died: the process was killed or crashed.
            Exception: the exception of the function.
        """
        if self.process is None:
            raise Died(None, f"its process could not be started: {self.obstacle}")
        try:
            succeeded, result = self.answers.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Died(self.process.exitcode) from None
        finally:
            self.answers.close()
        self.process.join()
        self.process.close()
        if not succeeded:
            raise result
        return result

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send(signal.SIGTERM)

    def kill_after(self, deadline: float) -> None:
        """Wait until `deadline` (of `time.monotonic`) for the process to end, then kill it."""
        while not (gone := self.process is None or self._is_gone) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        if not gone:
            self._send(KILL)
            self.process.join()

    def _send(self, signum: signal.Signals) -> None:
        if self.process is not None and not self._is_gone:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signum)


def _exists(pid: int) -> bool:
    """Return whether there is a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _start_server() -> None:
    """Start the server, unless it is running."""
    from multiprocessing import forkserver, resource_tracker

    CONTEXT.set_forkserver_preload(["cnnbench.processes.server", "cnnbench.sweeps.preload"])
    with imports_as_here():
        resource_tracker.ensure_running()  # before the block below, since its start unblocks SIGINT
        with _blocked_interruptions():
            forkserver.ensure_running()  # inherits the blocked signals


@contextmanager
def imports_as_here() -> Iterator[None]:
    """Make processes started in the block import from the same folders as this process.

    Otherwise Python would search the working folder first, with any `cnnbench` or `secrets.py` in it.
    """
    root = str(Path(cnnbench.__file__).parent.parent)
    checkout = [root] if sys.path[:1] == [root] else []  # `python -m cnnbench` in a checkout
    python_path = os.environ.get("PYTHONPATH")
    variables = {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join([*checkout, *([python_path] if python_path else [])]),
    }
    previous = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


INTERRUPTIONS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that a terminal, `timeout`, a service manager or a cluster sends to all processes of a command."""


@contextmanager
def _blocked_interruptions() -> Iterator[None]:
    """Block these signals: the server must survive them, since only it can report how its forks ended."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _main(sender: Any, environment: Mapping[str, str], captured: bool, function: str, args: Any) -> None:
    """Run the function in the new process and send its result."""
    sys.excepthook = sys.__excepthook__  # not the server's
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and decides about its children
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)
    # Start workers that read images as any other process does, and not each with a server of its own.
    multiprocessing.set_start_method(None, force=True)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if captured:
        logs.capture()
    try:
        answer = True, pkgutil.resolve_name(function)(*args)
    except Exception as error:  # is raised in the parent
        error.add_note(f"In another process:\n{traceback.format_exc()}")
        answer = False, error
    with suppress(BrokenPipeError):  # the parent is gone
        sender.send(answer)
    sender.close()


def _end_with_parent() -> None:
    """Wait for the end of the parent process, for whatever reason, and then end this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)  # the run records that it was interrupted
    time.sleep(GRACE_S)
    faulthandler.dump_traceback()
    os._exit(1)
