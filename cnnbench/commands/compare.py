"""`cnnbench compare [PATH …] [KEY=VALUE …]`: which choice won, and by how much."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cnnbench import console
from cnnbench.commands.parser import Parser
from cnnbench.comparison.comparison import Comparison, Options, compare
from cnnbench.comparison.filter import select_records
from cnnbench.comparison.metrics import DEFAULT, LATENCY
from cnnbench.comparison.records import read
from cnnbench.comparison.report import files, terminal, to_wandb
from cnnbench.comparison.report.page import page
from cnnbench.comparison.report.plots import draw
from cnnbench.comparison.report.watch import watch
from cnnbench.errors import InputError
from cnnbench.pages.plot_style import installed
from cnnbench.run_store.find import outputs, split_words
from cnnbench.run_store.select import parse_condition
from cnnbench.run_store.targets import check_targets, write_target
from cnnbench.tracking import wandb_report

RELOAD_S = 5
"""The seconds after which a browser reloads a watched page."""


def main(arguments: list[str]) -> int:
    """Compare the runs below some folders: print the comparison and write the requested files."""
    args = _parser().parse_intermixed_args(arguments)
    paths, words = split_words(args.words)
    filters = args.filter or []
    conditions = [parse_condition(word) for word in words]
    conditions += [parse_condition(text, "--filter") for text in filters]
    options = Options(
        metric=args.metric or "",
        sort=args.sort or "",
        by=tuple(_listed(args.by or [])),
        select=None if args.select is None else tuple(_listed(args.select)),
        baselines=dict(parse_condition(text, "--baseline") for text in args.baseline or []),
    )
    targets = {name: text for name in (*files.FORMATS, "html") if (text := getattr(args, name)) is not None}
    check_targets(**targets)
    if args.plots is not None:
        draw.check(args.plots)
    if args.watch:
        _check_watched(targets)
    wandb_target = wandb_report.target(args)
    title = ", ".join(map(str, paths))

    def current() -> Comparison:
        unread: list[str] = []
        comparison = compare(select_records(read(paths, unread), conditions), options)
        return replace(comparison, problems=[*unread, *comparison.problems])

    if args.watch:
        watch(paths, lambda: _rewrite(current(), title, targets))
    comparison = current()
    if "-" in targets.values():  # counts and problems are reported even if standard output takes the numbers
        lines = [terminal.heading(comparison, title), *terminal.problems(comparison.problems)]
        console.console.print(*lines, sep="\n", highlight=False, soft_wrap=True)
    else:
        console.out.print(terminal.picture(comparison, title), highlight=False)
    for name, target in targets.items():
        _write(f"--{name}", target, _text(comparison, title, name, target))
        if target != "-":
            console.console.print(f"written: {target}", highlight=False, markup=False, soft_wrap=True)
    if args.plots is not None:
        _plot(comparison, Path(args.plots))
    if wandb_target is not None:
        picked = [path.name for path in paths if (path / "status.json").is_file()]
        _log(comparison, title, wandb_target, [*words, *filters, *picked])
    return 0


def _text(comparison: Comparison, title: str, name: str, target: str, reload_s: float = 0) -> str:
    """Return the text of one of the requested files."""
    if name == "html":
        return page(comparison, title, Path(target), reload_s)
    return files.FORMATS[name](comparison)


def _check_watched(targets: Mapping[str, str]) -> None:
    """Check that `--watch` has a page to rewrite, and files only."""
    if "html" not in targets:
        raise InputError("--watch: rewrites a page as runs finish; allowed: with --html FILE")
    for name, target in targets.items():
        if target == "-":
            raise InputError(f"--{name} -: standard output cannot be rewritten; allowed with --watch: a file")


def _rewrite(comparison: Comparison, title: str, targets: Mapping[str, str]) -> None:
    """Write the files of `--watch` and print one line; the table is printed at the end."""
    for name, target in targets.items():
        _write(f"--{name}", target, _text(comparison, title, name, target, RELOAD_S))
    line = f"{datetime.now().strftime('%H:%M:%S')} {', '.join(targets.values())}:"
    heading = terminal.heading(comparison, title)
    console.console.print(line, heading, highlight=False, markup=False, soft_wrap=True)


def _plot(comparison: Comparison, folder: Path) -> None:
    try:
        written = draw.write(comparison, folder)
    except OSError as error:
        raise InputError(f"--plots {folder}: cannot be written ({error.strerror})") from None
    line = f"written: {len(written)} plots, each as PNG and SVG, in {folder}"
    console.console.print(line if written else "--plots: nothing to draw", highlight=False, markup=False)


def _log(comparison: Comparison, title: str, target: wandb_report.Target, only: Sequence[str]) -> None:
    """Log the comparison, the page and, if matplotlib is installed, the plots to W&B."""
    with tempfile.TemporaryDirectory() as folder:
        images = draw.write(comparison, Path(folder)) if installed() else []
        file = Path(folder) / "page.html"
        file.write_text(page(comparison, title, to_wandb.home(comparison) / file.name), encoding="utf-8")
        to_wandb.log(comparison, target, {image.stem: image for image in images}, file, only)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "cnnbench compare",
        usage="cnnbench compare [PATH …] [KEY=VALUE …] [OPTION …]",
        description="Show which choice won, by how much, and whether the difference is more than noise. "
        "Runs that differ in nothing but the seed form one row, with a 95 % confidence interval; each "
        "setting that varies (an axis) has a table of effects against a baseline.",
        epilog="example: cnnbench compare outputs/ablation_norm --by ops.norm --html norm.html",
    )
    options = {
        "--filter KEY=VALUE": "compare only the runs with this setting; the same as KEY=VALUE alone",
        "--by KEY": "one row per value of this axis, pooled over all other settings",
        "--select KEY": "a tuned setting: only its best value is shown in each row (on val for trained runs, "
        "by latency for measurements); '' for none (default: the tuned settings of the experiment)",
        "--baseline KEY=VALUE": "the value that the effects of an axis are relative to",
        "--metric KEY": f"the metric to compare, a key of summary.json (default: {DEFAULT}; "
        f"for measurements {LATENCY})",
        "--sort KEY": "sort rows by a metric or an axis (default: val accuracy; for measurements latency)",
        "--csv FILE": "write the rows, unrounded; - for standard output",
        "--json FILE": "write everything, unrounded; - for standard output",
        "--markdown FILE": "write the table and the effects; - for standard output",
        "--latex FILE": "write the table, with booktabs rules; - for standard output",
        "--html FILE": "write a page with charts, sortable tables and learning curves, as a single file",
        "--plots DIR": "draw plots for a paper, as PNG and SVG",
    }
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PATH or KEY=VALUE",
        help=f"folders of runs, or runs (default: {outputs()}); and conditions: state, seed, name (of the "
        "experiment) or any setting, with one or several values, separated by commas",
    )
    several = ("--filter", "--by", "--select", "--baseline")
    for text, meaning in options.items():
        option, _, metavar = text.partition(" ")
        action = "append" if option in several else "store"
        parser.add_argument(option, action=action, metavar=metavar, help=meaning)
    parser.add_argument(
        "--watch", action="store_true", help="with --html: rewrite the files as runs finish, until Ctrl-C"
    )
    wandb_report.add_options(parser, "tables, charts and the page")
    return parser


def _listed(values: Sequence[str]) -> list[str]:
    """Split the values of an option that may be repeated: `--by a,b --by c` gives [a, b, c]."""
    return [key for value in values for key in value.split(",") if key]


def _write(option: str, target: str, text: str) -> None:
    if target == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()
        return
    try:
        write_target(Path(target), text)
    except OSError as error:
        raise InputError(f"{option} {target}: cannot be written ({error.strerror})") from None
