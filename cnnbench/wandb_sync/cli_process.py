"""One process of the real `wandb sync`, and what its output says about each run.

`wandb sync` accepts many runs, but neither its exit code nor its marks can be trusted. The exit code is 0 for
every outcome; one unreadable file ends it before the others are sent; a run whose rows the server rejected is
marked as synced; and rejected files appear in its log only.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnnbench.processes.forked import imports_as_here
from cnnbench.tracking import wandb_end

RETRIES = {
    "WANDB_X_GRAPHQL_RETRY_MAX": "5",
    "WANDB_X_FILE_STREAM_RETRY_MAX": "5",
    "WANDB_X_FILE_TRANSFER_RETRY_MAX": "5",
}
"""About a minute of retries, unless the environment sets others. W&B's defaults wait many minutes."""

FINISHED = re.compile(r"(\[.*\] )?Finished syncing ")
PAGE = re.compile(r"\[.*\] View run .*?(https?://\S+/runs/([^/\s?]+))$")
ERROR = re.compile(r"(?:ERROR|Error:) (?:\[(?P<label>\S+)\] )?(?P<text>(?!Find detailed error logs).*)")
QUOTED = re.compile(r'"([^"]+)"')
ADVICE = re.compile(r"\s*[^.;:]*`wandb sync`[^.;]*[.;]?")
"""Advice such as `Use `wandb sync` to …`, pointless after a `wandb sync`."""


@dataclass
class SyncOutput:
    """The output of one process.

    Attributes:
        pages: address of a run's page, by run id.
        file_errors: errors about one file, by file.
        errors: errors about no particular file.
    """

    pages: dict[str, str] = field(default_factory=dict)
    file_errors: dict[Path, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def one_line(errors: Sequence[str]) -> str:
    """Join several errors in one line, without W&B's advice to run `wandb sync`."""
    texts = (ADVICE.sub("", " ".join(error.split())).strip() or error for error in dict.fromkeys(errors))
    return " ".join(" ".join(texts).split())


def sync(
    files: Sequence[Path], options: Sequence[str], output: SyncOutput, finished: Callable[[], None]
) -> None:
    """Pass files to `wandb sync` and wait until it ends.

    Args:
        files: `…/run-<id>.wandb`, as resolved paths; each id once.
        options: for the command line of `wandb sync`.
        output: filled line by line, so that it is usable after an interruption, too.
        finished: called for each run that has been processed.
    """
    # Not in the working folder: its logs would land there, and W&B would read a server's address from its
    # `wandb/settings`, which a run of somebody else's may bring along.
    with tempfile.TemporaryDirectory() as log_folder, imports_as_here():
        command = [sys.executable, "-m", "wandb", "sync", "--include-online", *options, *map(str, files)]
        overrides = {"WANDB_DIR": log_folder, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        try:
            with subprocess.Popen(
                command,
                cwd=log_folder,
                env=RETRIES | os.environ | overrides,
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
                        _parse(_spelled_out(text, files, log_folder), files, output)
                        if FINISHED.match(text):
                            finished()
                except BaseException:
                    process.terminate()
                    raise
        finally:
            for file, text in _logged_errors(Path(log_folder)):
                output.file_errors.setdefault(file, []).append(text)


def _spelled_out(text: str, files: Sequence[Path], folder: str) -> str:
    """Return a message with the paths of files in full: W&B shortens them, seen from its working folder."""
    for path in dict.fromkeys(place for file in files for place in (file, file.parent)):
        text = text.replace(f'"{os.path.relpath(path, folder)}"', f'"{path}"')
    return text


def _parse(line: str, files: Sequence[Path], output: SyncOutput) -> None:
    """Add one printed line to the output, if it is a page's address or an error."""
    if page := PAGE.match(line):
        output.pages[page[2]] = page[1]
    elif error := ERROR.match(line):
        concerned = _concerned(error["label"], error["text"], files)
        for file in concerned:
            output.file_errors.setdefault(file, []).append(error["text"].replace(str(file), file.name))
        if not concerned:
            output.errors.append(error["text"])


def _concerned(label: str | None, text: str, files: Sequence[Path]) -> list[Path]:
    """Return the files that a message names by run id, or by the path of the file or its folder."""
    if label:
        return [file for file in files if file.name == f"run-{label.rpartition('/')[2]}.wandb"]
    paths = {Path(quoted).absolute() for quoted in QUOTED.findall(text)}
    return [file for file in files if paths & {file.parent, file}]


def _logged_errors(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield (file, reason) for each failed upload in the process's logs, each reason once for a file.

    A single HTTP error proves no loss, since it is retried; a loss has its own message.
    """
    seen = set()
    for log in folder.rglob("debug-sync*.log"):
        for reason, entry in wandb_end.rejected(log):
            if "sync_path" in entry and (entry["sync_path"], reason) not in seen:
                seen.add((entry["sync_path"], reason))
                yield Path(entry["sync_path"]), reason
