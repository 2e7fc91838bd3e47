"""What a tracker is told, and one that keeps nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnbench.errors import Diverged, Interrupted, Pruned

Row = Mapping[str, float]


STEPS = {"train": "epoch", "bench": "batch"}
"""What the rows of metrics.csv count, by verb."""


@dataclass(frozen=True)
class TestResult:
    """What the test set showed: probabilities (N, K), labels (N,), and a way to see an image."""

    __test__ = False  # not a test of pytest's

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: list[str]
    image: Callable[[int], NDArray[np.uint8]]  # index -> (H, W, C)

    def worst(self, count: int) -> NDArray[np.int64]:
        """Indices of wrong predictions, those with the least probability for the truth first."""
        wrong = np.flatnonzero(self.probabilities.argmax(1) != self.labels)
        truth = self.probabilities[wrong, self.labels[wrong]]
        return wrong[np.argsort(truth, kind="stable")][:count]


class Tracker(Protocol):
    """What training tells a tracker."""

    def log(self, row: Row) -> None:
        """One epoch, or one batch size. Epochs that it already has are passed over."""

    def finish(self, summary: Mapping[str, Any], test: TestResult | None) -> None:
        """The final figures."""

    def close(self, end: End) -> None:
        """The end, whatever it is."""


@dataclass(frozen=True)
class End:
    """How an attempt ended.

    Attributes:
        state: as in status.json.
        error: what ended it, if it was not its last epoch.
    """

    exit_code: int = 0
    state: str = "finished"
    error: str = ""

    @classmethod
    def by(cls, error: BaseException) -> End:
        """The end that an exception brings."""
        said = f"{type(error).__name__}: {error}"
        match error:
            case Diverged():
                return cls(0, "diverged", str(error))
            case Pruned():
                return cls(0, "pruned", str(error))
            case Interrupted():
                return cls(128 + error.signum, "interrupted", str(error))
            case KeyboardInterrupt() | SystemExit():
                return cls(1, "interrupted", said)
        return cls(1, "failed", said)


class Nowhere:
    """`logger=none`."""

    def log(self, row: Row) -> None:
        """Nothing to do."""

    def finish(self, summary: Mapping[str, Any], test: TestResult | None) -> None:
        """Nothing to do."""

    def close(self, end: End) -> None:
        """Nothing to do."""


def step_of(row: Row) -> int:
    """The epoch of a training's row, the batch size of a measurement's."""
    return int(next(row[key] for key in STEPS.values() if key in row))
