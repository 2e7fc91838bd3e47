"""The settings that a command line describes, for verbs that train nothing."""

from __future__ import annotations

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
    found: list[Settings | InputError] = []

    def take(config: DictConfig) -> None:
        try:
            found.append(parse(plain(config)))
        except InputError as error:  # Hydra would print a line of its own
            found.append(error)

    compose.run(take, "train", words)
    match found:
        case [InputError() as error]:
            raise error
        case [Settings() as settings]:
            return settings
    return None
