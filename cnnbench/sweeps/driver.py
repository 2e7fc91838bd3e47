"""The driver of a sweep: start runs as there is room, observe how they end, retry, give up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from filelock import SoftFileLease

from cnnbench.run_store import lease
from cnnbench.sweeps.plan import Cell, Plan, is_done
from cnnbench.sweeps.pool import Outcome, Pool

LOOK_S = 0.03
"""Interval of checking for runs that have ended."""

ELSEWHERE_S = 2.0
"""Interval of checking runs that other processes train."""

RETRIED = ("failed", "died", "interrupted")


@dataclass
class Course:
    """The current state of a sweep's runs.

    Attributes:
        waiting: runs to start or to retry.
        running: the time of `time.monotonic` at which each was started.
        elsewhere: runs that other processes train, with the leases by which the end of these is detected.
        results: the outcomes of all other runs.
    """

    waiting: deque[Cell]
    running: dict[Cell, float] = field(default_factory=dict)
    elsewhere: dict[Cell, SoftFileLease] = field(default_factory=dict)
    results: dict[Cell, Outcome] = field(default_factory=dict)

    def failed(self) -> bool:
        """Return whether a run has failed for good."""
        return any(outcome.kind != "ended" for outcome in self.results.values())


def drive(
    plan: Plan,
    pool: Pool,
    watchers: Sequence[Callable[[Course], None]] = (),
    on_end: Callable[[Course, Cell, Outcome], None] = lambda course, cell, outcome: None,
) -> Course:
    """Train the pending runs of a sweep.

    Args:
        plan: the sweep.
        pool: trains the runs.
        watchers: called in every iteration, some 30 times a second.
        on_end: called for each attempt that has ended, here or elsewhere.

    Returns:
        The outcome of each pending run; runs that were never started remain in `waiting`.
    """
    course = Course(deque())
    for cell in plan.pending:
        if cell.state == "running":
            course.elsewhere[cell] = lease.of(cell.run.path)
        else:
            course.waiting.append(cell)
    last_check = time.monotonic()
    while course.waiting or course.running or course.elsewhere:
        stopped = plan.sweep.on_failure == "stop" and course.failed()
        if stopped and not course.running:
            break
        if not stopped:
            _start(course, pool)
        for cell, outcome in pool.ended():
            del course.running[cell]
            cell.tries += outcome.kind != "busy"
            if outcome.kind == "busy":
                course.elsewhere[cell] = lease.of(cell.run.path)
            elif outcome.kind in RETRIED and cell.tries <= plan.sweep.retries:
                course.waiting.append(cell)
            else:
                course.results[cell] = outcome
            on_end(course, cell, outcome)
        if time.monotonic() - last_check > ELSEWHERE_S:
            last_check = time.monotonic()
            for cell, outcome in _released(course):
                on_end(course, cell, outcome)
        for watch in watchers:
            watch(course)
        time.sleep(LOOK_S)
    return course


def _start(course: Course, pool: Pool) -> None:
    """Start runs as long as there is room; smaller runs may overtake one that needs more of it."""
    for cell in list(course.waiting):
        if cell.tries == 0 and not cell.settings.force and is_done(cell):
            # Finished since the sweep was planned, by a job that an earlier driver left on a cluster.
            course.waiting.remove(cell)
            course.elsewhere[cell] = lease.of(cell.run.path)
        elif pool.start(cell):
            course.waiting.remove(cell)
            course.running[cell] = time.monotonic()
        elif pool.at_once and len(course.running) >= pool.at_once:
            break
    pool.submit()


def _released(course: Course) -> list[tuple[Cell, Outcome]]:
    """Return the runs that other processes have finished or abandoned, and record them in the course."""
    outcomes = []
    for cell, run_lease in list(course.elsewhere.items()):
        if not lease.frees(run_lease):
            continue
        del course.elsewhere[cell]
        if is_done(cell):
            outcome = course.results[cell] = Outcome("ended")
        else:
            outcome = Outcome("interrupted", "the process that trained it is gone")
            course.waiting.append(cell)
        outcomes.append((cell, outcome))
    return outcomes
