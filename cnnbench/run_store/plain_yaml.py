"""YAML without aliases, tags and repeated keys: all that cnnbench writes, and cheap to read from anybody.

A kilobyte of aliases could stand for more values than a computer holds, and a value could contain itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml

from cnnbench.run_store.reading import Unfit, decoded

DEEPEST = 32
"""Levels of nesting; a config.yaml has five."""

SHORT = 100
"""Characters of a scalar that is worth remembering: runs repeat each other's settings."""


def parse(data: bytes) -> dict[Any, Any]:
    """Read a mapping, with the same result as PyYAML's SafeLoader, in time proportional to its size.

    From events, which takes half the time of CSafeLoader: that finds the type of each scalar anew.

    Raises:
        Unfit: it is something else.
    """
    events = yaml.parse(decoded(data), yaml.CSafeLoader)
    try:
        first = next(event for event in events if isinstance(event, yaml.NodeEvent))
        if isinstance(first, yaml.MappingStartEvent):
            content: dict[Any, Any] = _value(first, events)
            next(events)  # the end of the document
            if isinstance(next(events), yaml.StreamEndEvent):
                return content
    except StopIteration:
        pass
    except yaml.YAMLError:
        raise Unfit("is not YAML, or is cut off") from None
    raise Unfit("is not a mapping")


def _value(event: Any, events: Iterator[Any], depth: int = 0) -> Any:
    """Return the value that begins with an event."""
    if event.anchor is not None:
        raise Unfit("has aliases or anchors")
    if event.tag is not None:
        raise Unfit("has tags")
    if isinstance(event, yaml.ScalarEvent):
        if not event.implicit[0]:  # quoted
            return event.value
        return (_scalar if len(event.value) <= SHORT else _scalar.__wrapped__)(event.value)
    if depth == DEEPEST:
        raise Unfit("is nested too deeply")
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_value(item, events, depth + 1))
        return items
    mapping: dict[Any, Any] = {}
    while not isinstance(item := next(events), yaml.MappingEndEvent):
        key = _value(item, events, depth + 1)
        if isinstance(key, dict | list) or key in mapping:
            raise Unfit("has a key that is no word, or twice the same")
        mapping[key] = _value(next(events), events, depth + 1)
    return mapping


@lru_cache(4096)
def _scalar(text: str) -> Any:
    """Return what a scalar without quotes stands for: `1e-3` is a text, `1.0e-3` a number."""
    loader: Any = yaml.SafeLoader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    try:
        return loader.construct_object(yaml.ScalarNode(tag, text))
    except (yaml.YAMLError, ValueError):  # a date that does not exist, or a number with too many digits
        raise Unfit(f"has {text[:20]}, which is no value") from None
