"""The pictures as one offline page."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from cnnbench.inference.explain.tiles import DPI, Picture
from cnnbench.pages import shell

SCRIPTS = ("explain/main.js",)
STYLES = ("explain/explain.css",)

CSS_DPI = 96
"""Pixels per inch of a page."""


def page(title: str, facts: Sequence[str], pictures: Sequence[tuple[Picture, bytes]]) -> str:
    """Return a page with pictures as HTML.

    Args:
        title: of what is explained.
        facts: lines about it.
        pictures: each with its PNG.
    """
    shown = [
        {
            "name": picture.name,
            "title": picture.title,
            "caption": picture.caption,
            "width": round(int.from_bytes(png[16:20]) * CSS_DPI / DPI),  # PNG, section 11.2.2: IHDR
            "src": f"data:image/png;base64,{base64.b64encode(png).decode()}",
        }
        for picture, png in pictures
    ]
    return shell.page(
        title,
        {"facts": list(facts), "pictures": shown},
        body="explain/body.html",
        scripts=SCRIPTS,
        styles=STYLES,
        images=True,
    )
