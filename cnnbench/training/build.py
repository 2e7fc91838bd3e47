"""From settings to the objects that a training is made of, checked before a run's folder is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cnnbench.data.datamodule import ImageData
from cnnbench.data.options import Sharding
from cnnbench.seeds import seed_all
from cnnbench.settings.data import Data
from cnnbench.settings.instantiate import factory
from cnnbench.settings.model import Arch
from cnnbench.settings.run import Settings
from cnnbench.tracking import track
from cnnbench.training import model as training_model
from cnnbench.training import pretrained
from cnnbench.training.classifier import Classifier
from cnnbench.training.device import place, resolve
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
    """Make the objects that the settings describe.

    Args:
        settings: what was asked for.
        recorded: what `device` became when the run was first started.
        cores: how many of the machine's cores this process may use; its share of all if it is None.
        rank: which of the processes this is that train together.

    Raises:
        InputError: whatever is wrong with the settings or the data.
    """
    device = resolve(settings.device, recorded, cores, settings.arch.layout)
    if rank.rank == 0:  # which alone logs; it may ask for a key
        track.check(settings)
    seed_all("init", settings.seed)
    data = make_data(settings.data, settings.arch, settings.seed, rank, settings.device.least_images)
    shard = data.shard
    images = shard.total if settings.device.sync_batch_norm else shard.images  # that share batch statistics
    shape = (data.channels, data.size, data.size)
    model, facts = training_model.make(settings, shape, data.num_classes, batch=images)
    frozen: list[torch.nn.Module] = []
    if settings.arch.weights is not None:
        facts |= pretrained.load(model, settings.arch)
        frozen = pretrained.frozen(model)
    model = place(model, device)
    classifier = make_classifier(
        settings, model, data.num_classes, data.batches, frozen, rank=rank.rank, weight=data.weight
    )
    return Built(data, classifier, device, facts | data.facts)


def make_data(data: Data, arch: Arch, seed: int, rank: Rank = ALONE, least_images: int = 2) -> ImageData:
    """The images that the settings describe, read or found.

    Raises:
        InputError: they are not there, or the settings do not fit them.
    """
    return ImageData(
        data.source(),
        data.splitting(),
        data.batching(seed),
        data.augment.augmentation(),
        arch.model_input(),
        Sharding(rank=rank.rank, world=rank.world, least_images=least_images),
    )


def make_classifier(
    settings: Settings,
    model: torch.nn.Module,
    num_classes: int,
    batches: int,
    frozen: list[torch.nn.Module],
    **shared: Any,
) -> Classifier:
    """What trains the model, in `batches` an epoch.

    Args:
        settings: of them `optimizer`, `scheduler` and `trainer`.
        model: see `Classifier`, as for `num_classes` and `frozen`.
        batches: in an epoch, for the schedule.
        shared: `rank` and `weight` of `Classifier`.

    Raises:
        InputError: an optimizer or a schedule that cannot be made as the settings say.
    """
    recipe = settings.trainer
    steps_per_epoch = -(-batches // recipe.accumulate)
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
        label_smoothing=recipe.label_smoothing,
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
        decay_norm_and_bias=recipe.decay_norm_and_bias,
        frozen=frozen,
        **shared,
    )
    # The optimizer and the schedule are made again by Lightning; made here, bad values show in time.
    optimizer = classifier.make_optimizer([torch.nn.Parameter(torch.zeros(1))])
    classifier.make_schedule(optimizer)
    return classifier
