"""Hydra's plugins: launchers whose sweeps never lose a run, and sweepers for them.

Hydra discovers plugins in `hydra_plugins` only, and imports this module at every start: nothing heavy may be
imported at the top.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig

if TYPE_CHECKING:
    from cnnbench.sweeps.plan import Plan
    from cnnbench.sweeps.pool import Pool


class Grid(BasicSweeper):
    """Sweeper over all combinations of the swept values (`hydra/sweeper=grid`)."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch all combinations together, so that the launcher checks all before it starts the first.

        Hydra's own sweeper composes each one beforehand, which takes minutes for thousands, and writes files
        before their settings have been checked.

        Raises:
            InputError: an interval, which only a search can sample.
        """
        assert self.hydra_context is not None
        assert self.launcher is not None
        from cnnbench.errors import InputError

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*_texts(self.params), *arguments])
        for override in overrides:
            if override.is_interval_sweep():
                raise InputError(
                    f"{override.input_line}: intervals need hydra/sweeper=optuna; allowed: a list"
                )
        returns: list[Sequence[JobReturn]] = []
        for batch in self.split_arguments(overrides, self.max_batch_size):
            returns.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
        return returns


def _texts(params: Mapping[str, Any]) -> list[str]:
    """Return `hydra.sweeper.params` as overrides.

    Raises:
        InputError: a list, which Hydra would take for a single value.
    """
    from cnnbench.errors import InputError

    for key, value in params.items():
        if isinstance(value, ListConfig | list):
            meant = ",".join(map(str, value))
            raise InputError(
                f"hydra.sweeper.params.{key}={value}: is a list; allowed: a text with commas, such as "
                f"'{meant}', or '[{meant}]' for a value that is a list"
            )
    return [f"{key}={value}" for key, value in params.items()]


class Optuna(Sweeper):
    """Sweeper over values that Optuna proposes (`hydra/sweeper=optuna`)."""

    def __init__(self, max_batch_size: int | None = None, **options: Any) -> None:
        self.options = options  # max_batch_size: of the grid, still set if an experiment selects a search

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what is needed to compose the runs."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Launch trials until the study has `n_trials` of them.

        Raises:
            InputError: nothing to search, or a launcher of Hydra's own.
        """
        from cnnbench.errors import InputError
        from cnnbench.run_store.run import Run
        from cnnbench.settings.base import options
        from cnnbench.sweeps.optuna_search import OptunaOptions, Search
        from cnnbench.sweeps.search_space import space

        search_options = options(OptunaOptions, self.options, "hydra.sweeper")
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        texts = [*_texts(search_options.params), *arguments]
        searched, fixed = space(parser.parse_overrides(texts))
        if not searched:
            raise InputError("hydra/sweeper=optuna: nothing to search; give a list, a range or an interval")
        if not isinstance(self.launcher, Sweeping):
            raise InputError("hydra/launcher: hydra/sweeper=optuna works with local, slurm and ray")
        folder = Path(self.config.hydra.sweep.dir)
        base = self._base(searched, fixed)
        search = Search(search_options, searched, fixed, base, folder, self.config.sweep.jobs)
        self.launcher.watch, self.launcher.batch = search.watch, search.at_once

        def launch(points: list[list[str]], index: int) -> list[Run | None]:
            returns = self.launcher.launch(points, initial_job_idx=index)
            return [Run(Path(job.working_dir)) if job.working_dir else None for job in returns]

        search.run(launch)
        for name in search.names():
            self.launcher.session.recall(Run(folder / name))

    def _base(self, searched: dict[str, Any], fixed: list[str]) -> dict[str, str]:
        """Return the settings that decide a result and are not searched, taken from one trial."""
        from cnnbench.run_store.find import flat
        from cnnbench.settings.identity import describe
        from cnnbench.settings.parse import parse
        from cnnbench.sweeps.composer import Composer
        from cnnbench.sweeps.search_space import first, texts

        composer = Composer(self.hydra_context.config_loader, self.config)
        settings = parse(composer([*fixed, *texts(first(searched))]))
        sections = {"arch": ("arch.", "ops.")}
        varied = tuple(prefix for key in searched for prefix in (f"{key}.", *sections.get(key, ())))
        return {k: v for k, v in flat(describe(settings, {})).items() if not f"{k}.".startswith(varied)}


class Sweeping(Launcher):
    """Base of the launchers: the session plans the runs of a sweep, and a pool trains them.

    Attributes:
        watch: called repeatedly with the current state of the runs.
        batch: the most runs that a sweeper launches together.
    """

    watch: Callable[[Any], None] | None = None
    batch: int | None = None

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what is needed to compose the runs."""
        self.loader, self.session, self.config = hydra_context.config_loader, task_function, config

    def pool(self, plan: Plan) -> Pool:
        """Return the pool that trains the runs."""
        raise NotImplementedError

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train a batch of runs; return their best val accuracies, NaN for runs without one."""
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
    """Launcher on a SLURM cluster (`hydra/launcher=slurm`)."""

    def pool(self, plan: Plan) -> Any:
        """Return a pool of SLURM jobs."""
        from cnnbench.sweeps.slurm import SlurmPool

        return SlurmPool(plan, self.options)


class Ray(Sweeping):
    """Launcher on a Ray cluster (`hydra/launcher=ray`)."""

    def pool(self, plan: Plan) -> Any:
        """Return a pool of Ray tasks."""
        from cnnbench.sweeps.ray import RayPool

        return RayPool(plan, self.options)


class Local(Sweeping):
    """Launcher on this machine, runs side by side (`hydra/launcher=local`)."""

    def pool(self, plan: Plan) -> Any:
        """Return a pool of processes that start warm."""
        from cnnbench.sweeps.local import LocalPool

        return LocalPool(plan, self.batch)
