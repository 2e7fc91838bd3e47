"""A comparison as plain data, which `--json` writes and the page and W&B show."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from cnnbench import __version__, console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.effects import Effect
from cnnbench.comparison.metrics import Figure, figure
from cnnbench.comparison.records import Record
from cnnbench.comparison.report.wording import sentence
from cnnbench.comparison.responses import Curve, Response
from cnnbench.comparison.rows import Row
from cnnbench.comparison.statistics import Estimate
from cnnbench.run_store.reading import LONGEST_URL, Unfit, decoded, read

FORMAT = 1

BY = (
    "Intervals: 95 % confidence. A row is the mean over families of architectures, a family the mean over "
    "its configurations; Student's t with the family as the unit (families - 1 degrees of freedom). In a row "
    "with one family the error comes from the runs within each configuration (Welch-Satterthwaite degrees of "
    "freedom) or, if a configuration has a single run, from the configurations' means."
)
"""The method for rows that `--by` pools."""

METHODS = (
    "Intervals: 95 % confidence, Student's t over the runs of a row (n - 1 degrees of freedom). The standard "
    "deviation of an accuracy on N images is at least that of rounding to multiples of 1/N. A single run has "
    "no interval.",
    "Effects: mean differences of pairs of runs that share the seed and every other setting (except tuned "
    "ones and those that follow from the axis); for times, speeds and sizes ratios, from differences of "
    "logarithms. Within a family: mean over strata (pairs that differ in nothing but the seed), "
    "Welch-Satterthwaite degrees of freedom or, if a stratum has a single pair, Student's t over the means "
    "of the strata. Over families: Student's t with the family as the unit.",
    "p: two-sided, with Holm's correction: over all effects over families (or of an axis's only family) "
    "together, and over all others within families together. An axis of three or more values whose baseline "
    "is the best of them (on val if trained, by latency if measured) is corrected separately, over all pairs "
    "of its values. Computed with scipy.special.stdtr and stdtrit.",
)
"""The methods for rows that are configurations, for effects, and for p-values."""

SOURCES = (
    "Welch, Biometrika 34 (1947) 28; Satterthwaite, Biometrics Bulletin 2 (1946) 110; "
    "Holm, Scandinavian Journal of Statistics 6 (1979) 65"
)


def methods_of(comparison: Comparison) -> list[str]:
    """Return the statistical methods behind the numbers of this comparison."""
    rows = BY if comparison.options.by else METHODS[0]
    return [rows, *(METHODS[1:] if comparison.effects else ())]


def plain(comparison: Comparison) -> dict[str, Any]:
    """Return all of a comparison as plain data. Shares are between 0 and 1; missing values are None."""
    keys = sorted({key for record in comparison.records for key in record.figures})
    return {
        "format": FORMAT,
        "cnnbench": __version__,
        "metric": comparison.metric.key,
        "figures": {key: _metric(figure(key)) for key in keys},
        "axes": list(comparison.columns),
        "select": list(comparison.select),
        "constant": dict(comparison.constant),
        "states": dict(comparison.states),
        "findings": list(comparison.findings),
        "notes": list(comparison.notes),
        "problems": list(comparison.problems),
        "methods": [*methods_of(comparison), f"Sources: {SOURCES}."],
        "rows": [_row(row, keys) for row in comparison.rows],
        "effects": [_effect(effect, comparison.metric) for effect in comparison.effects],
        "responses": [_response(response) for response in comparison.responses],
        "runs": [_run(comparison, record) for record in comparison.records],
        "measurements": [_run(comparison, record) for record in comparison.beside],
    }


def _metric(metric: Figure) -> dict[str, Any]:
    return {
        "label": metric.label,
        "higher": metric.higher,
        "share": metric.share,
        "unit": metric.unit,
        "ratio": metric.ratio,
        "percent": metric.shown is console.share,
    }


def _row(row: Row, keys: Sequence[str]) -> dict[str, Any]:
    return {
        "settings": dict(row.settings),
        "family": row.family,
        "n": row.scored,
        "of": row.states.total(),
        "states": dict(row.states),
        "score": _estimate(row.score),
        "val": row.val,
        "figures": {key: mean for key in keys if (mean := row.mean(key)) is not None},
        "runs": [str(record.run.path) for record in row.records],
        "command": command(row.records),
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def _effect(effect: Effect, metric: Figure) -> dict[str, Any]:
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
        "words": sentence(effect, metric),
    }


def _response(response: Response) -> dict[str, Any]:
    return {
        "axis": response.axis,
        "metric": response.metric.key,
        "logarithmic": response.logarithmic,
        "joined": response.joined,
        "left": list(response.left),
        "curves": [_curve(curve) for curve in response.curves],
    }


def _curve(curve: Curve) -> dict[str, Any]:
    points = [
        {"value": point.value, "runs": [str(record.run.path) for record in point.records]}
        for point in curve.points
    ]
    noise = None if curve.noise is None else [curve.points[i].value for i in curve.noise]
    best = None if curve.best is None else curve.points[curve.best].value
    return {"name": curve.name, "best": best, "within_noise": noise, "points": points}


def _run(comparison: Comparison, record: Record) -> dict[str, Any]:
    return {
        "name": record.run.path.name,
        "path": str(record.run.path),
        "experiment": record.experiment,
        "state": record.state,
        "counts": record.counts,
        "seed": record.seed,
        "settings": {axis: record.settings.get(axis, "-") for axis in comparison.columns},
        "figures": record.figures,
        "error": record.error,
        "url": url(record),
    }


def url(record: Record) -> str:
    """Return the address of the run's page at W&B; empty if it was never uploaded."""
    try:
        address = decoded(read(record.run.path / "wandb" / "url.txt", LONGEST_URL)).strip()
    except (FileNotFoundError, Unfit):
        return ""
    return address if address.startswith(("https://", "http://")) else ""


def command(records: Sequence[Record]) -> str:
    """Return the commands that reproduce these runs, one per line; empty if the runs recorded none.

    Runs that differ in nothing but the seed have one command.
    """
    recorded = [record.command for record in records if record.command]
    if not recorded:
        return ""
    commands = dict.fromkeys(
        tuple(word for word in words if not word.startswith("seed=")) for words in recorded
    )
    seeds = ",".join(dict.fromkeys(record.seed for record in records))
    many = ["-m"] if "," in seeds else []
    verb = records[0].verb
    return "\n".join(shlex.join(["cnnbench", verb, *many, *words, f"seed={seeds}"]) for words in commands)


def table(comparison: Comparison) -> tuple[list[str], list[list[Any]]]:
    """Return the headers and the raw values of the table; missing values are None."""
    metric, kind = comparison.metric.key, comparison.kind
    keys = dict.fromkeys((kind.order, kind.metric, *comparison.columns_of_figures))
    others = [key for key in keys if key != metric]
    unfinished = ("diverged", "failed", "interrupted", "pruned", "running", "damaged")
    headers = [*comparison.columns, "n", "runs", *unfinished, metric, "low", "high", *others]
    rows = []
    for row in comparison.rows:
        score, states = row.score, row.states
        values: list[Any] = [row.settings.get(axis, "-") for axis in comparison.columns]
        values += [row.scored, states.total(), *(states[state] for state in unfinished)]
        values += [score.mean, score.low, score.high] if score is not None else [None, None, None]
        rows.append([*values, *(row.mean(key) for key in others)])
    return headers, rows
