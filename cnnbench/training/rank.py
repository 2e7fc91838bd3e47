"""Which of the processes that train a run together a process is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """Which of the processes this is that train a run together.

    Attributes:
        rank: 0 for the first.
        world: how many there are.
        local: which it is on its machine, and so which GPU is its own.
        node: the number of its machine.
        address, port: where the first one is found.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    node: int = 0
    address: str = "127.0.0.1"
    port: int = 0


ALONE = Rank()
