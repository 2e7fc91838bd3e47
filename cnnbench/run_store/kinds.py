"""Kinds of values, and tables of the keys that a mapping from a file may have.

Needs neither torch nor pydantic, so that thousands of runs can be read quickly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from cnnbench import console

LONG = 2**63
"""Bound of integers: anything larger comes from a damaged file, and may not fit a float."""

MOST_KEYS = 2000
"""Keys of a mapping; a larger one comes from somebody who wants readers to take long."""

ROUNDED = 1 + 1e-6
"""Largest mean of shares: with mixup, the shares of an image add up to 1 but for rounding."""


@dataclass(frozen=True, eq=False)
class Kind:
    """The values that a key may have.

    Attributes:
        said: in an error message, after `allowed: `.
        fits: whether a value is one of them.
        table: for the keys of a mapping, or of each mapping in a list.
    """

    said: str
    fits: Callable[[Any], bool]
    table: Table | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """The keys of a mapping.

    Attributes:
        kinds: by regular expression for the whole key; the first that matches counts.
        required: keys that must be there.
        other: the kind of all other keys.
    """

    kinds: Mapping[str, Kind]
    required: Sequence[str]
    other: Kind

    @lru_cache(4096)  # noqa: B019 - the tables live as long as this module
    def kind(self, key: str) -> Kind:
        """Return the kind of a key."""
        return next((kind for known, kind in self.kinds.items() if re.fullmatch(known, key)), self.other)

    def problem(self, content: Mapping[Any, Any], inside: str = "") -> str:
        """Return what is wrong with a mapping, as `best/epoch is "3"; allowed: …`; empty if nothing is."""
        if len(content) > MOST_KEYS:
            return f"has {len(content)} keys; allowed: {MOST_KEYS}"
        for key in self.required:
            if key not in content:
                return f"has no {inside}{key}"
        for key, value in content.items():
            if not isinstance(key, str) or not _is_text(key):
                return f"has the key {console.legible(ascii(key))}, which is no text"
            kind = self.kind(key) if len(key) < 200 else self.other
            if not kind.fits(value):
                return f"{console.legible(inside + key)} is {shown(value)}; allowed: {kind.said}"
            if kind.table is None:
                continue
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict) and (problem := kind.table.problem(item, f"{inside}{key}.")):
                    return problem
        return ""


def shown(value: Any) -> str:
    """Return a value for an error message, however large it is."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) >= LONG:
        return "a number of many digits"
    return console.legible(json.dumps(value[:100] if isinstance(value, str) else value, default=str))


# --- kinds ------------------------------------------------------------------------------------------------


def _is_text(value: Any) -> bool:
    """Return whether a value is a text that can be printed: JSON may escape half a character."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _is_number(value: Any) -> bool:
    """Return whether a value is a number, NaN and infinity included."""
    return type(value) is float or (type(value) is int and abs(value) < LONG)


def _is_plain(value: Any, depth: int = 8) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_is_plain(k, 0) and _is_plain(v, depth - 1) for k, v in value.items())
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    return value is None or isinstance(value, bool) or _is_number(value) or _is_text(value)


def _is_time(value: Any) -> bool:
    try:
        return 1970 < datetime.fromisoformat(value).year < 9999
    except (TypeError, ValueError):
        return False


def _whole(least: int) -> Kind:
    return Kind(f"an integer from {least}", lambda value: type(value) is int and least <= value < LONG)


def one_of(*names: str) -> Kind:
    """Return the kind of one of some words."""
    return Kind(", ".join(names), lambda value: isinstance(value, str) and value in names)


def or_null(kind: Kind) -> Kind:
    """Return a kind with null in addition."""
    return Kind(f"null, or {kind.said}", lambda value: value is None or kind.fits(value))


def mapping(table: Table) -> Kind:
    """Return the kind of a mapping."""
    return Kind("a mapping", lambda value: isinstance(value, dict), table)


def records(table: Table) -> Kind:
    """Return the kind of a list of mappings."""
    return Kind(
        "a list of mappings",
        lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
        table,
    )


PLAIN = Kind("a plain value", _is_plain)
SCALAR = Kind("a text, a number, true, false or null", lambda value: _is_plain(value, 0))
TEXT = Kind("a text", _is_text)
TEXTS = Kind("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value)))
FLAG = Kind("true, false", lambda value: isinstance(value, bool))
TIME = Kind("a time (ISO 8601)", _is_time)
NUMBER = Kind("a number", _is_number)
FINITE = Kind("a finite number", lambda value: _is_number(value) and abs(value) < 1e300)
SIZE = Kind("a finite number from 0", lambda value: _is_number(value) and 0 <= value < 1e300)
SHARE = Kind("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
MEAN = Kind("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= ROUNDED)
DISTANCE = Kind("a number from 0", lambda value: _is_number(value) and value >= 0)
MEASURED = Kind("a finite number from 0, or nan", lambda value: SIZE.fits(value) or value != value)
MEASURED_SHARE = Kind("a number from 0 to 1, or nan", lambda value: SHARE.fits(value) or value != value)
DIGEST = Kind("a SHA-256", lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)))
COUNT, FROM_1, CLASSES = _whole(0), _whole(1), _whole(2)
