"""Searches for faults: a sample each time, drawn anew for each commit, and all cases on request.

    CNNBENCH_SEARCH=all pytest -m slow tests/faults

tries every case instead of a few in a hundred, and hypothesis tries a hundred times as many examples.
"""

import os
import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import hypothesis

ALL = os.environ.get("CNNBENCH_SEARCH") == "all"

Item = TypeVar("Item")


def _seed() -> int:
    """Return a number that changes with each commit, and that a failed search can be repeated with."""
    if "CNNBENCH_SEARCH_SEED" in os.environ:
        return int(os.environ["CNNBENCH_SEARCH_SEED"])
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=7", "HEAD"]
    answer = subprocess.run(git, capture_output=True, text=True, check=False)
    return int(answer.stdout, 16) if answer.returncode == 0 else 0


SEED = _seed()


def sample(cases: Sequence[Item], share: float = 0.1, least: int = 1) -> list[Item]:
    """Return a share of the cases, drawn anew for each commit, in their order; all of them on request."""
    if ALL:
        return list(cases)
    size = min(len(cases), max(least, round(share * len(cases))))
    return [cases[i] for i in sorted(random.Random(SEED).sample(range(len(cases)), size))]


def examples(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator for tests with `@given`: so many examples, a hundred times as many on request."""
    options = hypothesis.settings(
        max_examples=count * (100 if ALL else 1),
        deadline=None,
        print_blob=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        database=None,
    )

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        return hypothesis.seed(SEED)(options(test))

    return decorate
