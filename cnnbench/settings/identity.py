"""Which run some settings describe, and which code it would use."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from cnnbench.errors import InputError
from cnnbench.run_store.identity import identity, named_components
from cnnbench.run_store.run import Run
from cnnbench.settings.bench import Bench
from cnnbench.settings.code import changed, own_code, shipped_code
from cnnbench.settings.run import Settings

COMPONENTS = ("arch", "optimizer", "scheduler")
"""Sections whose `_target_` is called to compute a result."""


def locate(settings: Settings, known: dict[str, Any] | None = None) -> Run:
    """Return the run that these settings describe, whether its folder exists or not.

    Args:
        settings: of the run.
        known: remembers the content of images, files and code for the next run of a sweep.

    Raises:
        InputError: files that count by their content cannot be read.
    """
    if isinstance(settings, Bench):
        _check_of(settings)
    choice = describe(settings, {} if known is None else known)
    name = f"{settings.label}-{identity(settings.deciding(choice))}"
    return Run(Path(settings.output_dir).expanduser() / settings.name / name, choice)


def describe(settings: Settings, known: dict[str, Any]) -> dict[str, Any]:
    """Return what decides the result of a run, as its identity.json has it.

    Components count by name, a user's own code, image folders and files of weights by their content.
    """
    sections = settings.choice()
    targets = {group: sections[group].get("_target_") for group in COMPONENTS if group in sections}
    choice = named_components(sections)
    for group, target in targets.items():
        if isinstance(target, str):
            if target not in known:
                known[target] = own_code(target)
            if known[target] is not None:
                choice[group]["code"] = known[target]
    if isinstance(settings, Bench):
        return choice  # neither images nor weights decide a measurement; `of` names a run that they decided
    if settings.data.name == "imagefolder":
        from cnnbench.data.image_folder import fingerprint

        root = settings.data.root
        if root not in known:
            known[root] = fingerprint(Path(root).expanduser())
        choice["data"]["content"] = known[root]
    weights = settings.arch.weights
    if weights is not None and weights != "imagenet":
        if weights not in known:
            known[weights] = content(weights)
        choice["arch"]["weights"] = known[weights]
    return choice


def check_own_code(settings: Settings, run: Run) -> None:
    """Check that a user's own code is still what it was when the run was planned.

    Raises:
        InputError: it was edited since, while the run waited for its turn.
    """
    sections = settings.choice()
    for group in COMPONENTS:
        planned = (run.planned or {}).get(group, {})
        target = sections.get(group, {}).get("_target_")
        if isinstance(target, str) and planned.get("code") != own_code(target) and run.planned is not None:
            raise InputError(
                f"{group}._target_={target}: its code was edited after this run was planned; "
                "allowed: the same command again, which plans a run of the new code"
            )


def other_code(settings: Settings, run: Run) -> list[str]:
    """Return the rooms of cnnbench whose code has changed since a run was made."""
    return changed(run.status().get("code"), code_used(settings))


def code_used(settings: Settings) -> dict[str, str]:
    """Return the digests of cnnbench's code that a run of these settings uses."""
    return shipped_code(settings.verb, settings.arch.target)


def _check_of(settings: Bench) -> None:
    """Check that nothing is set that a measurement does not use: a trained run has its model and images.

    Raises:
        InputError: such a setting.
    """
    model = [word for word in settings.command if re.match(r"[+~]*(arch|ops|data)[=.]", word)]
    if settings.of is not None and model:
        raise InputError(f"{model[0]}: of={settings.of} has its model and its images; allowed: without it")
    for word in settings.command:
        if re.match(r"[+~]*(trainer|scheduler|data\.batch_size)[=.]", word):
            raise InputError(f"{word}: bench does not use it; allowed: batch_sizes=[…], optimizer=…")


def content(path: str) -> str:
    """Return a digest of a file of weights, which counts by its content, not by its name.

    Raises:
        InputError: there is no such file.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        allowed = "imagenet, or a file of weights"
        raise InputError(f"arch.weights={path}: {error.strerror or error}; allowed: {allowed}") from None
