"""The course of a sweep: start what there is room for, see how it ends, try again, give up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from filelock import SoftFileLease

from cnnbench.run_store import lease
from cnnbench.run_store.run import DONE
from cnnbench.sweeps.plan import Cell, Plan
from cnnbench.sweeps.pool import Outcome, Pool

LOOK_S = 0.03
"""Between looks at what has ended."""

ELSEWHERE_S = 2.0
"""Between looks at runs that other processes train."""

RETRIED = ("failed", "died", "interrupted")


@dataclass
class Course:
    """Where the runs of a sweep stand.

    Attributes:
        waiting: not started, or to be tried again.
        running: with the time at which they were started, of `time.monotonic`.
        elsewhere: trained by other processes, with the leases that show when these are gone.
        results: how the others ended.
    """

    waiting: deque[Cell]
    running: dict[Cell, float] = field(default_factory=dict)
    elsewhere: dict[Cell, SoftFileLease] = field(default_factory=dict)
    results: dict[Cell, Outcome] = field(default_factory=dict)

    def failed(self) -> bool:
        """Whether a run has failed for good."""
        return any(outcome.kind != "ended" for outcome in self.results.values())


def drive(
    plan: Plan,
    pool: Pool,
    watchers: Sequence[Callable[[Course], None]] = (),
    on_end: Callable[[Course, Cell, Outcome], None] = lambda course, cell, outcome: None,
) -> Course:
    """Carry a sweep out.

    Args:
        plan: what is to be done.
        pool: where.
        watchers: called again and again.
        on_end: called with each attempt that has ended, here or elsewhere.

    Returns:
        How each pending run ended; those that were not started are `waiting`.
    """
    course = Course(deque())
    for cell in plan.pending:
        if cell.state == "running":
            course.elsewhere[cell] = lease.of(cell.run.path)
        else:
            course.waiting.append(cell)
    looked = time.monotonic()
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
        if time.monotonic() - looked > ELSEWHERE_S:
            looked = time.monotonic()
            for cell, outcome in _freed(course):
                on_end(course, cell, outcome)
        for watch in watchers:
            watch(course)
        time.sleep(LOOK_S)
    return course


def _start(course: Course, pool: Pool) -> None:
    """Start what there is room for; a run that needs more of it waits, and lets others pass."""
    for cell in list(course.waiting):
        if cell.tries == 0 and not cell.settings.force and cell.run.state in DONE:
            # Since the sweep was planned, by what an earlier driver has left behind on a cluster.
            course.waiting.remove(cell)
            course.elsewhere[cell] = lease.of(cell.run.path)
        elif pool.start(cell):
            course.waiting.remove(cell)
            course.running[cell] = time.monotonic()
        elif pool.at_once and len(course.running) >= pool.at_once:
            break
    pool.submit()


def _freed(course: Course) -> list[tuple[Cell, Outcome]]:
    """Take note of runs that other processes have finished, or let go of."""
    found = []
    for cell, held in list(course.elsewhere.items()):
        if not lease.frees(held):
            continue
        del course.elsewhere[cell]
        if cell.run.state in DONE:
            outcome = course.results[cell] = Outcome("ended")
        else:
            outcome = Outcome("interrupted", "the process that trained it has gone")
            course.waiting.append(cell)
        found.append((cell, outcome))
    return found
