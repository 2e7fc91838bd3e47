"""From settings to the objects that a training consists of, checked before the run's folder is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cnnbench.data.datamodule import ImageData
from cnnbench.errors import InputError
from cnnbench.seeds import seed_all
from cnnbench.settings.instantiate import factory
from cnnbench.settings.run import Settings
from cnnbench.tracking import track
from cnnbench.training import model as training_model
from cnnbench.training import pretrained
from cnnbench.training.accumulation import Accumulation
from cnnbench.training.classifier import Classifier
from cnnbench.training.device import place, resolve
from cnnbench.training.evaluation_weights import check_modes
from cnnbench.training.images import training_data
from cnnbench.training.loss import training_loss
from cnnbench.training.rank import ALONE, Rank


@dataclass
class Built:
    """Everything that a training consists of.

    Attributes:
        data: splits and batches.
        classifier: the model with its loss, metrics, optimizer and schedule.
        device: accelerator, precision, memory format and threads, resolved.
        facts: of model and data, for summary.json.
    """

    data: ImageData
    classifier: Classifier
    device: dict[str, Any]
    facts: dict[str, Any]


def build(
    settings: Settings,
    recorded: Mapping[str, Any] | None = None,
    cores: int | None = None,
    rank: Rank = ALONE,
) -> Built:
    """Build the objects that the settings describe.

    Args:
        settings: of the run.
        recorded: the device settings as they were resolved when the run first started.
        cores: CPU cores for this process; None: its share of all.
        rank: of this process among those that train together.

    Raises:
        InputError: the settings or the data are wrong.
    """
    device = resolve(settings.device, recorded, cores, settings.arch.layout)
    if rank.rank == 0:  # which alone logs, and may need an API key
        track.check(settings)
    seed_all("init", settings.seed)
    data = training_data(settings.data, settings.arch, settings.seed, rank, settings.device.least_images)
    shard = data.smallest
    images = shard.total if settings.device.sync_batch_norm else shard.images  # that share batch statistics
    shape = (data.channels, data.size, data.size)
    model, facts = training_model.make_for_images(settings, shape, data.num_classes, batch=images)
    frozen: list[torch.nn.Module] = []
    if settings.arch.weights is not None:
        facts |= pretrained.load(model, settings.arch)
        frozen = pretrained.frozen(model)
    model = place(model, device)
    groups = Accumulation(settings.trainer.accumulate, data.batches)
    classifier = make_classifier(
        settings,
        model,
        data.num_classes,
        groups.steps,
        loss=training_loss(settings, data),
        frozen=frozen,
        rank=rank.rank,
        weight=lambda batch: data.weight(batch) * groups.weight(batch),
    )
    return Built(data, classifier, device, facts | data.facts)


def make_classifier(
    settings: Settings,
    model: torch.nn.Module,
    num_classes: int,
    steps_per_epoch: int,
    **shared: Any,
) -> Classifier:
    """Build the LightningModule that trains a model.

    Args:
        settings: whose `optimizer`, `scheduler` and `trainer` count.
        steps_per_epoch: optimizer steps in an epoch, for the schedule.
        model, num_classes, shared: see `Classifier`.

    Raises:
        InputError: the optimizer or the schedule cannot be built from the settings.
    """
    recipe = settings.trainer
    classifier = Classifier(
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
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
        decay_norm_and_bias=recipe.decay_norm_and_bias,
        **shared,
    )
    # Lightning builds both again; built here, wrong values are found before anything is written.
    optimizer = classifier.make_optimizer([torch.nn.Parameter(torch.zeros(1))])
    check_modes(settings, optimizer)
    if hasattr(classifier.make_schedule(optimizer), "observe") and settings.data.val_fraction == 0:
        raise InputError(f"scheduler={settings.scheduler.name}: observes val; not with data.val_fraction=0")
    return classifier
