"""From the overrides of a sweep's runs to their configurations, thousands in seconds.

Hydra takes some 80 ms to compose one configuration. What takes the time are the groups (`arch=…`), of
which a sweep has few combinations: each is composed once, and settings (`seed=…`, `optimizer.lr=…`) are
put into copies. Anything less simple is left to Hydra.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from cnnbench.settings.parse import plain

Found = TypeVar("Found")
MISSING = "???"


@dataclass(frozen=True)
class Setting:
    """`key=value` for a value that is no group's choice and no section."""

    key: str
    value: str | int | float | bool | None


class Composer:
    """Composes the runs of one sweep.

    Args:
        loader: Hydra's.
        master: the configuration of the sweep itself.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.parser = OverridesParser.create(config_loader=loader)
        self.known: dict[Hashable, Any] = {}

    def __call__(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The configuration of one run without Hydra's own part, as plain values.

        Raises:
            HydraException, OmegaConfBaseException, InputError: it cannot be composed.
        """
        parsed = [self._once(text, partial(self._setting, text)) for text in overrides]
        settings = [found for found in parsed if isinstance(found, Setting)]
        others = tuple(
            text for text, found in zip(overrides, parsed, strict=True) if not isinstance(found, Setting)
        )
        base = self._once(others, partial(self._base, others))
        keys = {setting.key for setting in settings}
        touched = [key for key in parsed if isinstance(key, str)]
        if (
            base is None
            or not all(_holds_value(base, key) for key in keys)
            or any(_overlap(key, other) for key in keys for other in touched)
        ):
            return self._hydra(overrides)
        for setting in settings:
            base = _with(base, setting.key.split("."), setting.value)
        return self._hydra(overrides) if _missing(base) else base

    def _once(self, key: Hashable, make: Callable[[], Found]) -> Found:
        """What `make` returns or raises, made once for each key."""
        if key not in self.known:
            try:
                self.known[key] = make()
            except Exception as error:  # Hydra and OmegaConf raise many kinds; the same again next time
                self.known[key] = error
        found = self.known[key]
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    def _setting(self, text: str) -> Setting | str | None:
        """A plain setting; None for a group's choice; the key of what else Hydra has to look at."""
        (override,) = self.parser.parse_overrides([text])
        key = override.key_or_group
        if self.loader.get_group_options(key):
            return None
        changes = not (override.is_add() or override.is_force_add() or override.is_delete())
        if changes and override.package is None and not override.is_sweep_override():
            value = override.value()
            if value is None or isinstance(value, bool | int | float) or _is_plain(value):
                return Setting(key, value)  # type: ignore[arg-type]
        return key

    def _base(self, overrides: Sequence[str]) -> dict[str, Any] | None:
        """What Hydra composes, as plain values; None if values in it follow from others."""
        config = self._composed(overrides)
        if _refers(OmegaConf.to_container(config, resolve=False)):
            return None
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        config = self.loader.load_sweep_config(self.master, list(overrides))
        return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])

    def _hydra(self, overrides: Sequence[str]) -> dict[str, Any]:
        return plain(self._composed(overrides))  # type: ignore[no-any-return]


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and "${" not in value and value != MISSING


def _refers(raw: Any) -> bool:
    """Whether a value is taken from another one (not: from the environment)."""
    if isinstance(raw, dict):
        return any(map(_refers, raw.values()))
    if isinstance(raw, list):
        return any(map(_refers, raw))
    return isinstance(raw, str) and "${" in raw.replace("${oc.env:", "")


def _missing(found: Any) -> bool:
    """Whether a value that must be given is not."""
    if isinstance(found, dict):
        return any(map(_missing, found.values()))
    return isinstance(found, str) and found == MISSING


def _holds_value(base: dict[str, Any], key: str) -> bool:
    """Whether there is such a setting, and it is no section."""
    found: Any = base
    for step in key.split("."):
        if not isinstance(found, dict) or step not in found:
            return False
        found = found[step]
    return not isinstance(found, dict)


def _overlap(key: str, other: str) -> bool:
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _with(base: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of `base` with one value changed; what is not on the way to it is shared."""
    first, *rest = path
    return base | {first: _with(base[first], rest, value) if rest else value}
