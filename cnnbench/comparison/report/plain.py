"""A comparison as plain data: what `--json` writes and what the page and W&B show."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from cnnbench import __version__
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.effects import Effect
from cnnbench.comparison.metrics import figure, percent
from cnnbench.comparison.records import Record
from cnnbench.comparison.report.wording import sentence
from cnnbench.comparison.rows import Row
from cnnbench.comparison.statistics import Estimate

FORMAT = 1

BY = (
    "Intervals: 95 %; a row is the mean over families of architectures, and Student's t counts each family "
    "once (families - 1 degrees of freedom); of one family alone it counts the runs."
)
METHODS = (
    "Intervals: 95 %, Student's t over the runs of a row (n - 1 degrees of freedom), with the rounding of an "
    "accuracy on N images as the least spread; one run has none.",
    "Effects: differences of pairs that share everything but the axis; of times, speeds and sizes ratios, "
    "by the differences of their logarithms. Within a family: mean over strata, "
    "Welch-Satterthwaite degrees of freedom. Over families: Student's t with the family as the unit.",
    "p: two-sided, Holm's correction over the comparisons of the same kind in this table; where the baseline "
    "is the value that is best (on val, if trained), among themselves and over all pairs of values. Computed "
    "with scipy.special.stdtr and stdtrit.",
)
SOURCES = (
    "Welch, Biometrika 34 (1947) 28; Satterthwaite, Biometrics Bulletin 2 (1946) 110; "
    "Holm, Scandinavian Journal of Statistics 6 (1979) 65"
)


def methods_of(found: Comparison) -> list[str]:
    """How the numbers of this comparison were made."""
    rows = BY if found.options.by else METHODS[0]
    return [rows, *(METHODS[1:] if found.effects else ())]


def plain(found: Comparison) -> dict[str, Any]:
    """The whole comparison. Shares are between 0 and 1; what is missing is None."""
    names = sorted({key for record in found.records for key in record.figures})
    return {
        "format": FORMAT,
        "cnnbench": __version__,
        "metric": found.metric.key,
        "figures": {
            key: {
                "label": one.label,
                "higher": one.higher,
                "share": one.share,
                "unit": one.unit,
                "ratio": one.ratio,
                "percent": one.shown is percent,
            }
            for key in names
            if (one := figure(key))
        },
        "axes": list(found.columns),
        "select": list(found.select),
        "constant": dict(found.constant),
        "states": dict(found.states),
        "notes": list(found.notes),
        "problems": list(found.problems),
        "methods": [*methods_of(found), f"Sources: {SOURCES}."],
        "rows": [_row(found, row, names) for row in found.rows],
        "effects": [_effect(found, effect) for effect in found.effects],
        "runs": [_run(found, record) for record in found.records],
        "measurements": [_run(found, record) for record in found.beside],
    }


def _row(found: Comparison, row: Row, names: Sequence[str]) -> dict[str, Any]:
    return {
        "settings": dict(row.settings),
        "family": row.family,
        "n": row.scored,
        "of": row.states.total(),
        "states": dict(row.states),
        "score": _estimate(row.score),
        "val": row.val,
        "figures": {key: mean for key in names if (mean := row.mean(key)) is not None},
        "runs": [str(record.run.path) for record in row.records],
        "command": command(row.records),
    }


def _estimate(one: Estimate | None) -> dict[str, Any] | None:
    return {"mean": one.mean, "low": one.low, "high": one.high, "n": one.n} if one is not None else None


def _effect(found: Comparison, effect: Effect) -> dict[str, Any]:
    return {
        "axis": effect.axis,
        "baseline": effect.baseline,
        "value": effect.value,
        "family": effect.family,
        "families": effect.families,
        "pairs": effect.pairs,
        "lost": dict(effect.lost),
        "size": _estimate(effect.size),
        "p": effect.p,
        "comparisons": effect.comparisons,
        "shown": effect.shown,
        "words": sentence(effect, found.metric),
    }


def _run(found: Comparison, record: Record) -> dict[str, Any]:
    return {
        "name": record.run.path.name,
        "path": str(record.run.path),
        "experiment": record.experiment,
        "state": record.state,
        "seed": record.seed,
        "settings": {axis: record.settings.get(axis, "-") for axis in found.columns},
        "figures": record.figures,
        "error": record.error,
        "url": url(record),
    }


def url(record: Record) -> str:
    """The run's page at W&B; empty where it was never sent there."""
    try:
        found = (record.run.path / "wandb" / "url.txt").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
    return found if found.startswith(("https://", "http://")) else ""


def command(records: Sequence[Record]) -> str:
    """What trains these runs again; empty if they do not say.

    One command for all seeds where that is all they differ in.
    """
    said = [record.command for record in records if record.command]
    if not said:
        return ""
    words = [tuple(word for word in one if not word.startswith("seed=")) for one in said]
    seeds = ",".join(dict.fromkeys(record.seed for record in records))
    many = ["-m"] if "," in seeds else []
    verb = records[0].verb
    texts = [shlex.join(["cnnbench", verb, *many, *one, f"seed={seeds}"]) for one in dict.fromkeys(words)]
    return "\n".join(texts)


def table(found: Comparison) -> tuple[list[str], list[list[Any]]]:
    """Headers and raw values of the table: a row a configuration; what is missing is None."""
    scored = found.metric.key
    kind = found.kind
    others = [
        key for key in dict.fromkeys((kind.order, kind.metric, *found.columns_of_figures)) if key != scored
    ]
    without = ("diverged", "failed", "interrupted", "pruned", "running", "damaged")
    headers = [*found.columns, "n", "runs", *without, scored, "low", "high", *others]
    rows = []
    for row in found.rows:
        score, states = row.score, row.states
        values: list[Any] = [row.settings.get(axis, "-") for axis in found.columns]
        values += [row.scored, states.total(), *(states[state] for state in without)]
        values += [score.mean, score.low, score.high] if score is not None else [None, None, None]
        rows.append([*values, *(row.mean(key) for key in others)])
    return headers, rows
