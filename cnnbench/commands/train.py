"""`cnnbench train`: train one configuration, or a sweep of them with -m.

A run that is finished is answered from its folder, without importing torch.
"""

from __future__ import annotations

import os
import pkgutil
from contextlib import nullcontext, suppress
from typing import cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cnnbench.commands import failures, reuse
from cnnbench.commands.runs import run_picture
from cnnbench.console import console, out
from cnnbench.errors import Busy, Interrupted
from cnnbench.processes.signals import interruptible
from cnnbench.run_store.run import DONE, Run
from cnnbench.settings import compose
from cnnbench.settings.identity import locate
from cnnbench.settings.parse import parse, plain
from cnnbench.settings.run import Settings


def main(arguments: list[str], verb: str = "train") -> int:
    """Carry out `train`, or another verb that makes runs; return the worst exit code of all runs."""
    session = Session()
    if any(word in (*compose.MULTIRUN, "hydra.mode=MULTIRUN") for word in arguments):
        from cnnbench.commands.sweep_report import SweepSession

        session = SweepSession()
    interrupted = 0
    try:
        with interruptible():
            compose.run(session, verb, arguments)
    except Interrupted as error:
        console.print("interrupted; run the same command again to resume", style="yellow")
        interrupted = 128 + error.signum
    finally:
        with suppress(OSError) if interrupted else nullcontext():  # of a terminal that was closed
            session.report()
    return interrupted or session.exit_code


class Session:
    """The function that Hydra calls with a composed configuration, and what it has to remember."""

    brief = False
    """True: the result is shown elsewhere."""

    def __init__(self) -> None:
        self.exit_code = 0

    def __call__(self, config: DictConfig) -> float:
        """Train one run in this process, print its errors, and return `Run.objective` for a sweeper."""
        run = None
        try:
            hydra = HydraConfig.get()
            overrides = OmegaConf.to_container(hydra.overrides.task)  # as typed: `${…}` is not resolved
            command = compose.command(cast(list[str], overrides), hydra)
            settings = parse(plain(config)).model_copy(update={"command": command})
            run = locate(settings)
            self.note(run, settings)
            complete(settings, run, brief=self.brief)
            return run.objective
        except Exception as error:  # of a model, a disk, a device: recorded in the run's folder
            self.failed(run, error)
            return float("nan")

    def note(self, run: Run, settings: Settings) -> None:
        """Take note of a run that begins."""

    def failed(self, run: Run | None, error: Exception) -> None:
        """Print what went wrong."""
        self.exit_code = max(self.exit_code, failures.report(run, error))

    def report(self) -> None:
        """Print what is to be said at the end."""


def complete(settings: Settings, run: Run, *, brief: bool = False) -> None:
    """Train a run to its end, unless that has been done, and show the result."""
    state = reuse.wait_for(run)
    if state in DONE and not settings.force and not settings.lacking(run):
        reuse.announce(settings, run, brief=brief)
        if os.environ.get("WANDB_SWEEP_ID"):
            from cnnbench.tracking.track import answer_agent

            answer_agent(settings, run)
    else:
        reuse.mention_earlier(settings, run)
        with console.status("starting"):  # torch and Lightning take seconds to import
            work = pkgutil.resolve_name(settings.work)
        try:
            work(settings, run)
        except Busy:
            complete(settings, run, brief=brief)
            return
    if not brief:
        out.print(run_picture(run))
