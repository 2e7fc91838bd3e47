"""Rank of a process among those that train a run together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """Rank of a process among those that train a run together.

    Attributes:
        rank: rank among all processes; 0 is the first.
        world: number of processes.
        local: rank on its machine, and index of its GPU.
        node: index of its machine.
        address, port: at which the first process is reached.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    node: int = 0
    address: str = "127.0.0.1"
    port: int = 0


ALONE = Rank()
"""Rank of the only process."""
