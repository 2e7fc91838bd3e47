"""Training of one run by several processes: what they do together instead of alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cnnbench.processes.forked import Child
from cnnbench.run_store.run import Run
from cnnbench.settings.run import Settings
from cnnbench.training.build import Built, build
from cnnbench.training.distributed import Team, team
from cnnbench.training.distributed_plugins import SharedCheckpoints
from cnnbench.training.fit import Training
from cnnbench.training.outcome import Outputs
from cnnbench.training.rank import Rank
from cnnbench.training.recorder import Recorder


def fit_together(settings: Settings, run: Run, cores: int | None, rank: Rank | None) -> None:
    """Train a run by several processes; see `cnnbench.training.fit.fit`."""

    def another(rank: Rank) -> Child:
        return Child("cnnbench.training.fit:fit", settings, run, cores, rank)

    with team(settings.device, rank, another) as here:
        training = DistributedTraining(settings, run, cores, here)
        if here.me.rank:
            training.follow()
        else:
            training.complete()


class DistributedTraining(Training):
    """One run, trained by a team of processes, of which this is one."""

    def __init__(self, settings: Settings, run: Run, cores: int | None, here: Team) -> None:
        super().__init__(settings, run, cores)
        self.here = here

    def follow(self) -> None:
        """Train in a process other than the first: do the same, and write nothing."""
        built = self.build()
        with self.here.failing_together():
            nothing: tuple[Path | None, list[dict[str, float]]] = None, []
            checkpoint, rows = self.here.agree(nothing)
            self.train_and_test(built, self.recorder(rows, writes=False), checkpoint)

    def build(self) -> Built:
        """Build this process's share, and wait until the others have built theirs."""
        recorded = None if self.settings.force else self.run.status().get("device")
        with self.here.failing_together():
            built = build(self.settings, recorded, self.cores, self.here.me)
            self.here.meet(built.device["accelerator"])
        return built

    def resume_point(self) -> tuple[Path | None, list[dict[str, float]]]:
        """Return what the first process found: another machine may still see older files."""
        with self.here.failing_together():
            return self.here.agree(super().resume_point())

    def train_and_test(
        self, built: Built, recorder: Recorder, checkpoint: Path | None
    ) -> tuple[Any, Outputs]:
        """Train and test together; the first process alone returns the outputs of all."""
        with self.here.failing_together():  # before the trackers hear of an error
            result = super().train_and_test(built, recorder, checkpoint)
        if self.here.me.rank == 0:
            self.here.over.set()
        return result

    def process_options(self) -> dict[str, Any]:
        """Return what Lightning's Trainer is told of the team."""
        here = self.here
        plugins = [SharedCheckpoints(here.agree), *here.plugins()]
        return {"callbacks": here.callbacks(), "plugins": plugins, **here.strategy()}

    def best_weights(self) -> dict[str, torch.Tensor]:
        """Return the weights that the first process reads."""
        return self.here.agree(super().best_weights() if self.here.me.rank == 0 else {})

    def outputs(self, built: Built) -> Outputs:
        """Return the outputs of all processes in the first one, an empty list in the others."""
        return [output for shard in self.here.collect(super().outputs(built)) for output in shard]
