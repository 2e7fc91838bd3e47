"""Verification of everything that a run has written. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cnnbench.run_store.fence import link_in
from cnnbench.run_store.run import Run
from cnnbench.run_store.seal import Damaged, verify

WEIGHTS = ("best.ckpt", "last.ckpt")
"""Checkpoints that a finished training has."""


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
    for path in sorted(run.checkpoints.glob("*.ckpt")):
        result.checkpoints += 1
        try:
            if not verify(path):
                result.unchecked.append(path)
        except Damaged as error:
            result.problems.append(str(error))
        except FileNotFoundError:
            continue  # replaced or deleted meanwhile by the process that trains the run
        except OSError as error:
            result.problems.append(f"{path}: cannot be read ({error.strerror})")
    status = run.status()
    expected = [run.path / name for name, digest in status.get("files", {}).items() if digest is not None]
    if status.get("state") == "finished" and run.verb == "train":
        expected += [run.checkpoints / name for name in WEIGHTS]
    named = {problem.partition(":")[0] for problem in result.problems}
    result.problems += [
        f"{path}: is missing" for path in expected if not path.exists() and str(path) not in named
    ]
    return result
