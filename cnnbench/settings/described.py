"""The settings that a command line describes, for verbs that train nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cnnbench.errors import InputError
from cnnbench.settings import compose
from cnnbench.settings.parse import parse, plain
from cnnbench.settings.run import Settings


def described(words: list[str]) -> Settings | None:
    """Return the settings that `cnnbench train` takes from these words; None if Hydra answers them itself.

    Raises:
        InputError: they cannot be composed, or a setting is wrong.
    """
    return _composed(words, "train", lambda config: config)


def of_run(run: Path, *, trust_code: bool) -> Settings:
    """Return the settings of a finished run's model and images, as `cnnbench bench of=RUN` takes them.

    Args:
        run: its folder.
        trust_code: the architecture may be code that cnnbench does not ship.

    Raises:
        InputError: it is not a finished training run, or its settings are wrong.
    """
    chosen = {"of": str(run), "trust_code": trust_code}
    settings = _composed([], "bench", lambda config: config | chosen)
    assert settings is not None
    return settings


def _composed(
    words: list[str], config_name: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> Settings | None:
    found: list[Settings | InputError] = []

    def take(config: DictConfig) -> None:
        try:
            found.append(parse(change(plain(config))))
        except InputError as error:  # Hydra would print a line of its own
            found.append(error)

    compose.run(take, config_name, words)
    match found:
        case [InputError() as error]:
            raise error
        case [Settings() as settings]:
            return settings
    return None
