"""Macro-F1, balanced accuracy and calibration against scikit-learn and their definitions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score

from cnnbench.training.decisions import Decisions
from cnnbench.training.metrics import metrics, update


def drawn(seed, images, classes, scale):
    """Draw logits with a tendency to the right class, which is never one of the first third."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes // 3, classes, (images,), generator=generator)
    logits = scale * torch.randn(images, classes, generator=generator)
    logits[torch.arange(images), labels] += scale
    return logits, labels


def computed(batches, classes):
    decisions = Decisions(classes)
    for logits, labels in batches:
        decisions.update(logits, labels)
    return {key: float(value) for key, value in decisions.compute().items()}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize(
    ("images", "classes", "scale"),
    [(2, 3, 1.0), (7, 3, 5.0), (500, 10, 1.0), (500, 10, 30.0), (3000, 100, 2.0)],
)
def test_as_defined(images, classes, scale):
    logits, labels = drawn(images, images, classes, scale)
    found = computed(zip(logits.split(64), labels.split(64), strict=True), classes)
    predicted, confidence = logits.argmax(1), logits.double().softmax(1).amax(1).numpy()
    right, ece = (predicted == labels).numpy(), 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert found == pytest.approx(
        {
            "f1_macro": f1_score(labels, predicted, average="macro"),
            "balanced_acc": balanced_accuracy_score(labels, predicted),
            "ece": ece,
        },
        abs=1e-6,
    )


def test_the_loss_is_the_negative_log_likelihood():
    logits, labels = drawn(0, 500, 10, 3.0)
    values = metrics("val/", 10)
    update(values, logits, labels)
    p = logits.double().softmax(1)[torch.arange(500), labels]
    assert float(values.compute()["val/loss"]) == pytest.approx(float(-p.log().mean()), rel=1e-6)


def test_order_and_batches_do_not_matter():
    logits, labels = drawn(0, 900, 10, 1.0)
    once = computed([(logits, labels)], 10)
    order = torch.randperm(900)
    assert computed(zip(logits[order].split(7), labels[order].split(7), strict=True), 10) == once


def test_a_probability_of_one_counts_with_those_below_it():
    """Half of the images have confidence 1, as float32 rounds, half 0.97; of both 99 % are right."""
    n = 200
    confidence = np.repeat(np.array([1.0, 0.97]), n // 2)
    with np.errstate(divide="ignore"):
        logits = torch.from_numpy(np.log(np.stack([confidence, 1 - confidence], 1))).float()
    labels = torch.zeros(n, dtype=torch.long)
    labels[[0, n // 2]] = 1
    assert computed([(logits, labels)], 2)["ece"] == pytest.approx(abs(0.99 - 0.985), abs=1e-6)


def test_no_confidence_no_calibration():
    logits, labels = drawn(0, 20, 10, 1.0)
    logits[3, 2] = torch.nan
    assert np.isnan(computed([(logits, labels)], 10)["ece"])
