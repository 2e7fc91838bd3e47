"""One process of the real `wandb sync`, and what it says about each run that it was given.

It takes many runs, but its exit code is 0 whatever happens: one unreadable file ends it before all others, a
run whose rows were refused is marked as synced, and of files that were refused not even a word is printed:
they are in its log alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
ADVICE = re.compile(r"\s*[^.;:]*`wandb sync`[^.;]*[.;]?")
"""`Use `wandb sync` …`: it is what has just been done."""
CONSEQUENCES = ("api: HTTP error", "runsync: didn't print run URL")
"""Errors in its log that another one explains."""


@dataclass
class Said:
    """What one process said.

    Attributes:
        pages: by id, the address of a run's page.
        named: by file, the errors that are about it.
        errors: those that are about none.
    """

    pages: dict[str, str] = field(default_factory=dict)
    named: dict[Path, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def line(errors: Sequence[str]) -> str:
    """Several errors as one line, without what W&B advises to do about them."""
    texts = (ADVICE.sub("", " ".join(error.split())).strip() or error for error in dict.fromkeys(errors))
    return " ".join(" ".join(texts).split())


def sync(files: Sequence[Path], options: Sequence[str], said: Said, finished: Callable[[], None]) -> None:
    """Give files to `wandb sync` and wait for its end.

    Args:
        files: `…/run-<id>.wandb`, without links on the way; of each id one.
        options: for its command line.
        said: filled as it goes, so that it is known also when this is interrupted.
        finished: called for each run that is through.
    """
    with tempfile.TemporaryDirectory() as place:  # its own logs would lie in the working folder
        command = [sys.executable, "-m", "wandb", "sync", "--include-online", *options, *map(str, files)]
        ours = {"WANDB_DIR": place, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        try:
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
                    for printed in process.stdout:
                        text = printed.strip().removeprefix("wandb: ")
                        _hear(text, files, said)
                        if FINISHED.match(text):
                            finished()
                except BaseException:
                    process.terminate()
                    raise
        finally:
            for file, text in _logged(Path(place)):
                said.named.setdefault(file, []).append(text)


def _hear(printed: str, files: Sequence[Path], said: Said) -> None:
    if found := PAGE.match(printed):
        said.pages[found[2]] = found[1]
    elif found := ERROR.match(printed):
        about = _about(found["label"], found["text"], files)
        for file in about:
            said.named.setdefault(file, []).append(found["text"].replace(str(file), file.name))
        if not about:
            said.errors.append(found["text"])


def _about(label: str | None, text: str, files: Sequence[Path]) -> list[Path]:
    """The files that a message is about: it names them by id, or by the path of the file or its folder."""
    if label:
        return [file for file in files if file.name == f"run-{label.rpartition('/')[2]}.wandb"]
    paths = {Path(quoted).absolute() for quoted in QUOTED.findall(text)}
    return [file for file in files if paths & {file.parent, file}]


def _logged(place: Path) -> Iterator[tuple[Path, str]]:
    """The errors of its log: of each file, what kept others from being uploaded, once for each reason.

    Whether something was lost by one answer of the server another line says.
    """
    seen = set()
    for log in place.rglob("debug-sync*.log"):
        for text in log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                told = json.loads(text)
                level, message, file = told["level"], str(told["msg"]), Path(told["sync_path"])
            except (ValueError, KeyError, TypeError):
                continue  # no message, or one that is about no run
            if level != "ERROR" or message.startswith(CONSEQUENCES):
                continue
            detail = str(told.get("error", ""))
            detail = "; ".join(re.findall(r'"message": *"([^"]+)"', detail)) or detail
            reason = re.sub(r"^(PUT|POST) \S+ |\bPut \"\S+\": |\nwhile retrying: .*", "", message)
            reason = f"{reason}: {detail}" if detail else reason
            if (file, reason) not in seen:
                seen.add((file, reason))
                yield file, reason
