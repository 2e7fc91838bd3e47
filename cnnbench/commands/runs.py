"""`cnnbench runs [PATH …] [KEY=VALUE …]`: list runs, show one, or remove failed ones."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import LeaseSettingsMismatch, Timeout
from rich.console import Group

from cnnbench import console
from cnnbench.commands.parser import Parser
from cnnbench.errors import InputError, of_system
from cnnbench.run_store import lease, table
from cnnbench.run_store.find import below, outputs, split_words
from cnnbench.run_store.run import Run
from cnnbench.run_store.select import parse_condition, select_runs, states_of, when
from cnnbench.run_store.table import run_table

CLEANED = ("failed", "interrupted", "diverged", "pruned", "damaged")
"""States of runs that `--clean` can remove; `failed` by default."""

REMOVED = ".removed-"
"""Beginning of the name of a run's folder while it is being removed."""

DAMAGE = 10
"""Damaged files that are named below the table."""


def main(arguments: list[str]) -> int:
    """Print a table of the runs below the given paths, newest first, or the result of a single run."""
    parser = Parser(
        "cnnbench runs",
        usage="cnnbench runs [PATH …] [KEY=VALUE …] [--limit N] [--clean [--yes]]",
        description="List runs, newest first, or show one run.",
        epilog="example: cnnbench runs outputs/rates arch=resnet18 ops.norm=none,batch state=failed",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PATH or KEY=VALUE",
        help=f"folders of runs, or one run (default: {outputs()}); and conditions: state=…, or any setting",
    )
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="rows to show (default: 100)")
    parser.add_argument(
        "--clean", action="store_true", help="remove failed runs, or those in the given state"
    )
    parser.add_argument("--yes", action="store_true", help="with --clean: remove without asking")
    args = parser.parse_intermixed_args(arguments)
    if args.limit < 1:
        raise InputError(f"--limit={args.limit}: allowed: 1 or more")
    paths, words = split_words(args.words)
    conditions = [parse_condition(word) for word in words]
    runs = below(paths, _say)
    if args.clean:
        _finish_removals(paths)
    if not runs:
        raise InputError(f"{', '.join(map(str, paths))}: no run here (a folder with a status.json)")
    if len(runs) == 1 and runs[0].path in paths and not args.clean:
        console.out.print(run_picture(runs[0]))
        return 0
    states = states_of(runs)
    if args.clean:
        if not any(key == "state" for key, _ in conditions):
            conditions.append(("state", "failed"))
        states_given = {state for key, value in conditions if key == "state" for state in value.split(",")}
        if kept := states_given - set(CLEANED):
            allowed = ", ".join(CLEANED)
            raise InputError(f"state={','.join(sorted(kept))}: not removed by --clean; allowed: {allowed}")
    runs, reason = select_runs(runs, states, conditions)
    runs.sort(key=when, reverse=True)
    if args.clean:
        return clean(runs, states, yes=args.yes)
    if not runs:
        console.out.print(reason, highlight=False, markup=False)
        return 0
    console.out.print(table.runs_table(runs[: args.limit], states))
    counts = Counter(states[run] for run in runs)
    text = f"{len(runs)} run{'s' * (len(runs) > 1)}"
    text += "".join(f", {n} {state}" for state, n in sorted(counts.items()))
    if len(runs) > args.limit:
        text += f"; showing the newest {args.limit} (--limit {len(runs)} shows all)"
    console.out.print(text)
    damage = [problem for run in runs if states[run] == "damaged" for problem in run.damage]
    for problem in damage[:DAMAGE]:
        _say(f"damaged: {console.legible(problem, 400)}")
    if len(damage) > DAMAGE:
        _say(f"damaged: {len(damage) - DAMAGE} more files (cnnbench runs RUN names those of a run)")
    return 0


def _say(text: str) -> None:
    console.console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)


def clean(runs: Sequence[Run], states: Mapping[Run, str], *, yes: bool) -> int:
    """Remove runs, after asking unless `yes`; return the exit code."""
    if not runs:
        console.out.print("nothing to remove")
        return 0
    console.out.print(table.runs_table(runs, states))
    if not yes:
        try:
            answer = input(f"remove {len(runs)} run{'s' * (len(runs) > 1)} permanently? [y/N] ")
        except EOFError:
            raise InputError("--clean: no answer on standard input; --yes removes without asking") from None
        if answer.strip().lower() not in ("y", "yes"):
            console.out.print("nothing removed")
            return 0
    removed = failed = 0
    for run in runs:
        try:
            removed += _remove(run, states[run])
        except OSError as error:
            _say(f"error: {_reason(error, run.path)}; kept")
            failed += 1
    console.out.print(f"{removed} run{'s' * (removed != 1)} removed")
    return 1 if failed else 0


def _remove(run: Run, state: str) -> bool:
    """Remove a run, and return True, unless it is not what was shown.

    Raises:
        OSError: it cannot be removed.
    """
    if run.path.is_symlink():
        _say(f"{run.path}: is a link to a run elsewhere; kept")
        return False
    status = run.status()
    if run.state == state:
        # Renamed first, so that an interrupted removal leaves no incomplete run.
        hidden = run.path.with_name(f"{REMOVED}{run.path.name}-{os.getpid()}")
        with suppress(Timeout, LeaseSettingsMismatch, FileNotFoundError):
            with lease.of(run.path):  # nobody may train it meanwhile
                if run.status() == status:
                    run.path.rename(hidden)
            with suppress(OSError):
                run.path.rmdir()  # made by the lease of a run that another process has removed
        if hidden.exists():
            shutil.rmtree(hidden, onerror=_unless_gone)
            return True
    _say(f"{run.path}: is {run.state} now; kept" if run.path.exists() else f"{run.path}: is gone")
    return False


def _finish_removals(paths: Iterable[Path]) -> None:
    """Remove what interrupted removals have left."""
    for path in paths:
        for parent, folders, _ in os.walk(path):
            rests = [Path(parent, name) for name in folders if name.startswith(REMOVED)]
            folders[:] = [name for name in folders if not name.startswith(".")]
            for rest in rests:
                try:
                    if not rest.is_symlink():
                        shutil.rmtree(rest, onerror=_unless_gone)
                        _say(f"{rest}: was left by an interrupted removal; removed")
                except OSError as error:
                    _say(f"error: {_reason(error, rest)}")


def _reason(error: OSError, folder: Path) -> str:
    """Return why a folder cannot be removed; the error itself names a file in it, without its folder."""
    return of_system(OSError(error.errno, error.strerror), folder) or f"{folder}: {error}"


def _unless_gone(function: object, path: str, info: tuple[object, BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):  # the process that removes it is at work
        raise info[1]


def run_picture(run: Run) -> Group:
    """Return the result of one run for the terminal; for a measurement with its tables."""
    if run.verb != "bench":
        return Group(run_table(run))
    from cnnbench.bench import table as bench_table

    tables = (bench_table.batches(run), bench_table.errors(run))
    return Group(run_table(run, bench_table.lines(run)), *filter(None, tables))
