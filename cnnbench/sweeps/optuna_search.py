"""Search by Optuna: a study that proposes runs, learns from their results, and continues when launched again.

Its trials are stored beside the runs (`study.log`, which optuna-dashboard reads, too), so that its process
may end at any time. The training of a trial is an ordinary run in its own folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from cnnbench import console
from cnnbench.errors import InputError
from cnnbench.processes.cores import cpu_cores
from cnnbench.run_store.run import STOP, Run
from cnnbench.seeds import mix
from cnnbench.settings.base import Count, Section
from cnnbench.sweeps.driver import Course
from cnnbench.sweeps.search_space import texts

Launch = Callable[[list[list[str]], int], Sequence[Run | None]]
Point = tuple[str, ...]

SHOWN = 3
"""Differences between studies that are listed."""

LOOK_S = 0.5
"""Interval of reading the epochs of trials that may be pruned."""


class OptunaOptions(Section):
    """Settings of `hydra/sweeper=optuna` (`hydra.sweeper`), which its file documents."""

    n_trials: Count
    metric: Literal[
        "best/val_acc", "best/val_loss", "best/val_f1_macro", "best/val_balanced_acc", "best/val_ece"
    ]
    sampler: Literal["tpe", "random", "gp", "cmaes", "qmc"]
    pruner: Literal["none", "median", "hyperband"]
    at_once: Count | None
    seed: Annotated[int, Field(ge=0)]
    params: dict[str, Any]

    @property
    def direction(self) -> str:
        """`minimize` for a loss or an error, `maximize` otherwise."""
        return "minimize" if self.metric in ("best/val_loss", "best/val_ece") else "maximize"

    @property
    def column(self) -> str:
        """The metric in each row of metrics.csv: `val/acc`."""
        return self.metric.replace("best/val_", "val/")


class Search:
    """One launch of a study.

    Args:
        options: settings of the search.
        searched: Optuna's distributions by key.
        fixed: the overrides that all trials share.
        base: the settings of all trials, besides those that are searched, that decide a result.
        folder: of the study.
        jobs: `sweep.jobs`.

    Raises:
        InputError: the folder cannot be written, or contains a study with other settings; no val images.
    """

    def __init__(
        self,
        options: OptunaOptions,
        searched: Mapping[str, Any],
        fixed: Sequence[str],
        base: Mapping[str, str],
        folder: Path,
        jobs: int | None,
    ) -> None:
        optuna = _optuna()
        if float(base.get("data.val_fraction", 1)) == 0:
            raise InputError(
                f"hydra.sweeper.metric={options.metric}: is of val images, of which "
                "data.val_fraction=0 leaves none; allowed: another data.val_fraction"
            )
        self.options, self.searched, self.fixed = options, dict(searched), list(fixed)
        self.at_once = options.at_once or jobs or cpu_cores()
        self.states = optuna.trial.TrialState
        try:
            folder.mkdir(parents=True, exist_ok=True)
            storage = optuna.storages.JournalStorage(
                optuna.storages.journal.JournalFileBackend(str(folder / "study.log"))
            )
            self.study = optuna.create_study(
                study_name=folder.name, storage=storage, load_if_exists=True, direction=options.direction
            )
        except OSError as error:
            raise InputError(f"output_dir: {folder} cannot be written ({error.strerror})") from None
        self._check_same(dict(base))
        self.study.sampler = self._sampler(optuna)
        self.study.pruner = {
            "none": optuna.pruners.NopPruner,
            "median": optuna.pruners.MedianPruner,
            "hyperband": optuna.pruners.HyperbandPruner,
        }[options.pruner]()
        self.training: dict[Point, Any] = {}  # trials by the overrides of their runs
        self.reported: dict[Point, int] = {}  # epochs that Optuna knows
        self.last_look = time.monotonic()

    def _check_same(self, base: dict[str, str]) -> None:
        """Check that the existing trials of the study have the same settings.

        Raises:
            InputError: they have others.
        """
        new = {**base, "hydra.sweeper.metric": self.options.metric, "searched": ", ".join(self.searched)}
        old = self.study.user_attrs.get("asked")
        if old is None or not self.study.trials:
            self.study.set_user_attr("asked", new)
            return
        changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if changed:
            changes = "; ".join(
                f"{key} was {old.get(key, 'absent')} and is {new.get(key, 'absent')}"
                for key in changed[:SHOWN]
            )
            more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            raise InputError(
                f"name={self.study.study_name}: contains a study with other settings ({changes}{more}); "
                "allowed: its own settings, or another name"
            )

    def _sampler(self, optuna: Any) -> Any:
        # The seed depends on the trials so far, or a resumed study would repeat its first draws.
        seed = mix("study", self.options.seed, len(self.study.trials)) % 2**32
        make = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
            "gp": lambda: optuna.samplers.GPSampler(seed=seed),
            "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed),
            "qmc": lambda: optuna.samplers.QMCSampler(seed=seed),
        }
        return make[self.options.sampler]()

    def run(self, launch: Launch) -> None:
        """Propose runs, launch them and learn from their results, until the study has `n_trials` trials.

        Args:
            launch: trains a batch of runs, given their overrides and the number of trials so far.

        Raises:
            InputError: none of the proposed runs is possible.
        """
        self._resume()
        while (left := self.options.n_trials - len(self._counted())) > 0:
            trials = [self.study.ask(self.searched) for _ in range(min(self.at_once, left))]
            first, last = self.options.n_trials - left + 1, self.options.n_trials - left + len(trials)
            numbers = f"trials {first} to {last}" if last > first else f"trial {first}"
            console.console.print(f"{numbers} of {self.options.n_trials}", style="bold", highlight=False)
            points = [(*self.fixed, *texts(trial.params)) for trial in trials]
            self.training = dict(zip(points, trials, strict=True))  # equal proposals are one run
            try:
                results = launch([list(point) for point in self.training], len(self._counted()))
            except InputError:
                for trial in trials:
                    self._tell(trial, None)
                raise
            runs = dict(zip(self.training, results, strict=True))
            for trial, point in zip(trials, points, strict=True):
                self._tell(trial, runs[point])
        self._report()

    def watch(self, course: Course) -> None:
        """Report the epochs of running trials to the pruner, and stop those that it prunes."""
        if self.options.pruner == "none" or time.monotonic() - self.last_look < LOOK_S:
            return
        self.last_look = time.monotonic()
        for cell in course.running:
            trial = self.training.get(cell.overrides)
            if trial is None:
                continue
            rows = cell.run.rows()
            for row in rows[self.reported.get(cell.overrides, 0) :]:
                trial.report(row.get(self.options.column, float("nan")), int(row["epoch"]))
            self.reported[cell.overrides] = len(rows)
            if rows and trial.should_prune():
                (cell.run.path / STOP).touch()

    def _resume(self) -> None:
        """Announce the state of the study, and enqueue the trials that an earlier launch left unfinished."""
        counted = self._counted()
        if len(counted) >= self.options.n_trials:
            console.console.print(
                f"the study has {len(counted)} trials: hydra.sweeper.n_trials={len(counted) + 10} adds ten"
            )
        elif counted:
            console.console.print(
                f"resuming the study: {len(counted)} of {self.options.n_trials} trials are done"
            )
        for frozen in self.study.get_trials(states=[self.states.RUNNING]):
            self.study.tell(frozen.number, state=self.states.FAIL)
            self.study.enqueue_trial(frozen.params)

    def names(self) -> list[str]:
        """Return the names of the study's run folders."""
        return list(dict.fromkeys(t.user_attrs["run"] for t in self._counted() if "run" in t.user_attrs))

    def _counted(self) -> list[Any]:
        """Return the ended trials that count, which excludes interrupted ones."""
        ended = (self.states.COMPLETE, self.states.PRUNED, self.states.FAIL)
        trials = self.study.get_trials(deepcopy=False, states=ended)
        return [t for t in trials if t.state != self.states.FAIL or "failed" in t.user_attrs]

    def _tell(self, trial: Any, run: Run | None) -> None:
        """Record the result of a trial; a run that failed or diverged does not end the study."""
        state = run.state if run is not None else "refused"
        if run is not None:
            trial.set_user_attr("run", run.path.name)
        value = run.summary().get(self.options.metric) if run is not None else None
        if state == "finished" and console.is_finite(value):
            self.study.tell(trial, value)
        elif state == "pruned":
            self.study.tell(trial, state=self.states.PRUNED)
        else:
            trial.set_user_attr("failed", state)
            self.study.tell(trial, state=self.states.FAIL)

    def _report(self) -> None:
        """Print the best trial."""
        finished = self.study.get_trials(deepcopy=False, states=[self.states.COMPLETE])
        if not finished:
            console.console.print("no trial has finished", style="yellow")
            return
        best = self.study.best_trial
        settings = " ".join(texts(best.params))
        console.out.print(
            f"best of {len(finished)} finished trials: {self.options.metric} {best.value:.4f} with {settings}"
            f" ({best.user_attrs['run']})",
            highlight=False,
            soft_wrap=True,
        )


def _optuna() -> Any:
    """Import Optuna.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise InputError(
            "hydra/sweeper=optuna: Optuna is not installed; run `pip install 'cnnbench[optuna]'`"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
