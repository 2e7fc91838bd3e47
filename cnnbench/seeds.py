"""Seeds that depend on nothing but what they are for.

Every random draw of a run is made from `mix(seed, epoch, …)`, never from the state that earlier
draws left behind: a run that is resumed, or reads its images through other worker processes, then
draws exactly what it would have drawn.
"""

from __future__ import annotations

import hashlib
import random


def mix(*parts: int | str) -> int:
    """A seed in [0, 2**63) that follows from `parts` alone, unrelated for neighbouring parts."""
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
