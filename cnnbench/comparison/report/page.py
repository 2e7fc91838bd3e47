"""The comparison as an offline page: the data and the scripts that go into the shell, see `pages.shell`."""

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
from cnnbench.pages import shell

SCRIPTS = (
    "comparison/wording.js",
    "comparison/filters.js",
    "comparison/tables.js",
    "comparison/chart_tradeoff.js",
    "comparison/chart_effects.js",
    "comparison/chart_map.js",
    "comparison/curves.js",
    "comparison/pair.js",
    "comparison/main.js",
)
STYLES = ("comparison/comparison.css",)
CURVES = ("val/acc", "val/loss", "train/acc", "train/loss", "lr")


def page(found: Comparison, title: str, where: Path, reload_s: float = 0) -> str:
    """Return the page's text.

    Args:
        found: the comparison.
        title: a name of what is compared.
        where: the file that the page is written to: links to runs are relative to it.
        reload_s: seconds after which a browser loads the page again, unless it is being used; 0 for never.
    """
    return shell.page(
        f"Comparison of {title}",
        _data(found, where),
        body="comparison/body.html",
        scripts=SCRIPTS,
        styles=STYLES,
        charts=True,
        reload_s=reload_s,
    )


def _data(found: Comparison, where: Path) -> dict[str, Any]:
    data = plain(found)
    varying = _varying(found)
    for row, shown in zip(found.rows, data["rows"], strict=True):
        settings = row.members[0].settings if len(row.members) == 1 else row.settings
        shown["data"] = settings.get("data.name", "")
        shown["all"] = {key: settings.get(key, "-") for key in varying if key in settings}
    folder = where.absolute().parent
    for record, run in zip(found.records, data["runs"], strict=True):
        run["href"] = quote(os.path.relpath(record.run.path.absolute(), folder)) + "/"
    return data | {
        "order": _order(found),
        "pooled": bool(found.options.by),
        "costs": [key for key in found.columns_of_figures if key in data["figures"]],
        "curves": {str(record.run.path): curves for record in found.records if (curves := _curves(record))},
    }


def _order(found: Comparison) -> dict[str, Any] | None:
    """Return what the rows come sorted by; None where no row has it."""
    key = found.options.sort or found.kind.order
    for axis in (key, f"{key}.name"):
        if found.options.sort and axis in found.columns:
            return {"key": axis, "label": axis.removesuffix(".name"), "down": False}
    one = figure(key)
    known = any(row.mean(key) is not None for row in found.rows)
    return {"key": key, "label": one.label, "down": one.higher} if known else None


def _varying(found: Comparison) -> list[str]:
    """Return all settings that differ, also those that follow from others."""
    keys = {key for one in found.configurations for key in one.settings}
    return sorted(key for key in keys if len({one.settings.get(key) for one in found.configurations}) > 1)


def _curves(record: Record) -> dict[str, list[float | None]]:
    """Return a few figures of each epoch, to five digits; None for what is not finite."""
    rows = record.run.rows()
    return {key: [_rounded(row.get(key)) for row in rows] for key in CURVES if rows and key in rows[0]}


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")
