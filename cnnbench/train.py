"""`cnnbench train`: train one configuration, or a sweep of them with -m.

A run that is finished is answered from its folder, without importing torch.
"""

from __future__ import annotations

import errno
import hashlib
import sys
import traceback
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cnnbench import __version__, compose, ui
from cnnbench.errors import InputError, Interrupted
from cnnbench.process import interruptible
from cnnbench.runs import Run, identity
from cnnbench.settings import Settings, parse


def main(arguments: list[str]) -> int:
    """Run `cnnbench train` and return its exit code: the worst of a sweep's runs."""
    many = any(word in (*compose.MULTIRUN, "hydra.mode=MULTIRUN") for word in arguments)
    runs: dict[Run, int] = {}
    refused: list[int] = []
    select: list[str] = []

    def task(config: DictConfig) -> float:
        """One run; what goes wrong with it is reported at once and does not end a sweep."""
        run = None
        try:
            settings = parse(config)
            select[:] = settings.select
            run = locate(settings)
            runs[run] = 0
            if many:
                ui.console.rule(run.path.name, align="left", style="dim")
            return train(settings, run, brief=many)
        except InputError as error:
            if run is not None and run.state == "new":
                del runs[run]
            refused.append(2)
            print(f"error: {error}", file=sys.stderr)
        except Exception as error:  # of a model, a disk, a device: recorded, and a sweep goes on
            assert run is not None
            runs[run] = 1
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                print(f"error: {run.path}: {error.strerror}", file=sys.stderr)
            else:
                traceback.print_exc()
            log = run.path / "train.log"
            print(f"error: {run.path.name} failed" + f"; see {log}" * log.exists(), file=sys.stderr)
        return float("nan")

    try:
        with interruptible():
            compose.run(task, "train", arguments)
    except Interrupted as error:
        ui.console.print("interrupted; the same command goes on from the last checkpoint", style="yellow")
        return 128 + error.signum
    finally:
        if many and runs:
            title = f"{len(runs)} runs, best val accuracy first"
            if select:
                title += f"; {', '.join(select)} chosen on val for each row"
            ui.out.print(ui.comparison(list(runs), title, select))
            ui.out.print(f"cnnbench runs {next(iter(runs)).path.parent}", highlight=False)
    return max([0, *runs.values(), *refused])


def locate(settings: Settings) -> Run:
    """The folder of the run that these settings describe, whether it exists or not."""
    choice = settings.choice()
    if settings.data.name == "imagefolder":
        from cnnbench.data.folder import fingerprint

        choice["data"]["content"] = fingerprint(Path(settings.data.root).expanduser())
    weights = settings.arch.weights
    if weights is not None and weights != "imagenet":
        choice["arch"]["weights"] = content(weights)
    name = f"{settings.arch.name}-{settings.data.name}-s{settings.seed}-{identity(choice)}"
    return Run(Path(settings.output_dir).expanduser() / settings.name / name)


def content(path: str) -> str:
    """What a file of weights holds, for a run's identity: it counts by its content, not by its name.

    Raises:
        InputError: there is no such file.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        allowed = "imagenet, or a file of weights"
        raise InputError(f"arch.weights={path}: {error.strerror or error}; allowed: {allowed}") from None


def train(settings: Settings, run: Run, *, brief: bool = False) -> float:
    """Train a run to its end, unless it is there already, and show what came out.

    Returns:
        The best val accuracy, for a sweeper to optimise; NaN for a run that diverged.
    """
    state = run.state
    if state in ("finished", "diverged") and not settings.force:
        made_by = run.status().get("versions", {}).get("cnnbench")
        if made_by != __version__:
            ui.console.print(
                f"trained by cnnbench {made_by}; this is {__version__}", style="yellow", highlight=False
            )
        if not brief:
            ui.console.print(f"already {state}: shown from disk (force=true trains it again)", style="dim")
    else:
        with ui.console.status("starting"):  # torch and Lightning take seconds to import
            from cnnbench.fit import fit
        fit(settings, run)
    if not brief:
        ui.out.print(ui.run_table(run))
    best: Any = run.summary().get("best/val_acc", float("nan"))
    return float(best)
