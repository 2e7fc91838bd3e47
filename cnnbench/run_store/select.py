"""Filters of runs: the conditions KEY=VALUE of `cnnbench runs`, `cnnbench sync` and `cnnbench compare`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from cnnbench import console
from cnnbench.errors import InputError, suggest
from cnnbench.run_store import lease
from cnnbench.run_store.find import flat, matches
from cnnbench.run_store.run import Run
from cnnbench.run_store.schema import STATES

Condition = tuple[str, str]
"""A key and its allowed values, separated by commas: `("ops.norm", "batch,none")`."""

SELECTABLE_STATES = (*STATES, "damaged")

Item = TypeVar("Item")


def parse_condition(text: str, option: str = "") -> Condition:
    """Split `KEY=VALUE` into its key and its value.

    Args:
        text: a word of the command line.
        option: the option that takes it, for the error message; empty for a positional word.

    Raises:
        InputError: the key or the `=` is missing.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"{option} {text}: allowed: KEY=VALUE, as in ops.norm=batch".lstrip())
    return key, value


def select(
    items: Sequence[Item],
    conditions: Sequence[Condition],
    settings: Callable[[Item], Mapping[str, str]],
    concerns: Callable[[Item, str], bool] = lambda item, key: True,
    differing: Callable[[], Iterable[str]] | None = None,
) -> tuple[list[Item], str]:
    """Return the runs that meet all conditions, in their order.

    Args:
        items: the runs.
        conditions: on any key of their settings; `arch` stands for `arch.name`.
        settings: returns the flat settings of a run, with its `state` among them.
        concerns: whether a condition on a key applies to a run. Runs that it does not concern are kept.
        differing: the settings that an error about an unknown key lists; None for all that differ.

    Returns:
        The runs, and an empty text. If a condition is met by none of the runs that it concerns and that the
        conditions before it left: no runs, and a line that says so.

    Raises:
        InputError: a key that none of the runs has, or a state that does not exist.
    """
    values = [settings(item) for item in items]
    keys = {"state"}.union(*values)
    names = [f"{key}.name" if f"{key}.name" in keys else key for key, _ in conditions]
    for name, (key, value) in zip(names, conditions, strict=True):
        if name not in keys:
            listed = _differing(values) if differing is None else differing()
            raise unknown_setting(f"{key}={value}", key, keys, listed)
        if name == "state":
            _check_states(value)
    selected = list(zip(items, values, strict=True))
    for i, (name, (key, value)) in enumerate(zip(names, conditions, strict=True), 1):
        concerned = [own for item, own in selected if concerns(item, name)]
        if not any(matches(own.get(name), value) for own in concerned):
            present = natural_order({own[name] for own in concerned if name in own})
            reason = suggest(value, present) if present else f"none of the remaining runs has {key}"
            return [], f"no run with {' '.join(f'{k}={v}' for k, v in conditions[:i])}; {reason}"
        selected = [
            (item, own) for item, own in selected if not concerns(item, name) or matches(own.get(name), value)
        ]
    return [item for item, _ in selected], ""


def select_runs(
    runs: Sequence[Run], states: Mapping[Run, str], conditions: Sequence[Condition]
) -> tuple[list[Run], str]:
    """Return the runs that meet all conditions on their settings, `seed`, `state` and `name`; see `select`.

    Args:
        runs: the runs.
        states: the state of each, see `states_of`.
        conditions: see `select`.
    """
    configs_count = any(key != "state" for key, _ in conditions)  # else none of them needs to be read

    def settings(run: Run) -> dict[str, str]:
        config = flat(run.config()) if configs_count else {}
        return {"name": run.path.parent.name} | config | {"state": states[run]}

    return select(runs, conditions, settings)


def _check_states(value: str) -> None:
    for state in value.split(","):
        if state not in SELECTABLE_STATES:
            raise InputError(f"state={value}: no such state; {suggest(state, SELECTABLE_STATES)}")


def unknown_setting(text: str, key: str, keys: Iterable[str], differing: Iterable[str]) -> InputError:
    """Return the error for a setting that none of the runs has.

    Args:
        text: what the user wrote, as in `ops.nrm=none` or `--by ops.nrm`.
        key: the setting in it.
        keys: the settings of the runs, for a suggestion.
        differing: settings to choose from, which the message lists.
    """
    near = suggest(key, sorted(keys)).partition("allowed: ")[0]  # ends with a blank unless it is empty
    listed = ", ".join(name.removesuffix(".name") for name in differing)
    differ = f"those that differ here: {listed}" if listed else "see config.yaml"
    return InputError(f"{text}: none of these runs has this setting; {near}{differ}")


def _differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the settings with several values, without those that repeat others."""
    keys = {key for own in settings for key in own}
    keys -= {key for key in keys if key in ("command", "select") or key.endswith("_target_")}
    return sorted(key for key in keys if len({own.get(key) for own in settings}) > 1)


def natural_order(values: Iterable[str]) -> list[str]:
    """Return the values of a setting in order: off first, then numbers by size, then words."""

    def key(value: str) -> tuple[int, float, str]:
        if value in ("null", "false", "none"):
            return 0, 0.0, value
        try:
            return 1, float(value), value
        except ValueError:
            return 2, 0.0, value

    return sorted(values, key=key)


def states_of(runs: Sequence[Run]) -> dict[Run, str]:
    """Return the state of each run; leases held on other machines are watched until renewed or expired."""
    states = {run: run.state for run in runs}
    here = socket.gethostname()
    away = [run for run, state in states.items() if state == "running" and run.status().get("host") != here]
    if away:
        with console.console.status(f"checking whether {len(away)} runs on other machines are still alive"):
            silent = lease.watch(run.path for run in away)
        states |= {run: run.state for run in away if run.path in silent}
    return states


def when(run: Run) -> str:
    """Return the time of the last change of a run, as text that sorts by time."""
    attempts = run.status().get("attempts") or [{}]
    last = attempts[-1]
    return str(last.get("ended") or last.get("started") or "")
