"""Which run some settings describe: the hash of what decides its result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnbench.errors import InputError
from cnnbench.run_store.run import Run
from cnnbench.settings import Bench, Settings


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


def locate(settings: Settings, known: dict[str, str] | None = None) -> Run:
    """The folder of the run that these settings describe, whether it exists or not.

    Args:
        settings: what was asked for.
        known: remembers what images and files hold, for the next run of a sweep.
    """
    if isinstance(settings, Bench):
        _check_of(settings)
    choice = settings.deciding()
    known = {} if known is None else known
    # Of a measurement neither the images nor their files decide anything; `of` names what does.
    images_count = not isinstance(settings, Bench)
    if images_count and settings.data.name == "imagefolder":
        from cnnbench.data.image_folder import fingerprint

        root = settings.data.root
        if root not in known:
            known[root] = fingerprint(Path(root).expanduser())
        choice["data"]["content"] = known[root]
    weights = settings.arch.weights
    if images_count and weights is not None and weights != "imagenet":
        if weights not in known:
            known[weights] = content(weights)
        choice["arch"]["weights"] = known[weights]
    name = f"{settings.label}-{identity(choice)}"
    return Run(Path(settings.output_dir).expanduser() / settings.name / name)


def _check_of(settings: Bench) -> None:
    """Whether what was asked for is measured: a trained run says it all, a training recipe says nothing."""
    said = [word for word in settings.command if re.match(r"[+~]*(arch|ops|data)[=.]", word)]
    if settings.of is not None and said:
        raise InputError(f"{said[0]}: of={settings.of} has its model and its images; allowed: without it")
    for word in settings.command:
        if re.match(r"[+~]*(trainer|scheduler|data\.batch_size)[=.]", word):
            raise InputError(f"{word}: bench does not use it; allowed: batch_sizes=[…], optimizer=…")


def content(path: str) -> str:
    """What a file of weights holds, for a run's identity: it counts by its content, not by its name.

    Raises:
        InputError: there is no such file.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        allowed = "imagenet, or a file of weights"
        raise InputError(f"arch.weights={path}: {error.strerror or error}; allowed: {allowed}") from None
