"""Sending what W&B wrote to disk, by the real `wandb sync`, and knowing what became of each run.

`wandb sync` takes many runs in one process, but its exit code is 0 whatever happens: one unreadable file ends
it before anything is sent, and a run whose rows were refused is marked as synced. So what became of a run is
taken from the marker and from the messages about it; what was not reached is tried again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnnbench import wandb_run
from cnnbench.runs import WANDB

BATCH = 100
"""Runs that one process is given: its start takes half a second, and a bad file ends it."""

RETRIES = {
    "WANDB_X_GRAPHQL_RETRY_MAX": "5",
    "WANDB_X_FILE_STREAM_RETRY_MAX": "5",
    "WANDB_X_FILE_TRANSFER_RETRY_MAX": "5",
}
"""About a minute; W&B's own defaults wait for a server for many. The environment may say otherwise."""

FINISHED = re.compile(r"(\[.*\] )?Finished syncing ")
PAGE = re.compile(r"\[.*\] View run .*?(https?://\S+/runs/([^/\s?]+))$")
ERROR = re.compile(r"(?:ERROR|Error:) (?:\[(?P<label>\S+)\] )?(?P<text>(?!Find detailed error logs).*)")
QUOTED = re.compile(r'"([^"]+)"')


@dataclass(frozen=True)
class Logged:
    """What W&B wrote of one run.

    Attributes:
        folder: `…/wandb/offline-run-<time>-<id>`, or `run-…` of one that was logged online.
    """

    folder: Path

    @property
    def id(self) -> str:
        """The run's id at W&B."""
        return self.folder.name.removeprefix("offline-").split("-", 2)[2]

    @property
    def file(self) -> Path:
        """All that was logged."""
        return self.folder / f"run-{self.id}.wandb"

    @property
    def home(self) -> Path:
        """The folder of the run, or of the experiment: `wandb/` lies in it."""
        return self.folder.parent.parent

    @property
    def sent(self) -> bool:
        """Whether it is marked as sent."""
        return wandb_run.marker(self.folder, self.id).exists()


def logged(home: Path, ids: str = "") -> list[Logged]:
    """What was logged in `home/wandb/`: for each id what was logged last, which is the whole run.

    Args:
        ids: how an id must begin.
    """
    found: dict[str, Logged] = {}
    folders = [path for path in home.glob("wandb/*run-*-*") if WANDB.fullmatch(path.name) and path.is_dir()]
    for folder in sorted(folders, key=lambda path: path.name.removeprefix("offline-")):
        one = Logged(folder)
        if one.id.startswith(ids) and one.file.is_file():
            found[one.id] = one
    return list(found.values())


def _line(errors: Sequence[str]) -> str:
    return " ".join(" ".join(dict.fromkeys(errors)).split())


@dataclass
class _Said:
    """What one `wandb sync` printed."""

    pages: dict[str, str] = field(default_factory=dict)
    named: dict[Logged, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


class Upload:
    """Sends runs to W&B.

    Args:
        project: instead of the one that they were logged for.
        entity: likewise.
        beat: called with the number of runs that are through, whenever it changes.
    """

    def __init__(
        self, project: str | None, entity: str | None, beat: Callable[[int], None] = lambda _: None
    ) -> None:
        self.options = [
            *(["--project", project] if project else []),
            *(["--entity", entity] if entity else []),
        ]
        self.beat = beat
        self.failed: dict[Logged, str] = {}
        self.done: list[Logged] = []

    def send(self, runs: Sequence[Logged]) -> None:
        """Send all of them; `done` and `failed` (with the reason) say what became of them."""
        unmarked = [one for one in runs if self._unmark(one)]
        for start in range(0, len(unmarked), BATCH):
            batch = unmarked[start : start + BATCH]
            if self.failed and (reason := wandb_run.unreachable()):
                self._fail(dict.fromkeys(batch, reason))
            else:
                self._send(batch)

    def _unmark(self, one: Logged) -> bool:
        """Take away the sign of an earlier upload; a folder that may not be written is one that fails."""
        try:
            wandb_run.marker(one.folder, one.id).unlink(missing_ok=True)
        except OSError as error:
            self._fail({one: f"{one.folder}: cannot be written ({error.strerror})"})
            return False
        return True

    def _send(self, runs: Sequence[Logged]) -> _Said:
        said = self._sync(runs)
        for one in runs:
            if one in said.named:  # marked as synced or not
                wandb_run.marker(one.folder, one.id).unlink(missing_ok=True)
            elif one.sent:
                self.done.append(one)
                wandb_run.write_url(one.home, said.pages.get(one.id, ""))
        self._fail({one: _line(errors) for one, errors in said.named.items()})
        left = [one for one in runs if one not in said.named and not one.sent]
        if not left:
            return said
        if reason := wandb_run.unreachable():
            self._fail(dict.fromkeys(left, reason))
        elif len(runs) == 1:
            self._fail({left[0]: _line(said.errors) or "`wandb sync` did not say why"})
        elif len(left) < len(runs):  # what stopped these may be among those that are settled
            self._send(left)
        else:
            alone = self._send(left[:1])
            if alone.errors and {*alone.errors} <= {*said.errors}:  # it is not about one of them
                self._fail(dict.fromkeys(left[1:], _line(alone.errors)))
            else:
                self._send(left[1:])
        return said

    def _fail(self, reasons: Mapping[Logged, str]) -> None:
        self.failed |= reasons
        self.beat(len(self.done) + len(self.failed))

    def _sync(self, runs: Sequence[Logged]) -> _Said:
        """One process of `wandb sync`."""
        said = _Said()
        through = len(self.done) + len(self.failed)
        files = [str(one.file.resolve()) for one in runs]
        with tempfile.TemporaryDirectory() as place:  # its own logs would lie in the working folder
            command = [sys.executable, "-m", "wandb", "sync", "--include-online", *self.options, *files]
            ours = {"WANDB_DIR": place, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
            with subprocess.Popen(
                command,
                env=RETRIES | os.environ | ours,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            ) as process:
                assert process.stdout is not None
                try:
                    for line in process.stdout:
                        text = line.strip().removeprefix("wandb: ")
                        self._hear(text, runs, said)
                        if FINISHED.match(text):
                            through += 1
                            self.beat(through)
                except BaseException:
                    process.terminate()
                    raise
        return said

    def _hear(self, line: str, runs: Sequence[Logged], said: _Said) -> None:
        if found := PAGE.match(line):
            said.pages[found[2]] = found[1]
        elif found := ERROR.match(line):
            about = self._about(found["label"], found["text"], runs)
            for one in about:
                said.named.setdefault(one, []).append(found["text"])
            if not about:
                said.errors.append(found["text"])

    def _about(self, label: str | None, text: str, runs: Sequence[Logged]) -> list[Logged]:
        """The runs that a message is about: it names them by id, or by the path of the file or the folder."""
        if label:
            return [one for one in runs if one.id == label.rpartition("/")[2]]
        paths = {Path(quoted).absolute().resolve() for quoted in QUOTED.findall(text)}
        return [one for one in runs if paths & {one.folder.resolve(), one.file.resolve()}]
