"""Where metrics go besides the run's folder: W&B, or any Lightning logger.

A tracker belongs to one attempt of one run and is always closed with the attempt's exit code.
Nothing that a tracker does may cost the run: what fails here is reported, and training goes on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnbench import wandb_run
from cnnbench.build import factory
from cnnbench.errors import Diverged, InputError, Interrupted, Pruned
from cnnbench.family import family
from cnnbench.runs import Run
from cnnbench.settings import Part, Settings, WandbLogger
from cnnbench.ui import console

Row = Mapping[str, float]

STEPS = {"train": "epoch", "bench": "batch"}
"""What the rows of metrics.csv count, by verb."""


@dataclass(frozen=True)
class TestResult:
    """What the test set showed: probabilities (N, K), labels (N,), and a way to see an image."""

    __test__ = False  # not a test of pytest's

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: list[str]
    image: Callable[[int], NDArray[np.uint8]]  # index -> (H, W, C)

    def worst(self, count: int) -> NDArray[np.int64]:
        """Indices of wrong predictions, those with the least probability for the truth first."""
        wrong = np.flatnonzero(self.probabilities.argmax(1) != self.labels)
        truth = self.probabilities[wrong, self.labels[wrong]]
        return wrong[np.argsort(truth, kind="stable")][:count]


class Tracker(Protocol):
    """What training tells a tracker."""

    def log(self, row: Row) -> None:
        """One epoch, or one batch size. Epochs that it already has are passed over."""

    def finish(self, summary: Mapping[str, Any], test: TestResult | None) -> None:
        """The final figures."""

    def close(self, end: End) -> None:
        """The end, whatever it is."""


@dataclass(frozen=True)
class End:
    """How an attempt ended.

    Attributes:
        state: as in status.json.
        error: what ended it, if it was not its last epoch.
    """

    exit_code: int = 0
    state: str = "finished"
    error: str = ""

    @classmethod
    def by(cls, error: BaseException) -> End:
        """The end that an exception brings."""
        said = f"{type(error).__name__}: {error}"
        match error:
            case Diverged():
                return cls(0, "diverged", str(error))
            case Pruned():
                return cls(0, "pruned", str(error))
            case Interrupted():
                return cls(128 + error.signum, "interrupted", str(error))
            case KeyboardInterrupt() | SystemExit():
                return cls(1, "interrupted", said)
        return cls(1, "failed", said)


@contextmanager
def track(settings: Settings, run: Run, repeats: int, rows: Sequence[Row]) -> Iterator[Tracker]:
    """A tracker for one attempt, that has the `rows` of earlier attempts already."""
    try:
        tracker = _Guarded(_open(settings, run, repeats))
    except Exception as error:  # of any logger and any server: none may cost the run
        _report(error)
        tracker = _Guarded(Nowhere())
    end = End()
    try:
        for row in rows:
            tracker.log(row)
        yield tracker
    except BaseException as error:
        end = End.by(error)
        raise
    finally:
        tracker.close(end)


def check(settings: Settings) -> None:
    """Find out before training what would stop a tracker from working at all.

    Raises:
        InputError: no API key for W&B's online mode, or a logger whose package is not installed.
    """
    logger = settings.logger
    if isinstance(logger, WandbLogger):
        if logger.mode == "online":
            # Not verified: a server out of reach is no reason not to train.
            wandb_run.check_key("logger.mode=online")
    elif logger.target is not None:
        _lightning(logger, None)


def under_agent() -> bool:
    """Whether an agent of a W&B sweep has started this process, for one run of the sweep."""
    return bool(os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID"))


def answer_agent(settings: Settings, run: Run) -> None:
    """Tell W&B's sweep what a run gave that it asks for and that is done already."""
    if not under_agent() or not isinstance(settings.logger, WandbLogger):
        return
    check(settings)
    try:
        tracker = Wandb(settings.logger, settings, run, 0)
        for row in run.rows():
            tracker.log(row)
        tracker.run.summary.update(run.summary())
        tracker.close(End(0, run.state, str(run.status().get("error", {}).get("message", ""))))
    except Exception as error:  # as above
        _report(error)


def _open(settings: Settings, run: Run, repeats: int) -> Tracker:
    logger = settings.logger
    if isinstance(logger, WandbLogger):
        return Wandb(logger, settings, run, repeats)
    if logger.target is None:
        return Nowhere()
    return Lightning(logger, settings, run)


def _report(error: Exception) -> None:
    console.print(
        f"logging failed ({type(error).__name__}: {error}); the run goes on, complete in its folder",
        style="yellow",
        highlight=False,
    )


class _Guarded:
    """Passes everything on until something fails; says so once, and is silent from then on."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.broken = False

    def _try(self, what: str, *args: Any) -> None:
        if self.broken and what != "close":
            return
        try:
            getattr(self.tracker, what)(*args)
        except Exception as error:  # as above
            self.broken = True
            _report(error)

    def log(self, row: Row) -> None:
        self._try("log", row)

    def finish(self, summary: Mapping[str, Any], test: TestResult | None) -> None:
        self._try("finish", summary, test)

    def close(self, end: End) -> None:
        self._try("close", end)


class Nowhere:
    """`logger=none`."""

    def log(self, row: Row) -> None:
        """Nothing to do."""

    def finish(self, summary: Mapping[str, Any], test: TestResult | None) -> None:
        """Nothing to do."""

    def close(self, end: End) -> None:
        """Nothing to do."""


class Lightning:
    """Any Lightning logger, writing below the run's folder if it writes files.

    A later attempt writes the earlier epochs anew, in place of the earlier attempt's files.
    """

    def __init__(self, logger: Part, settings: Settings, run: Run) -> None:
        shutil.rmtree(run.path / logger.name, ignore_errors=True)
        self.logger = _lightning(logger, run)()
        self.logger.log_hyperparams(_flat(settings.choice()))

    def log(self, row: Row) -> None:
        """One epoch."""
        step = _step(row)
        self.logger.log_metrics({k: v for k, v in row.items() if k not in STEPS.values()}, step=step)
        self.logger.save()

    def finish(self, summary: Mapping[str, Any], test: TestResult | None) -> None:
        """The final figures, as metrics of the last epoch."""
        numbers = {key: value for key, value in summary.items() if isinstance(value, int | float)}
        self.logger.log_metrics(numbers, step=int(summary.get("epochs", 0)))
        self.logger.save()

    def close(self, end: End) -> None:
        """Flush."""
        self.logger.finalize("success" if end.exit_code == 0 else "failed")


def _lightning(logger: Part, run: Run | None) -> Callable[[], Any]:
    """The logger's constructor, with a place in the run's folder where it asks for one."""
    place = {"save_dir": str(run.path) if run else "", "name": logger.name, "version": ""}
    make = factory(logger, "logger", **place)
    if logger.name == "tensorboard" and run is None:
        import importlib.util

        if not importlib.util.find_spec("tensorboard"):
            raise InputError("logger=tensorboard: not installed; run `pip install 'cnnbench[tensorboard]'`")
    return make


class Wandb:
    """One W&B run, owned by one attempt.

    Its id follows from the run, so that a resumed run is one run. Offline, W&B cannot append: a
    later attempt writes everything anew and takes the place of the earlier attempt's files.
    """

    def __init__(self, logger: WandbLogger, settings: Settings, run: Run, repeats: int) -> None:
        self.logger, self.settings = logger, settings
        self.folder = run.path
        self.id = hashlib.sha256(f"{settings.name}/{run.path.name}/{repeats}".encode()).hexdigest()[:16]
        if under_agent():
            self.id = os.environ["WANDB_RUN_ID"]
        (self.folder / "wandb").mkdir(exist_ok=True)
        self.rows: list[Row] = []
        self.missed: tuple[Mapping[str, Any], TestResult | None] | None = None
        self.run = self._start(logger.mode)

    def _start(self, mode: wandb_run.Mode) -> Any:
        settings, logger = self.settings, self.logger
        run = wandb_run.start(
            self.folder,
            mode,
            logger.init_timeout_s,
            logger.finish_timeout_s,
            # An agent of a W&B sweep has put the sweep's own into the environment.
            project=None if under_agent() else logger.project,
            entity=None if under_agent() else logger.entity,
            job_type=settings.verb,
            resume="allow" if mode == "online" else None,
            id=self.id,
            name=self.folder.name,
            group=settings.name,
            config=settings.choice() | {"family": family(settings.arch.name), "run": self.folder.name},
            tags=[
                f"arch:{settings.arch.name}",
                f"data:{settings.data.name}",
                *(f"{axis}:{value}" for axis, value in settings.resolved_ops().items()),
                f"optimizer:{settings.optimizer.name}",
                *logger.tags,
            ],
        )
        step = STEPS[settings.verb]
        run.define_metric(step, hidden=True)
        run.define_metric("*", step_metric=step)
        if settings.verb == "train":
            run.define_metric("val/acc", step_metric=step, summary="max")
            run.define_metric("val/loss", step_metric=step, summary="min")
        return run

    def log(self, row: Row) -> None:
        """One epoch; where the server's run goes on tells which it already has."""
        self.rows.append(row)
        step = _step(row)
        if step >= self.run.starting_step:
            self.run.log(dict(row), step=step, commit=True)

    def finish(self, summary: Mapping[str, Any], test: TestResult | None) -> None:
        """Final figures, confusion matrix and worst mistakes."""
        try:
            self._finish(summary, test)
        except Exception:  # online, a table asks the server, which may be gone; see `close`
            if self.run.offline:
                raise
            self.missed = summary, test

    def _finish(self, summary: Mapping[str, Any], test: TestResult | None) -> None:
        import wandb

        self.run.summary.update(dict(summary))
        if test is None:
            return
        predicted = test.probabilities.argmax(1)
        pictures = [
            wandb.Image(
                test.image(i).squeeze(),
                caption=f"{test.classes[test.labels[i]]}, taken for {test.classes[predicted[i]]} "
                f"(p = {test.probabilities[i].max():.2f})",
            )
            for i in test.worst(self.logger.images)
        ]
        last = {"epoch": int(summary["epochs"]) - 1}
        self.run.log(last | ({"test/worst_mistakes": pictures} if pictures else {}), commit=False)
        confusion = wandb.plot.confusion_matrix(
            y_true=test.labels.tolist(),
            preds=predicted.tolist(),
            class_names=test.classes,
            title="test set",
        )
        self.run.log({"test/confusion": confusion})

    def close(self, end: End) -> None:
        """Finish the W&B run, then drop what it replaces.

        What could not even be logged, as the server was gone, is logged offline, with all that there was
        before: `cnnbench sync` then sends what W&B's copy lacks.
        """
        self._end(end)
        if self.missed is not None:
            rows, self.rows = self.rows, []
            self.run = self._start("offline")
            for row in rows:
                self.log(row)
            self._finish(*self.missed)
            self._end(end)

    def _end(self, end: End) -> None:
        wandb_run.end(self.run, end.state, end.error)
        wandb_run.finish(self.run, self.folder, end.exit_code, whole=self.missed is None)


def _step(row: Row) -> int:
    """The epoch of a training's row, the batch size of a measurement's."""
    return int(next(row[key] for key in STEPS.values() if key in row))


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a/b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
