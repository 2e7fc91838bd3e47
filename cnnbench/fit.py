"""Training one configuration: settings -> objects -> fit -> test once -> summary."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from omegaconf import OmegaConf

from cnnbench import network, tracking, weights
from cnnbench.attempt import Attempt, attempt
from cnnbench.build import factory
from cnnbench.data.batches import decode, eval_transform
from cnnbench.data.module import Augment, ImageData
from cnnbench.data.sets import Images
from cnnbench.device import place, resolve
from cnnbench.process import log_file, quiet
from cnnbench.progress import ProgressBar
from cnnbench.record import PlainCheckpoints, Record, best_row, resumable, stops_early, strip
from cnnbench.runs import Run
from cnnbench.seeds import seed_all
from cnnbench.settings import Settings
from cnnbench.task import Classifier
from cnnbench.tracking import TestResult, Tracker

log = logging.getLogger("cnnbench")


@dataclass
class Parts:
    """Everything that a run is made of, built and checked before its folder is touched."""

    data: ImageData
    task: Classifier
    device: dict[str, Any]
    facts: dict[str, Any]


def build(settings: Settings, recorded: Mapping[str, Any] | None = None, cores: int | None = None) -> Parts:
    """Make the objects that the settings describe.

    Args:
        settings: what was asked for.
        recorded: what `device` became when the run was first started.
        cores: how many of the machine's cores are this run's; all of them if it is None.

    Raises:
        InputError: whatever is wrong with the settings or the data.
    """
    device = resolve(settings.device, recorded, cores)
    tracking.check(settings)
    seed_all("init", settings.seed)
    data = make_data(settings)
    shape = (data.channels, data.size, data.size)
    model, facts = network.make(
        settings, shape, data.num_classes, batch=min(settings.data.batch_size, len(data.train.labels))
    )
    frozen: list[torch.nn.Module] = []
    if settings.arch.weights is not None:
        facts |= weights.load(model, settings.arch)
        frozen = weights.frozen(model)
    task = make_task(settings, place(model, device), data.num_classes, data.batches, frozen)
    return Parts(data, task, device, facts | data.facts)


def make_data(settings: Settings) -> ImageData:
    """The images that the settings describe, read or found.

    Raises:
        InputError: they are not there, or the settings do not fit them.
    """
    asked = settings.data.model_dump()
    asked["augment"] = Augment(**asked["augment"])
    return ImageData(
        root=settings.data.root,
        num_workers=settings.data.num_workers,
        channels=settings.arch.in_channels,
        imagenet_normalisation=settings.arch.weights == "imagenet",
        seed=settings.seed,
        **asked,
    )


def make_task(
    settings: Settings, model: torch.nn.Module, num_classes: int, batches: int, frozen: list[torch.nn.Module]
) -> Classifier:
    """What trains the model, in `batches` an epoch.

    Raises:
        InputError: an optimizer or a schedule that cannot be made as the settings say.
    """
    recipe = settings.trainer
    steps_per_epoch = -(-batches // recipe.accumulate)
    task = Classifier(
        model,
        num_classes,
        factory(settings.optimizer, "optimizer"),
        # Not trainer.estimated_stepping_batches: it makes Lightning ask for the training batches before
        # it has restored the epoch to resume at.
        factory(
            settings.scheduler,
            "scheduler",
            steps_per_epoch=steps_per_epoch,
            total_steps=steps_per_epoch * recipe.max_epochs,
        ),
        seed=settings.seed,
        label_smoothing=recipe.label_smoothing,
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
        decay_norm_and_bias=recipe.decay_norm_and_bias,
        frozen=frozen,
    )
    # The optimizer and the schedule are made again by Lightning; made here, bad values show in time.
    optimizer = task.make_optimizer([torch.nn.Parameter(torch.zeros(1))])
    task.make_schedule(optimizer)
    return task


def fit(settings: Settings, run: Run, cores: int | None = None) -> None:
    """Train a run to its end, from where it stands, and leave its summary in its folder.

    Args:
        settings: what was asked for.
        run: where it lies.
        cores: how many of the machine's cores are this run's; all of them if it is None.

    Raises:
        Busy: another process trains it.
        InputError: before anything is written.
        Interrupted: the run goes on when it is asked for again.
    """
    start = time.perf_counter()
    with quiet():
        recorded = None if settings.force else run.status().get("device")
        parts = build(settings, recorded, cores)
        config = OmegaConf.to_yaml(OmegaConf.create(settings.choice() | _free(settings)))
        with (
            attempt(run, config, parts.device, afresh=settings.force) as this,
            log_file(run.path / "train.log"),
        ):
            _train(settings, this, parts, start)


def _free(settings: Settings) -> dict[str, Any]:
    """The settings that are not part of the choice, for config.yaml."""
    return {
        "name": settings.name,
        "select": settings.select,
        "output_dir": settings.output_dir,
        "logger": settings.logger.model_dump(by_alias=True),
        "data": settings.choice()["data"]
        | {"root": settings.data.root, "num_workers": settings.data.num_workers},
    }


def _train(settings: Settings, this: Attempt, parts: Parts, start: float) -> None:
    run, status = this.run, this.status
    checkpoint, rows = resumable(run)
    recipe, device = settings.trainer, parts.device
    log.info("attempt %d: %s from epoch %d", len(status["attempts"]), run.path.name, len(rows))
    run.write_rows(rows)
    run.write_summary(parts.facts)
    with tracking.track(settings, run, status["repeats"], rows) as tracker:

        def on_row(row: Mapping[str, float]) -> None:
            log.info(json.dumps(row))
            tracker.log(row)

        record = Record(
            run,
            rows,
            patience=recipe.early_stopping.patience,
            every_n_steps=recipe.checkpoint_every_n_steps,
            check=this.check,
            on_row=on_row,
        )
        callbacks: list[pl.Callback] = [ProgressBar(run.path.name), record]
        if recipe.ema_decay:
            callbacks.insert(0, EMAWeightAveraging(decay=recipe.ema_decay))
        trainer = pl.Trainer(
            max_epochs=recipe.max_epochs,
            accelerator=device["accelerator"],
            devices=1,
            precision=device["precision"],
            accumulate_grad_batches=recipe.accumulate,
            gradient_clip_val=recipe.clip_norm,
            deterministic=recipe.deterministic,
            callbacks=callbacks,
            logger=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=run.path,
            plugins=[PlainCheckpoints()],
        )
        if not stops_early(rows, recipe.early_stopping.patience):
            trainer.fit(parts.task, datamodule=parts.data, ckpt_path=checkpoint, weights_only=True)
        earlier_s = sum(row["time/epoch_s"] for row in rows)  # of attempts that were interrupted
        _finish(this, parts, trainer, record, tracker, earlier_s + time.perf_counter() - start)
    this.check()
    strip(run)


def _finish(
    this: Attempt, parts: Parts, trainer: pl.Trainer, record: Record, tracker: Tracker, wall_s: float
) -> None:
    """Read the test set, once, with the weights of the best epoch; write the summary."""
    best = best_row(record.rows)
    state = torch.load(this.run.checkpoints / "best.ckpt", map_location="cpu", weights_only=True)
    parts.task.load_state_dict(state["state_dict"])
    trainer.test(parts.task, datamodule=parts.data, verbose=False)
    test = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
    train_s = sum(row["time/train_s"] for row in record.rows)
    summary = {
        **parts.facts,
        "epochs": len(record.rows),
        "best/epoch": int(best["epoch"]),
        "best/val_acc": best["val/acc"],
        "best/val_loss": best["val/loss"],
        **test,
        "time/wall_s": wall_s,
        "time/train_s": train_s,
        "time/images_per_s": sum(row["time/images"] for row in record.rows) / train_s,
    }
    this.check()
    this.run.write_summary(summary)
    tracker.finish(summary, test_result(parts))


def test_result(parts: Parts) -> TestResult:
    """What the test showed, with the images behind it."""
    probabilities, labels = (
        torch.cat(column).numpy() for column in zip(*parts.task.test_outputs, strict=True)
    )
    return TestResult(
        probabilities, labels, parts.data.classes, lambda i: _picture(parts.data.test, i, parts.data.size)
    )


def _picture(images: Images, index: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One image as (H, W, C) for people to look at."""
    pixels = images.pixels[index]
    image = eval_transform(size)(decode(pixels, size)) if isinstance(pixels, Path) else pixels
    return image.permute(1, 2, 0).numpy()
