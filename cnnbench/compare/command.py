"""`cnnbench compare [PATH …]`: the command line."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from cnnbench import ui
from cnnbench.compare import files, plots, terminal, to_wandb
from cnnbench.compare.comparison import Comparison, Options, compare, unknown
from cnnbench.compare.configurations import axes, pooled
from cnnbench.compare.figures import DEFAULT, LATENCY
from cnnbench.compare.page import page
from cnnbench.compare.records import Record, read
from cnnbench.compare.watch import watch
from cnnbench.errors import InputError, suggest
from cnnbench.runs import STATES, matches, write_where_asked

RELOAD_S = 5
"""How often a browser looks for what a watched page has become."""


def main(arguments: list[str]) -> int:
    """Compare the runs below some folders, in the terminal and in the files that are asked for."""
    asked = _parser().parse_intermixed_args(arguments)
    words: list[str] = asked.words
    paths = [Path(word) for word in words if "=" not in word or Path(word).exists()]
    paths = paths or [Path(os.environ.get("CNNBENCH_OUTPUTS", "outputs"))]
    conditions = [word for word in words if "=" in word and not Path(word).exists()] + (asked.filter or [])
    options = Options(
        metric=asked.metric or "",
        sort=asked.sort or "",
        by=tuple(_listed(asked.by or [])),
        select=None if asked.select is None else tuple(_listed(asked.select)),
        baselines=dict(_setting("--baseline", text) for text in asked.baseline or []),
    )
    outputs = {name: text for name in (*files.FORMATS, "html") if (text := getattr(asked, name)) is not None}
    _check_targets(outputs)
    if asked.plots is not None:
        plots.check()
    if asked.watch and "html" not in outputs:
        raise InputError("--watch: writes a page again and again; allowed: with --html FILE")
    wandb_target = to_wandb.target(asked)
    title = ", ".join(map(str, paths))

    def found_now() -> Comparison:
        return compare(_chosen(read(paths), conditions), options)

    if asked.watch:
        target = Path(outputs["html"])
        watch(paths, lambda: _watched(found_now(), title, target))
    found = found_now()
    if "-" not in outputs.values():
        ui.out.print(terminal.picture(found, title), highlight=False)
    for name, target in outputs.items():
        text = page(found, title, Path(target)) if name == "html" else files.FORMATS[name](found)
        _write(target, text)
    if asked.plots is not None:
        _plot(found, Path(asked.plots))
    if wandb_target is not None:
        picked = [path.name for path in paths if (path / "status.json").is_file()]
        _log(found, title, wandb_target, [*conditions, *picked])
    return 0


def _watched(found: Comparison, title: str, target: Path) -> None:
    """Write the page and a line: the table comes when the watching ends."""
    write_where_asked(target, page(found, title, target, RELOAD_S))
    now = datetime.now().strftime("%H:%M:%S")
    line = terminal.heading(found, title)
    ui.console.print(f"{now} {target}:", line, highlight=False, soft_wrap=True)


def _plot(found: Comparison, folder: Path) -> None:
    try:
        written = plots.write(found, folder)
    except OSError as error:
        raise InputError(f"--plots {folder}: cannot be written ({error.strerror})") from None
    said = f"written: {len(written)} pictures, each as PNG and SVG, in {folder}"
    ui.console.print(said if written else "--plots: nothing to draw", highlight=False, markup=False)


def _log(found: Comparison, title: str, target: to_wandb.Target, only: Sequence[str]) -> None:
    """Log to W&B what the files would hold; without matplotlib W&B's own charts are all there is."""
    with tempfile.TemporaryDirectory() as place:
        pictures = plots.write(found, Path(place)) if plots.installed() else []
        file = Path(place) / "page.html"
        file.write_text(page(found, title, to_wandb.home(found) / file.name), encoding="utf-8")
        to_wandb.log(found, target, {picture.stem: picture for picture in pictures}, file, only)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "cnnbench compare",
        usage="cnnbench compare [PATH …] [KEY=VALUE …] [OPTION …]",
        description="Which choice won, by how much, and whether that is noise: runs that differ in nothing "
        "but the seed are a row, with a 95 % interval; each axis that was varied has its effect.",
        epilog="example: cnnbench compare outputs/ablation_norm --by ops.norm --html norm.html",
    )
    default = os.environ.get("CNNBENCH_OUTPUTS", "outputs")
    options = {
        "--filter KEY=VALUE": "only these runs; the same as KEY=VALUE alone",
        "--by KEY": "a row for each value of this axis, the rest pooled",
        "--select KEY": "an axis that was tuned: its best value on val stands for each row; '' for none "
        "(default: what the experiment says)",
        "--baseline KEY=VALUE": "what an axis is measured against",
        "--metric KEY": f"what is compared: a key of summary.json (default: {DEFAULT}; "
        f"of measurements {LATENCY})",
        "--sort KEY": "a figure or an axis (default: val accuracy)",
        "--csv FILE": "write the rows as numbers; - for standard output",
        "--json FILE": "write everything; -",
        "--markdown FILE": "write the table and the effects; -",
        "--latex FILE": "write the table with the rules of booktabs; -",
        "--html FILE": "write the page: charts, sortable tables, learning curves, in one file",
        "--plots DIR": "draw pictures for a paper, as PNG and SVG",
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
    parser.add_argument("--watch", action="store_true", help="with --html: write it again as runs finish")
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
            raise unknown(text, key, keys, axes(pooled(records)))
        for state in value.split(",") if name == "state" else ():
            if state not in (*STATES, "damaged"):
                raise InputError(f"{text}: no such state; {suggest(state, (*STATES, 'damaged'))}")
        found = [record for record in found if matches(_value(record, name), value)]
    if not found:
        raise InputError(f"no run with {' '.join(conditions)}")
    return found


def _value(record: Record, key: str) -> str | None:
    own = {"seed": record.seed, "state": record.state, "name": record.experiment}
    return own.get(key) or record.settings.get(key)


def _check_targets(outputs: Mapping[str, str]) -> None:
    """Say before anything is computed that a file cannot be written."""
    for name, target in outputs.items():
        same = [f"--{other}" for other, at in outputs.items() if at == target and other != name]
        if same:
            raise InputError(f"--{name} {target}: the same place as {same[0]}; allowed: a file for each")
        _check_target(f"--{name}", target)


def _check_target(option: str, target: str) -> None:
    if not target:
        raise InputError(f"{option}: no name of a file; allowed: a file, or - for standard output")
    if target != "-" and (Path(target).is_dir() or not Path(target).absolute().parent.is_dir()):
        what = "is a folder" if Path(target).is_dir() else "its folder does not exist"
        raise InputError(f"{option} {target}: {what}; allowed: a file, or - for standard output")


def _write(target: str, text: str) -> None:
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        write_where_asked(Path(target), text)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None
    ui.console.print(f"written: {target}", highlight=False, soft_wrap=True)
