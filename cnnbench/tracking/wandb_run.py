"""One W&B run and its folder: how it is started, ended and found again. Training and comparing share it.

W&B writes to `<folder>/wandb/`; beside its own files lies `url.txt`, the run's page, once there is one.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from cnnbench.console import console
from cnnbench.errors import InputError, reason
from cnnbench.run_store.files import write_atomic
from cnnbench.settings.wandb_names import TAG_LENGTH, bad_name

Mode = Literal["online", "offline"]


ERROR_LENGTH = 1000
"""Letters of an error message that are logged."""


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

    if mode == "offline" and (given := os.environ.get("WANDB_BASE_URL")) is not None and _bad_url(given):
        # It is not asked, and yet W&B would not start.
        console.print(
            f"WANDB_BASE_URL={given}: {_bad_url(given)}; passed over", style="yellow", highlight=False
        )
        del os.environ["WANDB_BASE_URL"]
        wandb.teardown()
    options = {**options, "tags": tags(options.get("tags") or ())}
    try:
        run = wandb.init(
            # Its service keeps the working folder that it was started in, and outlives a change of ours.
            dir=str(folder.absolute()),
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


def tags(wanted: Iterable[str]) -> list[str]:
    """Each once, and cut to what W&B takes: `arch:<a long name>` must not cost a run its log."""
    return list(dict.fromkeys(tag[:TAG_LENGTH] for tag in wanted if tag))


def end(run: Any, state: str, error: str = "") -> None:
    """Say at W&B how a run ended, which tells finished, failed and crashed apart, and no more than that.

    A tag is there to be filtered by, of what is not finished; a resumed run loses that of the attempt before.
    """
    run.summary.update({"state": state, "error": error[:ERROR_LENGTH]})
    before = list(run.tags or ())
    now = [tag for tag in before if not tag.startswith("state:")]
    if state != "finished":
        now.append(f"state:{state}")
    if now != before:
        run.tags = now


def finish(run: Any, folder: Path, exit_code: int, *, whole: bool = True) -> None:
    """End a W&B run, then drop what it replaces: the files of earlier runs with its id.

    What the server did not get stays to be sent by `cnnbench sync`, which is said.

    Args:
        run: the W&B run.
        folder: that `wandb/` lies in.
        exit_code: 0 if all went well.
        whole: nothing could not even be logged.
    """
    own = Path(run.dir).parent
    online = not run.offline
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        whole = False
    else:
        if online and whole:
            mark_synced(own, run.id)
    if online and not whole:
        console.print(
            f"W&B did not get everything: its copy may lack epochs, tables and pictures, and final figures; "
            f"later: cnnbench sync {near(folder)}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
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


def near(path: Path) -> Path:
    """A path as one would type it here: below the working folder without that."""
    path, here = path.absolute(), Path.cwd()
    for one in (path, path.resolve()):
        if one.is_relative_to(here):
            return one.relative_to(here)
    return path


def check_place(project: str | None, entity: str | None) -> None:
    """Find out whether W&B takes the names of a project, and of a user or team; None is its own choice.

    Raises:
        InputError: naming the option that is wrong.
    """
    for option, value in (("--project", project), ("--entity", entity)):
        if value is not None and (why := bad_name(value)):
            raise InputError(f"{option} {value}: {why}")


def check_url() -> None:
    """Find out whether the address of W&B's server, if the environment gives one, is an address.

    Raises:
        InputError: it is not.
    """
    given = os.environ.get("WANDB_BASE_URL")
    if given is not None and (why := _bad_url(given)):
        raise InputError(f"WANDB_BASE_URL={given}: {why}")


def _bad_url(given: str) -> str:
    import wandb
    from pydantic import ValidationError

    try:
        parts = urlsplit(given)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            wandb.Settings(base_url=given)  # knows more, such as that the cloud's begins with `api.`
            return ""
    except ValidationError as error:
        for item in error.errors():
            if "base_url" in item["loc"]:
                return " ".join(reason(item).split())
    except ValueError:
        pass  # no URL, or no number for a port
    return "no address of a server; allowed: http://… or https://…, or none at all for W&B's own"


def check_key(what: str, *, verify: bool = False) -> None:
    """Find out whether there is an API key; asks for one if there is a person to ask.

    Args:
        what: the setting or command that needs it, for the message.
        verify: also ask the server whether it takes the key. A server out of reach is no reason not to train.

    Raises:
        InputError: there is none, or it is not taken.
    """
    import wandb

    check_url()
    if os.environ.pop("WANDB_MODE", None):  # which would keep it from looking for one; our modes are options
        wandb.teardown()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it says at length where it found the key
            found = wandb.login(verify=verify, prompt=False)  # from the environment or ~/.netrc
        if not found:
            wandb.login(verify=verify)  # asks
    except wandb.errors.UsageError:
        raise InputError(f"{what}: no API key; run `wandb login`, or set WANDB_API_KEY") from None
    except (wandb.errors.Error, OSError) as error:  # not taken, or nobody answers
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
        urllib.request.build_opener().open(url, timeout=10).close()  # urlopen keeps its first call's proxies
    except urllib.error.HTTPError:
        return ""  # an answer, whatever it is
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return ""  # somebody is there; whom the client trusts, it knows itself
        return f"{url} cannot be reached ({reason})"
    return ""
