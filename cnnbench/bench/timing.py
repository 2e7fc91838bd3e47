"""Durations: what is measured in turn, so that a machine that slows down slows all of it down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median, quantiles

import psutil

Call = Callable[[], object]
"""Does the work once, and waits until the device has done it."""

WARM_UP = 3
"""Calls before the first that counts: caches, oneDNN's choice of kernels, the clock of a GPU."""

LEAST = 3
"""Calls a round, at least."""


@dataclass
class Durations:
    """Seconds of the calls of one thing, round by round."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def all(self) -> list[float]:
        """Of all rounds."""
        return [seconds for some in self.rounds for seconds in some]

    @property
    def typical(self) -> float:
        """The median over rounds of each round's median."""
        return median(median(some) for some in self.rounds)

    @property
    def best(self) -> float:
        """The least of the rounds' medians: what the machine can do when it is left alone."""
        return min(median(some) for some in self.rounds)

    @property
    def spread(self) -> float:
        """The interquartile range of the rounds' medians, as a share of `typical`."""
        middles = [median(some) for some in self.rounds]
        if len(middles) < 2:
            return 0.0
        low, _, high = quantiles(middles, n=4, method="inclusive")
        return (high - low) / self.typical

    def percentile(self, percent: int) -> float:
        """Of all calls; of fewer than a hundred the 99th is the slowest."""
        ordered = sorted(self.all)
        return ordered[min(len(ordered) - 1, -(-percent * len(ordered) // 100) - 1)]


def in_turn(
    calls: Mapping[str, Call], rounds: int, round_s: float, said: Callable[[str], None] = lambda what: None
) -> dict[str, Durations]:
    """Measure each of the calls in each round.

    Args:
        calls: by name.
        rounds: how many.
        round_s: how long each call is repeated in each round, at least.
        said: is told what is measured next.
    """
    found = {name: Durations() for name in calls}
    for name, call in calls.items():
        said(f"{name}, warm-up")
        for _ in range(WARM_UP):
            call()
    for number in range(rounds):
        for name, call in calls.items():
            said(f"{name}, round {number + 1} of {rounds}")
            found[name].rounds.append(list(_durations(call, round_s)))
    return found


def _durations(call: Call, least_s: float) -> Iterator[float]:
    begin = last = time.perf_counter()
    done = 0
    while done < LEAST or last - begin < least_s:
        call()
        now = time.perf_counter()
        yield now - last
        last = time.perf_counter()
        done += 1


class Company:
    """How much other processes computed meanwhile: what they do is in the figures too."""

    def __init__(self) -> None:
        self.began, self.busy, self.own = time.perf_counter(), _busy_s(), _own_s()

    def share(self) -> float:
        """Of the machine's cores, since this was made; 0 to 1."""
        wall = time.perf_counter() - self.began
        others = (_busy_s() - self.busy) - (_own_s() - self.own)
        return min(1.0, max(0.0, others / (wall * (os.cpu_count() or 1))))


def _busy_s() -> float:
    """Seconds that the cores were busy, all together; what a hypervisor took for others is among it."""
    times = psutil.cpu_times()
    idle = ("idle", "iowait", "guest", "guest_nice")  # the last two are in `user` already
    return float(sum(times) - sum(getattr(times, name, 0.0) for name in idle))


def _own_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
