"""Sphinx: the site that is built from docs/.

    .venv/bin/pip install -e '.[docs]'
    .venv/bin/python -m sphinx -W --keep-going -q docs build/docs

Sphinx with MyST and furo, because all three are maintained, read plain Markdown that GitHub shows as well,
fail on broken links and anchors (-W), and need nothing from a network.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import generate  # noqa: E402 - lies beside this file

from cnnbench import __version__  # noqa: E402

project = "cnnbench"
release = version = __version__
copyright = "the cnnbench authors"  # noqa: A001 - Sphinx's name
language = "en"

extensions = ["myst_parser"]
myst_heading_anchors = 4
source_suffix = {".md": "markdown"}
exclude_patterns = ["pictures"]
nitpicky = True

html_theme = "furo"
html_title = f"cnnbench {__version__}"
html_static_path: list[str] = []
html_show_sphinx = False
html_copy_source = False

CONTENTS = {
    "Tutorial": ["tutorial/first-hour"],
    "How to": [
        "how-to/own-data",
        "how-to/own-architecture",
        "how-to/ablations",
        "how-to/sweeps",
        "how-to/slurm-and-ray",
        "how-to/learning-rate",
        "how-to/search",
        "how-to/several-processes",
        "how-to/compare",
        "how-to/use-a-run",
        "how-to/deploy",
        "how-to/measure-devices",
        "how-to/wandb",
    ],
    "Reference": [f"reference/{Path(name).stem}" for name in generate.PAGES] + ["reference/files"],
    "Explanation": [
        "explanation/runs",
        "explanation/resume",
        "explanation/splits",
        "explanation/statistics",
        "explanation/ops",
        "explanation/measurements",
        "explanation/data-parallel",
    ],
    "Appendices": [
        "appendix/results",
        "appendix/coverage",
        "appendix/ops-table",
        "appendix/device-table",
        "appendix/parity",
        "appendix/sync-batch-norm",
        "appendix/evidence",
        "appendix/sweeps-measured",
        "appendix/deploy-measured",
        "appendix/speed",
    ],
}
"""The order of the pages. It is added to index.md here, so that the file stays plain Markdown for GitHub."""


def contents(app: Any, page: str, source: list[str]) -> None:
    """Append the table of contents to the first page."""
    if page == "index":
        for title, pages in CONTENTS.items():
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(pages) + "\n```\n"


def setup(app: Any) -> None:
    """Write the generated pages before Sphinx looks for files."""
    generate.main()
    app.connect("source-read", contents)
