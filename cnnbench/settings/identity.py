"""From settings to the run that they describe, and to the code that it uses."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from cnnbench.data.options import EVAL_CROP
from cnnbench.data.png_sets import image_folder
from cnnbench.errors import InputError
from cnnbench.run_store.identity import CODE, deciding, identity, named_components
from cnnbench.run_store.run import Run
from cnnbench.settings.bench import Bench
from cnnbench.settings.code import changed, own_code, shipped_code
from cnnbench.settings.instantiate import check_trusted
from cnnbench.settings.run import Settings

COMPONENTS = ("arch", "optimizer", "scheduler")
"""Sections whose `_target_` is called to compute a result."""


def locate(settings: Settings, known: dict[Any, Any] | None = None) -> Run:
    """Return the run that settings describe, whether its folder exists or not.

    Args:
        settings: of the run.
        known: cache of content digests, shared by the runs of a sweep.

    Raises:
        InputError: a file that counts by its content cannot be read, or the architecture is not trusted.
    """
    if isinstance(settings, Bench):
        _check_of(settings)
    check_trusted(settings.arch, "arch")  # as the call does, but before code of its name is looked for
    choice = describe(settings, {} if known is None else known)
    name = f"{settings.label}-{identity(deciding(choice))}"
    return Run(Path(settings.output_dir).expanduser() / settings.name / name, choice)


def describe(settings: Settings, known: dict[Any, Any]) -> dict[str, Any]:
    """Return the settings that decide the result of a run, as written to identity.json.

    Components count by name; a user's own code, image folders and weight files count by their content.
    """
    sections = settings.choice()
    targets = {group: sections[group].get("_target_") for group in COMPONENTS if group in sections}
    choice = named_components(sections)
    for group, target in targets.items():
        if isinstance(target, str):
            if target not in known:
                known[target] = own_code(target)
            if known[target] is not None:
                choice[group][CODE] = known[target]
    if isinstance(settings, Bench):
        return choice  # images and weights count through the run that `of` names, or not at all
    folder = image_folder(settings.data.name, Path(settings.data.root).expanduser())
    if folder is not None:
        from cnnbench.data.image_folder import contents

        if folder not in known:
            known[folder] = contents(folder)
        choice["data"]["content"] = known[folder].digest
        if settings.data.name == "imagefolder" and settings.data.eval_crop is None:
            choice["data"]["eval_crop"] = known[folder].eval_crop(settings.data.size)
    if choice["data"].get("eval_crop") == EVAL_CROP:  # which runs had before there was that setting
        del choice["data"]["eval_crop"]
    weights = settings.arch.weights
    if weights is not None and weights != "imagenet":
        if weights not in known:
            known[weights] = content(weights)
        choice["arch"]["weights"] = known[weights]
    return choice


def check_own_code(settings: Settings, run: Run) -> None:
    """Check that a user's own code has not changed since the run was planned.

    Raises:
        InputError: it was edited while the run waited for its turn.
    """
    sections = settings.choice()
    for group in COMPONENTS:
        planned = (run.planned or {}).get(group, {})
        target = sections.get(group, {}).get("_target_")
        if isinstance(target, str) and planned.get(CODE) != own_code(target) and run.planned is not None:
            raise InputError(
                f"{group}._target_={target}: its code was edited after this run was planned; "
                "allowed: rerun the command, which plans a run of the new code"
            )


def other_code(settings: Settings, run: Run) -> list[str]:
    """Return the subpackages of cnnbench whose code has changed since a run was made."""
    return changed(run.status().get("code"), code_used(settings))


def code_used(settings: Settings) -> dict[str, str]:
    """Return the digests of the shipped code that a run with these settings uses."""
    return shipped_code(settings.verb, settings.arch.target)


def _check_of(settings: Bench) -> None:
    """Check that the command line sets nothing that a measurement ignores.

    Raises:
        InputError: such a setting; with `of`, model and images are those of the trained run.
    """
    model = [word for word in settings.command if re.match(r"[+~]*(arch|ops|data)[=.]", word)]
    if settings.of is not None and model:
        raise InputError(f"{model[0]}: of={settings.of} defines model and images; allowed: leave it out")
    for word in settings.command:
        if re.match(r"[+~]*(trainer|scheduler|data\.batch_size)[=.]", word):
            raise InputError(f"{word}: bench does not use it; allowed: batch_sizes=[…], optimizer=…")


def content(path: str) -> str:
    """Return the digest of a weight file, which counts by its content, not by its name.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        allowed = "imagenet, or a weight file"
        raise InputError(f"arch.weights={path}: {error.strerror or error}; allowed: {allowed}") from None
