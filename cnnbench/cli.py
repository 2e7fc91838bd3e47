"""The command line: `cnnbench VERB [arguments]`.

The verb `x` is the module `cnnbench.commands.x` with `main(arguments) -> exit code`, imported only when it is
called, so that `cnnbench --help` needs neither Hydra nor torch.
"""

from __future__ import annotations

import importlib
import sys

from cnnbench import __version__
from cnnbench.commands import VERBS
from cnnbench.errors import InputError, of_system, suggest
from cnnbench.safe_text import print_error, print_traceback
from cnnbench.streams import drop_output, flush_output, open_streams

USAGE = "usage: cnnbench VERB [arguments]        cnnbench VERB --help        cnnbench --version"


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the process's exit code.

    0: done; 1: a run failed; 2: bad input, nothing was started; 130 and 143: interrupted.
    """
    arguments = sys.argv[1:] if argv is None else argv
    sys.excepthook = lambda kind, error, trace: print_traceback(error)
    open_streams()
    match arguments:
        case [] | ["-h" | "--help" | "help"]:
            print(help_text())
            return 0
        case ["--version"]:
            print(f"cnnbench {__version__}")
            return 0
        case [verb, *rest] if verb in VERBS:
            try:
                code = int(importlib.import_module(f"cnnbench.commands.{verb}").main(rest))
                flush_output(interrupted=code > 128)
                return code
            except InputError as error:
                return print_error(error)
            except KeyboardInterrupt:
                return 130
            except BrokenPipeError:  # `cnnbench runs | head`
                drop_output()
                return 141
            except Exception as error:
                if not (line := of_system(error, "standard output")):
                    raise
                print_error(line)
                drop_output()
                return 1
    return print_error(f"cnnbench {arguments[0]}: no such verb; {suggest(arguments[0], VERBS)}")


def help_text() -> str:
    """Return the list of verbs, each with an example."""
    lines = [USAGE, "", "Train and compare convolutional networks.", ""]
    for name, verb in VERBS.items():
        lines += [f"  {name:<12}{verb.help}", f"  {'':<12}$ cnnbench {name} {verb.example}", ""]
    return "\n".join(lines).rstrip()
