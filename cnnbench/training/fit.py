"""Training one configuration: settings -> objects -> fit -> test once -> summary."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from omegaconf import OmegaConf

from cnnbench.data.images import Images
from cnnbench.data.transforms import decode, eval_transform
from cnnbench.processes.forked import Child
from cnnbench.processes.logs import log_file, quiet
from cnnbench.run_store.attempt import Attempt, attempt
from cnnbench.run_store.run import Run
from cnnbench.settings import Settings
from cnnbench.tracking import track
from cnnbench.tracking.base import TestResult
from cnnbench.training.build import Parts, build
from cnnbench.training.device import lightning_precision
from cnnbench.training.distributed import Team, team
from cnnbench.training.progress_bar import ProgressBar
from cnnbench.training.rank import Rank
from cnnbench.training.recorder import PlainCheckpoints, Recorder, best_row, resumable, stops_early, strip

log = logging.getLogger("cnnbench")

Outputs = list[tuple[torch.Tensor, torch.Tensor]]
"""Probabilities (N, K) and labels (N,) of batches."""


def fit(settings: Settings, run: Run, cores: int | None = None, rank: Rank | None = None) -> None:
    """Train a run to its end, from where it stands, and leave its summary in its folder.

    Args:
        settings: what was asked for.
        run: where it lies.
        cores: how many of the machine's cores each of its processes may use; its share of all if it is None.
        rank: which of its processes this is, if a cluster has started them; else this one starts the others.

    Raises:
        Busy: another process trains it.
        InputError: before anything is written.
        Interrupted: the run goes on when it is asked for again.
    """
    start = time.perf_counter()

    def another(rank: Rank) -> Child:
        return Child("cnnbench.training.fit:fit", settings, run, cores, rank)

    with quiet(), team(settings.device, rank, another) as here:
        recorded = None if settings.force else run.status().get("device")
        with here.failing_together():
            parts = build(settings, recorded, cores, here.me)
            here.meet(parts.device["accelerator"])
        if here.me.rank:
            with here.failing_together():
                _follow(settings, run, parts, here)
            return
        config = OmegaConf.to_yaml(OmegaConf.create(settings.choice() | _free(settings)))
        with (
            attempt(run, config, parts.device, afresh=settings.force) as this,
            log_file(run.path / "train.log"),
        ):
            _train(settings, this, parts, here, start)


def _free(settings: Settings) -> dict[str, Any]:
    """The settings that are not part of the choice, for config.yaml."""
    return {
        "name": settings.name,
        "select": settings.select,
        "command": list(settings.command),
        "output_dir": settings.output_dir,
        "logger": settings.logger.model_dump(by_alias=True),
        "data": settings.choice()["data"]
        | {"root": _root(settings), "num_workers": settings.data.num_workers},
    }


def _root(settings: Settings) -> str:
    """A folder of one's own wherever one stands; that of a known set as it was asked for."""
    root = settings.data.root
    return str(Path(root).expanduser().absolute()) if settings.data.name == "imagefolder" else root


def _train(settings: Settings, this: Attempt, parts: Parts, here: Team, start: float) -> None:
    """What the first process does, or the only one: it writes down what comes out."""
    run, status = this.run, this.status
    with here.failing_together():
        checkpoint, rows = here.agree(resumable(run))
    log.info("attempt %d: %s from epoch %d", len(status["attempts"]), run.path.name, len(rows))
    run.write_rows(rows)
    run.write_summary(parts.facts)
    with track.track(settings, run, status["repeats"], rows) as tracker:

        def on_row(row: Mapping[str, float]) -> None:
            log.info(json.dumps(row))
            tracker.log(row)

        record = Recorder(
            run,
            rows,
            patience=settings.trainer.early_stopping.patience,
            every_n_steps=settings.trainer.checkpoint_every_n_steps,
            check=this.check,
            on_row=on_row,
        )
        with here.failing_together():  # before the trackers are told what went wrong
            test, outputs = _carry_out(settings, parts, here, record, checkpoint)
        here.over.set()
        earlier_s = sum(row["time/epoch_s"] for row in rows)  # of attempts that were interrupted
        summary = _summary(parts, record, test, earlier_s + time.perf_counter() - start)
        this.check()
        run.write_summary(summary)
        tracker.finish(summary, _result(parts, outputs))
    this.check()
    strip(run)


def _follow(settings: Settings, run: Run, parts: Parts, here: Team) -> None:
    """What the other processes do: the same, and nothing is written."""
    nothing: tuple[Path | None, list[dict[str, float]]] = None, []
    checkpoint, rows = here.agree(nothing)
    record = Recorder(
        run,
        rows,
        patience=settings.trainer.early_stopping.patience,
        every_n_steps=settings.trainer.checkpoint_every_n_steps,
        writes=False,
    )
    _carry_out(settings, parts, here, record, checkpoint)


def _carry_out(
    settings: Settings, parts: Parts, here: Team, record: Recorder, checkpoint: Path | None
) -> tuple[dict[str, float], Outputs]:
    """Train, then read the test set, once, with the weights of the best epoch.

    Returns:
        `test/…` of all test images; and, in the first process, what the model said of them.
    """
    recipe, device = settings.trainer, parts.device
    callbacks: list[pl.Callback] = [*here.callbacks(), ProgressBar(record.run.path.name), record]
    if recipe.ema_decay:
        callbacks.insert(0, EMAWeightAveraging(decay=recipe.ema_decay))
    trainer = pl.Trainer(
        max_epochs=recipe.max_epochs,
        accelerator=device["accelerator"],
        precision=lightning_precision(device["precision"]),
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.clip_norm,
        deterministic=recipe.deterministic,
        callbacks=callbacks,
        logger=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=record.run.path,
        plugins=[PlainCheckpoints(here.agree), *here.plugins()],
        **here.strategy(),
    )
    if not stops_early(record.rows, recipe.early_stopping.patience):
        trainer.fit(parts.task, datamodule=parts.data, ckpt_path=checkpoint, weights_only=True)
    best: Any = None
    if here.me.rank == 0:
        path = record.run.checkpoints / "best.ckpt"
        best = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    parts.task.load_state_dict(here.agree(best))
    trainer.test(parts.task, datamodule=parts.data, verbose=False)
    test = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
    outputs = [output for part in here.collect(parts.task.test_outputs) for output in part]
    return test, outputs


def _summary(parts: Parts, record: Recorder, test: Mapping[str, float], wall_s: float) -> dict[str, Any]:
    """What came out, for summary.json."""
    best = best_row(record.rows)
    train_s = sum(row["time/train_s"] for row in record.rows)
    return {
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


def _result(parts: Parts, outputs: Outputs) -> TestResult:
    """What the test showed, with the images behind it."""
    probabilities, labels = (torch.cat(column).numpy() for column in zip(*outputs, strict=True))
    return TestResult(
        probabilities, labels, parts.data.classes, lambda i: _picture(parts.data.test, i, parts.data.size)
    )


def _picture(images: Images, index: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One image as (H, W, C) for people to look at."""
    pixels = images.pixels[index]
    image = eval_transform(size)(decode(pixels, size)) if isinstance(pixels, Path) else pixels
    return image.permute(1, 2, 0).numpy()
