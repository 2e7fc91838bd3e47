"""Runs that meet the conditions of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from cnnbench.comparison.comparison import unknown
from cnnbench.comparison.configurations import axes, pooled
from cnnbench.comparison.effects import ordered
from cnnbench.comparison.measured import MODEL, WAY
from cnnbench.comparison.records import Record
from cnnbench.errors import InputError, NotThere, suggest
from cnnbench.run_store.find import matches
from cnnbench.run_store.run import STATES


def chosen(records: Sequence[Record], wanted: Sequence[tuple[str, str]]) -> list[Record]:
    """The runs that meet all conditions.

    Raises:
        InputError: a condition on what none of the runs has.
        NotThere: none meets them.
    """
    found = list(records)
    both = len({record.verb for record in records}) > 1
    keys = {key for record in records for key in (*record.settings, "seed", "state", "name")}
    for i, (key, value) in enumerate(wanted, 1):
        name = f"{key}.name" if f"{key}.name" in keys else key
        if name not in keys:
            raise unknown(f"{key}={value}", key, keys, axes(pooled(records)))
        for state in value.split(",") if name == "state" else ():
            if state not in (*STATES, "damaged"):
                raise InputError(f"{key}={value}: no such state; {suggest(state, (*STATES, 'damaged'))}")
        about = [record for record in found if not both or record.verb in _concerned(name)]
        there = {had for record in about if (had := _value(record, name)) is not None}
        met = [record for record in about if matches(_value(record, name), value)]
        apart = [record for record in found if both and record.verb not in _concerned(name)]
        found = [*apart, *met]
        if not met:
            asked = " ".join(f"{key}={value}" for key, value in wanted[:i])
            had = suggest(value, ordered(there)) if there else f"where the rest holds, there is no {key}"
            raise NotThere(f"no run with {asked}; {had}")
    return found


def _concerned(key: str) -> tuple[str, ...]:
    """Runs of which verbs a condition is about, where measurements stand beside what was trained.

    How it was measured, or how it was trained; the model of both.
    """
    if key.startswith(MODEL):
        return "train", "bench"
    return ("bench",) if key.startswith(WAY) else ("train",)


def _value(record: Record, key: str) -> str | None:
    own = {"seed": record.seed, "state": record.state, "name": record.experiment}
    return own.get(key) or record.settings.get(key)
