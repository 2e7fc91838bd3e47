"""The comparison as one W&B run: tables, charts that W&B draws from them, plots and the page."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import figure
from cnnbench.comparison.report.wandb_charts import charts, label, media, tables
from cnnbench.tracking import wandb_report, wandb_run

GROUP_LENGTH, NAME_LENGTH = 100, 128
"""The largest numbers of characters of a group and of a run's name."""


def log(
    comparison: Comparison,
    destination: wandb_report.Target,
    images: Mapping[str, Path] | None = None,
    page: Path | None = None,
    only: Sequence[str] = (),
) -> None:
    """Log a comparison as one run of job type `compare`; it replaces an earlier one with the same arguments.

    Args:
        comparison: the comparison.
        destination: where it is logged.
        images: plots (PNG) by name.
        page: the comparison as HTML.
        only: the conditions on its runs, as `ops.norm=batch`, and the names of runs given as paths.

    Raises:
        InputError: the experiment's folder cannot be written, or W&B rejects the run.
    """
    folder, group, words = home(comparison), group_name(comparison), arguments(comparison, only)
    options = {
        "id": identity(comparison, words),
        "name": " ".join(["compare", group, *words])[:NAME_LENGTH],
        "group": group,
        "job_type": "compare",
        "notes": "\n".join(comparison.notes),
        "config": _config(comparison) | {"only": sorted(only)},
    }

    def send(run: Any) -> None:
        run.summary.update(_summary(comparison))
        # A step that no earlier comparison had: of two rows with the same step, W&B may show the older one.
        step = int(time.time())
        run.log(media(images or {}, page) | tables(comparison) | charts(comparison), step=step)

    wandb_report.log(folder, destination, send, options)


def experiments(comparison: Comparison) -> list[str]:
    """Return the names of the experiments that are compared."""
    return sorted({record.experiment for record in (*comparison.records, *comparison.beside)})


def arguments(comparison: Comparison, only: Sequence[str]) -> list[str]:
    """Return the conditions and options that tell it from other comparisons of the same experiments."""
    options = comparison.options
    given = {"by": options.by, "select": options.select, "metric": options.metric}
    words = [
        f"--{key} {value if isinstance(value, str) else ','.join(value)}"
        for key, value in given.items()
        if value or (key == "select" and value is not None)
    ]
    return [*sorted(only), *words, *(f"--baseline {k}={v}" for k, v in sorted(options.baselines.items()))]


def identity(comparison: Comparison, words: Sequence[str] = ()) -> str:
    """Return the W&B run's id, a hash of experiments and arguments: the same comparison replaces it."""
    text = "\n".join(["/".join(experiments(comparison)), *words])
    return wandb_run.COMPARE + hashlib.sha256(text.encode()).hexdigest()[:16]


def group_name(comparison: Comparison) -> str:
    """Return the names of the experiments: `rates+widths`, cut to `rates and 3 more` if too long."""
    names = experiments(comparison)
    shown = len(names)
    while shown > 1 and len("+".join(names[:shown])) > GROUP_LENGTH:
        shown -= 1
    rest = f" and {len(names) - shown} more" if shown < len(names) else ""
    return "+".join(names[:shown])[:GROUP_LENGTH] + rest


def home(comparison: Comparison) -> Path:
    """Return the folder of the experiment; of several, that of the first by name."""
    first = experiments(comparison)[0]
    records = [r for r in (*comparison.records, *comparison.beside) if r.experiment == first]
    return min(record.run.path.resolve().parent for record in records)


def _config(comparison: Comparison) -> dict[str, Any]:
    return {
        "experiments": experiments(comparison),
        "metric": comparison.metric.key,
        "axes": list(comparison.axes),
        "by": list(comparison.options.by),
        "select": list(comparison.select),
        "baselines": {effect.axis: effect.baseline for effect in comparison.effects},
        "constant": dict(comparison.constant),
    }


def _summary(comparison: Comparison) -> dict[str, Any]:
    """Return the metrics of the best row (on val, or by latency) and the number of runs in each state."""
    summary: dict[str, Any] = {"runs": len(comparison.records), "configurations": len(comparison.rows)}
    summary |= {f"runs/{state}": count for state, count in comparison.states.items()}
    rows = [row for row in comparison.rows if row.val is not None]
    if not rows:
        return summary
    order = figure(comparison.kind.order)
    best = (max if order.higher else min)(rows, key=lambda row: row.val or 0.0)
    summary |= {"best": label(best), "best/n": best.scored, order.key: best.val}
    summary |= {f"best/{axis}": value for axis, value in best.settings.items()}
    if best.score is not None:
        key = comparison.metric.key
        summary |= {key: best.score.mean, f"{key}/low": best.score.low, f"{key}/high": best.score.high}
    keys = comparison.columns_of_figures
    return summary | {key: mean for key in keys if (mean := best.mean(key)) is not None}
