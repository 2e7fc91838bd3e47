"""What Hydra finds nowhere else: launchers whose sweeps never lose a run, and sweepers for them.

Hydra imports this module at every start, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from cnnbench.sweep.plan import Plan
    from cnnbench.sweep.pool import Pool


class Grid(BasicSweeper):
    """Every combination of the values that are asked for; the launcher checks all of them at once."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch all combinations.

        The launcher looks at all of them before it starts one; Hydra's own sweeper composes each beforehand,
        which takes minutes for thousands, and writes files when it does not know yet whether they can be run.
        """
        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        returns: list[Sequence[JobReturn]] = []
        for batch in self.split_arguments(overrides, self.max_batch_size):
            returns.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
        return returns


class Sweeping(Launcher):
    """Hands the runs of a sweep to cnnbench, which plans them, and to a pool, which carries them out."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what is needed to compose the runs."""
        self.loader, self.session, self.config = hydra_context.config_loader, task_function, config

    def pool(self, plan: Plan) -> Pool:
        """What carries the runs out."""
        raise NotImplementedError

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch; the value of each run is its best val accuracy, NaN where there is none."""
        values = self.session.sweep(job_overrides, self.loader, self.config, self.pool)  # type: ignore[attr-defined]
        return [
            JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED, _return_value=value)
            for overrides, value in zip(job_overrides, values, strict=True)
        ]


class Local(Sweeping):
    """Runs side by side on this machine."""

    def pool(self, plan: Plan) -> Any:
        """Processes that start warm."""
        from cnnbench.sweep.local import Local

        return Local(plan)
