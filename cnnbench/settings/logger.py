"""`logger`: where a run's metrics are logged besides its folder."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag, field_validator

from cnnbench.settings.base import Component, NonNegative, Rate, Section
from cnnbench.settings.wandb_names import TAG_LENGTH, bad_name


class WandbLogger(Section):
    """`logger=wandb`. Values that W&B rejects are errors here: later they would cost the entire log."""

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
    def _accepted_by_wandb(cls, value: str | None) -> str | None:
        if value is not None and (reason := bad_name(value)):
            raise ValueError(reason)
        return value

    @field_validator("tags")
    @classmethod
    def _short_enough(cls, value: list[str]) -> list[str]:
        if not all(1 <= len(tag) <= TAG_LENGTH for tag in value):
            raise ValueError(f"allowed: tags of 1 to {TAG_LENGTH} characters")
        return value


def _kind(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "wandb" if name == "wandb" else "lightning"


AnyLogger = Annotated[
    Annotated[WandbLogger, Tag("wandb")] | Annotated[Component, Tag("lightning")],
    Discriminator(_kind),
]
