"""First import of the server of `processes.forked`, so that it ends with one line where a line is enough."""

from __future__ import annotations

import sys
from types import TracebackType

from cnnbench.errors import of_system
from cnnbench.safe_text import print_error


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if line := of_system(error):
        print_error(f"the server of processes has ended: {line}")
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _report
