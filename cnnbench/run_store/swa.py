"""The epochs of a run whose weights SWA (`trainer.swa`, arXiv:1803.05407) averages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cnnbench.run_store.schema import LAST_EPOCH


def first_averaged(share: float, epochs: int) -> int:
    """Return the first epoch, from 0, that begins after a share of the epochs of a training."""
    return math.ceil(share * epochs - 1e-9)


def missed(share: Any, epochs: Any, summary: Mapping[str, Any]) -> int | None:
    """Return the first averaged epoch if the tested one came before it, so that no average was tested.

    Args:
        share: `trainer.swa`, as a number or as text.
        epochs: `trainer.max_epochs`, likewise.
        summary: figures of summary.json, which name the tested epoch.

    Returns:
        None if an average was tested, and where nothing tells.
    """
    tested = summary.get("best/epoch", summary.get(LAST_EPOCH))
    try:
        first = first_averaged(float(share), int(epochs))
    except (TypeError, ValueError, OverflowError):  # no such average
        return None
    return first if tested is not None and tested < first else None
