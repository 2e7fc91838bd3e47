"""Time of `cnnbench inspect`, the whole process, for every architecture of cnnbench.

    python benchmarks/inspecting.py [arch …] [--repeats 3] [--setting data=imagenette data.size=224]

Prints the processor time of each process and, since machines and their load differ, its ratio to that of
`python -c 'import torch'`: the least of several processes, in turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import yaml

from cnnbench.settings.compose import CONF


def main() -> None:
    """Start the processes, and print a line for each architecture and the slowest one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archs", nargs="*", help="(default: all that need no further setting)")
    parser.add_argument("--repeats", type=int, default=3, help="processes each (default: 3)")
    parser.add_argument("--setting", nargs="*", default=[], help="settings for all of them")
    args = parser.parse_args()
    names = args.archs or [path.stem for path in sorted(Path(CONF, "arch").glob("*.yaml")) if ours(path)]
    slowest = 0.0
    for name in names:
        command = ["-m", "cnnbench", "inspect", f"arch={name}", *args.setting]
        pairs = [(seconds(["-c", "import torch"]), seconds(command)) for _ in range(args.repeats)]
        torch_s, inspect_s = (min(times) for times in zip(*pairs, strict=True))
        slowest = max(slowest, inspect_s / torch_s)
        print(f"{name:18} {inspect_s:5.2f} s   {inspect_s / torch_s:4.1f} x import torch ({torch_s:.2f} s)")
    print(f"slowest: {slowest:.1f} x import torch")


def ours(path: Path) -> bool:
    """Return whether an architecture is one of cnnbench's own."""
    return "native" in yaml.safe_load(path.read_text(encoding="utf-8"))


def seconds(arguments: list[str]) -> float:
    """Run Python, and return the processor time that the process took."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
