"""W&B without training: start, end and mark a W&B run in its folder; check names, address and key beforehand.

Training (`wandb_tracker`), reports (`wandb_report`), `cnnbench dashboard` and `cnnbench sync` share it.
W&B writes to `<folder>/wandb/`. cnnbench adds `url.txt` there, the address of the run's page, once known.
"""

from __future__ import annotations

import configparser
import contextlib
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from cnnbench.console import console
from cnnbench.errors import InputError, reason
from cnnbench.run_store.files import write_atomic
from cnnbench.settings.wandb_names import TAG_LENGTH, bad_name

Mode = Literal["online", "offline"]


INIT_TIMEOUT_S = 15.0

FINISH_TIMEOUT_S = 60.0


PLACE = {"entity", "project", "mode"}
"""Keys that W&B writes to `wandb/settings` of a working folder."""

COMPARE, EXPLAIN = "compare-", "explain-"
"""Prefixes of the ids of reports, which set them apart from others' logs in the experiment's folder."""


def start(
    folder: Path,
    mode: Mode,
    init_timeout_s: float = INIT_TIMEOUT_S,
    finish_timeout_s: float = FINISH_TIMEOUT_S,
    **options: Any,
) -> Any:
    """Start a W&B run; report and log offline if the server cannot be reached in time.

    Args:
        folder: the parent of `wandb/`.
        mode: `online` or `offline`.
        init_timeout_s: seconds to wait for the server at the start.
        finish_timeout_s: seconds to wait for the upload at the end.
        options: for `wandb.init`; `resume` is used online only, where there is a run to resume.

    Raises:
        wandb.Error: W&B rejects the options.
    """
    import wandb

    if mode == "offline" and (url := os.environ.get("WANDB_BASE_URL")) is not None and _bad_url(url):
        # Offline the server is not contacted, and yet W&B would refuse to start.
        console.print(f"WANDB_BASE_URL={url}: {_bad_url(url)}; ignored", style="yellow", highlight=False)
        del os.environ["WANDB_BASE_URL"]
        wandb.teardown()
    options = {**options, "tags": tags(options.get("tags") or ())}
    try:
        run = wandb.init(
            # Absolute, since W&B's service keeps the working folder that it was started in.
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
    except (
        Exception
    ) as error:  # a server can bring W&B's own process to its end, which has no class of errors
        if mode == "offline":
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        console.print(
            f"W&B did not start ({reason}): logging offline",
            style="yellow",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        end_service()  # or it would keep the id reserved for the run that failed to start
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
    """Return distinct tags, cut to W&B's limit: a long `arch:<name>` must not cost a run its log."""
    return list(dict.fromkeys(tag[:TAG_LENGTH] for tag in wanted if tag))


def end_service() -> None:
    """End W&B's own process, which may have crashed."""
    import wandb

    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()


def mark_synced(folder: Path, identity: str) -> None:
    """Mark one of W&B's folders as uploaded, with the marker that `wandb sync` uses, too."""
    marker(folder, identity).touch()


def marker(folder: Path, identity: str) -> Path:
    """Return the file whose existence marks one of W&B's folders as uploaded."""
    return folder / f"run-{identity}.wandb.synced"


def write_url(folder: Path, url: str) -> None:
    """Write the address of a run's page to `wandb/url.txt`, where `cnnbench compare` reads it."""
    if url.startswith(("https://", "http://")):
        write_atomic(folder / "wandb" / "url.txt", url + "\n")


def near(path: Path) -> Path:
    """Return a path as one would type it: relative to the working folder if it is inside it."""
    path, here = path.absolute(), Path.cwd()
    for candidate in (path, path.resolve()):
        if candidate.is_relative_to(here):
            return candidate.relative_to(here)
    return path


def check_place(project: str | None, entity: str | None) -> None:
    """Check that W&B accepts the names of a project and of an entity; None stands for W&B's default.

    Raises:
        InputError: a name is not valid.
    """
    for option, value in (("--project", project), ("--entity", entity)):
        if value is not None and (reason := bad_name(value)):
            raise InputError(f"{option} {value}: {reason}")


def check_url() -> None:
    """Check that WANDB_BASE_URL, if set, is the address of a server, and that nothing else names one.

    Raises:
        InputError: it is not, or the working folder does.
    """
    _check_working_folder()
    url = os.environ.get("WANDB_BASE_URL")
    if url is not None and (reason := _bad_url(url)):
        raise InputError(f"WANDB_BASE_URL={url}: {reason}")


def _check_working_folder() -> None:
    """Check that `wandb/settings` of the working folder, which W&B obeys, sets only what W&B writes there.

    The folder may be a run of somebody else's, and the server that it names would receive the API key.
    """
    import wandb

    file = near(Path(wandb.Settings().settings_workspace))
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, configparser.Error) as error:
        raise InputError(f"{file}: cannot be read ({type(error).__name__}); allowed: none") from None
    if other := sorted({key for section in parser.values() for key in section} - PLACE):
        raise InputError(
            f"{file}: sets {', '.join(other)} for W&B in the working folder, which somebody else may have "
            f"made; allowed there: {', '.join(sorted(PLACE))}; WANDB_BASE_URL names a server"
        )


def _bad_url(url: str) -> str:
    """Return why a text is not the address of a W&B server; empty if it is."""
    import wandb
    from pydantic import ValidationError

    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            wandb.Settings(base_url=url)  # checks more, such as that the cloud's address begins with `api.`
            return ""
    except ValidationError as error:
        for item in error.errors():
            if "base_url" in item["loc"]:
                return " ".join(reason(item).split())
    except ValueError:
        pass  # no URL, or no number for a port
    return "not the address of a server; allowed: http://… or https://…, or unset for W&B's own server"


def check_key(what: str, *, verify: bool = False) -> None:
    """Check that there is an API key; prompt for one in an interactive session.

    Args:
        what: the setting or command that needs it, for the message.
        verify: also let the server check the key.

    Raises:
        InputError: there is no key, the key is not valid, or the server to verify it does not answer.
    """
    import wandb

    check_url()
    if os.environ.pop("WANDB_MODE", None):  # `offline` would keep it from looking for a key; ours are options
        wandb.teardown()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # W&B reports at length where it read the key
            logged_in = wandb.login(verify=verify, prompt=False)  # from the environment or ~/.netrc
        if not logged_in:
            wandb.login(verify=verify)  # prompts
    except wandb.errors.UsageError:
        raise InputError(f"{what}: no API key; run `wandb login`, or set WANDB_API_KEY") from None
    except (wandb.errors.Error, OSError) as error:
        raise InputError(f"{what}: {' '.join(str(error).split())}") from None


def unreachable() -> str:
    """Return why W&B's server does not answer; empty if it does.

    Asked before the client is used, which would retry for minutes.
    """
    import ssl
    import urllib.error
    import urllib.request

    import wandb

    url = str(wandb.setup().settings.base_url)
    try:
        # Not urlopen, which keeps the proxies of its first call.
        urllib.request.build_opener().open(url, timeout=10).close()
    except urllib.error.HTTPError:
        return ""  # an answer, if only an error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return ""  # a server answers; whether to trust it is the client's decision
        return f"{url} cannot be reached ({reason})"
    return ""
