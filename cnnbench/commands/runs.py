"""`cnnbench runs [PATH …] [KEY=VALUE …]`: what runs there are, or one run; and taking away what failed."""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Group

from cnnbench import console
from cnnbench.errors import InputError
from cnnbench.run_store import table
from cnnbench.run_store.find import below, outputs, sorted_words
from cnnbench.run_store.run import Run
from cnnbench.run_store.select import judged, parse_condition, select_runs, when
from cnnbench.run_store.table import run_table

CLEANED = ("failed", "interrupted", "diverged", "pruned", "damaged")
"""States that `--clean` may be asked for; it takes `failed` if it is asked for none."""


def main(arguments: list[str]) -> int:
    """Print a table of the runs below each path, newest first, or the figures of a single run."""
    parser = argparse.ArgumentParser(
        "cnnbench runs",
        usage="cnnbench runs [PATH …] [KEY=VALUE …] [--limit N] [--clean [--yes]]",
        description="Show what runs there are, newest first, or one run.",
        epilog="example: cnnbench runs outputs/rates arch=resnet18 ops.norm=none,batch state=failed",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PATH or KEY=VALUE",
        help=f"folders of runs, or a run (default: {outputs()}); and conditions: state, or any setting",
    )
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="rows to show (default: 100)")
    parser.add_argument(
        "--clean", action="store_true", help="remove the runs that failed (or have the state asked for)"
    )
    parser.add_argument("--yes", action="store_true", help="with --clean: do not ask")
    asked = parser.parse_intermixed_args(arguments)
    if asked.limit < 1:
        raise InputError(f"--limit={asked.limit}: allowed: 1 or more")
    paths, words = sorted_words(asked.words)
    conditions = [parse_condition(word) for word in words]
    runs = below(paths, _say)
    if not runs:
        raise InputError(f"{', '.join(map(str, paths))}: no run here (a folder with a status.json)")
    if len(runs) == 1 and runs[0].path in paths and not asked.clean:
        console.out.print(run_picture(runs[0]))
        return 0
    states = judged(runs)
    if asked.clean:
        if not any(key == "state" for key, _ in conditions):
            conditions.append(("state", "failed"))
        listed = {state for key, value in conditions if key == "state" for state in value.split(",")}
        if unfit := listed - set(CLEANED):
            raise InputError(f"state={','.join(sorted(unfit))}: not cleaned; allowed: {', '.join(CLEANED)}")
    runs, reason = select_runs(runs, states, conditions)
    runs.sort(key=lambda run: when(run), reverse=True)
    if asked.clean:
        return clean(runs, states, yes=asked.yes)
    if not runs:
        console.out.print(reason, highlight=False, markup=False)
        return 0
    console.out.print(table.runs_table(runs[: asked.limit], states))
    counts = Counter(states[run] for run in runs)
    text = f"{len(runs)} run{'s' * (len(runs) > 1)}"
    text += "".join(f", {n} {state}" for state, n in sorted(counts.items()))
    if len(runs) > asked.limit:
        text += f"; the newest {asked.limit} are shown (--limit {len(runs)} shows all)"
    console.out.print(text)
    return 0


def _say(text: str) -> None:
    console.console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)


def clean(runs: Sequence[Run], states: Mapping[Run, str], *, yes: bool) -> int:
    """Remove runs, after asking."""
    if not runs:
        console.out.print("nothing to remove")
        return 0
    console.out.print(table.runs_table(runs, states))
    if not yes:
        try:
            answer = input(f"remove {len(runs)} run{'s' * (len(runs) > 1)} for good? [y/N] ")
        except EOFError:
            raise InputError("--clean: nobody answered; --yes removes without asking") from None
        if answer.strip().lower() not in ("y", "yes"):
            console.out.print("nothing was removed")
            return 0
    removed = 0
    for run in runs:
        if run.state != states[run]:
            _say(f"{run.path}: is {run.state} by now, and stays")
            continue
        if run.path.is_symlink():
            _say(f"{run.path}: is a link to a run elsewhere, and stays")
            continue
        # Out of the way at once: a removal that is interrupted leaves no half of a run.
        aside = run.path.with_name(f".removed-{run.path.name}")
        run.path.rename(aside)
        shutil.rmtree(aside)
        removed += 1
    console.out.print(f"{removed} run{'s' * (removed != 1)} removed")
    return 0


def run_picture(run: Run) -> Group:
    """One run: what came out, and where it lies; of a measurement also its tables."""
    if run.verb != "bench":
        return Group(run_table(run))
    from cnnbench.bench import table

    more = (table.batches(run), table.errors(run))
    return Group(run_table(run, table.lines(run)), *(one for one in more if one is not None))
