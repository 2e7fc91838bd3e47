"""Sphinx: the site that is built from docs/.

    .venv/bin/pip install -e '.[docs]'
    .venv/bin/python -m sphinx -W --keep-going -q docs build/docs

Sphinx with MyST and furo, because all three are maintained, read plain Markdown that GitHub shows as well,
fail on broken links and anchors (-W), and need nothing from a network.
"""

from __future__ import annotations

import re
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

SECTION = re.compile(r"^\*\*(.+?)(?:: .*)?\*\*$", re.MULTILINE)
PAGE = re.compile(r"\]\(([\w/-]+)\.md\)")


def contents(app: Any, page: str, source: list[str]) -> None:
    """Append the table of contents to the first page: what its lists link to, in their order.

    It is added here, so that the file stays plain Markdown for GitHub.
    """
    if page == "index":
        _, *sections = SECTION.split(source[0])
        for title, text in zip(sections[::2], sections[1::2], strict=True):
            pages = "\n".join(dict.fromkeys(PAGE.findall(text)))
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n"


def setup(app: Any) -> None:
    """Write the generated pages before Sphinx looks for files."""
    generate.main()
    app.connect("source-read", contents)
