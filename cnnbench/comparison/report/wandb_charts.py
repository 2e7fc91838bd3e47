"""What a comparison looks like at W&B: tables, charts that W&B draws from them, pictures and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.records import Record
from cnnbench.comparison.report.plain import plain, table
from cnnbench.comparison.rows import Row

LINES = 20
"""Curves of a chart, at most: the best ones."""


def label(row: Row) -> str:
    """A row in a chart: `resnet18 batch`."""
    return " ".join(row.settings.values())


def tables(found: Comparison) -> dict[str, Any]:
    """Raw values: shares between 0 and 1, what is missing is None."""
    import wandb

    said = plain(found)
    headers, rows = table(found)
    effects = [
        [
            *(effect[key] for key in ("axis", "value", "baseline", "family")),
            *((effect["size"] or {}).get(key) for key in ("mean", "low", "high")),
            *(effect[key] for key in ("p", "pairs", "words")),
        ]
        for effect in said["effects"]
    ]
    what = "ratio" if found.metric.ratio else "difference"
    figures = list(said["figures"])
    runs = [
        [
            *(run[key] for key in ("name", "experiment", "state", "seed")),
            *run["settings"].values(),
            *(run["figures"].get(key) for key in figures),
            *(run[key] for key in ("error", "url")),
        ]
        for run in said["runs"]
    ]
    of_effects = ["axis", "value", "baseline", "family", what, "low", "high", "p", "pairs", "words"]
    of_runs = ["name", "experiment", "state", "seed", *found.columns, *figures, "error", "url"]
    return {
        f"compare/{name}": wandb.Table(columns=columns, data=data)
        for name, columns, data in (
            ("configurations", headers, rows),
            ("effects", of_effects, effects),
            ("runs", of_runs, runs),
        )
    }


def charts(found: Comparison) -> dict[str, Any]:
    """What W&B draws by itself; columns of their own, as Vega takes a dot in a name for a path."""
    import wandb

    metric, drawn = found.metric, {}
    shown = " ".join(filter(None, (metric.label, metric.unit)))
    scored = [(row, row.score.mean * metric.scale) for row in found.rows if row.score is not None]
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
    kind, curves = _curves(found)
    if curves:
        drawn["charts/learning_curves"] = wandb.plot.line_series(
            [list(range(len(values))) for values in curves.values()],
            list(curves.values()),
            keys=list(curves),
            title=f"val acc %, mean by {kind}",
            xname="epoch",
        )
    return drawn


def _curves(found: Comparison) -> tuple[str, dict[str, list[float]]]:
    """Learning curves on val in percent, mean by family; by configuration where there is one family alone."""
    families: dict[str, list[Record]] = {}
    for row in found.rows:
        for member in row.members:
            families.setdefault(member.family, []).extend(member.finished)
    kind, groups = "family", families
    if len(families) < 2:
        rows = found.rows[:LINES]
        kind, groups = (
            "configuration",
            {label(row): [r for m in row.members for r in m.finished] for row in rows},
        )
    curves = {name: mean_curve(records) for name, records in groups.items()}
    return kind, {name: curve for name, curve in curves.items() if curve}


def mean_curve(records: Sequence[Record]) -> list[float]:
    """Mean val accuracy of each epoch in percent, up to the last that all of the runs have."""
    curves = [[100 * row["val/acc"] for row in r.run.rows() if "val/acc" in row] for r in records]
    return [fmean(values) for values in zip(*filter(None, curves), strict=False)]


def media(images: Mapping[str, Path], page: Path | None) -> dict[str, Any]:
    """Figures and the page, as they are."""
    import wandb

    found: dict[str, Any] = {f"figures/{name}": wandb.Image(str(path)) for name, path in images.items()}
    if page is not None:
        found["page"] = wandb.Html(page.read_text(encoding="utf-8"), inject=False, data_is_not_path=True)
    return found
