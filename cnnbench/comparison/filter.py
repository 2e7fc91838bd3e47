"""Filters of the runs of a comparison, among which measurements stand beside trained runs."""

from __future__ import annotations

from collections.abc import Sequence

from cnnbench.comparison.configurations import axes, pooled
from cnnbench.comparison.measured import MODEL, WAY
from cnnbench.comparison.records import Record
from cnnbench.errors import NotThere
from cnnbench.run_store.select import Condition, select


def select_records(records: Sequence[Record], conditions: Sequence[Condition]) -> list[Record]:
    """Return the runs that meet all conditions.

    Where there are both trained runs and measurements, a condition on how a model is measured concerns the
    measurements, one on the model concerns both, and any other concerns the trained runs.

    Args:
        records: the runs.
        conditions: see `cnnbench.run_store.select.select`.

    Raises:
        InputError: a key that none of the runs has, or a state that does not exist.
        NotThere: no run meets them.
    """
    both = len({record.verb for record in records}) > 1

    def concerns(record: Record, key: str) -> bool:
        return not both or key.startswith(MODEL) or key.startswith(WAY) == (record.verb == "bench")

    selected, reason = select(records, conditions, _settings, concerns, lambda: axes(pooled(records)))
    if reason:
        raise NotThere(reason)
    return selected


def _settings(record: Record) -> dict[str, str]:
    own = {"seed": record.seed, "state": record.state, "name": record.experiment}
    return record.config | record.settings | own
