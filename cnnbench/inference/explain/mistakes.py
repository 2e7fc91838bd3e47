"""The images on which a model is wrong and most sure of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnnbench.inference.evaluate.metrics import Evaluation

LEAST = float(np.finfo(np.float32).tiny)
"""Probability from which on losses are told apart; a smaller one counts as this."""


class Mistake(NamedTuple):
    """An image whose most probable class is wrong.

    Attributes:
        image: its index.
        true, predicted: indices of classes.
        probability: of the predicted class.
        loss: cross-entropy in nats.
    """

    image: int
    true: int
    predicted: int
    probability: float
    loss: float


def worst_mistakes(evaluation: Evaluation, most: int) -> list[Mistake]:
    """Return up to `most` mistakes, those with the highest loss first."""
    probabilities, labels = evaluation.probabilities.astype(np.float64), evaluation.labels
    losses = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], LEAST))
    predicted = probabilities.argmax(1)
    order = np.argsort(-losses, kind="stable")
    return [
        Mistake(int(i), int(labels[i]), int(predicted[i]), float(probabilities[i].max()), float(losses[i]))
        for i in order
        if predicted[i] != labels[i]
    ][:most]
