"""`logger`: where a run's figures go besides its folder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Tag, field_validator

from cnnbench import wandb_run
from cnnbench.settings.section import NonNegative, Part, Rate, Section


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
        if value is not None and (why := wandb_run.bad_name(value)):
            raise ValueError(why)
        return value

    @field_validator("tags")
    @classmethod
    def _short_enough(cls, value: list[str]) -> list[str]:
        if not all(1 <= len(tag) <= wandb_run.TAG_LENGTH for tag in value):
            raise ValueError(f"allowed: tags of 1 to {wandb_run.TAG_LENGTH} characters")
        return value


AnyLogger = Annotated[
    Annotated[WandbLogger, Tag("wandb")] | Annotated[Part, Tag("lightning")],
    Discriminator(lambda value: "wandb" if value.get("name") == "wandb" else "lightning"),
]
