"""Duration of a sweep of small runs against one process for each.

    python benchmarks/sweep.py [--runs 24]

Prints seconds and their ratio, measured one after the other on this machine, and the seconds of rerunning the
finished sweep.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time

SMALL = ["data.limit=300", "trainer.max_epochs=3"]


def seconds(*arguments: str, cwd: str) -> float:
    """Run `cnnbench train` with small settings; return its seconds."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "cnnbench", "train", *SMALL, *arguments]
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Run both, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=24, help="an even number (default: 24)")
    seeds = parser.parse_args().runs // 2
    with tempfile.TemporaryDirectory() as apart, tempfile.TemporaryDirectory() as together:
        overrides = ["-m", "arch=basic,mlp", f"seed=range({seeds})"]
        sweep = seconds(*overrides, cwd=together)
        rerun = seconds(*overrides, cwd=together)
        one_each = 0.0
        for arch in ("basic", "mlp"):
            for seed in range(seeds):
                one_each += seconds(f"arch={arch}", f"seed={seed}", cwd=apart)
    print(f"one process each: {one_each:.1f} s")
    print(f"one sweep: {sweep:.1f} s, {one_each / sweep:.1f} times less")
    print(f"the finished sweep again: {rerun:.1f} s")


if __name__ == "__main__":
    main()
