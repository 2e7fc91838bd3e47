"""The identity of a run: ten hex digits that follow from what decides its result.

What decides a result is the run's *choice*: the settings without those that only control how a run is carried
out or shown, with paths replaced by digests of content. It is written to `identity.json` in the run's folder.

Components of cnnbench count by their names, so that moving their code changes no identity; a user's own code
counts by its dotted name and its content (`cnnbench.settings.code`).

Identities are permanent. A setting that is added later must leave the identity of earlier choices unchanged:

    a field of the schema     Annotated[bool, added(False)]        (`cnnbench.settings.base`)
    an argument in conf/      a line in `LATER`, below its component

where the value is the one that means "as before". `tests/settings/test_identity.py` holds a frozen table of
identities.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

FORMAT = 2
"""Format of run folders. Those of format 1 (cnnbench 0.1.0) can be read, but are not reused for training."""

ADDED: dict[str, Any] = {
    "arch.shortcut_zeros": "after",
    "scheduler.monitor": "val/loss",
    "scheduler.until": 1.0,
}
"""Arguments newer than format 2 that any component of a group may have, with the value "as before"."""

LATER: dict[str, dict[str, Any]] = {
    "arch": {"weights_key": None},
    "ops": {"init": "native"},
    "data": {
        "eval_crop": None,
        "mean": None,
        "std": None,
        "drop_last": True,
        "sampler": "shuffle",
        "class_weights": None,
        "augment": {"jitter": 0.0, "erase": 0.0},
    },
    "trainer": {
        "max_time": None,
        "monitor": "val/acc",
        "loss": "cross_entropy",
        "focal_gamma": 2.0,
        "bce_threshold": None,
        "bce_sum": False,
        "swa": None,
    },
    "device": {"devices": 1, "nodes": 1, "sync_batch_norm": False, "compile": False},
    "cnnbench:basic": {"stride": 1, "pool_kernel": 2, "equal": None},
    "cnnbench:cifar_resnet": {"shortcut_zeros": ADDED["arch.shortcut_zeros"]},
    "cnnbench:cosine": {"until": ADDED["scheduler.until"]},
    "cnnbench:plateau": {"monitor": ADDED["scheduler.monitor"]},
}
"""Values in a choice that lacks them: of fields marked `added` by section, of `ADDED` by component."""

CODE = "_code_"
"""Key of the digest of a user's own code in a section; no argument of a component can have such a name."""

RUNTIMES = ("onnxruntime", "openvino")
"""Backends of measurements that run an exported model, each named like its package."""

OURS = "cnnbench:"
"""Prefix of the names of cnnbench's own components in a choice."""

FREE_IN_FORMAT_1 = {
    "name", "select", "command", "output_dir", "logger", "rounds", "round_s", "memory_limit_gb", "trust_code",
}  # fmt: skip
"""Sections of a config.yaml of format 1 that do not decide the result."""


def deciding(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return a choice without the settings that a measurement does not depend on.

    An exported model is not trained and has no memory format; `parity` and `tune` try all values.
    """
    kept = {key: dict(value) if isinstance(value, Mapping) else value for key, value in choice.items()}
    if kept.get("verb") != "bench":
        return kept
    exported, parity, device = kept.get("backend") in RUNTIMES, kept.get("parity"), kept.get("device", {})
    if exported or parity:
        kept.pop("optimizer", None)
    if parity:
        kept.pop("batch_sizes", None)
        device.pop("precision", None)
    if exported or kept.get("tune"):
        device.pop("memory_format", None)
    return kept


def is_of(name: str, choice: Mapping[str, Any]) -> bool:
    """Return whether the name of a folder ends with the identity of a choice, or with none at all.

    A user may have renamed the folder, or copied it to another name.
    """
    suffix = re.fullmatch(r"(?s:.*)-([0-9a-f]{10})", name)
    return suffix is None or suffix[1] == identity(deciding(choice))


def identity(choice: Mapping[str, Any]) -> str:
    """Return ten hex digits that follow from a choice alone; of a run's, from what is `deciding`.

    The order of keys does not matter, nor whether a number is written as 1 or 1.0.
    """
    text = json.dumps(_canonical({"format": FORMAT, **choice}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _canonical(value: Any) -> Any:
    match value:
        case str() | int() | None:  # most of them; of a bool, too
            return value
        case Mapping():
            return {str(key): _canonical(item) for key, item in value.items()}
        case list() | tuple():
            return [_canonical(item) for item in value]
        case float() if value.is_integer():
            return int(value)
    return value


def named_components(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return a choice in which each `_target_` is a name without the location of the code.

    Example:
        >>> named_components({"arch": {"name": "mlp", "_target_": "cnnbench.models.mlp.mlp"}})
        {'arch': {'name': 'mlp', '_target_': 'cnnbench:mlp'}}
    """
    return {group: _named(group, section) for group, section in choice.items()}


def _named(group: str, section: Any) -> Any:
    if not isinstance(section, Mapping):
        return section
    target = section.get("_target_")
    component = component_name(target) if isinstance(target, str) else ""
    added = LATER.get(component, {}) | {
        key: ADDED[f"{group}.{key}"] for key in section if f"{group}.{key}" in ADDED
    }
    kept = {key: value for key, value in section.items() if not (key in added and added[key] == value)}
    return kept | ({"_target_": component} if component else {})


def component_name(target: str) -> str:
    """Return `cnnbench:cosine` for `cnnbench.training.schedule.cosine`, and other names unchanged."""
    if is_ours(target):
        return OURS + target.replace(":", ".").rpartition(".")[2]
    return target


def is_ours(target: str) -> bool:
    """Return whether a dotted name leads to cnnbench's own code."""
    return target.replace(":", ".").startswith("cnnbench.")


def complete(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return a choice with the values of `LATER` that it lacks, so that axes have them like any other.

    Sections that do not apply stay empty: the ops of other libraries' models, the images of a measurement.
    """
    measured = choice.get("verb") == "bench"
    return {
        key: _completed(key, section)
        if isinstance(section, dict) and not (measured and key == "data")
        else section
        for key, section in choice.items()
    }


def _completed(key: str, section: dict[str, Any]) -> dict[str, Any]:
    target = section.get("_target_")
    component = LATER.get(component_name(target), {}) if isinstance(target, str) else {}
    later = (LATER.get(key, {}) if section else {}) | component
    for name, value in later.items():
        inner = section.get(name, value)
        both = isinstance(value, dict) and isinstance(inner, dict)
        section = section | {name: value | inner if both else inner}
    return section


def choice_of_format_1(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the choice of a run of format 1, which has no identity.json, from its config.yaml.

    The path of the images is part of it only for image folders, which have no other name.
    """
    choice = {key: value for key, value in config.items() if key not in FREE_IN_FORMAT_1}
    data = choice.get("data")
    if isinstance(data, Mapping):
        free = {"num_workers"} if data.get("name") == "imagefolder" else {"num_workers", "root"}
        choice["data"] = {key: value for key, value in data.items() if key not in free}
    return named_components(choice)
