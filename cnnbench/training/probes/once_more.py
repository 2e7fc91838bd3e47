"""A finished run that lacks a probe is trained once more, aside, and must end with the same weights."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from cnnbench.console import console
from cnnbench.errors import Finding
from cnnbench.run_store import lease, plain_yaml
from cnnbench.run_store.amend import amending
from cnnbench.run_store.content import CONFIG
from cnnbench.run_store.files import delete
from cnnbench.run_store.run import DONE, Run
from cnnbench.settings.base import Component
from cnnbench.settings.run import Settings
from cnnbench.tracking.track import track
from cnnbench.training.build import Built, build
from cnnbench.training.checkpoints import BEST, LAST, read_checkpoint
from cnnbench.training.fit import Training
from cnnbench.training.outcome import Outputs, test_result
from cnnbench.training.probes.probing import Probing
from cnnbench.training.recorder import Recorder

ASIDE = "aside"
"""Folder in a run's folder in which it is trained once more."""

FINAL = ("field", "translation")
"""Probes of the finished network, for which it is enough to test it again."""

NO_LOG = Component.model_validate({"name": "none", "_target_": None})


def measure_lacking(settings: Settings, run: Run, cores: int | None) -> None:
    """Measure a finished run with the probes that it lacks, and add what they measured to its folder.

    Raises:
        Finding: the second training ended otherwise than the first; nothing is written.
    """
    aside = Run(run.path / ASIDE / run.path.name, run.planned)
    _wait(aside.path)
    if not (names := settings.lacking(run)):
        return
    trains = not set(names) <= set(FINAL)
    what = "trained" if trains else "tested"
    console.print(f"probes={','.join(names)}: the run lacks them; it is {what} once more, aside", style="dim")
    asked = settings.model_copy(
        update={"force": False, "probes": settings.probes.only(names), "logger": NO_LOG}
    )
    again = Again(asked, run, aside, cores)
    if trains:
        if aside.state in DONE or aside.config().get("probes") != asked.probes.model_dump():
            _remove(aside.path)  # of a command that was killed, and asked for others
        again.complete()
        problem = difference(run, aside)
    else:
        problem = again.test_alone()
    if problem:
        _remove(aside.path)
        raise Finding(
            f"{run.path}: probes={','.join(names)}: {what} once more, the run does not end as before: "
            f"{problem}; nothing is written. Its code, a library or the device may have changed since; "
            "force=true trains it anew"
        )
    _add(settings, run, again)
    _remove(aside.path)


class Again(Training):
    """A second training of a run, in another folder.

    Args:
        settings: of the run, with the probes that it lacks.
        run: the finished run.
        aside: where it is trained.
        cores: see `fit`.
    """

    def __init__(self, settings: Settings, run: Run, aside: Run, cores: int | None) -> None:
        super().__init__(settings, aside, cores)
        self.first = run
        self.built: Built | None = None
        self.tested: Outputs = []

    def build(self) -> Built:
        """Build with the device settings that the first training had."""
        self.built = build(self.settings, self.first.status()["device"], self.cores)
        return self.built

    def train_and_test(
        self, built: Built, recorder: Recorder, checkpoint: Path | None
    ) -> tuple[Mapping[str, float], Outputs]:
        """Keep the outputs on the test set, for trackers."""
        test, self.tested = super().train_and_test(built, recorder, checkpoint)
        return test, self.tested

    def test_alone(self) -> str:
        """Test the weights of the finished run; return what differs from its first test, if anything."""
        self.run = self.first
        built = self.build()
        self.probes = Probing(self.settings.probes, built)
        checkpoint, rows = self.resume_point()
        test, _ = self.train_and_test(built, self.recorder(rows, writes=False), checkpoint)
        recorded = self.first.summary()
        return _differing({key: test.get(key) for key in recorded if key.startswith("test/")}, recorded)


def difference(run: Run, other: Run) -> str:
    """Return in what two trainings of one run differ, apart from times; empty if they are the same."""
    for row, second in zip(run.rows(), other.rows(), strict=False):
        if problem := _differing({k: v for k, v in second.items() if k in row}, row):
            return f"epoch {row['epoch']}: {problem}"
    if len(run.rows()) != len(other.rows()):
        return f"it has {len(other.rows())} epochs instead of {len(run.rows())}"
    for name in (BEST, LAST):
        first, second = (read_checkpoint(one.checkpoints / name)["state_dict"] for one in (run, other))
        for key in first.keys() | second.keys():
            if key not in first or key not in second or not torch.equal(first[key], second[key]):
                return f"{key} of {name} differs"
    recorded = run.summary()
    return _differing({k: other.summary().get(k) for k in recorded if k.startswith("test/")}, recorded)


def _differing(second: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    for key, value in second.items():
        both_nan = all(isinstance(v, float) and math.isnan(v) for v in (value, first[key]))
        if not key.startswith("time/") and value != first[key] and not both_nan:
            return f"{key} is {value} instead of {first[key]}"
    return ""


def _add(settings: Settings, run: Run, again: Again) -> None:
    """Add what was measured to the folder of the run, and log the run again with it."""
    summary, content = run.summary() | again.probes.figures, run.content()
    config = plain_yaml.parse((run.path / CONFIG).read_bytes())
    config["probes"] = config.get("probes", {}) | again.settings.probes.model_dump()
    tables = content.measured_probes | again.probes.tables
    with amending(run) as amended:
        for name, table in again.probes.tables.items():
            amended.write_probe(name, table)
        amended.write_summary(summary)
        amended.files.write(run.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))
        assert again.built is not None
        with track(settings, amended, content.status["repeats"], content.rows) as tracker:
            tracker.finish(summary, test_result(again.built.data, again.tested), tables)


def _wait(aside: Path) -> None:
    """Wait until no other process trains the run aside."""
    if (aside / lease.NAME).exists():
        held = lease.of(aside)
        while not lease.frees(held):
            time.sleep(0.5)


def _remove(aside: Path) -> None:
    if aside.parent.exists():
        delete(aside.parent)
