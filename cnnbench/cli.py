"""The command line: `cnnbench VERB [arguments]`.

A verb is a module with `main(arguments) -> exit code`, imported only when it is called, so that
`cnnbench --help` needs neither Hydra nor torch.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

from cnnbench import __version__
from cnnbench.errors import InputError, suggest


class Verb(NamedTuple):
    """One verb: its module, what it does and a line to try."""

    module: str
    help: str
    example: str


VERBS = {
    "train": Verb(
        "cnnbench.commands.train",
        "train one configuration, or a sweep with -m",
        "cnnbench train data=cifar10 arch=resnet20",
    ),
    "inspect": Verb(
        "cnnbench.commands.inspect",
        "show a model layer by layer: shapes, parameters, MACs",
        "cnnbench inspect arch=vgg16_bn data=cifar10",
    ),
    "bench": Verb(
        "cnnbench.commands.bench",
        "measure speed and memory of a model on a device; or, with parity=true, that it computes the same",
        "cnnbench bench arch=resnet18 data=cifar10 batch_sizes=[1,64]",
    ),
    "runs": Verb(
        "cnnbench.commands.runs", "show what runs there are, or one run", "cnnbench runs outputs/quickstart"
    ),
    "compare": Verb(
        "cnnbench.commands.compare",
        "tell which choice won, by how much, and whether that is noise",
        "cnnbench compare outputs/ablation_norm --html norm.html",
    ),
    "evaluate": Verb(
        "cnnbench.commands.evaluate",
        "tell how good a run is in detail: each class, confusions, calibration",
        "cnnbench evaluate outputs/default/basic-digits-s0-3063930c80",
    ),
    "predict": Verb(
        "cnnbench.commands.predict",
        "tell what a run takes image files for",
        "cnnbench predict outputs/default/basic-digits-s0-3063930c80 photos/*.png",
    ),
    "export": Verb(
        "cnnbench.commands.export",
        "write a run as an ONNX file or a torch.export archive, checked",
        "cnnbench export outputs/default/basic-digits-s0-3063930c80 --output digits.onnx",
    ),
    "sync": Verb(
        "cnnbench.commands.sync",
        "upload to W&B what was logged offline",
        "cnnbench sync outputs/ablation_norm",
    ),
    "dashboard": Verb(
        "cnnbench.commands.dashboard",
        "lay out a W&B workspace for an experiment: scatter, bars, curves",
        "cnnbench dashboard outputs/ablation_norm --save",
    ),
    "completion": Verb(
        "cnnbench.commands.completion",
        "print the shell completion script",
        'eval "$(cnnbench completion bash)"',
    ),
}

USAGE = "usage: cnnbench VERB [arguments]        cnnbench VERB --help        cnnbench --version"


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the process's exit code.

    0: done; 1: a run failed; 2: bad input, nothing was started; 130 and 143: interrupted.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if sys.stdout is None:  # closed by whoever started this process
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as this process lives
    match arguments:
        case [] | ["-h" | "--help" | "help"]:
            print(help_text())
            return 0
        case ["--version"]:
            print(f"cnnbench {__version__}")
            return 0
        case [verb, *rest] if verb in VERBS:
            try:
                code = int(importlib.import_module(VERBS[verb].module).main(rest))
                sys.stdout.flush()
                return code
            except InputError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                return 130
            except BrokenPipeError:  # `cnnbench runs | head`
                _drop_output()
                return 141
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                print(f"error: {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
                _drop_output()
                return 1
    print(f"error: cnnbench {arguments[0]}: no such verb; {suggest(arguments[0], VERBS)}", file=sys.stderr)
    return 2


def _drop_output() -> None:
    """What is left of standard output has nowhere to go; Python would try once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def help_text() -> str:
    """The verbs with an example each."""
    lines = [USAGE, "", "Train and compare convolutional networks.", ""]
    for name, verb in VERBS.items():
        lines += [f"  {name:<12}{verb.help}", f"  {'':<12}$ {verb.example}", ""]
    return "\n".join(lines).rstrip()
