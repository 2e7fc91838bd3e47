"""The comparison as files for other programs and for papers: CSV, JSON, Markdown, LaTeX."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from io import StringIO
from typing import Any

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import DEFAULT, MEASURED
from cnnbench.comparison.report import terminal, wording
from cnnbench.comparison.report.plain import plain, table


def to_csv(found: Comparison) -> str:
    """A row a configuration, every figure as it was measured, shares between 0 and 1."""
    headers, rows = table(found)
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(map(_cell, row) for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """What is text stays text in a spreadsheet, which takes `=…` for a formula (owasp.org, CSV injection)."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        try:
            float(value)
        except ValueError:
            return f"'{value}"
    return "" if value is None else value


def to_json(found: Comparison) -> str:
    """Rows, effects, runs, notes and methods."""
    return json.dumps(plain(found), indent=1, allow_nan=False) + "\n"


def to_markdown(found: Comparison) -> str:
    """The table, the effects and the counts, for a README or an issue."""
    headers, rows = wording.table(found)
    lines = [_pipes(headers, _md), "|" + "---|" * len(headers), *(_pipes(row, _md) for row in rows)]
    sentences = [f"- {_md(text)}" for text in _sentences(found)]
    lines += ["", *sentences] if sentences else []
    lines += ["", _md(text)] if (text := _machine(found)) else []
    return "\n".join([*lines, "", _md(_counts(found))]) + "\n"


def _pipes(cells: list[str], escape: Callable[[str], str]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"


def _md(text: str) -> str:
    # An underscore within a word is one already.
    return re.sub(r"([\\`*{}<>#|]|\b_|_\b)", r"\\\1", console.legible(" ".join(text.split()), 10_000))


def to_latex(found: Comparison) -> str:
    """A `tabular` with the rules of booktabs, and effects and counts as a comment below."""
    headers, rows = wording.table(found)
    columns = "l" * len(found.columns) + "r" * (len(headers) - len(found.columns))
    lines = ["% \\usepackage{booktabs}", f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    lines += [" & ".join(map(_tex, headers)) + r" \\", "\\midrule"]
    lines += [" & ".join(map(_tex, row)) + r" \\" for row in rows]
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [f"% {_tex(text)}" for text in (*_sentences(found), _machine(found), _counts(found)) if text]
    return "\n".join(lines) + "\n"


_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}


def _tex(text: str) -> str:
    line = console.legible(" ".join(text.split()), 10_000)
    return "".join(_SPECIAL.get(character, character) for character in line)


def _sentences(found: Comparison) -> list[str]:
    """The effects in words, and the notes."""
    of = f", {found.metric.label}" * (found.metric.key != DEFAULT)
    effects = [
        f"{e.axis.removesuffix('.name')}={e.value} against {e.baseline}"
        f"{f' in {e.family}' * bool(e.family)}{of}: {wording.sentence(e, found.metric)}"
        for e in found.effects
    ]
    return [*effects, *found.notes]


def _machine(found: Comparison) -> str:
    """What all measurements have in common: a number of milliseconds belongs to a machine."""
    return terminal.constant(found.constant) if found.kind is MEASURED and found.constant else ""


def _counts(found: Comparison) -> str:
    """`12 runs: 11 finished, 1 failed; 2 problems with files (--json names them)`."""
    n = len(found.problems)
    problems = f"; {n} problem{'s' * (n != 1)} with files (--json names them)" * bool(n)
    return terminal.heading(found, "").plain + problems


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "csv": to_csv,
    "json": to_json,
    "markdown": to_markdown,
    "latex": to_latex,
}
"""By the name of the option that asks for it."""
