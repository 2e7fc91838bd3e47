"""The end of a W&B run: its state, and whether everything arrived, which W&B does not say."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnbench.console import console
from cnnbench.tracking import wandb_run

ERROR_LENGTH = 1000
"""Characters of an error message that are logged."""


def end(run: Any, state: str, error: str = "") -> None:
    """Record a run's state and error at W&B, which itself only knows finished, failed and crashed.

    A run that is not finished also gets a tag to filter by; a resumed run loses the earlier attempt's tag.
    """
    run.summary.update({"state": state, "error": error[:ERROR_LENGTH]})
    old_tags = list(run.tags or ())
    new_tags = [tag for tag in old_tags if not tag.startswith("state:")]
    if state != "finished":
        new_tags.append(f"state:{state}")
    if new_tags != old_tags:
        run.tags = new_tags


def finish(run: Any, folder: Path, exit_code: int, *, complete: bool = True) -> bool:
    """Finish a W&B run, then delete the files of earlier runs with its id, which it replaces.

    If the server did not receive everything, report that `cnnbench sync` can upload the rest.

    Args:
        run: the W&B run.
        folder: the parent of `wandb/`.
        exit_code: 0 for success.
        complete: False if something could not even be logged.

    Returns:
        False if its files may lack something, too, since W&B's own process has crashed.
    """
    own_folder = Path(run.dir).parent
    online, crashed = not run.offline, False
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its warnings; what matters of them is printed below
            run.finish(exit_code=exit_code)
    except TimeoutError:
        complete = False
    except Exception:  # without a class of its own
        if not online:
            raise
        complete, crashed = False, True
        wandb_run.end_service()
    else:
        complete = complete and not any(rejected(own_folder / "logs" / "debug-internal.log"))
        if online and complete:
            wandb_run.mark_synced(own_folder, run.id)
    if online and not complete:
        console.print(
            f"W&B did not receive everything: its copy may lack epochs, tables, images and final metrics; "
            f"upload them later: cnnbench sync {wandb_run.near(folder)}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    for other in (folder / "wandb").glob(f"*run-*-{run.id}*"):
        if other.name != own_folder.name:
            shutil.rmtree(other, ignore_errors=True)
    return not crashed


CONSEQUENCES = ("api: HTTP error", "runsync: didn't print run URL")
"""Errors in W&B's logs that follow from another one, or from one that was made good by a retry."""


def rejected(log: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (reason, entry) for each upload that failed, according to a log of W&B."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
            level, message = entry["level"], str(entry["msg"])
        except (ValueError, KeyError, TypeError):
            continue  # not a message
        if level != "ERROR" or message.startswith(CONSEQUENCES):
            continue
        detail = str(entry.get("error", ""))
        detail = "; ".join(re.findall(r'"message": *"([^"]+)"', detail)) or detail
        reason = re.sub(r"^(PUT|POST) \S+ |\bPut \"\S+\": |\nwhile retrying: .*", "", message)
        yield (f"{reason}: {detail}" if detail else reason), entry
