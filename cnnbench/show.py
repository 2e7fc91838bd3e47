"""`cnnbench runs [PATH …]`: what runs there are, or one run."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path

from cnnbench import ui
from cnnbench.errors import InputError
from cnnbench.runs import find


def main(arguments: list[str]) -> int:
    """Print a table of the runs below each path, or the figures of a single run."""
    parser = argparse.ArgumentParser("cnnbench runs", description="Show what runs there are, or one run.")
    default = os.environ.get("CNNBENCH_OUTPUTS", "outputs")
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        default=[Path(default)],
        help=f"folders of runs, or a run (default: {default})",
    )
    paths: list[Path] = parser.parse_args(arguments).paths
    runs = list({run.path.resolve(): run for path in paths for run in find(path)}.values())
    if not runs:
        raise InputError(f"{', '.join(map(str, paths))}: no run here (a folder with a status.json)")
    if len(runs) == 1 and runs[0].path in paths:
        ui.out.print(ui.run_table(runs[0]))
        return 0
    ui.out.print(ui.runs_table(runs))
    states = Counter(run.state for run in runs)
    ui.out.print(f"{len(runs)} runs" + "".join(f", {n} {state}" for state, n in sorted(states.items())))
    return 0
