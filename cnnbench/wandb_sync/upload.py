"""Upload of W&B logs with `wandb sync`, which also establishes whether each one arrived completely.

`wandb sync` works on a copy of each log: a folder with the log's file and a link to its media files.
So its marks end up in the copies, and a run is marked as uploaded only if none of its data was rejected.

A run that the server already has is uploaded without the rows that are there. The client would append them
again, and W&B's maintainers have said both that rows with an existing step are overwritten and that they are
not. Deleting the run first is no alternative: its notes and its place in reports would go with it, and W&B
refuses its id for a week afterwards.
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
from cnnbench.wandb_sync.cli_process import SyncOutput, one_line

BATCH = 100
"""Runs that are passed to one process: starting it takes half a second, and one bad file ends it."""


@dataclass(frozen=True)
class WandbLog:
    """W&B's log of one run.

    Attributes:
        folder: `…/wandb/offline-run-<time>-<id>`, or `run-<time>-<id>` if it was logged online; W&B appends
            `-1` if two were started in the same second.
        id: the run's id at W&B.
    """

    folder: Path
    id: str

    @property
    def file(self) -> Path:
        """The file with everything but media."""
        return self.folder / f"run-{self.id}.wandb"

    @property
    def home(self) -> Path:
        """The folder of the run, or of the experiment for a comparison: the parent of `wandb/`."""
        return self.folder.parent.parent

    @property
    def uploaded(self) -> bool:
        """True if it is marked as uploaded."""
        return wandb_run.marker(self.folder, self.id).exists()


def wandb_logs(home: Path, prefixes: str | tuple[str, ...] = "") -> list[WandbLog]:
    """Return the logs in `home/wandb/`: for each id the latest, which contains the complete run.

    Args:
        home: the folder of a run or of an experiment.
        prefixes: return only logs whose id begins with one of them.
    """
    latest: dict[str, WandbLog] = {}
    folders = [path for path in home.glob("wandb/*run-*-*") if WANDB.fullmatch(path.name) and path.is_dir()]
    for folder in sorted(folders, key=lambda path: path.name.removeprefix("offline-")):
        for file in folder.glob("run-*.wandb"):
            log = WandbLog(folder, file.name.removeprefix("run-").removesuffix(".wandb"))
            if log.id.startswith(prefixes) and file.is_file():
                latest[log.id] = log
    return list(latest.values())


class Upload:
    """An upload of logs to W&B.

    Args:
        project: instead of the project that they were logged for.
        entity: instead of the user or team that they were logged for.
        progress: called with the number of processed logs whenever it changes.

    Attributes:
        done: the logs that were uploaded.
        failed: the logs that were not, with the reason.
        incomplete: the uploaded logs whose media files are no longer on this disk, with a message.
    """

    def __init__(
        self, project: str | None, entity: str | None, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        self.project, self.entity = project, entity
        self.progress = progress
        self.failed: dict[WandbLog, str] = {}
        self.done: list[WandbLog] = []
        self.incomplete: dict[WandbLog, str] = {}
        self._copies: dict[WandbLog, Path] = {}

    def send(self, logs: Sequence[WandbLog]) -> None:
        """Upload the logs; `done` and `failed` receive the outcome."""
        with tempfile.TemporaryDirectory() as folder:
            for batch in _batches([log for log in logs if self._unmark(log)]):
                if self.failed and (reason := wandb_run.unreachable()):
                    self._fail(dict.fromkeys(batch, reason))
                elif copied := self._copy_batch(batch, Path(folder).resolve()):
                    self._send(copied)

    def _unmark(self, log: WandbLog) -> bool:
        """Remove the mark of an earlier upload; record a failure and return False if that is not possible."""
        try:
            wandb_run.marker(log.folder, log.id).unlink(missing_ok=True)
        except OSError as error:
            self._fail({log: f"{wandb_run.near(log.folder)}: cannot be written ({error.strerror})"})
            return False
        return True

    def _copy_batch(self, batch: Sequence[WandbLog], folder: Path) -> list[WandbLog]:
        """Copy a batch without what the server has; return the logs for which the server could be asked."""
        contents: dict[WandbLog, offline_file.Content] = {}
        for log in batch:
            with suppress(offline_file.UnreadableError, OSError):  # `wandb sync` will report it
                contents[log] = offline_file.read(log.file)
        copied = []
        for target in dict.fromkeys((content.entity, content.project) for content in contents.values()):
            logs = [log for log, content in contents.items() if (content.entity, content.project) == target]
            try:
                last_steps = self._last_steps(*target, [log.id for log in logs])
            except Exception as error:  # W&B's client has no common class of errors
                self._fail(dict.fromkeys(logs, one_line([str(error)])))
                continue
            for log in logs:
                self._copy(log, folder, last_steps.get(log.id, -1))
                self.incomplete |= _missing_media(log, contents[log])
                copied.append(log)
        for log in batch:
            if log not in contents:
                self._copy(log, folder, -1)
                copied.append(log)
        return copied

    def _copy(self, log: WandbLog, folder: Path, last: int) -> None:
        """Make the copy for `wandb sync`: the file without rows up to a step, and a link to the media."""
        copy = folder / str(len(self._copies))
        copy.mkdir()
        self._copies[log] = copy / log.file.name
        media = log.folder.resolve() / "files"
        if media.is_dir():
            (copy / "files").symlink_to(media)
        else:
            (copy / "files").mkdir()
        if last >= 0:
            offline_file.write_rest(log.file, self._copies[log], last)
        else:
            self._copies[log].symlink_to(log.file.resolve())

    def _last_steps(self, entity: str, project: str, ids: Sequence[str]) -> dict[str, int]:
        """Return the step of the last row of each run that the server has, by id."""
        import wandb

        api = wandb.Api()
        project, entity = self.project or project or "uncategorized", self.entity or entity
        path = f"{entity or api.default_entity}/{project}"
        try:
            runs = list(api.runs(path, {"name": {"$in": list(ids)}}, per_page=BATCH, lazy=False))
        except ValueError as error:
            if "Could not find project" in str(error):
                return {}  # the first upload creates it
            raise
        with ThreadPoolExecutor(8) as pool:
            return dict(zip([run.id for run in runs], pool.map(_last_step, runs), strict=True))

    def _send(self, logs: Sequence[WandbLog]) -> SyncOutput:
        """Upload copied logs; after an error that is about none of them, try the rest again."""
        output, processed = SyncOutput(), len(self.done) + len(self.failed)

        def finished() -> None:
            nonlocal processed
            processed += 1
            self.progress(processed)

        options = [f"--{key}={value}" for key in ("project", "entity") if (value := getattr(self, key))]
        try:
            cli_process.sync([self._copies[log] for log in logs], options, output, finished)
        finally:  # also for what was uploaded before an interruption
            remaining = self._settle(logs, output)
        if not remaining:
            return output
        if reason := wandb_run.unreachable():
            self._fail(dict.fromkeys(remaining, reason))
        elif len(logs) == 1:
            self._fail({remaining[0]: one_line(output.errors) or "`wandb sync` gave no reason"})
        elif len(remaining) < len(logs):  # the cause may be a log that is settled now
            self._send(remaining)
        else:
            single = self._send(remaining[:1])
            if single.errors and {*single.errors} <= {*output.errors}:  # the error is not about one log
                self._fail(dict.fromkeys(remaining[1:], one_line(single.errors)))
            else:
                self._send(remaining[1:])
        return output

    def _settle(self, logs: Sequence[WandbLog], output: SyncOutput) -> list[WandbLog]:
        """Record the outcome of logs; return those whose outcome is unknown."""
        remaining, failed = [], {}
        for log in logs:
            copy = self._copies[log]
            if copy in output.file_errors:  # whether or not it was marked as synced
                failed[log] = one_line(output.file_errors[copy])
            elif wandb_run.marker(copy.parent, log.id).exists():
                self.done.append(log)
                with suppress(FileNotFoundError):  # a later attempt has replaced it
                    wandb_run.mark_synced(log.folder, log.id)
                    wandb_run.write_url(log.home, output.pages.get(log.id, ""))
            else:
                remaining.append(log)
        self._fail(failed)
        return remaining

    def _fail(self, reasons: Mapping[WandbLog, str]) -> None:
        self.failed |= reasons
        self.progress(len(self.done) + len(self.failed))


def _batches(logs: Sequence[WandbLog]) -> list[list[WandbLog]]:
    """Divide logs into batches with distinct ids, so that a copy of a run finds the rows of the first."""
    batches: list[list[WandbLog]] = []
    for log in logs:
        for batch in batches:
            if len(batch) < BATCH and log.id not in {other.id for other in batch}:
                batch.append(log)
                break
        else:
            batches.append([log])
    return batches


def _last_step(run: Any) -> int:
    """Return the step of a run's last row at W&B, -1 if it has none.

    The summary may have arrived although the rows were rejected, so it is used only for older servers, which
    know no other step.
    """
    step = int(run.lastHistoryStep)
    return int(run.summary.get("_step", -1)) if step < 0 and run.historyLineCount else step


def _missing_media(log: WandbLog, content: offline_file.Content) -> dict[WandbLog, str]:
    """Return a message if media files that were logged are no longer on this disk."""
    missing = [name for name in content.media if not (log.folder / "files" / name).is_file()]
    folder = wandb_run.near(log.folder / "files")
    total = len(content.media)
    return {log: f"{len(missing)} of {total} logged files are missing from {folder}"} if missing else {}
