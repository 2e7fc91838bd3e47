"""Which images a run is evaluated on: its own test set or val, or those of another data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cnnbench.data import datasets
from cnnbench.data.images import Images
from cnnbench.data.split import subset
from cnnbench.errors import InputError, suggest
from cnnbench.inference.trained_model import Trained, moved
from cnnbench.settings import compose
from cnnbench.settings.base import is_place, options
from cnnbench.settings.data import Data
from cnnbench.settings.device import Device
from cnnbench.training import build
from cnnbench.training.device import PRECISIONS

OWN = ("root", "limit_test", "batch_size")
OTHER = (*OWN, "num_classes", "split_seed")
"""Settings of `data` that say which images there are, and how many at a time; those of made-up images."""


@dataclass(frozen=True)
class Chosen:
    """Images to evaluate on, with labels that are indices into the run's classes.

    Attributes:
        title: which they are.
        recorded: the keys of summary.json that hold accuracy and loss on exactly these; empty if none do.
        notes: what is to be said about them.
        batch_size: images at a time.
    """

    images: Images
    title: str
    recorded: tuple[str, ...]
    notes: tuple[str, ...]
    batch_size: int


def settings(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`["data=digits", "device.threads=1"]` as {"data": {"": "digits"}, "device": {"threads": 1}}.

    Raises:
        InputError: a word that is none of these.
    """
    found: dict[str, dict[str, Any]] = {"data": {}, "device": {}}
    for word in words:
        key, equals, text = word.partition("=")
        group, _, name = key.partition(".")
        if not equals or group not in found:
            allowed = "data=NAME, data.SETTING=VALUE, device=NAME and device.SETTING=VALUE"
            raise InputError(f"{word}: allowed after the run: {allowed}")
        found[group][name] = text if name == "" else _value(word, text, plain=name == "root")
    return found


def _value(word: str, text: str, *, plain: bool) -> Any:
    """What is written behind the `=` of a word, a single value; `plain`: as it stands there.

    Raises:
        InputError: it is none.
    """
    try:
        value = text if plain else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # no such day, or no end of digits
        value = ...
    single = value is None or isinstance(value, (str, int, float))
    if not single or "${" in text:  # which OmegaConf would look into
        raise InputError(f"{word}: cannot be read; allowed: a number, a word, true, false or null")
    return value


def device(trained_with: Device, changes: Mapping[str, Any]) -> Device | None:
    """The device settings that are asked for; None if none are.

    Raises:
        InputError: no such choice or setting.
    """
    if not changes:
        return None
    allowed = [name for name in Device.model_fields if name not in ("name", "devices", "nodes")]
    given = _given("device", changes, allowed)
    accelerator = given.get("accelerator", trained_with.accelerator)
    here = moved(trained_with, accelerator) if accelerator in {"auto", *PRECISIONS} else trained_with
    base = compose.section("device", changes[""]) if "" in changes else here.model_dump()
    return options(Device, base | given | {"devices": 1, "nodes": 1}, "device")


def choose(trained: Trained, part: str, changes: Mapping[str, Any]) -> Chosen:
    """The images that are asked for.

    Args:
        trained: the run that is evaluated.
        part: `test` or `val`.
        changes: settings of `data`; under "" the name of a set, if one is named.

    Raises:
        InputError: they cannot be had, or have other classes than the run.
    """
    data = trained.asked.data
    name = changes.get("", data.name)
    root = changes.get("root", data.root)
    elsewhere = name == "imagefolder" and is_place(root) and _resolved(root) != _resolved(data.root)
    if name != data.name or (elsewhere and "" in changes):
        return _other(trained, name, part, changes)
    return _own(trained, part, changes)


def _resolved(root: str) -> Path:
    return Path(root).expanduser().resolve()


def _own(trained: Trained, part: str, changes: Mapping[str, Any]) -> Chosen:
    asked = trained.asked
    free = {"root": asked.data.root, "num_workers": 0, "in_memory": False}  # files are decoded by threads
    given = _given("data", changes, OWN)
    section = asked.data.model_dump(exclude_unset=True) | free | given
    data = build.make_data(options(Data, section, "data"), asked.arch, asked.seed)
    images: Images = getattr(data, part)
    images, notes = _matched(images, trained.preparation.classes)
    if part == "val" and "limit_test" in given:
        raise InputError(
            f"data.limit_test={given['limit_test']}: --part val is looked at whole; allowed: with --part test"
        )
    whole = given.get("limit_test", asked.data.limit_test) == asked.data.limit_test
    recorded = {"test": ("test/acc", "test/loss"), "val": ("best/val_acc", "best/val_loss")}[part]
    what = f"{'its own ' * whole}{part} set of {asked.data.name}"
    if not whole:
        what += f", data.limit_test={given['limit_test']}"
    if part == "val":
        what += " (its best epoch was chosen on these images: accuracy on them is flattering)"
    return Chosen(images, what, recorded if whole else (), notes, 4 * data.batch_size)


def _other(trained: Trained, name: str, part: str, changes: Mapping[str, Any]) -> Chosen:
    prepared = trained.preparation
    given = _given("data", changes, OTHER if name == "synthetic" else OWN)
    section = compose.section("data", name) | given | {"size": prepared.size}
    data = options(Data, section, "data")
    root = Path(data.root).expanduser()
    if name == "synthetic":
        classes, limit, limit_test = data.num_classes or 2, data.limit or 1, data.limit_test or 1
        found = dict(datasets.synthetic(prepared.size, classes, limit, limit_test, data.split_seed))
    else:
        found = dict(datasets.load(name, root))
    if part not in found and not (part == "test" and "all" in found):
        raise InputError(f"--part {part}: {name} has no such part of its own; allowed: --part test")
    whole = found[part if part in found else "all"]
    images = whole[subset(whole.labels, data.limit_test, 0, "data.limit_test")]
    images, notes = _matched(images, prepared.classes)
    where = f" in {root}" if name == "imagefolder" else ""
    what = f"{'all images' if part not in found else f'the {part} set'} of {name}{where}"
    if part not in found:
        notes += ("whether the run was trained on some of these images is not known to cnnbench",)
    return Chosen(images, what, (), notes, 4 * data.batch_size)


def _given(group: str, changes: Mapping[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    """The single settings among the changes.

    Raises:
        InputError: one that is not allowed here.
    """
    given = {key: value for key, value in changes.items() if key}
    for key in given:
        if key not in allowed:
            raise InputError(f"{group}.{key}: not a setting of an evaluation; {suggest(key, allowed)}")
    return given


def _matched(images: Images, classes: list[str]) -> tuple[Images, tuple[str, ...]]:
    """The images with labels that are indices into `classes`, and what was done to them.

    Raises:
        InputError: there are not as many classes, and the names are others; or some of the same names, which
            their order would make other classes.
    """
    theirs = images.classes
    if theirs == classes:
        return images, ()
    if set(theirs) <= set(classes):
        index = np.array([classes.index(name) for name in theirs])
        few = f"; {len(theirs)} of the run's {len(classes)} classes" if len(theirs) < len(classes) else ""
        note = f"classes are matched by name{few}"
        return Images(images.pixels, index[images.labels], classes), (note,)
    if len(theirs) != len(classes):
        raise InputError(
            f"data: {len(theirs)} classes ({_some(theirs)}), the run has {len(classes)} ({_some(classes)}); "
            "allowed: as many, or some of the same names"
        )
    both = [name for name in theirs if name in classes]
    if turned := [name for name in both if theirs.index(name) != classes.index(name)]:
        raise InputError(
            f"data: {_some([n for n in theirs if n not in classes])}: no class of the run, which has "
            f"{_some([n for n in classes if n not in theirs])}; allowed: classes of the same names, "
            f"or in the same order (here {turned[0]} would count as {classes[theirs.index(turned[0])]})"
        )
    pairs = [f"{a} counts as {b}" for a, b in zip(theirs, classes, strict=True) if a != b]
    note = f"warning: class names differ and are matched by their order: {', '.join(pairs[:5])}"
    return Images(images.pixels, images.labels, classes), (note + ", …" * (len(pairs) > 5),)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + ", …" * (len(names) > 5)
