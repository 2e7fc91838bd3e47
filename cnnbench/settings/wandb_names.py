"""Names that W&B accepts; without pydantic, since `cnnbench compare` checks them, too."""

from __future__ import annotations

import re

TAG_LENGTH = 64
"""Characters that W&B allows in a tag."""


def bad_name(value: str) -> str:
    """Return why W&B rejects the name of a project, a user or a team; an empty text if it accepts it."""
    if 1 <= len(value) <= 128 and not re.search(r"[/\\#?%:]|^\s|\s$", value):
        return ""
    return "allowed: 1 to 128 characters, none of / \\ # ? % :, no space at either end"
