"""`logger`: where a run's figures go besides its folder."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag, field_validator

from cnnbench.settings import logger
from cnnbench.settings.base import Component, NonNegative, Rate, Section


class WandbLogger(Section):
    """`logger=wandb`. What W&B would refuse is refused here: later it would cost the whole log of the run."""

    name: Literal["wandb"]
    mode: Literal["offline", "online"]
    project: str
    entity: str | None
    tags: list[str]
    images: NonNegative
    init_timeout_s: Rate
    finish_timeout_s: Rate

    @field_validator("project", "entity")
    @classmethod
    def _taken_by_wandb(cls, value: str | None) -> str | None:
        if value is not None and (why := logger.bad_name(value)):
            raise ValueError(why)
        return value

    @field_validator("tags")
    @classmethod
    def _short_enough(cls, value: list[str]) -> list[str]:
        if not all(1 <= len(tag) <= logger.TAG_LENGTH for tag in value):
            raise ValueError(f"allowed: tags of 1 to {logger.TAG_LENGTH} characters")
        return value


def _kind(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "wandb" if name == "wandb" else "lightning"


AnyLogger = Annotated[
    Annotated[WandbLogger, Tag("wandb")] | Annotated[Component, Tag("lightning")],
    Discriminator(_kind),
]


TAG_LENGTH = 64
"""Letters that W&B allows a tag to have."""


def bad_name(value: str) -> str:
    """What W&B has against the name of a project, a user or a team; empty if nothing."""
    if 1 <= len(value) <= 128 and not re.search(r"[/\\#?%:]|^\s|\s$", value):
        return ""
    return "allowed: 1 to 128 characters, none of / \\ # ? % :, no space at its ends"
