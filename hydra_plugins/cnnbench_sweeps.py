"""What Hydra finds nowhere else: launchers whose sweeps never lose a run, and sweepers for them.

Hydra imports this module at every start, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from cnnbench.sweeps.plan import Plan
    from cnnbench.sweeps.pool import Pool


class Grid(BasicSweeper):
    """Every combination of the values that are asked for; the launcher checks all of them at once."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch all combinations.

        The launcher looks at all of them before it starts one; Hydra's own sweeper composes each beforehand,
        which takes minutes for thousands, and writes files when it does not know yet whether they can be run.
        """
        assert self.hydra_context is not None
        assert self.launcher is not None
        from cnnbench.errors import InputError

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        for override in overrides:
            if override.is_interval_sweep():
                raise InputError(
                    f"{override.input_line}: an interval is for hydra/sweeper=optuna; allowed: a list"
                )
        returns: list[Sequence[JobReturn]] = []
        for batch in self.split_arguments(overrides, self.max_batch_size):
            returns.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
        return returns


class Optuna(Sweeper):
    """Values that Optuna proposes."""

    def __init__(self, max_batch_size: int | None = None, **options: Any) -> None:
        self.options = options  # the one of the grid is left over where an experiment asks for a search

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what is needed to compose the runs."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Launch trials until there are as many as were asked for."""
        from cnnbench.errors import InputError
        from cnnbench.run_store.run import Run
        from cnnbench.settings.base import options
        from cnnbench.sweeps.optuna_search import Options, Search, space

        asked = options(Options, self.options, "hydra.sweeper")
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        texts = [*(f"{key}={value}" for key, value in asked.params.items()), *arguments]
        searched, fixed = space(parser.parse_overrides(texts))
        if not searched:
            raise InputError("hydra/sweeper=optuna: nothing to search; give a list, a range or an interval")
        if not isinstance(self.launcher, Sweeping):
            raise InputError("hydra/launcher: hydra/sweeper=optuna works with local, slurm and ray")
        folder = Path(self.config.hydra.sweep.dir)
        base = self._base(searched, fixed)
        search = Search(asked, searched, fixed, base, folder, self.config.sweep.jobs)
        self.launcher.watch, self.launcher.batch = search.watch, search.at_once

        def launch(points: list[list[str]], index: int) -> list[Run | None]:
            returns = self.launcher.launch(points, initial_job_idx=index)
            return [Run(Path(one.working_dir)) if one.working_dir else None for one in returns]

        search.run(launch)
        for name in search.names():
            self.launcher.session.recall(Run(folder / name))

    def _base(self, searched: dict[str, Any], fixed: list[str]) -> dict[str, str]:
        """What decides the result of every trial, told from one of them."""
        from cnnbench.run_store.find import flat
        from cnnbench.settings.identity import describe
        from cnnbench.settings.parse import parse
        from cnnbench.sweeps.composer import Composer
        from cnnbench.sweeps.optuna_search import first, texts

        composer = Composer(self.hydra_context.config_loader, self.config)
        settings = parse(composer([*fixed, *texts(first(searched))]))
        sections = {"arch": ("arch.", "ops.")}
        left_out = tuple(p for key in searched for p in (f"{key}.", *sections.get(key, ())))
        return {k: v for k, v in flat(describe(settings, {})).items() if not f"{k}.".startswith(left_out)}


class Sweeping(Launcher):
    """Hands the runs of a sweep to cnnbench, which plans them, and to a pool, which carries them out."""

    watch: Callable[[Any], None] | None = None
    batch: int | None = None
    """Runs that a sweeper hands over at a time, at most."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what is needed to compose the runs."""
        self.loader, self.session, self.config = hydra_context.config_loader, task_function, config

    def pool(self, plan: Plan) -> Pool:
        """What carries the runs out."""
        raise NotImplementedError

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch; the value of each run is its best val accuracy, NaN where there is none."""
        from cnnbench.commands.sweep_report import SweepSession

        assert isinstance(self.session, SweepSession)
        runs = self.session.sweep(job_overrides, self.loader, self.config, self.pool, self.watch)
        return [
            JobReturn(
                overrides=list(overrides),
                working_dir=str(run.path) if run else None,
                status=JobStatus.COMPLETED,
                _return_value=run.objective if run else float("nan"),
            )
            for overrides, run in zip(job_overrides, runs, strict=True)
        ]


class Slurm(Sweeping):
    """Each run a job of a SLURM cluster."""

    def pool(self, plan: Plan) -> Any:
        """Jobs, by submitit."""
        from cnnbench.sweeps.slurm import Slurm

        return Slurm(plan, self.options)


class Ray(Sweeping):
    """Runs on a Ray cluster."""

    def pool(self, plan: Plan) -> Any:
        """Ray tasks."""
        from cnnbench.sweeps.ray import Ray

        return Ray(plan, self.options)


class Local(Sweeping):
    """Runs side by side on this machine."""

    def pool(self, plan: Plan) -> Any:
        """Processes that start warm."""
        from cnnbench.sweeps.local import Local

        return Local(plan, self.batch)
