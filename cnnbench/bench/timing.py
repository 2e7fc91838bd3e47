"""Timing of several calls in turn, so that a machine that slows down affects all of them alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median, quantiles

import psutil

Call = Callable[[], object]
"""Does the work once, and waits for the device."""

WARM_UP = 3
"""Untimed calls at the start: they fill caches, let oneDNN choose kernels and raise a GPU's clock."""

LEAST = 3
"""Minimum number of calls in a round."""


@dataclass
class Durations:
    """Seconds of each call of one function, round by round."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def all(self) -> list[float]:
        """The durations of all rounds."""
        return [seconds for durations in self.rounds for seconds in durations]

    @property
    def typical(self) -> float:
        """The median over rounds of each round's median."""
        return median(median(durations) for durations in self.rounds)

    @property
    def best(self) -> float:
        """The smallest of the rounds' medians: the speed of an undisturbed machine."""
        return min(median(durations) for durations in self.rounds)

    @property
    def spread(self) -> float:
        """The interquartile range of the rounds' medians, relative to `typical`."""
        medians = [median(durations) for durations in self.rounds]
        if len(medians) < 2:
            return 0.0
        low, _, high = quantiles(medians, n=4, method="inclusive")
        return (high - low) / self.typical

    def percentile(self, percent: int) -> float:
        """Return a percentile over all calls; of fewer than a hundred, the 99th is the slowest call."""
        ordered = sorted(self.all)
        return ordered[min(len(ordered) - 1, -(-percent * len(ordered) // 100) - 1)]


def in_turn(
    calls: Mapping[str, Call],
    rounds: int,
    round_s: float,
    report: Callable[[str], None] = lambda phase: None,
) -> dict[str, Durations]:
    """Time each call in each round.

    Args:
        calls: by name.
        rounds: number of rounds.
        round_s: minimum seconds for which each call is repeated in each round.
        report: is called with each phase.

    Returns:
        Durations by name.
    """
    results = {name: Durations() for name in calls}
    for name, call in calls.items():
        report(f"{name}, warm-up")
        for _ in range(WARM_UP):
            call()
    for number in range(rounds):
        for name, call in calls.items():
            report(f"{name}, round {number + 1} of {rounds}")
            results[name].rounds.append(list(_durations(call, round_s)))
    return results


def _durations(call: Call, least_s: float) -> Iterator[float]:
    begin = last = time.perf_counter()
    done = 0
    while done < LEAST or last - begin < least_s:
        call()
        now = time.perf_counter()
        yield now - last
        last = time.perf_counter()
        done += 1


class OtherProcesses:
    """CPU time of other processes since this object was made, which distorts a measurement."""

    def __init__(self) -> None:
        self.began, self.busy, self.own = time.perf_counter(), _busy_s(), _own_s()

    def share(self) -> float:
        """Return the fraction of the machine's cores that other processes used, 0 to 1."""
        wall = time.perf_counter() - self.began
        others = (_busy_s() - self.busy) - (_own_s() - self.own)
        return min(1.0, max(0.0, others / (wall * (os.cpu_count() or 1))))


def _busy_s() -> float:
    """Return the busy seconds summed over cores, including time that a hypervisor gave to other guests."""
    times = psutil.cpu_times()
    idle = ("idle", "iowait", "guest", "guest_nice")  # the last two are part of `user`
    return float(sum(times) - sum(getattr(times, name, 0.0) for name in idle))


def _own_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
