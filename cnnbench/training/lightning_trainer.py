"""Lightning's Trainer as every training uses it: cnnbench itself logs, shows progress and saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from cnnbench.settings.recipe import Trainer
from cnnbench.training.device import lightning_precision


def lightning_trainer(
    recipe: Trainer,
    device: Mapping[str, Any],
    callbacks: Sequence[pl.Callback],
    folder: Path,
    *,
    validates: bool,
    **options: Any,
) -> pl.Trainer:
    """Return the trainer of a run.

    Args:
        recipe: of the training.
        device: as it was resolved.
        callbacks: in the order in which they are called.
        folder: of the run.
        validates: whether there are val images.
        options: for the number of processes.
    """
    return pl.Trainer(
        max_epochs=recipe.max_epochs,
        accelerator=device["accelerator"],
        precision=lightning_precision(device["precision"]),
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.clip_norm,
        deterministic=recipe.deterministic,
        callbacks=list(callbacks),
        logger=False,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if validates else 0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
