"""Verification of everything that a run has written. Needs no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from cnnbench.run_store.content import WEIGHTS
from cnnbench.run_store.fence import link_in
from cnnbench.run_store.probes import FOLDER
from cnnbench.run_store.run import Run
from cnnbench.run_store.seal import Damaged, seal_of, verify


@dataclass
class Verification:
    """Result of the verification of one run.

    Attributes:
        problems: a line for each file that is damaged, missing or leads out of the run's folder.
        unchecked: files that have neither checksum nor CRC.
        checkpoints: number of checkpoints that were read whole.
    """

    problems: list[str] = field(default_factory=list)
    unchecked: list[Path] = field(default_factory=list)
    checkpoints: int = 0


def verification(run: Run) -> Verification:
    """Verify the files of a run: their form, checksums, agreement with each other, and that all are there."""
    result = Verification(problems=list(run.damage))
    if problem := link_in(run.path):
        result.problems.append(problem)
    status = run.status()
    for path in sorted(run.checkpoints.glob("*.ckpt")):
        result.checkpoints += 1
        try:
            if problem := foreign(run, path.name):
                result.problems.append(f"{path}: {problem}")
            elif not verify(path):
                result.unchecked.append(path)
        except Damaged as error:
            result.problems.append(str(error))
        except FileNotFoundError:
            continue  # replaced or deleted meanwhile by the process that trains the run
        except OSError as error:
            result.problems.append(f"{path}: cannot be read ({error.strerror})")
    expected = [run.path / name for name, digest in status.get("files", {}).items() if digest is not None]
    if status.get("state") == "finished" and run.verb == "train":
        expected += [run.checkpoints / name for name in WEIGHTS]
    named = {problem.partition(":")[0] for problem in result.problems}
    content = run.content()
    for name in status.get("files", {}):
        if name.startswith(f"{FOLDER}/") and Path(name).stem not in content.measured_probes:
            result.problems.append(content.problem(name))
            named.add(str(run.path / name))
    result.problems += [
        f"{path}: is missing" for path in expected if not path.exists() and str(path) not in named
    ]
    return result


def foreign(run: Run, name: str) -> str:
    """Return why a checkpoint is not the one that a run ended with, by its seal; empty if it may be."""
    path, status = run.checkpoints / name, run.status()
    if not os.path.lexists(path):
        return ""
    seal = seal_of(path)
    if "checksum" in status and not seal and path.is_file():
        return "is not as it was written (it has no checksum)"
    recorded = status.get("checkpoints", {}).get(name, seal)
    return "" if seal == recorded else "is not the checkpoint that this run wrote"
