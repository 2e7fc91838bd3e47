"""Helpers of tests/comparison."""

from cnnbench.comparison.comparison import Options, compare
from cnnbench.comparison.records import record
from cnnbench.comparison.report import wording


def table(runs, **options):
    """Return the headers and cells of the table."""
    headers, cells = wording.table(compare([record(run) for run in runs], Options(**options)))
    return [headers, *cells]


def effects(runs, **options):
    """Return the effects by axis, value and family."""
    found = compare([record(run) for run in runs], Options(**options))
    return {(effect.axis, effect.value, effect.family): effect for effect in found.effects}
