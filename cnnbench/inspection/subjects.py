"""The models that a command line names: by settings, lists of settings, or the folder of a run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench.errors import InputError
from cnnbench.run_store.finished import finished
from cnnbench.settings.run import Settings


@dataclass(frozen=True)
class Subject:
    """A model to inspect.

    Attributes:
        label: what tells it from the others; "" if it is the only one.
        settings: of model and images.
        run: name of the run that it is of; "": of none.
    """

    label: str
    settings: Settings
    run: str = ""


def subjects(words: Sequence[str], *, trust_code: bool = False) -> list[Subject]:
    """Return the models that words name; none if Hydra answers them itself, as with --cfg.

    Args:
        words: the folder of a finished run, or settings; `arch=vgg16,resnet50` stands for two models.
        trust_code: run the code of an architecture that a run names and cnnbench does not ship.

    Raises:
        InputError: there is no such run, or a setting is wrong.
    """
    run, *more = words or [""]
    if is_run(run):
        if more:
            raise InputError(f"{more[0]}: the settings are those of the run; allowed: {run} alone")
        return [_of_run(Path(run), trust_code)]
    found = []
    for label, choice in _choices(words):
        from cnnbench.settings.described import described  # needs Hydra

        if (settings := described(choice)) is not None:
            found.append(Subject(label, settings))
    return found


def is_run(word: str) -> bool:
    """Return whether a word names a run, and no setting or option."""
    return bool(word) and word[0] not in "-~" and ("=" not in word or os.path.lexists(word))


def _of_run(path: Path, trust_code: bool) -> Subject:
    from cnnbench.settings.described import of_run

    run = finished(path)
    return Subject(run.path.name, of_run(run.path, trust_code=trust_code), run.path.name)


def _choices(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return one list of words for each combination of listed values, with the values that it takes."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    each: list[list[tuple[str, str]]] = []
    for word in words:
        try:
            override = parser.parse_override(word) if "," in word and not word.startswith("-") else None
            listed = override is not None and override.is_sweep_override()
            values = list(override.sweep_string_iterator()) if override and listed else []
        except (HydraException, ValueError):  # composing will say what is wrong
            values = []
        prefix = word.partition("=")[0]
        texts = [f"{prefix}={value}" for value in values]
        each.append([(text, text) for text in texts] or [("", word)])
    return [
        (" ".join(label for label, _ in combination if label), [word for _, word in combination])
        for combination in itertools.product(*each)
    ]


def merged(words: Sequence[str], other: Sequence[str]) -> list[str]:
    """Return the settings of another model: its own, and those of the first model that it does not name.

    A group that it chooses anew (`arch=vgg16`) takes none of the first model's settings of that group.

    Args:
        words: the settings of the first model.
        other: those that are given for the other one.
    """
    keys = {_key(word) for word in other}
    groups = {key for key in keys if "." not in key}

    def named(word: str) -> bool:
        key = _key(word)
        return not word.startswith("-") and (key in keys or key.partition(".")[0] in groups)

    return [*(word for word in words if not named(word)), *other]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
