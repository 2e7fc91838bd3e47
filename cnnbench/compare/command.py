"""`cnnbench compare [PATH …]`: the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cnnbench import ui
from cnnbench.compare import files, terminal, to_wandb
from cnnbench.compare.comparison import Comparison, Options, compare
from cnnbench.compare.figures import DEFAULT
from cnnbench.compare.records import Record, read
from cnnbench.errors import InputError, suggest
from cnnbench.runs import matches, write_atomic

Write = Callable[[Comparison, str], None]


def main(arguments: list[str]) -> int:
    """Compare the runs below some folders, in the terminal and in the files that are asked for."""
    asked = _parser().parse_intermixed_args(arguments)
    words: list[str] = asked.words
    paths = [Path(word) for word in words if "=" not in word or Path(word).exists()]
    paths = paths or [Path(os.environ.get("CNNBENCH_OUTPUTS", "outputs"))]
    conditions = [word for word in words if "=" in word and not Path(word).exists()] + (asked.filter or [])
    options = Options(
        metric=asked.metric or DEFAULT,
        sort=asked.sort or "",
        by=tuple(_listed(asked.by or [])),
        select=None if asked.select is None else tuple(_listed(asked.select)),
        baselines=dict(_setting("--baseline", text) for text in asked.baseline or []),
    )
    outputs = {name: text for name in files.FORMATS if (text := getattr(asked, name)) is not None}
    for name, target in outputs.items():
        _check_target(f"--{name}", target)
    wandb_target = to_wandb.target(asked)
    found = compare(_chosen(read(paths), conditions), options)
    title = ", ".join(map(str, paths))
    if "-" not in outputs.values():
        ui.out.print(terminal.picture(found, title), highlight=False)
    for name, target in outputs.items():
        _write(target, files.FORMATS[name](found))
    if wandb_target is not None:
        to_wandb.log(found, wandb_target)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "cnnbench compare",
        usage="cnnbench compare [PATH …] [KEY=VALUE …] [OPTION …]",
        description="Which choice won, by how much, and whether that is noise: runs that differ in nothing "
        "but the seed are a row, with a 95 %% interval; each axis that was varied has its effect.",
        epilog="example: cnnbench compare outputs/ablation_norm --by ops.norm --html norm.html",
    )
    default = os.environ.get("CNNBENCH_OUTPUTS", "outputs")
    options = {
        "--filter KEY=VALUE": "only these runs; the same as KEY=VALUE alone",
        "--by KEY": "a row for each value of this axis, the rest pooled",
        "--select KEY": "an axis that was tuned: its best value on val stands for each row; '' for none "
        "(default: what the experiment says)",
        "--baseline KEY=VALUE": "what an axis is measured against",
        "--metric KEY": f"what is compared: a key of summary.json (default: {DEFAULT})",
        "--sort KEY": "a figure or an axis (default: val accuracy)",
        "--csv FILE": "write the rows as numbers; - for standard output",
        "--json FILE": "write everything; -",
        "--markdown FILE": "write the table and the effects; -",
        "--latex FILE": "write the table with the rules of booktabs; -",
    }
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PATH or KEY=VALUE",
        help=f"folders of runs (default: {default}); conditions",
    )
    several = ("--filter", "--by", "--select", "--baseline")
    for text, meaning in options.items():
        option, _, metavar = text.partition(" ")
        action = "append" if option in several else "store"
        parser.add_argument(option, action=action, metavar=metavar, help=meaning)
    to_wandb.add_options(parser)
    return parser


def _listed(given: Sequence[str]) -> list[str]:
    """`--by a,b --by c` as [a, b, c]."""
    return [key for text in given for key in text.split(",") if key]


def _setting(option: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"{option} {text}: allowed: KEY=VALUE, as in ops.norm=batch")
    return key, value


def _chosen(records: Sequence[Record], conditions: Sequence[str]) -> list[Record]:
    """The runs that meet all conditions.

    Raises:
        InputError: a condition on what none of the runs has, or none that meets them.
    """
    found = list(records)
    for text in conditions:
        key, value = _setting("--filter", text)
        keys = {key for record in records for key in (*record.settings, "seed", "state", "name")}
        name = f"{key}.name" if f"{key}.name" in keys else key
        if name not in keys:
            raise InputError(f"{text}: none of these runs has this setting; {suggest(key, sorted(keys))}")
        found = [record for record in found if matches(_value(record, name), value)]
    if not found:
        raise InputError(f"no run with {' '.join(conditions)}")
    return found


def _value(record: Record, key: str) -> str | None:
    own = {"seed": record.seed, "state": record.state, "name": record.experiment}
    return own.get(key) or record.settings.get(key)


def _check_target(option: str, target: str) -> None:
    """Say before anything is computed that a file cannot be written."""
    if target != "-" and (Path(target).is_dir() or not Path(target).absolute().parent.is_dir()):
        what = "is a folder" if Path(target).is_dir() else "its folder does not exist"
        raise InputError(f"{option} {target}: {what}; allowed: a file, or - for standard output")


def _write(target: str, text: str) -> None:
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        write_atomic(Path(target), text)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None
    ui.console.print(f"written: {target}", highlight=False, soft_wrap=True)
