"""A network without non-linearity beside the one matrix that it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from cnnbench import console
from cnnbench.inference.evaluate.metrics import Evaluation
from cnnbench.inference.network import Network
from cnnbench.models.affine import collapse

Some = TypeVar("Some", bound=Network)


@dataclass(frozen=True)
class Collapsed:
    """The result of the matrix on the images of an evaluation.

    Attributes:
        rows, columns: of the matrix, which has a bias besides.
        accuracy: share of images whose class it predicts.
        differing: images for which it predicts another class than the network.
        largest_difference: of a probability.
        images: number of images.
    """

    rows: int
    columns: int
    accuracy: float
    differing: int
    largest_difference: float
    images: int

    def __str__(self) -> str:
        same = f"another class for {self.differing:,}" if self.differing else "the same class for all"
        return (
            f"{self.rows:,} x {self.columns:,} and a bias: accuracy {console.percent(self.accuracy)}, {same} "
            f"of {self.images:,} images; probabilities differ by {self.largest_difference:.1g} at most"
        )


def collapsed(network: Some, evaluation: Evaluation, evaluate: Callable[[Some], Evaluation]) -> Collapsed:
    """Evaluate the matrix that a network is in its place.

    Args:
        network: the model.
        evaluation: its result.
        evaluate: evaluates another one on the same images.

    Raises:
        InputError: a layer is not affine.
    """
    matrix = collapse(network.model, network.shape)
    found = evaluate(replace(network, model=matrix))
    return Collapsed(
        matrix.matrix.shape[0],
        matrix.matrix.shape[1],
        found.accuracy,
        int((found.probabilities.argmax(1) != evaluation.probabilities.argmax(1)).sum()),
        float(abs(found.probabilities - evaluation.probabilities).max()),
        len(found.labels),
    )
