"""The offline page of a comparison: its data, scripts and styles; `pages.shell` puts them together."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import figure
from cnnbench.comparison.records import Record
from cnnbench.comparison.report.plain import plain
from cnnbench.comparison.report.probes import probed_rows
from cnnbench.pages import shell

SCRIPTS = (
    "comparison/wording.js",
    "comparison/filters.js",
    "comparison/tables.js",
    "comparison/chart_tradeoff.js",
    "comparison/chart_response.js",
    "comparison/chart_effects.js",
    "comparison/chart_map.js",
    "comparison/curves.js",
    "comparison/chart_probes.js",
    "comparison/pair.js",
    "comparison/main.js",
)
STYLES = ("comparison/comparison.css",)
CURVES = (
    *("val/acc", "val/loss", "val/f1_macro", "val/balanced_acc", "val/ece"),
    *("train/acc", "train/loss", "lr"),
)


def page(comparison: Comparison, title: str, where: Path, reload_s: float = 0) -> str:
    """Return the page of a comparison as HTML.

    Args:
        comparison: what the page shows.
        title: the name of what is compared, such as a folder.
        where: the file that the page will be written to; links to runs are relative to it.
        reload_s: interval at which a browser reloads the page while it is not in use; 0 for never.
    """
    return shell.page(
        f"Comparison of {title}",
        _data(comparison, where),
        body="comparison/body.html",
        scripts=SCRIPTS,
        styles=STYLES,
        charts=True,
        reload_s=reload_s,
    )


def _data(comparison: Comparison, where: Path) -> dict[str, Any]:
    data = plain(comparison)
    varying = _varying(comparison)
    for row, shown in zip(comparison.rows, data["rows"], strict=True):
        settings = row.members[0].settings if len(row.members) == 1 else row.settings
        shown["n_in_words"] = row.n
        shown["data"] = settings.get("data.name", "")
        shown["all"] = {key: settings.get(key, "-") for key in varying if key in settings}
    folder = where.absolute().parent
    for record, run in zip(comparison.records, data["runs"], strict=True):
        run["href"] = quote(os.path.relpath(record.run.path.absolute(), folder)) + "/"
    return data | {
        "order": _order(comparison),
        "pooled": bool(comparison.options.by),
        "costs": [key for key in comparison.columns_of_figures if key in data["figures"]],
        "probes": probed_rows(comparison),
        "curves": {
            str(record.run.path): curves for record in comparison.records if (curves := _curves(record))
        },
    }


def _order(comparison: Comparison) -> dict[str, Any] | None:
    """Return the column that rows are sorted by and its direction; None if no row has a value."""
    key = comparison.sorted_by
    for axis in (key, f"{key}.name"):
        if comparison.options.sort and axis in comparison.columns:
            return {"key": axis, "label": axis.removesuffix(".name"), "down": False}
    if not key:
        return None
    by = figure(key)
    return {"key": key, "label": by.label, "down": by.higher}


def _varying(comparison: Comparison) -> list[str]:
    """Return all settings that differ, including those that follow from others."""
    settings = [configuration.settings for configuration in comparison.configurations]
    keys = {key for values in settings for key in values}
    return sorted(key for key in keys if len({values.get(key) for values in settings}) > 1)


def _curves(record: Record) -> dict[str, list[float | None]]:
    """Return the metrics of each epoch, rounded to five digits; None where not finite."""
    rows = record.rows()
    return {key: [_rounded(row.get(key)) for row in rows] for key in CURVES if rows and key in rows[0]}


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")
