"""Runs read from disk. Files that cannot be read are reported; everything else is still used."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cnnbench import console
from cnnbench.comparison.metrics import KINDS, figure
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
        state: see `Run.state`; `damaged` also if config.yaml or a required metric cannot be read.
        experiment: its name.
        seed: as text; `-` if there is none.
        settings: the settings that decide the result, flat, without the seed.
        select: the settings that its experiment tunes.
        figures: the finite numbers of summary.json, by key.
        status: status.json.
        command: the overrides that it was started with.
        split: the digest of its data split.
        problems: one sentence for each damaged file.
        config: all settings of config.yaml, flat; empty if that file is damaged.
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
    problems: list[str] = []
    status, state = run.status(), run.state
    if state == "damaged":
        problems.append(f"{run.path / 'status.json'}: is not the status of a run")
    elif run.format not in range(1, FORMAT + 1):
        problems.append(
            f"{run.path / 'status.json'}: format {status.get('format', 'unknown')}, this version writes "
            f"{FORMAT}; read as far as possible"
        )
    config = run.config()
    decides = run.choice()
    if not isinstance(decides.get("arch"), dict) or not isinstance(decides.get("data"), dict):
        name = "identity.json" if run.format == FORMAT else "config.yaml"
        problem = (
            f"is not the {name.partition('.')[0]} of a run" if (run.path / name).exists() else "is missing"
        )
        problems.append(f"{run.path / name}: {problem}")
        decides, state = {}, "damaged"
    summary, unreadable = _summary(run)
    figures, ignored = _figures(run, summary)
    problems += [*unreadable, *ignored]
    finished = state == "finished" and run.verb == "train"
    problems += _rows(run, summary.get("epochs") if finished else None, finished=finished)
    kind = KINDS[run.verb]
    if finished and (missing := [key for key in (kind.order, kind.metric) if key not in figures]):
        problems += [_missing(run, key, summary) for key in missing if not _is_number(summary.get(key))]
        state = "damaged"
    settings = flat(decides)
    settings.pop("verb", None)
    if run.verb == "bench" and isinstance(device := status.get("device"), dict):
        # A latency belongs to the device that `auto` stood for on that machine.
        settings |= {f"device.{key}": str(device[key]) for key in RESOLVED if key in device}
        settings["device.name"] = settings.get("device.accelerator", "-")
    select, command = config.get("select"), config.get("command")
    return Record(
        run=run,
        verb=run.verb,
        state=state,
        experiment=str(config.get("name") or run.path.parent.name),
        seed=settings.pop("seed", "-"),
        settings=settings,
        select=tuple(map(str, select)) if isinstance(select, list) else (),
        figures=figures,
        status=status,
        command=tuple(map(str, command)) if isinstance(command, list) else (),
        split=str(summary.get("data/split", "")),
        problems=tuple(problems),
        config=flat(config) if decides else {},
    )


def _summary(run: Run) -> tuple[dict[str, Any], list[str]]:
    path = run.path / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"{path}: cannot be read ({type(error).__name__})"]
    if not isinstance(summary, dict):
        return {}, [f"{path}: is not the summary of a run"]
    return summary, []


def _figures(run: Run, summary: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Return the valid numbers of a summary, and a sentence on each invalid one."""
    figures, problems = {}, []
    for key, value in summary.items():
        if not _is_number(value):
            continue
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or (figure(key).share and not 0 <= number <= 1):
            problems.append(f"{run.path / 'summary.json'}: {key} is {number:g}; left out")
        else:
            figures[key] = number
    return figures, problems


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _missing(run: Run, key: str, summary: Mapping[str, Any]) -> str:
    """Return a sentence on a required metric that is absent or not a number."""
    if key not in summary:
        return f"{run.path / 'summary.json'}: has no {key}"
    shown = console.legible(json.dumps(summary[key]))
    return f"{run.path / 'summary.json'}: {key} is {shown}; allowed: a number"


def _rows(run: Run, epochs: object, *, finished: bool) -> list[str]:
    """Return sentences on what is wrong with metrics.csv, the source of the learning curves.

    Args:
        run: the run.
        epochs: the number of rows it should have, if known.
        finished: whether the file must exist.
    """
    path = run.path / "metrics.csv"
    try:
        rows = run.read_rows()
    except FileNotFoundError:
        return [f"{path}: is missing, so this run has no learning curve"] if finished else []
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror}); left out"]
    except UnicodeDecodeError:
        return [f"{path}: is not text; left out"]
    except ValueError as error:
        return [f"{path}: {console.legible(str(error), 100)}; left out"]
    if isinstance(epochs, int) and len(rows) < epochs:
        return [f"{path}: has {len(rows)} of {epochs} epochs"]
    return []


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
        unequal += first is not record and record.state == "finished" and _result(first) != _result(record)
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


def _result(record: Record) -> dict[str, float]:
    """Return the metrics that depend neither on the machine's speed nor on its load."""
    of_the_machine = ("time/", "memory/", "noise/", "roofline/")
    return {key: value for key, value in record.figures.items() if not key.startswith(of_the_machine)}
