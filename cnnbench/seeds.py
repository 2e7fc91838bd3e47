"""Seeds that depend only on their purpose.

Every random draw of a run starts from `mix(seed, epoch, …)`, never from the state that earlier draws left
behind: a run that is resumed, or that reads its images in other worker processes, draws the same numbers.
"""

from __future__ import annotations

import hashlib
import random


def mix(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that depends on `parts` alone; neighbouring parts give unrelated seeds."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_all(*parts: int | str) -> None:
    """Seed the global generators of torch (all devices), numpy and Python with `mix(*parts)`."""
    import numpy as np
    import torch

    value = mix(*parts)
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 - the legacy global generator is what libraries use
    torch.manual_seed(value)
