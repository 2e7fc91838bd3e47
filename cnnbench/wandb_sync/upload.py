"""Sending what W&B wrote to disk, and knowing what became of each run.

`wandb sync` is given a parcel for each run: its file, and beside it a link to the files that were logged. So
its marks fall into the parcels, and a run is marked as sent only when nothing of it was refused.

A run that the server has already is sent without the rows that are there. The client would append them once
more, and of rows with the same step W&B's people say now that they are overwritten, now that they are not.
Deleting the run first is no way either: its notes and its place in reports go with it, and W&B refuses its id
for a week after that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.run_store.find import WANDB
from cnnbench.tracking import wandb_run
from cnnbench.wandb_sync import cli_process, offline_file
from cnnbench.wandb_sync.cli_process import Said, line

BATCH = 100
"""Runs that one process is given: its start takes half a second, and a bad file ends it."""


@dataclass(frozen=True)
class Logged:
    """What W&B wrote of one run.

    Attributes:
        folder: `…/wandb/offline-run-<time>-<id>`, or `run-…` of one that was logged online; with `-1` after
            it where there was one of the same second.
        id: the run's at W&B.
    """

    folder: Path
    id: str

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
        for file in folder.glob("run-*.wandb"):
            one = Logged(folder, file.name.removeprefix("run-").removesuffix(".wandb"))
            if one.id.startswith(ids) and file.is_file():
                found[one.id] = one
    return list(found.values())


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
        self.project, self.entity = project, entity
        self.beat = beat
        self.failed: dict[Logged, str] = {}
        self.done: list[Logged] = []
        self.lacking: dict[Logged, str] = {}
        """Of those that were sent, what was lost here before."""
        self._files: dict[Logged, Path] = {}

    def send(self, runs: Sequence[Logged]) -> None:
        """Send all of them; `done` and `failed` (with the reason) say what became of them."""
        with tempfile.TemporaryDirectory() as place:
            for batch in _batches([one for one in runs if self._unmark(one)]):
                if self.failed and (reason := wandb_run.unreachable()):
                    self._fail(dict.fromkeys(batch, reason))
                elif packed := self._pack(batch, Path(place).resolve()):
                    self._send(packed)

    def _unmark(self, one: Logged) -> bool:
        """Take away the sign of an earlier upload; a folder that may not be written is one that fails."""
        try:
            wandb_run.marker(one.folder, one.id).unlink(missing_ok=True)
        except OSError as error:
            self._fail({one: f"{wandb_run.near(one.folder)}: cannot be written ({error.strerror})"})
            return False
        return True

    def _pack(self, batch: Sequence[Logged], place: Path) -> list[Logged]:
        """Make the parcels; those whose place at W&B cannot be looked at fail."""
        contents: dict[Logged, offline_file.Content] = {}
        for one in batch:
            with suppress(offline_file.UnreadableError, OSError):  # `wandb sync` will say so
                contents[one] = offline_file.content(one.file)
        packed = []
        for target in dict.fromkeys((said.entity, said.project) for said in contents.values()):
            there = [one for one, said in contents.items() if (said.entity, said.project) == target]
            try:
                known = self._last_steps(*target, [one.id for one in there])
            except Exception as error:  # of W&B's client, whose errors share no class
                self._fail(dict.fromkeys(there, line([str(error)])))
                continue
            for one in there:
                self._parcel(one, place, known.get(one.id, -1))
                self.lacking |= _lacking(one, contents[one])
                packed.append(one)
        for one in batch:
            if one not in contents:
                self._parcel(one, place, -1)
                packed.append(one)
        return packed

    def _parcel(self, one: Logged, place: Path, last: int) -> None:
        """What `wandb sync` is given of a run: its file, without the rows up to a step; and its files."""
        folder = place / str(len(self._files))
        folder.mkdir()
        self._files[one] = folder / one.file.name
        files = one.folder.resolve() / "files"
        if files.is_dir():
            (folder / "files").symlink_to(files)
        else:
            (folder / "files").mkdir()
        if last >= 0:
            offline_file.write_rest(one.file, self._files[one], last)
        else:
            self._files[one].symlink_to(one.file.resolve())

    def _last_steps(self, entity: str, project: str, ids: Sequence[str]) -> dict[str, int]:
        """Of those of the runs that the server has, the step of the last row that is there."""
        import wandb

        api = wandb.Api()
        project, entity = self.project or project or "uncategorized", self.entity or entity
        path = f"{entity or api.default_entity}/{project}"
        try:
            runs = list(api.runs(path, {"name": {"$in": list(ids)}}, per_page=BATCH, lazy=False))
        except ValueError as error:
            if "Could not find project" in str(error):
                return {}  # the first upload makes it
            raise
        with ThreadPoolExecutor(8) as pool:
            return dict(zip([run.id for run in runs], pool.map(_last_step, runs), strict=True))

    def _send(self, runs: Sequence[Logged]) -> Said:
        said, through = Said(), len(self.done) + len(self.failed)

        def finished() -> None:
            nonlocal through
            through += 1
            self.beat(through)

        options = [f"--{key}={value}" for key in ("project", "entity") if (value := getattr(self, key))]
        try:
            cli_process.sync([self._files[one] for one in runs], options, said, finished)
        finally:  # also of what was sent before an interruption
            left = self._settle(runs, said)
        if not left:
            return said
        if reason := wandb_run.unreachable():
            self._fail(dict.fromkeys(left, reason))
        elif len(runs) == 1:
            self._fail({left[0]: line(said.errors) or "`wandb sync` did not say why"})
        elif len(left) < len(runs):  # what stopped these may be among those that are settled
            self._send(left)
        else:
            alone = self._send(left[:1])
            if alone.errors and {*alone.errors} <= {*said.errors}:  # it is not about one of them
                self._fail(dict.fromkeys(left[1:], line(alone.errors)))
            else:
                self._send(left[1:])
        return said

    def _settle(self, runs: Sequence[Logged], said: Said) -> list[Logged]:
        """Take down what became of runs; those of which nothing is known are left."""
        left, failed = [], {}
        for one in runs:
            file = self._files[one]
            if file in said.named:  # marked as synced or not
                failed[one] = line(said.named[file])
            elif wandb_run.marker(file.parent, one.id).exists():
                self.done.append(one)
                with suppress(FileNotFoundError):  # a later attempt has taken its place
                    wandb_run.mark_synced(one.folder, one.id)
                    wandb_run.write_url(one.home, said.pages.get(one.id, ""))
            else:
                left.append(one)
        self._fail(failed)
        return left

    def _fail(self, reasons: Mapping[Logged, str]) -> None:
        self.failed |= reasons
        self.beat(len(self.done) + len(self.failed))


def _batches(runs: Sequence[Logged]) -> list[list[Logged]]:
    """In each an id once: copies of a run are sent one after another, so that the second finds the first."""
    batches: list[list[Logged]] = []
    for one in runs:
        for batch in batches:
            if len(batch) < BATCH and one.id not in {other.id for other in batch}:
                batch.append(one)
                break
        else:
            batches.append([one])
    return batches


def _last_step(run: Any) -> int:
    """The step of a run's last row at W&B, -1 if it has none.

    Not of its summary, which may have got there when the rows were refused; but older servers know no other.
    """
    step = int(run.lastHistoryStep)
    return int(run.summary.get("_step", -1)) if step < 0 and run.historyLineCount else step


def _lacking(one: Logged, said: offline_file.Content) -> dict[Logged, str]:
    """What was logged and is not there any more."""
    gone = [name for name in said.media if not (one.folder / "files" / name).is_file()]
    where = wandb_run.near(one.folder / "files")
    return {one: f"{len(gone)} of its {len(said.media)} files are gone from {where}"} if gone else {}
