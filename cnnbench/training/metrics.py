"""Metrics of a classifier over the images of an epoch, and their state in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional as F
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from cnnbench.training.decisions import Decisions


def running_means(prefix: str) -> MetricCollection:
    """Return means of loss and accuracy that are updated with one value per image."""
    # With nan_strategy="disable", MeanMetric (torchmetrics 1.9) ignores weights; none are used.
    return MetricCollection(
        {"loss": MeanMetric(nan_strategy="disable"), "acc": MeanMetric(nan_strategy="disable")},
        prefix=prefix,
        compute_groups=False,
    )


def metrics(prefix: str, num_classes: int) -> MetricCollection:
    """Return the metrics of all images passed to `update`: loss, accuracy, top-5 and those of `Decisions`.

    The loss is the negative log-likelihood: cross-entropy without weights or smoothing, whatever the loss of
    the training, so that it can be compared.
    """
    return MetricCollection(
        {
            "loss": MeanMetric(nan_strategy="disable"),
            "acc": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
            "top5": MulticlassAccuracy(
                num_classes, average="micro", top_k=min(5, num_classes), validate_args=False
            ),
            "decisions": Decisions(num_classes),
        },
        prefix=prefix,
        compute_groups=False,
    )


def update(metrics: MetricCollection, logits: Tensor, labels: Tensor) -> None:
    """Update metrics with logits (N, K) and labels (N,)."""
    logits = logits.float()
    metrics["loss"].update(F.cross_entropy(logits, labels, reduction="none"))
    metrics["acc"].update(logits, labels)
    metrics["top5"].update(logits, labels)
    metrics["decisions"].update(logits, labels)


def _of_all(tensor: Tensor) -> Tensor:
    """Gather a tensor (…) from each process as (processes, …)."""
    if not distributed.is_initialized():
        return tensor[None]
    gathered = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, tensor)
    return torch.stack(gathered)


def states_of_all(metrics: MetricCollection, processes: int) -> list[dict[str, dict[str, Any]]]:
    """Return the sums behind the running means, by process; to be called in all processes at once."""
    states = {
        name: {key: _of_all(tensor) for key, tensor in metric.metric_state.items()}  # type: ignore[arg-type]
        for name, metric in metrics.items(keep_base=True)
    }
    return [
        {
            name: {key: tensor[rank] for key, tensor in sums.items()}
            | {"_update_count": metrics[name].update_count}
            for name, sums in states.items()
        }
        for rank in range(processes)
    ]


def restore(metrics: MetricCollection, states: Mapping[str, Mapping[str, Any]]) -> None:
    """Restore the sums of one process, as returned by `states_of_all`."""
    for name, sums in states.items():
        for key, value in sums.items():
            setattr(metrics[name], key, value)
