"""Starts a process that measures, and hears what it finds."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cnnbench.bench.memory import exhausted
from cnnbench.bench.probe import OUT_OF_MEMORY, PREFIX
from cnnbench.bench.spec import Spec
from cnnbench.processes.forked import imports_as_here

COMMAND = [sys.executable, "-c", "from cnnbench.bench.probe import main; main()"]


class Killed(RuntimeError):  # noqa: N818 - what happened to it
    """The process was ended by a signal.

    Attributes:
        exhausted: as it is where there is no more memory.
    """

    def __init__(self, last: str, number: int) -> None:
        name = signal.Signals(number).name
        self.exhausted = name in ("SIGKILL", "SIGABRT")
        super().__init__(f"{last}: the process was killed by {name}" + " (out of memory?)" * self.exhausted)


def measure(spec: Spec, said: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """Measure in a fresh process.

    Args:
        spec: what.
        said: is told what goes on.

    Raises:
        RuntimeError: it ended without an answer.
        Killed: so that it could not say why.
    """
    last, found = "", None
    with tempfile.TemporaryFile() as errors:
        with imports_as_here():
            process = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(pickle.dumps(spec))
            process.stdin.flush()
            for line in process.stdout:
                text = line.decode(errors="replace")
                if not text.startswith(PREFIX):
                    continue
                told: dict[str, Any] = json.loads(text.removeprefix(PREFIX))
                if "said" in told:
                    last = told["said"]
                    said(last)
                else:
                    found = told["found"]
                    break  # what a library started may hold the pipe open for ever
            code = 0 if found is not None else process.wait()
        finally:
            # With all that it started, also when this process is told to end.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None and not pipe.closed:
                    pipe.close()
        if found is None:
            if code < 0:
                raise Killed(last, -code)
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            error = RuntimeError(f"{last}: {lines[-1] if lines else f'exit code {code}'}")
            if exhausted(error):  # before Python could say so: OpenMP ends the process
                return {"error": OUT_OF_MEMORY}
            raise error
    return dict(found)
