"""The comparison as one HTML file that needs no server and no network.

Everything that comes from runs is data: JSON in which `<`, `>`, `&` and the line separators are escaped,
put on the page as text by the page's own script. The content policy allows the scripts and styles of this
file by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import figure
from cnnbench.comparison.records import Record
from cnnbench.comparison.report.plain import plain

FOLDER = Path(__file__).parents[2] / "pages"
PLOT_STYLE = "'sha256-jSYQUrW7J0b3jPqhZP9C2Xh1PyJKHKXd4s0fpGGKrww='"
"""The style that Observable Plot 0.6.17 puts into each chart."""

CURVES = ("val/acc", "val/loss", "train/acc", "train/loss", "lr")


def page(found: Comparison, title: str, where: Path, reload_s: float = 0) -> str:
    """The page's text.

    Args:
        title: what is compared.
        where: the file that it is for: links to runs are relative to it.
        reload_s: how often a browser that shows it should look for a newer one; 0 for never.
    """
    parts = _parts()
    scripts = (parts["d3"], parts["plot"], parts["script"])
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; "
        f"style-src {_hash(parts['css'])} {PLOT_STYLE}; base-uri 'none'; form-action 'none'"
    )
    data = _data(found, title, where) | {"reload_s": reload_s}
    texts = {**parts, "policy": policy, "data": _embedded(data)}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: texts[match[1]], _file("page.html"))


def _data(found: Comparison, title: str, where: Path) -> dict[str, Any]:
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
        "title": title,
        "order": _order(found),
        "pooled": bool(found.options.by),
        "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "costs": [key for key in found.columns_of_figures if key in data["figures"]],
        "curves": {str(record.run.path): curves for record in found.records if (curves := _curves(record))},
    }


def _order(found: Comparison) -> dict[str, Any] | None:
    """What the rows come sorted by; None where no row has it."""
    key = found.options.sort or found.kind.order
    for axis in (key, f"{key}.name"):
        if found.options.sort and axis in found.columns:
            return {"key": axis, "label": axis.removesuffix(".name"), "down": False}
    one = figure(key)
    there = any(row.mean(key) is not None for row in found.rows)
    return {"key": key, "label": one.label, "down": one.higher} if there else None


def _varying(found: Comparison) -> list[str]:
    """All settings that differ, also those that follow from others."""
    keys = {key for one in found.configurations for key in one.settings}
    return sorted(key for key in keys if len({one.settings.get(key) for one in found.configurations}) > 1)


def _curves(record: Record) -> dict[str, list[float | None]]:
    """A few figures of each epoch, to five digits; what is not finite is None."""
    rows = record.run.rows()
    return {key: [_rounded(row.get(key)) for row in rows] for key in CURVES if rows and key in rows[0]}


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)  # ASCII: U+2028 is escaped too
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


@cache
def _parts() -> dict[str, str]:
    return {
        "css": _file("page.css"),
        "d3": _file("vendor/d3.min.js"),
        "plot": _file("vendor/plot.umd.min.js"),
        "script": "\n".join(_file(name) for name in ("base.js", "charts.js", "main.js")),
    }


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
