"""One W&B run and its folder: how it is started, ended and found again. Training and comparing share it.

W&B writes to `<folder>/wandb/`; beside its own files lies `url.txt`, the run's page, once there is one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Literal

from cnnbench.errors import InputError
from cnnbench.runs import write_atomic
from cnnbench.ui import console

Mode = Literal["online", "offline"]

INIT_TIMEOUT_S = 15.0
FINISH_TIMEOUT_S = 60.0

COMPARE = "compare-"
"""What the id of a comparison begins with: it lies among the runs of an experiment, where others may log."""


def start(
    folder: Path,
    mode: Mode,
    init_timeout_s: float = INIT_TIMEOUT_S,
    finish_timeout_s: float = FINISH_TIMEOUT_S,
    **options: Any,
) -> Any:
    """A W&B run below a folder; offline if the server cannot be reached in time, which is said.

    Args:
        folder: that `wandb/` lies in.
        options: of `wandb.init`; `resume` counts online alone, where there is something to resume.

    Raises:
        wandb.Error: W&B does not take the options.
    """
    import wandb

    try:
        run = wandb.init(
            dir=str(folder),
            mode=mode,
            reinit="create_new",
            settings=wandb.Settings(
                init_timeout=init_timeout_s,
                finish_timeout=finish_timeout_s,
                finish_timeout_raises=True,
                console="off",
                silent=True,
                x_save_requirements=False,
                disable_code=True,
            ),
            **options,
        )
    except (wandb.Error, TimeoutError) as error:
        if mode == "offline":
            raise
        reason = str(error).partition("\n")[0]
        console.print(f"W&B did not start ({reason}): logging offline", style="yellow", highlight=False)
        wandb.teardown()  # or the service goes on holding the id for the run that did not start
        return start(
            folder,
            "offline",
            init_timeout_s,
            finish_timeout_s,
            **{k: v for k, v in options.items() if k != "resume"},
        )
    if not run.offline:
        write_url(folder, run.url or "")
    return run


def finish(run: Any, folder: Path, exit_code: int) -> None:
    """End a W&B run, then drop what it replaces: the files of earlier runs with its id.

    What the server did not get in time stays to be sent by `cnnbench sync`, which is said.
    """
    own = Path(run.dir).parent
    online = not run.offline
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        console.print(
            f"W&B did not get everything in time; later: cnnbench sync {folder}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    else:
        if online:
            mark_synced(own, run.id)
    for other in (folder / "wandb").glob(f"*run-*-{run.id}*"):
        if other.name != own.name:
            shutil.rmtree(other, ignore_errors=True)


def mark_synced(folder: Path, identity: str) -> None:
    """Leave the sign by which `wandb sync` knows, too, that everything in a folder of W&B's was sent."""
    marker(folder, identity).touch()


def marker(folder: Path, identity: str) -> Path:
    """The file that says that a folder of W&B's was sent."""
    return folder / f"run-{identity}.wandb.synced"


def write_url(folder: Path, url: str) -> None:
    """Leave the address of a run's page where `cnnbench compare` finds it."""
    if url.startswith(("https://", "http://")):
        write_atomic(folder / "wandb" / "url.txt", url + "\n")


def check_key(what: str, *, verify: bool = False) -> None:
    """Find out whether there is an API key; asks for one if there is a person to ask.

    Args:
        what: the setting or command that needs it, for the message.
        verify: also ask the server whether it takes the key. A server out of reach is no reason not to train.

    Raises:
        InputError: there is none, or it is not taken.
    """
    import wandb

    if os.environ.pop("WANDB_MODE", None):  # which would keep it from looking for one; our modes are options
        wandb.teardown()
    try:
        wandb.login(verify=verify)  # from the environment or ~/.netrc
    except wandb.errors.UsageError:
        raise InputError(f"{what}: no API key; run `wandb login`, or set WANDB_API_KEY") from None
    except wandb.errors.AuthenticationError as error:
        raise InputError(f"{what}: {' '.join(str(error).split())}") from None


def unreachable() -> str:
    """Why W&B's server does not answer; empty if it does.

    The client itself would try again and again, for minutes.
    """
    import ssl
    import urllib.error
    import urllib.request

    import wandb

    url = str(wandb.setup().settings.base_url)
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except urllib.error.HTTPError:
        return ""  # an answer, whatever it is
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return ""  # somebody is there; whom the client trusts, it knows itself
        return f"{url} cannot be reached ({reason})"
    return ""
