"""`cnnbench compare [PATH …]`: the command line."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cnnbench import console
from cnnbench.comparison.comparison import Comparison, Options, compare
from cnnbench.comparison.filter import select_records
from cnnbench.comparison.metrics import DEFAULT, LATENCY
from cnnbench.comparison.records import read
from cnnbench.comparison.report import files, plots, terminal, to_wandb
from cnnbench.comparison.report.page import page
from cnnbench.comparison.report.watch import watch
from cnnbench.errors import InputError
from cnnbench.run_store import files as run_store_files
from cnnbench.run_store.files import write_where_asked
from cnnbench.run_store.find import outputs, sorted_words
from cnnbench.run_store.select import parse_condition

RELOAD_S = 5
"""How often a browser looks for what a watched page has become."""


def main(arguments: list[str]) -> int:
    """Compare the runs below some folders, in the terminal and in the files that are asked for."""
    asked = _parser().parse_intermixed_args(arguments)
    paths, words = sorted_words(asked.words)
    filters = asked.filter or []
    conditions = [parse_condition(word) for word in words]
    conditions += [parse_condition(text, "--filter") for text in filters]
    options = Options(
        metric=asked.metric or "",
        sort=asked.sort or "",
        by=tuple(_listed(asked.by or [])),
        select=None if asked.select is None else tuple(_listed(asked.select)),
        baselines=dict(parse_condition(text, "--baseline") for text in asked.baseline or []),
    )
    targets = {name: text for name in (*files.FORMATS, "html") if (text := getattr(asked, name)) is not None}
    run_store_files.check_targets(**targets)
    if asked.plots is not None:
        plots.check(asked.plots)
    if asked.watch:
        _check_watched(targets)
    wandb_target = to_wandb.target(asked)
    title = ", ".join(map(str, paths))

    def found_now() -> Comparison:
        unread: list[str] = []
        found = compare(select_records(read(paths, unread), conditions), options)
        return replace(found, problems=[*unread, *found.problems])

    if asked.watch:
        watch(paths, lambda: _watched(found_now(), title, targets))
    found = found_now()
    if "-" in targets.values():  # what a reader must know does not depend on where the numbers go
        said = [terminal.heading(found, title), *terminal.problems(found.problems)]
        console.console.print(*said, sep="\n", highlight=False, soft_wrap=True)
    else:
        console.out.print(terminal.picture(found, title), highlight=False)
    for name, target in targets.items():
        _write(f"--{name}", target, _text(found, title, name, target))
        if target != "-":
            console.console.print(f"written: {target}", highlight=False, markup=False, soft_wrap=True)
    if asked.plots is not None:
        _plot(found, Path(asked.plots))
    if wandb_target is not None:
        picked = [path.name for path in paths if (path / "status.json").is_file()]
        _log(found, title, wandb_target, [*words, *filters, *picked])
    return 0


def _text(found: Comparison, title: str, name: str, target: str, reload_s: float = 0) -> str:
    """What goes into one of the files that were asked for."""
    if name == "html":
        return page(found, title, Path(target), reload_s)
    return files.FORMATS[name](found)


def _check_watched(targets: Mapping[str, str]) -> None:
    if "html" not in targets:
        raise InputError("--watch: writes a page again and again; allowed: with --html FILE")
    for name, target in targets.items():
        if target == "-":
            raise InputError(f"--{name} -: is not written again and again; allowed with --watch: a file")


def _watched(found: Comparison, title: str, targets: Mapping[str, str]) -> None:
    """Write the files and a line: the table comes when the watching ends."""
    for name, target in targets.items():
        _write(f"--{name}", target, _text(found, title, name, target, RELOAD_S))
    now = datetime.now().strftime("%H:%M:%S")
    said = f"{now} {', '.join(targets.values())}:"
    console.console.print(said, terminal.heading(found, title), highlight=False, markup=False, soft_wrap=True)


def _plot(found: Comparison, folder: Path) -> None:
    try:
        written = plots.write(found, folder)
    except OSError as error:
        raise InputError(f"--plots {folder}: cannot be written ({error.strerror})") from None
    said = f"written: {len(written)} pictures, each as PNG and SVG, in {folder}"
    console.console.print(said if written else "--plots: nothing to draw", highlight=False, markup=False)


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
    options = {
        "--filter KEY=VALUE": "only these runs; the same as KEY=VALUE alone",
        "--by KEY": "a row for each value of this axis, the rest pooled",
        "--select KEY": "an axis that was tuned: its best value (on val, if trained) stands for each row; "
        "'' for none (default: what the experiment says)",
        "--baseline KEY=VALUE": "what an axis is measured against",
        "--metric KEY": f"what is compared: a key of summary.json (default: {DEFAULT}; "
        f"of measurements {LATENCY})",
        "--sort KEY": "a figure or an axis (default: val accuracy; of measurements the latency)",
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
        help=f"folders of runs (default: {outputs()}); conditions",
    )
    several = ("--filter", "--by", "--select", "--baseline")
    for text, meaning in options.items():
        option, _, metavar = text.partition(" ")
        action = "append" if option in several else "store"
        parser.add_argument(option, action=action, metavar=metavar, help=meaning)
    parser.add_argument(
        "--watch", action="store_true", help="with --html: write the files again as runs finish"
    )
    to_wandb.add_options(parser)
    return parser


def _listed(given: Sequence[str]) -> list[str]:
    """`--by a,b --by c` as [a, b, c]."""
    return [key for text in given for key in text.split(",") if key]


def _write(option: str, target: str, text: str) -> None:
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        write_where_asked(Path(target), text)
    except OSError as error:
        raise InputError(f"{option} {target}: cannot be written ({error.strerror})") from None
