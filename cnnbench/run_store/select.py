"""Runs that meet conditions."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from cnnbench import console
from cnnbench.errors import InputError, suggest
from cnnbench.run_store import lease
from cnnbench.run_store.find import flat, matches
from cnnbench.run_store.run import STATES, Run


def judged(runs: Sequence[Run]) -> dict[Run, str]:
    """The state of each run; those said to be trained on other machines are watched for a sign of life."""
    states = {run: run.state for run in runs}
    here = socket.gethostname()
    away = [run for run, state in states.items() if state == "running" and run.status().get("host") != here]
    if away:
        with console.console.status(f"looking for a sign of life of {len(away)} runs on other machines"):
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
