"""`cnnbench bench`: measure one model on one device, or a sweep of them with -m."""

from __future__ import annotations

from cnnbench.commands.train import main as run_verb


def main(arguments: list[str]) -> int:
    """Measure, and return the exit code, in a sweep that of its worst run."""
    return run_verb(arguments, "bench")
