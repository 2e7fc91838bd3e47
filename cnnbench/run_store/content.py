"""The small files of a run as one value: each read once, checked, and either right or named as damaged.

A file counts if it is what the run wrote, by the digest that status.json holds once the run has ended, and
if it holds what such a file may hold (`run_store.schema`). Anything else reads as empty, so that no damaged
byte becomes a number, and makes the run `damaged`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from cnnbench.errors import InputError
from cnnbench.run_store import lease, probes, schema
from cnnbench.run_store.identity import FORMAT, choice_of_format_1, complete, is_of
from cnnbench.run_store.reading import LARGEST, LARGEST_TABLE, Unfit, checksum, parse_json, parse_rows, read
from cnnbench.run_store.seal import seal_of
from cnnbench.safe_text import legible

Part = TypeVar("Part")

STATUS, SUMMARY, METRICS, CONFIG, IDENTITY = (
    "status.json",
    "summary.json",
    "metrics.csv",
    "config.yaml",
    "identity.json",
)
SEALED = (SUMMARY, METRICS, CONFIG, IDENTITY)
"""Files whose digests status.json holds once the run has ended."""

UNPARSED = (METRICS, CONFIG)
"""Files of which the digest is enough to know whether the run is damaged: it takes longer to parse them."""

AGAIN = 3
"""Number of times that a run is read that another process changes meanwhile."""

WEIGHTS = ("best.ckpt", "last.ckpt")
"""Checkpoints that a finished training has; status.json holds the digests in their seals."""


def sealed(folder: Path, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status with the digests of the run's files, unless the run goes on, and with its checksum.

    Args:
        folder: of the run.
        status: content of status.json.
    """
    complete = {key: value for key, value in status.items() if key not in ("files", "checkpoints")}
    if status["state"] != "running":
        complete["files"] = {name: _digest(folder / name) for name in (*SEALED, *probes.names(folder))}
        seals = {name: seal_of(folder / "checkpoints" / name) for name in WEIGHTS}
        complete["checkpoints"] = {name: seal for name, seal in seals.items() if seal}
    # As it reads back: JSON knows no tuples, and keys are texts.
    complete = dict(json.loads(json.dumps(complete)))
    return complete | {"checksum": checksum(complete)}


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def check_replaceable(folder: Path) -> None:
    """Check that a run's files can be replaced, before anything is written.

    Raises:
        InputError: a folder is in place of one of them.
    """
    for name in (STATUS, *SEALED):
        if (folder / name).is_dir():
            raise InputError(f"{folder / name}: is a folder; allowed: a file, or nothing (remove it)")


def content(folder: Path) -> Content:
    """Read a run, and once more if it is damaged and its status has changed: another process writes to it."""
    found = Content(folder)
    for _ in range(AGAIN):
        if not found.damage or (again := Content(folder)).status == found.status:
            break
        found = again
    return found


class Content:
    """Content of the files of a run; nothing is read before it is asked for.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged: dict[str, str] = {}
        self._unusable: dict[str, str] = {}
        self._missing: set[str] = set()

    # --- the files ------------------------------------------------------------------------------

    @cached_property
    def status(self) -> dict[str, Any]:
        """Content of status.json; empty for a run that was never started, and if the file is damaged."""
        try:
            status = parse_json(read(self.folder / STATUS))
            _refuse(schema.STATUS.problem(status))
            if "checksum" in status and status["checksum"] != checksum(status):
                raise Unfit("was changed since it was written (its checksum differs)")
        except FileNotFoundError:
            return {}
        except Unfit as error:
            self._damaged[STATUS] = str(error)
            return {}
        return status

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Content of summary.json; empty if it is missing or damaged, or belongs to no status."""

        def parsed(data: bytes) -> dict[str, Any]:
            summary = parse_json(data)
            finished = self.status.get("state") == "finished"
            _refuse(schema.summary_problem(summary, self.verb, finished=finished))
            return summary

        return (self._read(SUMMARY, parsed) or {}) if self.status else {}

    @cached_property
    def rows(self) -> list[dict[str, float]]:
        """Rows of metrics.csv; empty if it is missing or damaged."""

        def parsed(data: bytes) -> list[dict[str, float]]:
            rows = parse_rows(data)
            _refuse(schema.rows_problem(rows, self.verb))
            if self.status.get("state") == "finished" and self.verb == "train":
                _refuse(_contradiction(self.summary, rows))
            return rows

        return self._read(METRICS, parsed, LARGEST_TABLE) or []

    @cached_property
    def config(self) -> dict[str, Any]:
        """Content of config.yaml, the resolved settings; empty if it is missing or damaged."""

        def parsed(data: bytes) -> dict[str, Any]:
            from cnnbench.run_store import plain_yaml

            config = plain_yaml.parse(data)
            _refuse(schema.CHOICE.problem(config))
            return complete(config)

        return self._read(CONFIG, parsed) or {}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The choice in identity.json; empty if the file is missing, damaged, or of another run."""

        def parsed(data: bytes) -> dict[str, Any]:
            identity = parse_json(data)
            _refuse(schema.IDENTITY.problem(identity))
            choice: dict[str, Any] = identity["choice"]
            if identity.get("format") == FORMAT and not is_of(self._name, choice):
                raise Unfit("is that of another run: the hash in the folder's name is not its")
            return choice

        return self._read(IDENTITY, parsed) or {}

    @cached_property
    def measured_probes(self) -> dict[str, probes.Table]:
        """What probes measured, by their names; without files that are damaged, which `problem` explains."""
        found = {}
        for name in self._sealed:
            is_probe = name.startswith(f"{probes.FOLDER}/")
            if is_probe and (table := self._read(name, probes.parse, LARGEST_TABLE)):
                found[Path(name).stem] = table
        return found

    @property
    def choice(self) -> dict[str, Any]:
        """The settings that decided the result; empty if they cannot be read."""
        if self.identity or self.format == FORMAT:
            return complete(self.identity)
        # An unknown format, or none, is read as far as possible; one of ours is never without its identity.
        return complete(choice_of_format_1(self.config))

    @property
    def monitor(self) -> str:
        """The metric that decided which epoch of a training is the best."""
        return legible(str(self.choice.get("trainer", {}).get("monitor", "val/acc")))

    def _read(self, name: str, parse: Callable[[bytes], Part], largest: int = LARGEST) -> Part | None:
        """Return a file as `parse` reads it; None, after noting why, if it is missing or damaged."""
        genuine = False
        try:
            data = read(self.folder / name, largest)
            if name in self._sealed:
                if self._sealed[name] != hashlib.sha256(data).hexdigest():
                    raise Unfit("was changed since the run ended (its digest differs)")
                genuine = name in UNPARSED
            return parse(data)
        except FileNotFoundError:
            self._missing.add(name)
        except Unfit as error:
            (self._unusable if genuine else self._damaged)[name] = str(error)
        return None

    # --- what follows from them -----------------------------------------------------------------

    @property
    def format(self) -> int | None:
        """Format of the folder; None if status.json does not record it."""
        return self.status.get("format")

    @property
    def verb(self) -> str:
        """Verb that made the run: `train` or `bench`."""
        return str(self.status.get("verb", "train"))

    @cached_property
    def state(self) -> str:
        """State of the run: one of `schema.STATES`, `new` without status.json, or `damaged`.

        A run without its final metrics counts as interrupted even if its status is "finished": running the
        same command again evaluates it again.
        """
        recorded = self.status.get("state")
        if recorded is None:
            return "damaged" if STATUS in self._damaged else "new"
        if recorded == "running" and not lease.is_free(self.folder):
            return "running"
        if self.damage:
            return "damaged"
        lacking = recorded == "finished" and not self.summary
        return "interrupted" if recorded == "running" or lacking else str(recorded)

    @cached_property
    def damage(self) -> list[str]:
        """A line for each file that is damaged, or missing: `…/summary.json: params is "3"; allowed: …`."""
        found = self._damage() if self.status else self._damaged
        return [f"{self.folder / name}: {problem}" for name, problem in sorted(found.items())]

    def _damage(self) -> dict[str, str]:
        parts = {SUMMARY: "summary", METRICS: "rows", CONFIG: "config", IDENTITY: "identity"}
        for name, part in parts.items():
            if name in UNPARSED and name in self._sealed:
                self._read(name, lambda data: data, LARGEST_TABLE)
            else:
                getattr(self, part)
        if self.status["state"] == "running":  # a process that was killed need not have written all of them
            return self._damaged
        needed = {name for name in SEALED if self._sealed.get(name)} | {CONFIG}
        needed |= {IDENTITY} if self.format == FORMAT else set()
        needed |= {METRICS} if self.status["state"] == "finished" else set()
        missing = (needed & self._missing) - {SUMMARY}  # without which the run counts as interrupted
        return self._damaged | dict.fromkeys(missing, "is missing")

    @property
    def unusable(self) -> list[str]:
        """A line for each file that cannot be used although it is as the run left it: of a later version."""
        return [self.problem(name) for name in sorted(self._unusable)]

    def is_damaged(self, name: str) -> bool:
        """Return whether a file is there and damaged."""
        return bool(self.damage) and name in self._damaged

    def problem(self, name: str) -> str:
        """Return the line about a file that was read in vain."""
        return f"{self.folder / name}: {(self._damaged | self._unusable).get(name, 'is missing')}"

    @property
    def _name(self) -> str:
        """Name of the folder, also if it was given as `.`."""
        return self.folder.name if self.folder.name not in ("", "..") else self.folder.resolve().name

    @property
    def _sealed(self) -> dict[str, str | None]:
        digests: dict[str, str | None] = self.status.get("files", {})
        return digests


def _contradiction(summary: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> str:
    """Return where the rows of a finished training are not those that its summary is about."""
    epochs, best = summary.get("epochs", len(rows)), summary.get("best/epoch")
    if len(rows) != epochs:
        return f"has {len(rows)} of {epochs} epochs"
    if best is not None and best < len(rows) and rows[best].get("val/acc") != summary.get("best/val_acc"):
        return f"row {best}: val/acc is not the best/val_acc of {SUMMARY}"
    return ""


def _refuse(problem: str) -> None:
    if problem:
        raise Unfit(problem)
