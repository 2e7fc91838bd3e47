"""Batch norm's running statistics, computed anew for weights with which no step was trained."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from itertools import islice

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from cnnbench.data.datamodule import ImageData
from cnnbench.training.classifier import Classifier

log = logging.getLogger("cnnbench")

IMAGES = 8192
"""Training images over which statistics are computed: thousands suffice (arXiv:2105.07576, section 3)."""


def renew_statistics(
    trainer: pl.Trainer, classifier: Classifier, note: Callable[[str], None] = lambda text: None
) -> None:
    """Set the running statistics of batch norm to the mean of those of training batches.

    The batches are the first ones of the trainer's current epoch, so that they follow from (seed, epoch),
    with the training's preprocessing and augmentation, but not mixed. All other layers are in eval mode:
    statistics are those of the network as it is evaluated, and nothing is drawn. Frozen layers keep theirs,
    and a model without batch norm costs nothing. Several processes average what each computes from its
    shards.

    Args:
        trainer: with a datamodule `ImageData`.
        classifier: in eval mode, with the weights that are to be evaluated.
        note: shows a text in the progress.
    """
    frozen = {child for module in classifier.frozen for child in module.modules()}
    layers = [
        layer
        for layer in classifier.modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer not in frozen
    ]
    if not layers:
        return
    note("batch norm: new statistics")
    start, images = time.perf_counter(), 0
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean
        layer.train()
    try:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for batch in training_images(trainer, classifier.device):
                classifier(batch)
                images += len(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
    if trainer.world_size > 1:
        for layer in layers:
            for statistic in (layer.running_mean, layer.running_var):
                assert statistic is not None
                statistic.copy_(trainer.strategy.reduce(statistic.clone(), reduce_op="mean"))
    log.info("batch norm: statistics of %d images in %.2f s", images, time.perf_counter() - start)


def training_images(trainer: pl.Trainer, device: torch.device) -> Iterator[Tensor]:
    """Yield this process's shards of the first batches of the current epoch: float32 (N, C, H, W)."""
    data: ImageData = trainer.datamodule  # type: ignore[attr-defined]
    order = data.train_order()
    order.set_epoch(trainer.current_epoch)
    batches = -(-IMAGES // data.batching.batch_size)
    for item in islice(data.train_batches(order), batches):
        images, _, key, total = data.on_before_batch_transfer(item, 0)
        yield data.transform(images.to(device), key, total)
