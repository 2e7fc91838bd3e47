"""`cnnbench bench`: measure one model on one device, or a sweep of them with -m."""

from __future__ import annotations

from cnnbench.commands.train import main as carry_out


def main(arguments: list[str]) -> int:
    """Measure, and return the exit code: the worst of a sweep's runs."""
    return carry_out(arguments, "bench")
