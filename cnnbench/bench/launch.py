"""Start a process that measures, and read its result."""

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
    """The process was killed by a signal.

    Attributes:
        exhausted: whether it was a signal that running out of memory causes.
    """

    def __init__(self, phase: str, number: int) -> None:
        name = signal.Signals(number).name
        self.exhausted = name in ("SIGKILL", "SIGABRT")
        super().__init__(f"{phase}: the process was killed by {name}" + " (out of memory?)" * self.exhausted)


def measure(spec: Spec, report: Callable[[str], None] = lambda phase: None) -> dict[str, Any]:
    """Measure in a fresh process.

    Args:
        spec: the measurement.
        report: is called with each phase.

    Raises:
        RuntimeError: the process ended without a result.
        Killed: the process was killed by a signal.
    """
    phase, result = "", None
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
                message: dict[str, Any] = json.loads(text.removeprefix(PREFIX))
                if "phase" in message:
                    phase = message["phase"]
                    report(phase)
                else:
                    result = message["result"]
                    break  # a process that a library started may hold the pipe open for ever
            code = 0 if result is not None else process.wait()
        finally:
            # The whole process group, also when this process is interrupted.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None and not pipe.closed:
                    pipe.close()
        if result is None:
            if code < 0:
                raise Killed(phase, -code)
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            error = RuntimeError(f"{phase}: {lines[-1] if lines else f'exit code {code}'}")
            if exhausted(error):  # OpenMP ends the process before Python can report it
                return {"error": OUT_OF_MEMORY}
            raise error
    return dict(result)
