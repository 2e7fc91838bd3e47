"""What a run is on disk: identity, state, metrics, checkpoints. Needs no torch.

A run lies in `<output_dir>/<experiment>/<prefix>-<hash of its choice>/`:

    config.yaml      everything it was asked for, resolved
    status.json      state, attempts, error, versions, device
    metrics.csv      a row an epoch
    summary.json     the final figures, flat keys
    train.log        what was logged while it was trained
    checkpoints/     last, previous (until it is finished) and best
    lease            who trains it, while it is being trained
    repeats/<n>/     what `force=true` replaced

Every file is replaced atomically. Whoever trains a run holds its lease (`cnnbench.attempt`): a run that
says "running" and is held by nobody was interrupted.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cnnbench import lease
from cnnbench.errors import InputError, NotThere

FORMAT = 1
DONE = ("finished", "diverged")
STATES = ("running", "finished", "failed", "diverged", "interrupted", "pruned")
RESULTS = {"train": {"test/acc"}, "bench": {"time/load_s", "parity/worst", "tune/layout"}}
"""By verb, figures of which a finished run has one."""

STOP = "stop"
"""A file in a run's folder that asks for its end: who trains it looks for it after each epoch."""


def identity(choice: Mapping[str, Any]) -> str:
    """Ten hex digits that follow from the choice alone: equal values give equal digits.

    Key order does not matter, nor whether a whole number is written as 1 or 1.0.
    """
    return hashlib.sha256(json.dumps(_canonical(choice), sort_keys=True).encode()).hexdigest()[:10]


def _canonical(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(key): _canonical(item) for key, item in value.items()}
        case list() | tuple():
            return [_canonical(item) for item in value]
        case float() if value.is_integer():
            return int(value)
    return value


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that takes the place of `path` once it is whole, and never before."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old content or the new, never a part."""
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def where_asked(path: Path) -> Iterator[BinaryIO]:
    """A file that a user named, to write into: a link is followed, a pipe or a device is written into."""
    path = path.resolve()
    special = path.exists() and not path.is_file()
    with path.open("wb") if special else replacing(path) as file:
        yield file


def write_where_asked(path: Path, content: str | bytes) -> None:
    """Write a file that a user named; see `where_asked`."""
    with where_asked(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _number(text: str) -> float:
    """A cell of metrics.csv; whole numbers stay whole, so that they are written back as they were."""
    return int(text) if text.isdigit() else float(text)


def _is_there(path: Path) -> bool:
    """Whether there is such a file, also one in a folder that may not be looked into."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or nothing when the file is absent or not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Run:
    """A run's folder, whether or not it exists yet."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    def status(self) -> dict[str, Any]:
        """status.json; empty for a run that was never started, and for a file that is no status."""
        status = _read_json(self.path / "status.json")
        kinds = (status.get("state"), type(status.get("attempts")), type(status.get("device")))
        return status if kinds[0] in STATES and kinds[1:] == (list, dict) else {}

    def summary(self) -> dict[str, Any]:
        """summary.json; what is known while there is none."""
        return _read_json(self.path / "summary.json")

    def config(self) -> dict[str, Any]:
        """config.yaml: what the run was asked for, resolved; empty if there is none."""
        import yaml

        try:
            found = yaml.load((self.path / "config.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
        except (OSError, yaml.YAMLError, ValueError, RecursionError):  # not UTF-8, or no end of digits
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def verb(self) -> str:
        """What was done: `train` or `bench`."""
        verb = self.status().get("verb")
        return verb if verb in RESULTS else "train"

    @property
    def state(self) -> str:
        """new, running, finished, failed, diverged or interrupted; damaged if status.json is not readable.

        A run without its figures is not finished, whatever its status says: asked for again, it is
        evaluated again.
        """
        state = self.status().get("state")
        if state is None:
            return "damaged" if _is_there(self.path / "status.json") else "new"
        if state == "finished" and not RESULTS[self.verb] & self.summary().keys():
            return "interrupted"
        return "interrupted" if state == "running" and lease.is_free(self.path) else str(state)

    def rows(self) -> list[dict[str, float]]:
        """metrics.csv: a row an epoch, numbers as they were measured; none if it is absent or damaged."""
        try:
            return self.read_rows()
        except (OSError, ValueError):
            return []

    def read_rows(self) -> list[dict[str, float]]:
        """`rows`, for those who want to know why there are none.

        Raises:
            OSError: there is no such file, or it cannot be read.
            ValueError: it is damaged, and how.
        """
        with (self.path / "metrics.csv").open(encoding="utf-8", newline="") as file:
            text = file.read()
        if text and not text.endswith("\n"):
            raise ValueError("is cut off")
        try:
            lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
        except csv.Error as error:
            raise ValueError(str(error)) from None
        headers = lines.pop(0) if lines else []
        if any(len(line) != len(headers) for line in lines):
            raise ValueError("has rows of different lengths")
        if lines and "epoch" not in headers and "batch" not in headers:
            raise ValueError("has no column epoch")
        return [dict(zip(headers, map(_number, line), strict=True)) for line in lines]

    def write_rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace metrics.csv. Floats are written so that they read back to the last bit."""
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        write_atomic(self.path / "metrics.csv", text.getvalue())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace summary.json."""
        write_atomic(self.path / "summary.json", json.dumps(summary, indent=1) + "\n")

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Replace status.json."""
        write_atomic(self.path / "status.json", json.dumps(status, indent=1) + "\n")


FREE = {
    "name",
    "select",
    "command",
    "output_dir",
    "logger",
    "rounds",
    "round_s",
    "memory_limit_gb",
    "trust_code",
}
"""The sections of config.yaml that do not decide the result."""


def choice(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's config.yaml that decides the result.

    Where the images lie decides it for folders of images alone, which have no other name.
    """
    found = {key: value for key, value in config.items() if key not in FREE}
    data = found.get("data")
    if isinstance(data, Mapping):
        free = {"num_workers"} if data.get("name") == "imagefolder" else {"num_workers", "root"}
        found["data"] = {key: value for key, value in data.items() if key not in free}
    return found


WANDB = re.compile(r"(offline-)?run-\d{8}_\d{6}-.+")
"""Folders of W&B's, which hold whatever somebody has logged: a `status.json` there is no run's."""


def outputs() -> str:
    """Where runs are written and looked for unless a folder is named."""
    return os.environ.get("CNNBENCH_OUTPUTS", "outputs")


def sorted_words(words: Iterable[str]) -> tuple[list[Path], list[str]]:
    """The folders and the conditions among the words of a command line; all outputs without a folder.

    What holds a `=` is a condition, unless there is something of that name.
    """
    paths: list[str] = []
    conditions: list[str] = []
    for word in words:
        # Path.exists raises for what is too long for a name, as the condition of a hundred seeds is.
        condition = "=" in word and not os.path.exists(word)  # noqa: PTH110 - Path.exists raises for long words
        (conditions if condition else paths).append(word)
    return [Path(word) for word in paths or [outputs()]], conditions


Say = Callable[[str], None]


def below(paths: Iterable[Path], say: Say = lambda _: None) -> list[Run]:
    """The runs at or below some folders, each once: by its own name, if a link leads to it as well.

    Args:
        paths: the folders.
        say: is told of each folder that cannot be read.

    Raises:
        InputError: see `find`.
    """
    found = sorted((run for path in paths for run in find(path, say)), key=lambda run: run.path.is_symlink())
    once: dict[Path, Run] = {}
    for run in found:
        once.setdefault(run.path.resolve(), run)
    return list(once.values())


def find(path: Path, say: Say = lambda _: None) -> list[Run]:
    """The run at `path`, or all runs below it, by path; links to runs are followed, to other folders not.

    Raises:
        NotThere: there is no such folder.
        InputError: it may not be read.
    """
    check_folder(path)
    if (path / "status.json").is_file():
        return [Run(path)]

    def unread(error: OSError) -> None:
        say(f"{error.filename}: cannot be read ({error.strerror})")

    found = []
    for where, folders, names in os.walk(path, onerror=unread):
        if "status.json" in names:
            found.append(Run(Path(where)))
            folders.clear()  # what a run was before force=true is not a run of its own
        folders[:] = [name for name in folders if not name.startswith(".") and not WANDB.fullmatch(name)]
        for link in filter(Path.is_symlink, (Path(where, name) for name in folders)):
            try:
                if (link / "status.json").is_file():
                    found.append(Run(link))
            except OSError as error:
                unread(error)
    return sorted(found, key=lambda run: run.path)


def check_folder(path: Path) -> None:
    """Whether a folder that a user named can be read.

    Raises:
        NotThere: there is none.
        InputError: it may not be read.
    """
    try:
        os.scandir(path).close()
        if not os.access(path, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileNotFoundError, NotADirectoryError):
        raise NotThere(f"{path}: no such folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"a": {"b": None}} as {"a.b": "null"}: settings as one writes them on the command line."""
    found: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, bool):
            found[f"{prefix}{key}"] = "null" if value is None else str(value).lower()
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def matches(value: str | None, wanted: str) -> bool:
    """Whether a setting is one of several values, separated by commas; `0.1` is `1e-1`, `[1,8]` is one."""
    values = re.split(r",(?![^\[]*\])", wanted)
    return value is not None and any(_same(value, one) for one in values)


def _same(value: str, wanted: str) -> bool:
    try:
        return float(value) == float(wanted)
    except ValueError:
        if value.startswith("["):
            return value.replace(" ", "") == wanted.replace(" ", "")
        return value == (wanted.lower() if wanted in ("True", "False", "Null") else wanted)
