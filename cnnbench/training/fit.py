"""Training one run: settings -> objects -> fit -> test once -> summary."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from cnnbench.processes.logs import log_file, quiet
from cnnbench.run_store.attempt import Attempt, attempt
from cnnbench.run_store.run import Run
from cnnbench.settings.identity import check_own_code, code_used
from cnnbench.settings.run import Settings
from cnnbench.tracking.track import track
from cnnbench.training.build import Built, build
from cnnbench.training.checkpoints import BEST, SealedCheckpoints, read_checkpoint, resumable, strip
from cnnbench.training.evaluation_weights import evaluation_weights
from cnnbench.training.lightning_trainer import lightning_trainer
from cnnbench.training.monitor import Row
from cnnbench.training.outcome import Outputs, summary, test_result
from cnnbench.training.probes.probing import Probing
from cnnbench.training.progress_bar import ProgressBar
from cnnbench.training.rank import Rank
from cnnbench.training.recorder import Recorder

log = logging.getLogger("cnnbench")


def fit(settings: Settings, run: Run, cores: int | None = None, rank: Rank | None = None) -> None:
    """Train a run to its end, from where it stands, and leave its summary in its folder.

    Args:
        settings: of the run.
        run: its folder.
        cores: how many of the machine's cores each of its processes may use; None: its share of all.
        rank: which of its processes this is, if a cluster has started them; else this one starts the others.

    Raises:
        Busy: another process trains it.
        InputError: before anything is written.
        Interrupted: the run resumes when the same command is given again.
    """
    with quiet():
        if settings.device.processes > 1:
            from cnnbench.training.distributed_fit import fit_together

            fit_together(settings, run, cores, rank)
            return
        if settings.force or not settings.lacking(run):
            Training(settings, run, cores).complete()
        if settings.lacking(run):
            from cnnbench.training.probes.once_more import measure_lacking

            measure_lacking(settings, run, cores)


class Training:
    """One run, trained by this process; `DistributedTraining` is one of several."""

    def __init__(self, settings: Settings, run: Run, cores: int | None) -> None:
        self.settings, self.run, self.cores, self.probes = settings, run, cores, Probing()
        self.start = time.perf_counter()

    def complete(self) -> None:
        """Build, train and test; record how the attempt starts and ends."""
        built = self.build()
        self.probes = Probing(self.settings.probes, built)
        check_own_code(self.settings, self.run)
        config = OmegaConf.to_yaml(OmegaConf.create(self.settings.config()))
        afresh, code = self.settings.force, code_used(self.settings)
        with (
            attempt(self.run, config, built.device, afresh=afresh, code=code) as this,
            log_file(this.log),
        ):
            self._record(this, built)

    def build(self) -> Built:
        """Build everything that the settings describe; nothing is written yet."""
        recorded = None if self.settings.force else self.run.status().get("device")
        return build(self.settings, recorded, self.cores)

    def _record(self, this: Attempt, built: Built) -> None:
        """Train and test, and write what comes of it to the run's folder and to its trackers."""
        self.run = this.run  # whose files this attempt may write
        checkpoint, rows = self.resume_point()
        self.probes.resume(checkpoint)
        log.info("attempt %d: %s from epoch %d", len(this.status["attempts"]), self.run.path.name, len(rows))
        self.run.write_rows(rows)
        self.run.write_summary(built.facts)
        with track(self.settings, self.run, this.status["repeats"], rows) as tracker:

            def on_row(row: Row) -> None:
                log.info(json.dumps(row))
                tracker.log(row)

            recorder = self.recorder(rows, check=this.check, on_row=on_row)
            with self.probes.recorded(self.run):
                test, outputs = self.train_and_test(built, recorder, checkpoint)
            earlier_s = sum(row["time/epoch_s"] for row in rows)  # of attempts that were interrupted
            wall_s = earlier_s + time.perf_counter() - self.start
            facts = built.facts | recorder.facts | self.probes.figures
            figures = summary(facts, recorder.rows, recorder.best, test, wall_s)
            this.check()
            self.run.write_summary(figures)
            tracker.finish(figures, test_result(built.data, outputs), self.probes.tables)
        this.check()
        strip(self.run)

    def resume_point(self) -> tuple[Path | None, list[dict[str, float]]]:
        """Return the checkpoint to resume from, and the rows of the epochs that it has completed."""
        return resumable(self.run, self.settings.trainer.monitor)

    def recorder(self, rows: list[dict[str, float]], **options: Any) -> Recorder:
        """Return the callback that writes rows and checkpoints."""
        return Recorder(self.run, rows, self.settings.trainer, **options)

    def train_and_test(
        self, built: Built, recorder: Recorder, checkpoint: Path | None
    ) -> tuple[Mapping[str, float], Outputs]:
        """Train, then read the test set once, with the weights of the best epoch.

        Returns:
            `test/…` over all test images, and the model's outputs for them.
        """
        recipe = self.settings.trainer
        options, bar = self.process_options(), ProgressBar(self.run.path.name)
        average = evaluation_weights(self.settings, built.classifier, bar.note)
        callbacks = [*average, *options.pop("callbacks", []), *self.probes.callbacks, bar, recorder]
        validates = bool(len(built.data.val.labels))
        trainer = lightning_trainer(
            recipe, built.device, callbacks, self.run.path, validates=validates, **options
        )
        if not recorder.stops:
            trainer.fit(built.classifier, datamodule=built.data, ckpt_path=checkpoint, weights_only=True)
        built.classifier.load_state_dict(self.best_weights())
        trainer.test(built.classifier, datamodule=built.data, verbose=False)
        metrics = trainer.callback_metrics.items()
        test = {key: float(value) for key, value in metrics if key.startswith("test/")}
        return test, self.outputs(built)

    def process_options(self) -> dict[str, Any]:
        """Return what Lightning's Trainer is told of the processes that train."""
        return {"devices": 1, "plugins": [SealedCheckpoints()]}

    def best_weights(self) -> dict[str, torch.Tensor]:
        """Return the state of the epoch that was best on val."""
        return read_checkpoint(self.run.checkpoints / BEST)["state_dict"]  # type: ignore[no-any-return]

    def outputs(self, built: Built) -> Outputs:
        """Return probabilities and labels of all test images."""
        return built.classifier.test_outputs
