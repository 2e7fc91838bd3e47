"""The shell of an offline page: one HTML file that needs no server and no network.

The files of this folder are what pages share. Those of one kind of page lie in a folder of their own, such as
`comparison/`, and come after them:

    shell.html   the frame of every page
    *.css        styles, in the order of STYLES
    *.js         scripts, in the order of SCRIPTS and CHARTS; they become one script
    vendor/      D3 and Observable Plot, for pages with charts

Texts of others are data: JSON in which `<`, `>`, `&` and everything but ASCII is escaped, put on the page as
text by its script. The content policy allows the scripts and styles of the file by their hashes, and nothing
else: a text that became markup all the same could not run, load or send anything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from cnnbench import __version__

FOLDER = Path(__file__).parent

STYLES = ("tokens.css", "layout.css", "tables.css", "charts.css", "print.css")
SCRIPTS = ("data.js", "dom.js", "format.js", "state.js", "controls.js", "table.js", "reload.js")
CHARTS = ("charts.js",)
LIBRARIES = ("vendor/d3.min.js", "vendor/plot.umd.min.js")
PLOT_STYLE = "'sha256-jSYQUrW7J0b3jPqhZP9C2Xh1PyJKHKXd4s0fpGGKrww='"
"""The hash of the style that Observable Plot 0.6.17 adds to each chart."""


def page(
    title: str,
    data: Mapping[str, Any],
    *,
    body: str,
    scripts: Sequence[str],
    styles: Sequence[str] = (),
    charts: bool = False,
    reload_s: float = 0,
) -> str:
    """Return the text of a self-contained HTML page.

    Args:
        title: any text; also the page's heading, where `body` says `{{title}}`.
        data: what the scripts show, as JSON; they find it as `data`.
        body: the page's elements: an HTML file of this folder.
        scripts: the page's own scripts in order, files of this folder; they come after SCRIPTS.
        styles: the page's own styles in order, after STYLES.
        charts: add D3, Observable Plot and CHARTS.
        reload_s: seconds after which a browser loads the page again, unless it is being used; 0 for never.
    """
    style = _joined([*STYLES, *styles])
    own = '"use strict";\n' + _joined([*SCRIPTS, *(CHARTS if charts else ()), *scripts])
    elements = [*(map(_file, LIBRARIES) if charts else ()), own]
    allowed_styles = [_hash(style), *([PLOT_STYLE] if charts else ())]
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, elements))}; "
        f"style-src {' '.join(allowed_styles)}; base-uri 'none'; form-action 'none'"
    )
    texts = {
        "policy": policy,
        "title": _text(title),
        "style": style,
        "made": _text(_made(reload_s)),
        "data": _embedded({**data, "reload_s": reload_s}),
        "scripts": "\n".join(f"<script>{element}</script>" for element in elements),
    }
    return _filled(_file("shell.html"), texts | {"body": _filled(_file(body), texts)})


def _made(reload_s: float) -> str:
    made = f"Made by cnnbench {__version__} on {datetime.now().astimezone():%Y-%m-%d %H:%M}"
    return f"{made}; watched: it is written again as runs finish" if reload_s else made


def _filled(template: str, texts: Mapping[str, str]) -> str:
    """Fill in `{{name}}`, in one pass: braces in a text stay as they are."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: texts[match[1]], template)


def _text(text: str) -> str:
    """Escape a text for HTML, with control characters made visible as dom.js does it."""
    shown = (c if c.isprintable() or c in "\u200c\u200d" else f"\\u{{{ord(c):x}}}" for c in text)
    return html.escape("".join(shown))


def _embedded(data: Mapping[str, Any]) -> str:
    """Return JSON that cannot end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)  # ASCII: U+2028 is escaped too
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _joined(names: Sequence[str]) -> str:
    return "\n".join(map(_file, names))


@cache
def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the source expression of a content policy that allows this script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
