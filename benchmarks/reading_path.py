"""Amount of code that one training leads through: the files to read, and the rooms that run code.

    python benchmarks/reading_path.py

Counts the lines of the six files that lead from the command line to `val/acc`, comments included, then
trains the default network for one epoch while a profiler notes every function of cnnbench that is called.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import cnnbench
from cnnbench import cli

PACKAGE = Path(cnnbench.__file__).parent
WAY = ("cli", "commands/train", "settings/parse", "training/fit", "training/build", "training/classifier")


def traced() -> tuple[Counter[str], int]:
    """Train one run; return the calls by file, and how often a call went from one file to another."""
    calls: Counter[str] = Counter()
    hops = 0
    last = ""

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal hops, last
        if event != "call" or frame.f_code.co_name == "<module>":
            return
        name = frame.f_code.co_filename
        if name.startswith(f"{PACKAGE}{os.sep}"):
            calls[name] += 1
            hops += name != last
            last = name

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = ["train", "trainer.max_epochs=1", "logger=none", f"output_dir={folder}"]
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            assert cli.main(arguments) == 0
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
    return calls, hops


def main() -> None:
    """Count and trace, and print two tables."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    sizes = {name: len((PACKAGE / f"{name}.py").read_text().splitlines()) for name in WAY}
    for name, size in sizes.items():
        print(f"{size:5} lines  {name}.py")
    print(f"{sum(sizes.values()):5} lines in {len(sizes)} files\n")
    calls, hops = traced()
    files = [Path(name).relative_to(PACKAGE) for name in calls]
    rooms = Counter(file.parts[0] if len(file.parts) > 1 else "the ground" for file in files)
    for room, count in sorted(rooms.items()):
        print(f"{count:5} files  {room}")
    print(f"{len(files):5} files in {len(rooms)} rooms run code in one training; {hops} calls between files")


if __name__ == "__main__":
    main()
