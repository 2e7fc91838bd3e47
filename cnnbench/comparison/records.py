"""Many runs read back from disk. What cannot be read is named, and the rest is still there."""

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
"""Of a measurement's device: what was recorded stands for what was asked for."""


@dataclass(frozen=True)
class Record:
    """One run as it was found.

    Attributes:
        verb: `train`, or `bench` for a measurement.
        state: see `Run.state`; `damaged` also where config.yaml cannot be read.
        settings: what decides the result, flat, without the seed.
        figures: the finite numbers of summary.json.
        problems: a sentence for each file that is not what it should be.
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
        """Whether its figures count: it finished, or is a measurement of which a batch did not fit."""
        error = self.status.get("error")
        full = isinstance(error, dict) and error.get("type") == "OutOfMemory"
        return self.state == "finished" or (self.verb == "bench" and self.state == "failed" and full)

    @property
    def error(self) -> str:
        """Why it ended as it did: one line; empty where it said nothing."""
        error = self.status.get("error")
        if not isinstance(error, dict) or self.state in ("finished", "running"):
            return ""
        kind = "" if error.get("type") == "Interrupted" else f"{error.get('type')}: "  # the state says that
        return " ".join(f"{kind}{error.get('message')}".split())

    @cached_property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """Equal for runs that are the same choice, in whatever experiment they lie."""
        return (*sorted(self.settings.items()), ("seed", self.seed))


def read(paths: Sequence[Path], unread: list[str] | None = None) -> list[Record]:
    """The runs below the paths, each once.

    Args:
        paths: folders.
        unread: gets a sentence for each folder below them that cannot be read.

    Raises:
        NotThere: a path that is no folder, or no run in any of them.
        InputError: a path that cannot be read.
    """
    said: list[str] = []
    runs = below(paths, said.append)
    if not runs:
        why = said[0] if said else "`cnnbench train` makes one"
        raise NotThere(f"{', '.join(map(str, paths))}: no run here (a folder with a status.json); {why}")
    if unread is not None:
        unread += said
    return [record(run) for run in runs]


def record(run: Run) -> Record:
    """One run as it lies on disk."""
    problems: list[str] = []
    status, state = run.status(), run.state
    if state == "damaged":
        problems.append(f"{run.path / 'status.json'}: is no status of a run")
    elif run.format not in range(1, FORMAT + 1):
        problems.append(
            f"{run.path / 'status.json'}: format {status.get('format', 'unknown')}, this is {FORMAT}; "
            "read as far as it goes"
        )
    config = run.config()
    decides = run.choice()
    if not isinstance(decides.get("arch"), dict) or not isinstance(decides.get("data"), dict):
        name = "identity.json" if run.format == FORMAT else "config.yaml"
        problems.append(f"{run.path / name}: is no configuration of a run")
        decides, state = {}, "damaged"
    summary, said = _summary(run)
    problems += said
    figures, said = _figures(run, summary)
    problems += said
    finished = state == "finished" and run.verb == "train"
    problems += _rows(run, summary.get("epochs") if finished else None, finished=finished)
    kind = KINDS[run.verb]
    if finished and (lacking := [key for key in (kind.order, kind.metric) if key not in figures]):
        problems += [_lacking(run, key, summary) for key in lacking if not _is_number(summary.get(key))]
        state = "damaged"
    settings = flat(decides)
    settings.pop("verb", None)
    if run.verb == "bench" and isinstance(device := status.get("device"), dict):
        # A number of milliseconds belongs to what `auto` was, on that machine.
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
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"{path}: cannot be read ({type(error).__name__})"]
    if not isinstance(found, dict):
        return {}, [f"{path}: is no summary of a run"]
    return found, []


def _figures(run: Run, summary: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """The numbers that can be computed with, and a sentence about each of the others."""
    found, said = {}, []
    for key, value in summary.items():
        if not _is_number(value):
            continue
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or (figure(key).share and not 0 <= number <= 1):
            said.append(f"{run.path / 'summary.json'}: {key} is {number:g}; left out")
        else:
            found[key] = number
    return found, said


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _lacking(run: Run, key: str, summary: Mapping[str, Any]) -> str:
    """What is there in the place of a number."""
    if key not in summary:
        return f"{run.path / 'summary.json'}: has no {key}"
    shown = console.legible(json.dumps(summary[key]))
    return f"{run.path / 'summary.json'}: {key} is {shown}; allowed: a number"


def _rows(run: Run, epochs: object, *, finished: bool) -> list[str]:
    """What is wrong with metrics.csv, of which learning curves are made.

    Args:
        run: the run.
        epochs: that it should have, if that is known.
        finished: whether it must have some.
    """
    path = run.path / "metrics.csv"
    try:
        rows = run.read_rows()
    except FileNotFoundError:
        return [f"{path}: is missing, and with it the learning curve"] if finished else []
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror}); left out"]
    except UnicodeDecodeError:
        return [f"{path}: is no text; left out"]
    except ValueError as error:
        return [f"{path}: {console.legible(str(error), 100)}; left out"]
    if isinstance(epochs, int) and len(rows) < epochs:
        return [f"{path}: has {len(rows)} of {epochs} epochs"]
    return []


def once(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """Each choice once, and what is to be said of the others: the same run may lie in two experiments.

    Counted twice, it would pass for another seed. Finished before unfinished, then the first by path.
    """
    kept: dict[Any, Record] = {}
    twice = other = 0
    for one in sorted(records, key=lambda r: (r.state != "finished", str(r.run.path))):
        key = one.identity if one.settings else one.run.path
        first = kept.setdefault(key, one)
        twice += first is not one
        other += first is not one and one.state == "finished" and _result(first) != _result(one)
    s = "s" * (twice == 1)
    notes = [f"{twice} run{'s' * (not s)} lie{s} in several experiments and count{s} once"] if twice else []
    if other:
        notes.append(
            f"{other} of them have other figures although they were asked for the same: "
            "the first by path counts; compare the experiments one by one"
        )
    return sorted(kept.values(), key=lambda r: str(r.run.path)), notes


def _result(record: Record) -> dict[str, float]:
    """What does not depend on the machine's speed, or on what else it did."""
    of_the_machine = ("time/", "memory/", "noise/", "roofline/")
    return {key: value for key, value in record.figures.items() if not key.startswith(of_the_machine)}
