"""The interface of a tracker, and what training passes to it.

`track` opens the tracker that `logger=…` names; its implementations are `wandb_tracker`, `lightning_tracker`
and, for `logger=none`, `NullTracker` below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnbench.errors import Diverged, Interrupted, Pruned, Superseded
from cnnbench.run_store.probes import Table

Row = Mapping[str, float]

NO_PROBES: Mapping[str, Table] = MappingProxyType({})


STEPS = {"train": "epoch", "bench": "batch"}
"""The column of metrics.csv that numbers its rows, by verb."""


def step_of(row: Row) -> int:
    """Return the epoch of a training's row, or the batch size of a measurement's row."""
    return int(next(row[key] for key in STEPS.values() if key in row))


@dataclass(frozen=True)
class TestResult:
    """Predictions on the test split, with access to its images.

    Attributes:
        probabilities: (N, K), float32.
        labels: (N,), int64.
        classes: the K class names.
        image: returns the image at an index, (H, W, C), uint8.
    """

    __test__ = False  # the name would make pytest collect it

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: list[str]
    image: Callable[[int], NDArray[np.uint8]]

    def worst(self, count: int) -> NDArray[np.int64]:
        """Return indices of wrong predictions, lowest probability of the true class first."""
        wrong = np.flatnonzero(self.probabilities.argmax(1) != self.labels)
        true_probability = self.probabilities[wrong, self.labels[wrong]]
        return wrong[np.argsort(true_probability, kind="stable")][:count]


@dataclass(frozen=True)
class End:
    """The end of an attempt.

    Attributes:
        exit_code: 0 for a finished run and for a result such as divergence.
        state: as in status.json; `superseded` if another process goes on with the run, and with its log.
        error: message of the exception that ended the attempt; empty if it finished.
    """

    exit_code: int = 0
    state: str = "finished"
    error: str = ""

    @classmethod
    def by(cls, error: BaseException) -> End:
        """Return the end that an exception causes."""
        message = f"{type(error).__name__}: {error}"
        match error:
            case Diverged():
                return cls(0, "diverged", str(error))
            case Superseded():
                return cls(1, "superseded", str(error))
            case Pruned():
                return cls(0, "pruned", str(error))
            case Interrupted():
                return cls(128 + error.signum, "interrupted", str(error))
            case KeyboardInterrupt() | SystemExit():
                return cls(1, "interrupted", message)
        return cls(1, "failed", message)


class Tracker(Protocol):
    """Receiver of the metrics of one attempt."""

    def log(self, row: Row) -> None:
        """Log one epoch or one batch size; skip an epoch that an earlier attempt has logged."""

    def finish(
        self, summary: Mapping[str, Any], test: TestResult | None, probes: Mapping[str, Table] = NO_PROBES
    ) -> None:
        """Log the final metrics and, if there are any, the predictions on the test split and the probes."""

    def close(self, end: End) -> None:
        """Close the log. Called once for every attempt, however it ended."""


class NullTracker:
    """Tracker of `logger=none`, which logs nothing."""

    def log(self, row: Row) -> None:
        """Do nothing."""

    def finish(
        self, summary: Mapping[str, Any], test: TestResult | None, probes: Mapping[str, Table] = NO_PROBES
    ) -> None:
        """Do nothing."""

    def close(self, end: End) -> None:
        """Do nothing."""
