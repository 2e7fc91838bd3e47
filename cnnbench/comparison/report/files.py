"""The comparison as files for other programs and for papers: CSV, JSON, Markdown, LaTeX."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import DEFAULT, MEASURED
from cnnbench.comparison.report import terminal, wording
from cnnbench.comparison.report.plain import plain, table
from cnnbench.safe_text import to_csv


def as_csv(comparison: Comparison) -> str:
    """Return the rows as CSV: unrounded, shares between 0 and 1, missing values empty."""
    headers, rows = table(comparison)
    return to_csv([headers, *rows])


def to_json(comparison: Comparison) -> str:
    """Return rows, effects, runs, notes and methods as JSON."""
    return json.dumps(plain(comparison), indent=1, allow_nan=False) + "\n"


def to_markdown(comparison: Comparison) -> str:
    """Return the table, the effects and the counts as Markdown, for a README or an issue."""
    headers, rows = wording.table(comparison)
    lines = [_pipes(headers, _md), "|" + "---|" * len(headers), *(_pipes(row, _md) for row in rows)]
    sentences = [f"- {_md(text)}" for text in _sentences(comparison)]
    lines += ["", *sentences] if sentences else []
    lines += ["", _md(text)] if (text := _machine(comparison)) else []
    return "\n".join([*lines, "", _md(_counts(comparison))]) + "\n"


def _pipes(cells: list[str], escape: Callable[[str], str]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"


def _md(text: str) -> str:
    # An underscore within a word has no meaning in Markdown.
    return re.sub(r"([\\`*{}<>#|]|\b_|_\b)", r"\\\1", console.legible(" ".join(text.split()), 10_000))


def to_latex(comparison: Comparison) -> str:
    """Return a `tabular` with booktabs rules, followed by the effects and the counts as comments."""
    headers, rows = wording.table(comparison)
    columns = "l" * len(comparison.columns) + "r" * (len(headers) - len(comparison.columns))
    lines = ["% \\usepackage{booktabs}", f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    lines += [" & ".join(map(_tex, headers)) + r" \\", "\\midrule"]
    lines += [" & ".join(map(_tex, row)) + r" \\" for row in rows]
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [
        f"% {_tex(text)}"
        for text in (*_sentences(comparison), _machine(comparison), _counts(comparison))
        if text
    ]
    return "\n".join(lines) + "\n"


_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}


def _tex(text: str) -> str:
    line = console.legible(" ".join(text.split()), 10_000)
    return "".join(_SPECIAL.get(character, character) for character in line)


def _sentences(comparison: Comparison) -> list[str]:
    """Return the effects in words, the findings and the notes."""
    metric = comparison.metric
    label = f", {metric.label}" * (metric.key != DEFAULT)
    effects = [
        f"{effect.axis.removesuffix('.name')}={effect.value} against {effect.baseline}"
        f"{f' in {effect.family}' * bool(effect.family)}{label}: {wording.sentence(effect, metric)}"
        for effect in comparison.effects
    ]
    return [*effects, *comparison.findings, *comparison.notes]


def _machine(comparison: Comparison) -> str:
    """Return what all measurements have in common, above all the device: a latency belongs to a machine."""
    return (
        terminal.constant(comparison.constant) if comparison.kind is MEASURED and comparison.constant else ""
    )


def _counts(comparison: Comparison) -> str:
    """Count runs by state, and problems: `12 runs: 11 finished, 1 failed; 2 file problems (see --json)`."""
    n = len(comparison.problems)
    problems = f"; {n} file problem{'s' * (n != 1)} (see --json)" * bool(n)
    return terminal.heading(comparison, "").plain + problems


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "csv": as_csv,
    "json": to_json,
    "markdown": to_markdown,
    "latex": to_latex,
}
"""The formats, by the name of their option."""
