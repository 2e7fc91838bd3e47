"""Composition of a sweep's configs from the overrides of its runs: thousands in seconds.

Hydra takes about 80 ms to compose one config, mostly for its groups (`arch=…`), of which a sweep has few
combinations. Each combination is composed once, and plain settings (`seed=…`, `optimizer.lr=…`) are set in
copies of it. Anything less simple is left to Hydra.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.settings.parse import plain

T = TypeVar("T")
MISSING = "???"
REFERENCE = re.compile(r"\$\{(?:oc\.select:)?(\w[\w.]*)(?:,[^${}]*)?\}")
"""`${arch.name}`, or `${oc.select:arch.rates.sgd,0.1}`."""

UNKNOWN = "?"
"""A reference of another form."""


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
        base, references = self._once(others, partial(self._base, others))
        keys = {setting.key for setting in settings}
        others_change_or_read = [key for key in parsed if isinstance(key, str)] + references
        if (
            base is None
            or not all(_is_value(base, key) for key in keys)
            or any(_overlap(key, other) for key in keys for other in others_change_or_read)
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

    def _base(self, overrides: Sequence[str]) -> tuple[dict[str, Any] | None, list[str]]:
        """Return Hydra's config as plain values, and the keys that other values depend on.

        The config is None if that is less simple than a reference to a key.
        """
        config = self._composed(overrides)
        references = [*_references(OmegaConf.to_container(config, resolve=False))]
        if UNKNOWN in references:
            return None, []
        try:
            return OmegaConf.to_container(config, resolve=True), references  # type: ignore[return-value]
        except OmegaConfBaseException:  # a setting of the run may be what it refers to
            return None, []

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        config = self.loader.load_sweep_config(self.master, list(overrides))
        return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])

    def _hydra(self, overrides: Sequence[str]) -> dict[str, Any]:
        return plain(self._composed(overrides))  # type: ignore[no-any-return]


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and "${" not in value and value != MISSING


def _references(node: Any) -> Iterator[str]:
    """Yield the keys to which values refer, or UNKNOWN; references to the environment do not count."""
    if isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _references(value)
    elif isinstance(node, str):
        yield from REFERENCE.findall(node)
        if "${" in REFERENCE.sub("", node.replace("${oc.env:", "")):
            yield UNKNOWN


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
