"""From settings to the probes of a run."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.datamodule import ImageData
from cnnbench.errors import InputError
from cnnbench.models.effective_field import effective_field
from cnnbench.settings.probes import Probes
from cnnbench.training.build import Built
from cnnbench.training.classifier import Classifier
from cnnbench.training.probes.activations import Activations
from cnnbench.training.probes.field import Field
from cnnbench.training.probes.gradients import Gradients
from cnnbench.training.probes.landscape import Landscape
from cnnbench.training.probes.series import Series
from cnnbench.training.probes.shift import Shift
from cnnbench.training.probes.translation import Translation

Probe = Series | Field | Translation


def build_probes(settings: Probes, built: Built) -> list[Probe]:
    """Return the probes of a run.

    Args:
        settings: of the probes.
        built: what they look at, with initial weights.

    Raises:
        InputError: the model has no map whose field could be measured.
    """
    probes: list[Probe] = []
    data = built.data
    if (activations := settings.activations) is not None:
        probes.append(Activations(activations.every, some_images(data, activations.images)))
    if (gradients := settings.gradients) is not None:
        probes.append(Gradients(gradients.every))
    if (shift := settings.shift) is not None:
        probes.append(Shift(shift.every, some_images(data, shift.images), shift.layers))
    if (landscape := settings.landscape) is not None:
        probes.append(Landscape(landscape.every, landscape.distances))
    if (field := settings.field) is not None:
        probes.append(_field(some_images(data, field.images), built.classifier))
    if (translation := settings.translation) is not None:
        probes.append(Translation([pixels for pixels in translation.pixels if 2 * pixels <= data.size]))
    return probes


def _field(images: Tensor, classifier: Classifier) -> Field:
    images = images.to(classifier.dtype)
    with torch.random.fork_rng([]):
        start = effective_field(classifier.model, images)
    if start is None:
        raise InputError(
            "probes=field: the model has no feature map of more than one unit; allowed: other probes"
        )
    return Field(start, images)


def some_images(data: ImageData, count: int) -> Tensor:
    """Return training images as evaluation sees them, float32 (N, C, H, W).

    They are evenly spaced over the split, so that a sorted one gives images of all classes.
    """
    n = len(data.train.labels)
    chosen = data.train[np.linspace(0, n - 1, min(count, n)).round().astype(np.int64)]
    with torch.random.fork_rng([]):  # a loader draws a seed for its workers
        batches = [data.on_before_batch_transfer(item, 0) for item in data.evaluation_batches(chosen)]
    return data.transform(torch.cat([batch[0] for batch in batches]), None)
