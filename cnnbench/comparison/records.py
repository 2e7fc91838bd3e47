"""Runs read from disk. Files that cannot be read are reported; everything else is still used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cnnbench import console
from cnnbench.comparison.metrics import figure
from cnnbench.errors import NotThere
from cnnbench.run_store.find import below, flat
from cnnbench.run_store.identity import FORMAT
from cnnbench.run_store.run import Run

RESOLVED = ("accelerator", "precision", "memory_format", "threads", "model")
"""Device settings of a measurement for which the recorded value replaces the requested one (`auto`)."""


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        run: its folder.
        verb: `train`, or `bench` for a measurement.
        state: see `Run.state`.
        experiment: its name.
        seed: as text; `-` if there is none.
        settings: the settings that decide the result, flat, without the seed.
        select: the settings that its experiment tunes.
        figures: the finite numbers of summary.json, by key; none of a damaged run.
        status: status.json.
        command: the overrides that it was started with.
        split: the digest of its data split.
        problems: one sentence for each damaged file.
        config: all settings of config.yaml, flat; empty if that file or identity.json is damaged.
    """

    run: Run
    verb: str
    state: str
    experiment: str
    seed: str
    settings: dict[str, str]
    select: tuple[str, ...]
    figures: dict[str, float]
    status: dict[str, Any]
    command: tuple[str, ...]
    split: str
    problems: tuple[str, ...]
    config: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """True if its metrics count: it finished, or is a measurement in which one batch size did not fit."""
        error = self.status.get("error")
        out_of_memory = isinstance(error, dict) and error.get("type") == "OutOfMemory"
        return self.state == "finished" or (self.verb == "bench" and self.state == "failed" and out_of_memory)

    @property
    def error(self) -> str:
        """The error that ended it, as one line; empty if there is none."""
        error = self.status.get("error")
        if not isinstance(error, dict) or self.state in ("finished", "running"):
            return ""
        kind = "" if error.get("type") == "Interrupted" else f"{error.get('type')}: "  # that is its state
        return " ".join(f"{kind}{error.get('message')}".split())

    def rows(self) -> list[dict[str, float]]:
        """Read the metrics of each epoch; none of a damaged run."""
        return self.run.rows() if self.state != "damaged" else []

    @cached_property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """The settings and the seed: equal for copies of a run in different experiments."""
        return (*sorted(self.settings.items()), ("seed", self.seed))


def read(paths: Sequence[Path], unread: list[str] | None = None) -> list[Record]:
    """Read the runs in and below the paths, each once.

    Args:
        paths: folders.
        unread: a list to which a sentence is added for each folder that cannot be read.

    Raises:
        NotThere: a path is not a folder, or none of them contains a run.
        InputError: a path cannot be read.
    """
    problems: list[str] = []
    runs = below(paths, problems.append)
    if not runs:
        why = problems[0] if problems else "`cnnbench train` creates one"
        raise NotThere(f"{', '.join(map(str, paths))}: no run here (a folder with a status.json); {why}")
    if unread is not None:
        unread += problems
    return [record(run) for run in runs]


def record(run: Run) -> Record:
    """Read one run from disk."""
    content = run.content()
    status, state, choice = content.status, content.state, content.choice
    problems = [*content.damage]
    if status and content.format not in range(1, FORMAT + 1):
        problems.append(
            f"{run.path / 'status.json'}: format {status.get('format', 'unknown')}, this version writes "
            f"{FORMAT}; read as far as possible"
        )
    summary = content.summary if state != "damaged" else {}
    figures, left_out = _figures(run, summary)
    settings = _by_newer_names(flat(choice))
    settings.pop("verb", None)
    if content.verb == "bench":
        # A latency belongs to the device that `auto` stood for on that machine.
        device = status["device"]
        settings |= {f"device.{key}": str(device[key]) for key in RESOLVED if key in device}
        settings["device.name"] = settings.get("device.accelerator", "-")
    config = content.config
    return Record(
        run=run,
        verb=content.verb,
        state=state,
        experiment=str(config.get("name") or run.path.parent.name),
        seed=settings.pop("seed", "-"),
        settings=settings if choice else {},
        select=tuple(config.get("select", ())),
        figures=figures,
        status=status,
        command=tuple(config.get("command", ())),
        split=str(summary.get("data/split", "")),
        problems=(*problems, *content.unusable, *left_out),
        config=flat(config) if choice else {},
    )


def _by_newer_names(settings: dict[str, str]) -> dict[str, str]:
    """Return settings in which `arch.zero_init` of the ResNets is `ops.init=zero`: the same network.

    Identities keep the older name, so that finished runs stay what they are.
    """
    if settings.get("arch.zero_init") == "true" and settings.get("ops.init") == "native":
        return settings | {"arch.zero_init": "false", "ops.init": "zero"}
    return settings


def _figures(run: Run, summary: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Return the numbers of a summary, and a sentence on each that is none, such as the loss nan."""
    figures, problems = {}, []
    for key, value in summary.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value) or (figure(key).share and not 0 <= value <= 1):
            problems.append(f"{run.path / 'summary.json'}: {console.legible(key)} is {value:g}; left out")
        else:
            figures[key] = float(value)
    return figures, problems


def once(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """Drop copies of runs, as of other experiments, and return the rest with notes on the copies.

    Counted twice, a run would pass for another seed. A finished copy is preferred, then the first by path.
    """
    kept: dict[Any, Record] = {}
    copies = unequal = 0
    for record in sorted(records, key=lambda r: (r.state != "finished", str(r.run.path))):
        key = record.identity if record.settings else record.run.path
        first = kept.setdefault(key, record)
        copies += first is not record
        unequal += first is not record and record.state == "finished" and _differ(first, record)
    notes = []
    if copies:
        are = "runs are copies" if copies > 1 else "run is a copy"
        notes.append(f"{copies} {are} of another (same settings and seed): counted once")
    if unequal:
        have = "copies have" if unequal > 1 else "copy has"
        notes.append(
            f"{unequal} {have} different metrics despite the same settings and seed: "
            "the first by path counts; compare the experiments one by one"
        )
    return sorted(kept.values(), key=lambda r: str(r.run.path)), notes


def _differ(first: Record, second: Record) -> bool:
    """Return whether a metric that both have differs; the machine's speed and its load are left out.

    A run of an earlier version has fewer metrics.
    """
    of_the_machine = ("time/", "memory/", "noise/", "roofline/")
    both = first.figures.keys() & second.figures.keys()
    return any(first.figures[k] != second.figures[k] for k in both if not k.startswith(of_the_machine))
