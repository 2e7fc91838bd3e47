"""Composition of a sweep's configs from the overrides of its runs: thousands in seconds.

Hydra takes about 80 ms to compose one config, mostly for its groups (`arch=…`), of which a sweep has few
combinations. Each combination is composed once, and plain settings (`seed=…`, `optimizer.lr=…`) are set in
copies of it. Anything less simple is left to Hydra.
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

T = TypeVar("T")
MISSING = "???"


@dataclass(frozen=True)
class Setting:
    """An override `key=value` that is neither the choice of a group nor a section."""

    key: str
    value: str | int | float | bool | None


class Composer:
    """Composer of the configs of one sweep.

    Args:
        loader: Hydra's config loader.
        master: the sweep's own config.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.parser = OverridesParser.create(config_loader=loader)
        self.results: dict[Hashable, Any] = {}

    def __call__(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the config of one run as plain values, without Hydra's own section.

        Raises:
            HydraException, OmegaConfBaseException, InputError: it cannot be composed.
        """
        parsed = [self._once(text, partial(self._parse, text)) for text in overrides]
        settings = [override for override in parsed if isinstance(override, Setting)]
        others = tuple(
            text
            for text, override in zip(overrides, parsed, strict=True)
            if not isinstance(override, Setting)
        )
        base = self._once(others, partial(self._base, others))
        keys = {setting.key for setting in settings}
        changed_by_hydra = [key for key in parsed if isinstance(key, str)]
        if (
            base is None
            or not all(_is_value(base, key) for key in keys)
            or any(_overlap(key, other) for key in keys for other in changed_by_hydra)
        ):
            return self._hydra(overrides)
        for setting in settings:
            base = _replace(base, setting.key.split("."), setting.value)
        return self._hydra(overrides) if _has_missing(base) else base

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return or raise what `make` did at the first call with this key."""
        if key not in self.results:
            try:
                self.results[key] = make()
            except Exception as error:  # of the many kinds that Hydra and OmegaConf raise
                self.results[key] = error
        result = self.results[key]
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return]

    def _parse(self, text: str) -> Setting | str | None:
        """Return a plain setting, None for a group's choice, or the key of any other override."""
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
        """Return Hydra's config as plain values; None if any of them depends on another one."""
        config = self._composed(overrides)
        if _has_references(OmegaConf.to_container(config, resolve=False)):
            return None
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        config = self.loader.load_sweep_config(self.master, list(overrides))
        return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])

    def _hydra(self, overrides: Sequence[str]) -> dict[str, Any]:
        return plain(self._composed(overrides))  # type: ignore[no-any-return]


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and "${" not in value and value != MISSING


def _has_references(node: Any) -> bool:
    """Return whether any value refers to another one; references to the environment do not count."""
    if isinstance(node, dict):
        return any(map(_has_references, node.values()))
    if isinstance(node, list):
        return any(map(_has_references, node))
    return isinstance(node, str) and "${" in node.replace("${oc.env:", "")


def _has_missing(node: Any) -> bool:
    """Return whether a mandatory value is missing."""
    if isinstance(node, dict):
        return any(map(_has_missing, node.values()))
    return isinstance(node, str) and node == MISSING


def _is_value(base: dict[str, Any], key: str) -> bool:
    """Return whether a key exists and is not a section."""
    node: Any = base
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return not isinstance(node, dict)


def _overlap(key: str, other: str) -> bool:
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _replace(base: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a copy of `base` with one value replaced; sections off its path are shared, not copied."""
    first, *rest = path
    return base | {first: _replace(base[first], rest, value) if rest else value}
