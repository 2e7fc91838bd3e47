"""Search by Optuna: a study that proposes runs, learns from them, and goes on when it is launched again.

Its trials are kept beside the runs (`study.log`, for optuna-dashboard too), so that it does not matter when
its process ends; what a trial has trained lies in its run's folder, as always.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from pydantic import Field

from cnnbench import console
from cnnbench.errors import InputError
from cnnbench.processes.cores import cpu_cores
from cnnbench.run_store.run import STOP, Run
from cnnbench.seeds import mix
from cnnbench.settings.base import Count, Section
from cnnbench.sweeps.driver import Course

Launch = Callable[[list[list[str]], int], Sequence[Run | None]]
Point = tuple[str, ...]

SHOWN = 3
"""Differences that are named."""

LOOK_S = 0.5
"""Between looks at the epochs of trials that may be pruned."""


class Options(Section):
    """`hydra.sweeper` of `hydra/sweeper=optuna`; its file says what they mean."""

    n_trials: Count
    metric: Literal["best/val_acc", "best/val_loss"]
    sampler: Literal["tpe", "random", "gp", "cmaes", "qmc"]
    pruner: Literal["none", "median", "hyperband"]
    at_once: Count | None
    seed: Annotated[int, Field(ge=0)]
    params: dict[str, Any]

    @property
    def direction(self) -> str:
        """Whether more of it is better."""
        return "minimize" if self.metric == "best/val_loss" else "maximize"


def space(overrides: Sequence[Override]) -> tuple[dict[str, Any], list[str]]:
    """What is searched, as Optuna's distributions, and the overrides that are the same for all trials.

    Raises:
        InputError: a range that is none.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    searched: dict[str, Any] = {}
    fixed: dict[str, str] = {}
    for override in overrides:
        key = override.get_key_element()
        value = override.value()
        fixed.pop(key, None)
        searched.pop(key, None)
        try:
            if not override.is_sweep_override():
                fixed[key] = f"{key}={override.get_value_element_as_str()}"
            elif isinstance(value, IntervalSweep):
                low, high = value.start, value.end
                assert low is not None
                assert high is not None
                whole = isinstance(low, int) and isinstance(high, int)
                kind: Any = IntDistribution if whole else FloatDistribution
                searched[key] = kind(low, high, log="log" in value.tags)
            elif isinstance(value, RangeSweep):
                assert value.start is not None
                assert value.stop is not None
                if all(isinstance(part, int) for part in (value.start, value.stop, value.step)):
                    last = range(int(value.start), int(value.stop), int(value.step))[-1]
                    searched[key] = IntDistribution(int(value.start), last, step=int(value.step))
                else:
                    searched[key] = FloatDistribution(value.start, value.stop, step=value.step)
            else:
                assert isinstance(value, ChoiceSweep)
                # As they are written on the command line: Optuna keeps words, Hydra reads them.
                words = list(override.sweep_iterator(transformer=Transformer.encode))
                searched[key] = CategoricalDistribution([str(word) for word in words])
        except (ValueError, IndexError) as error:
            raise InputError(f"{override.input_line}: {error}") from None
    return searched, list(fixed.values())


def texts(params: Mapping[str, Any]) -> list[str]:
    """A proposal as overrides; of fractions four digits, which is all that can matter."""
    return [
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in params.items()
    ]


def first(searched: Mapping[str, Any]) -> dict[str, Any]:
    """One point of the space."""
    return {key: kind.choices[0] if hasattr(kind, "choices") else kind.low for key, kind in searched.items()}


class Search:
    """One launch of a study.

    Args:
        options: what is asked for.
        searched: what is searched, as Optuna's distributions.
        fixed: the overrides of all trials.
        base: what decides the result of a trial besides what is searched.
        folder: where the study is kept.
        jobs: `sweep.jobs`.

    Raises:
        InputError: the folder cannot be written, or holds a study of something else.
    """

    def __init__(
        self,
        options: Options,
        searched: Mapping[str, Any],
        fixed: Sequence[str],
        base: Mapping[str, str],
        folder: Path,
        jobs: int | None,
    ) -> None:
        optuna = _optuna()
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
        self.open: dict[Point, Any] = {}  # the trials that are being trained
        self.reported: dict[Point, int] = {}
        self.looked = time.monotonic()

    def _check_same(self, base: dict[str, str]) -> None:
        """Refuse to go on with other settings than those of the trials that there are."""
        now = {**base, "hydra.sweeper.metric": self.options.metric, "searched": ", ".join(self.searched)}
        before = self.study.user_attrs.get("asked")
        if before is None or not self.study.trials:
            self.study.set_user_attr("asked", now)
            return
        differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if differ:
            said = "; ".join(
                f"{key} was {before.get(key, 'not there')} and is {now.get(key, 'not there')}"
                for key in differ[:SHOWN]
            )
            more = f"; and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
            raise InputError(
                f"name={self.study.study_name}: holds a study of other runs ({said}{more}); "
                "allowed: its own settings, or another name"
            )

    def _sampler(self, optuna: Any) -> Any:
        # A study that goes on must not draw again what it drew at first.
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
        """Propose, train and learn, until there are as many trials as were asked for.

        Raises:
            InputError: none of the proposed runs can be made.
        """
        self._take_up()
        while (left := self.options.n_trials - len(self._ended())) > 0:
            trials = [self.study.ask(self.searched) for _ in range(min(self.at_once, left))]
            first, last = self.options.n_trials - left + 1, self.options.n_trials - left + len(trials)
            which = f"trials {first} to {last}" if last > first else f"trial {first}"
            console.console.print(f"{which} of {self.options.n_trials}", style="bold", highlight=False)
            points = [(*self.fixed, *texts(trial.params)) for trial in trials]
            self.open = dict(zip(points, trials, strict=True))  # the same proposal twice is one run
            try:
                found = launch([list(point) for point in self.open], len(self._ended()))
            except InputError:
                for trial in trials:
                    self._tell(trial, None)
                raise
            runs = dict(zip(self.open, found, strict=True))
            for trial, point in zip(trials, points, strict=True):
                self._tell(trial, runs[point])
        self._report()

    def watch(self, course: Course) -> None:
        """Have trials ended that fall behind."""
        if self.options.pruner == "none" or time.monotonic() - self.looked < LOOK_S:
            return
        self.looked = time.monotonic()
        for cell in course.running:
            trial = self.open.get(cell.overrides)
            if trial is None:
                continue
            rows = cell.run.rows()
            for row in rows[self.reported.get(cell.overrides, 0) :]:
                trial.report(row["val/acc"], int(row["epoch"]))
            self.reported[cell.overrides] = len(rows)
            if rows and trial.should_prune():
                (cell.run.path / STOP).touch()

    def _take_up(self) -> None:
        """Put trials that an earlier launch has left behind first in the queue: their runs go on."""
        ended = self._ended()
        if len(ended) >= self.options.n_trials:
            console.console.print(
                f"the study has {len(ended)} trials: hydra.sweeper.n_trials={len(ended) + 10} adds ten"
            )
        elif ended:
            console.console.print(
                f"the study goes on: {len(ended)} of {self.options.n_trials} trials are done"
            )
        for frozen in self.study.get_trials(states=[self.states.RUNNING]):
            self.study.tell(frozen.number, state=self.states.FAIL)
            self.study.enqueue_trial(frozen.params)

    def names(self) -> list[str]:
        """The folders of the study's runs."""
        return list(dict.fromkeys(t.user_attrs["run"] for t in self._ended() if "run" in t.user_attrs))

    def _ended(self) -> list[Any]:
        """Trials that count; those that an interruption has ended do not."""
        ended = (self.states.COMPLETE, self.states.PRUNED, self.states.FAIL)
        trials = self.study.get_trials(deepcopy=False, states=ended)
        return [t for t in trials if t.state != self.states.FAIL or "failed" in t.user_attrs]

    def _tell(self, trial: Any, run: Run | None) -> None:
        """What became of a trial: a run that failed or diverged does not end the study."""
        state = run.state if run is not None else "refused"
        if run is not None:
            trial.set_user_attr("run", run.path.name)
        if run is not None and state == "finished":
            self.study.tell(trial, float(run.summary()[self.options.metric]))
        elif state == "pruned":
            self.study.tell(trial, state=self.states.PRUNED)
        else:
            trial.set_user_attr("failed", state)
            self.study.tell(trial, state=self.states.FAIL)

    def _report(self) -> None:
        done = self.study.get_trials(deepcopy=False, states=[self.states.COMPLETE])
        if not done:
            console.console.print("no trial has finished", style="yellow")
            return
        best = self.study.best_trial
        settings = " ".join(texts(best.params))
        console.out.print(
            f"best of {len(done)} finished trials: {self.options.metric} {best.value:.4f} with {settings}"
            f" ({best.user_attrs['run']})",
            highlight=False,
            soft_wrap=True,
        )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError(
            "hydra/sweeper=optuna: Optuna is not installed; run `pip install 'cnnbench[optuna]'`"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
