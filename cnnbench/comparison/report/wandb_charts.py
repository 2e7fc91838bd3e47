"""The contents of a comparison's W&B run: tables, charts that W&B draws from them, plots and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from pathlib import Path
from statistics import fmean
from typing import Any

from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.records import Record
from cnnbench.comparison.report.plain import plain, table
from cnnbench.comparison.responses import Response
from cnnbench.comparison.rows import Row

LINES = 20
"""The largest number of learning curves in a chart, those of the first rows."""


def label(row: Row) -> str:
    """Return the label of a row in a chart: `resnet18 batch`."""
    return " ".join(row.settings.values())


def tables(comparison: Comparison) -> dict[str, Any]:
    """Return W&B tables of configurations, effects and runs: shares between 0 and 1, missing values None."""
    import wandb

    data = plain(comparison)
    headers, rows = table(comparison)
    effects = [
        [
            *(effect[key] for key in ("axis", "value", "baseline", "family")),
            *((effect["size"] or {}).get(key) for key in ("mean", "low", "high")),
            *(effect[key] for key in ("p", "pairs", "words")),
        ]
        for effect in data["effects"]
    ]
    size = "ratio" if comparison.metric.ratio else "difference"
    figures = list(data["figures"])
    runs = [
        [
            *(run[key] for key in ("name", "experiment", "state", "seed")),
            *run["settings"].values(),
            *(run["figures"].get(key) for key in figures),
            *(run[key] for key in ("error", "url")),
        ]
        for run in data["runs"]
    ]
    of_effects = ["axis", "value", "baseline", "family", size, "low", "high", "p", "pairs", "words"]
    of_runs = ["name", "experiment", "state", "seed", *comparison.columns, *figures, "error", "url"]
    return {
        f"compare/{name}": wandb.Table(columns=columns, data=cells)
        for name, columns, cells in (
            ("configurations", headers, rows),
            ("effects", of_effects, effects),
            ("runs", of_runs, runs),
        )
    }


def charts(comparison: Comparison) -> dict[str, Any]:
    """Return charts for W&B to draw, from tables of their own: Vega reads a dot in a column as a path."""
    import wandb

    metric, drawn = comparison.metric, {}
    shown = " ".join(filter(None, (metric.label, metric.unit)))
    scored = [(row, row.score.mean * metric.scale) for row in comparison.rows if row.score is not None]
    if scored:
        bars = wandb.Table(["configuration", "value"], [[label(row), value] for row, value in scored])
        drawn["charts/by_configuration"] = wandb.plot.bar(bars, "configuration", "value", title=shown)
    points = [
        [label(row), row.family, params, value]
        for row, value in scored
        if (params := row.mean("params")) is not None
    ]
    if points:
        drawn["charts/against_params"] = wandb.plot.scatter(
            wandb.Table(["configuration", "family", "parameters", "value"], points),
            "parameters",
            "value",
            title=f"{shown} against parameters",
        )
    for response in comparison.responses:
        drawn |= _response(response)
    kind, curves = _curves(comparison)
    if curves:
        drawn["charts/learning_curves"] = wandb.plot.line_series(
            [list(range(len(values))) for values in curves.values()],
            list(curves.values()),
            keys=list(curves),
            title=f"val acc %, mean by {kind}",
            xname="epoch",
        )
    return drawn


def _response(response: Response) -> dict[str, Any]:
    """Return the chart of the means over a setting; W&B's own has a linear axis, so a wide range is log10."""
    import wandb

    metric, log = response.metric, response.logarithmic
    lines: dict[str, list[tuple[float, float]]] = {}
    for curve in response.curves[:LINES] if response.joined else ():
        found = [(point.value, values) for point in curve.points if (values := point.values(metric.key))]
        if found:
            name = curve.name or metric.label
            lines[name] = [(log10(x) if log else x, metric.scale * fmean(values)) for x, values in found]
    if not lines:
        return {}
    lost = sum(point.diverged for curve in response.curves for point in curve.points)
    shown = " ".join(filter(None, (metric.label, metric.unit, "over", response.axis)))
    chart = wandb.plot.line_series(
        [[x for x, _ in line] for line in lines.values()],
        [[y for _, y in line] for line in lines.values()],
        keys=list(lines),
        title=shown + f" ({lost} diverged run{'s' * (lost != 1)} without a point)" * bool(lost),
        xname=f"log10 {response.axis}" if log else response.axis,
    )
    return {f"charts/over_{response.axis}": chart}


def _curves(comparison: Comparison) -> tuple[str, dict[str, list[float]]]:
    """Return mean val accuracies by epoch, in percent: by family or, if there is only one, by configuration.

    Returns:
        `family` or `configuration`, and the curves by name.
    """
    families: dict[str, list[Record]] = {}
    for row in comparison.rows:
        for member in row.members:
            families.setdefault(member.family, []).extend(member.finished)
    kind, groups = "family", families
    if len(families) < 2:
        rows = comparison.rows[:LINES]
        kind, groups = (
            "configuration",
            {label(row): [r for m in row.members for r in m.finished] for row in rows},
        )
    curves = {name: mean_curve(records) for name, records in groups.items()}
    return kind, {name: curve for name, curve in curves.items() if curve}


def mean_curve(records: Sequence[Record]) -> list[float]:
    """Return the mean val accuracy of each epoch in percent, up to the last epoch that all runs have."""
    curves = [[100 * row["val/acc"] for row in r.rows() if "val/acc" in row] for r in records]
    return [fmean(values) for values in zip(*filter(None, curves), strict=False)]


def media(images: Mapping[str, Path], page: Path | None) -> dict[str, Any]:
    """Return plots (PNG, by name) and the page as W&B media."""
    import wandb

    logged: dict[str, Any] = {f"figures/{name}": wandb.Image(str(path)) for name, path in images.items()}
    if page is not None:
        logged["page"] = wandb.Html(page.read_text(encoding="utf-8"), inject=False, data_is_not_path=True)
    return logged
