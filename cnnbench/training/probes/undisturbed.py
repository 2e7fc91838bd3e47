"""Forward passes of a model that trains, after which everything is as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def model_of(module: pl.LightningModule) -> nn.Module:
    """Return the model of a classifier."""
    assert isinstance(module.model, nn.Module)
    return module.model


@contextmanager
def undisturbed(trainer: pl.Trainer, module: pl.LightningModule) -> Iterator[None]:
    """Compute as in training, but draw nothing: dropout is off, batch norm has the statistics of the batch.

    Afterwards running statistics, modes and random generators are as before. Gradients must be computed with
    `torch.autograd.grad`, which leaves those of the training alone.
    """
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    modes = [(child, child.training) for child in module.modules()]
    device = module.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        module.eval()
        for child, training in modes:
            if training and isinstance(child, _BatchNorm):
                child.train()
        try:
            with trainer.precision_plugin.forward_context():
                yield
        finally:
            for child, training in modes:
                child.training = training
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
