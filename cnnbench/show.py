"""`cnnbench runs [PATH …] [KEY=VALUE …]`: what runs there are, or one run; and taking away what failed."""

from __future__ import annotations

import argparse
import shutil
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cnnbench import lease, ui
from cnnbench.errors import InputError, suggest
from cnnbench.runs import STATES, Run, below, flat, matches, outputs, sorted_words

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
    paths, conditions = sorted_words(asked.words)
    wanted = dict(word.split("=", 1) for word in conditions)
    runs = below(paths, _say)
    if not runs:
        raise InputError(f"{', '.join(map(str, paths))}: no run here (a folder with a status.json)")
    if len(runs) == 1 and runs[0].path in paths and not asked.clean:
        ui.out.print(ui.run_picture(runs[0]))
        return 0
    states = judged(runs)
    if asked.clean:
        wanted.setdefault("state", "failed")
        if unfit := set(wanted["state"].split(",")) - set(CLEANED):
            raise InputError(f"state={','.join(sorted(unfit))}: not cleaned; allowed: {', '.join(CLEANED)}")
    runs = chosen(runs, states, wanted)
    runs.sort(key=lambda run: when(run), reverse=True)
    if asked.clean:
        return clean(runs, states, yes=asked.yes)
    if not runs:
        ui.out.print(f"no run with {' '.join(f'{key}={value}' for key, value in wanted.items())}")
        return 0
    ui.out.print(ui.runs_table(runs[: asked.limit], states))
    counts = Counter(states[run] for run in runs)
    text = f"{len(runs)} run{'s' * (len(runs) > 1)}"
    text += "".join(f", {n} {state}" for state, n in sorted(counts.items()))
    if len(runs) > asked.limit:
        text += f"; the newest {asked.limit} are shown (--limit {len(runs)} shows all)"
    ui.out.print(text)
    return 0


def _say(text: str) -> None:
    ui.console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)


def judged(runs: Sequence[Run]) -> dict[Run, str]:
    """The state of each run; those said to be trained on other machines are watched for a sign of life."""
    states = {run: run.state for run in runs}
    here = socket.gethostname()
    away = [run for run, state in states.items() if state == "running" and run.status().get("host") != here]
    if away:
        with ui.console.status(f"looking for a sign of life of {len(away)} runs on other machines"):
            silent = lease.watch(run.path for run in away)
        states |= {run: run.state for run in away if run.path in silent}
    return states


def chosen(runs: Sequence[Run], states: Mapping[Run, str], wanted: Mapping[str, str]) -> list[Run]:
    """The runs that meet all conditions; several values of one are separated by commas.

    Raises:
        InputError: a state that there is not, or a setting that none of the runs has.
    """
    wanted = dict(wanted)
    found = list(runs)
    if "state" in wanted:
        allowed = wanted.pop("state").split(",")
        for state in allowed:
            if state not in (*STATES, "damaged"):
                raise InputError(f"state={state}: no such state; {suggest(state, (*STATES, 'damaged'))}")
        found = [run for run in found if states[run] in allowed]
    if not wanted:
        return found
    configs = {run: flat(run.config()) for run in runs}
    for key, value in wanted.items():
        name = f"{key}.name" if any(f"{key}.name" in config for config in configs.values()) else key
        if not any(name in config for config in configs.values()):
            known = sorted({k for config in configs.values() for k in config})
            raise InputError(f"{key}={value}: none of these runs has this setting; {suggest(key, known)}")
        found = [run for run in found if matches(configs[run].get(name), value)]
    return found


def when(run: Run) -> str:
    """When something last happened to a run, so that later is greater."""
    attempts: list[dict[str, Any]] = run.status().get("attempts") or [{}]
    last = attempts[-1]
    return str(last.get("ended") or last.get("started") or "")


def clean(runs: Sequence[Run], states: Mapping[Run, str], *, yes: bool) -> int:
    """Remove runs, after asking."""
    if not runs:
        ui.out.print("nothing to remove")
        return 0
    ui.out.print(ui.runs_table(runs, states))
    if not yes:
        try:
            answer = input(f"remove {len(runs)} run{'s' * (len(runs) > 1)} for good? [y/N] ")
        except EOFError:
            raise InputError("--clean: nobody answered; --yes removes without asking") from None
        if answer.strip().lower() not in ("y", "yes"):
            ui.out.print("nothing was removed")
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
    ui.out.print(f"{removed} run{'s' * (removed != 1)} removed")
    return 0
