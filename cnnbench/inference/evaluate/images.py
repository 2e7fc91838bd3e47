"""The images that a run is evaluated on: its own test or val split, or another data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cnnbench.data import datasets, download
from cnnbench.data.datamodule import ImageData
from cnnbench.data.image_file import Memory
from cnnbench.data.images import Images
from cnnbench.data.options import DECODE_MIB
from cnnbench.data.png_sets import origin
from cnnbench.data.split import subset
from cnnbench.errors import InputError, suggest
from cnnbench.inference.trained_model import Trained, on_accelerator
from cnnbench.settings import compose
from cnnbench.settings.base import is_path, options, shown
from cnnbench.settings.data import Data
from cnnbench.settings.device import Device
from cnnbench.training.device import PRECISIONS
from cnnbench.training.images import make_data

OWN = ("root", "limit_test", "batch_size", "decode_mib")
OTHER = (*OWN, "num_classes", "split_seed")
"""Settings of `data` that an evaluation accepts: for the run's own data set, and for synthetic images."""


@dataclass(frozen=True)
class Chosen:
    """Images to evaluate on, with labels that are indices into the run's classes.

    Attributes:
        title: description for the user.
        recorded: keys of summary.json with accuracy and loss on exactly these images; empty if none have.
        notes: remarks and warnings for the user.
        batch_size: for the evaluation.
        memory: of the image files that are decoded at the same time.
    """

    images: Images
    title: str
    recorded: tuple[str, ...]
    notes: tuple[str, ...]
    batch_size: int
    memory: Memory


def settings(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parse `["data=digits", "device.threads=1"]` as {"data": {"": "digits"}, "device": {"threads": 1}}.

    Raises:
        InputError: a word is not a setting of `data` or `device`.
    """
    changes: dict[str, dict[str, Any]] = {"data": {}, "device": {}}
    for word in words:
        key, equals, text = word.partition("=")
        group, _, name = key.partition(".")
        if not equals or group not in changes:
            allowed = "data=NAME, data.SETTING=VALUE, device=NAME and device.SETTING=VALUE"
            raise InputError(f"{word}: not a setting of an evaluation; allowed: {allowed}")
        changes[group][name] = text if name == "" else _value(word, text, plain=name == "root")
    return changes


def _value(word: str, text: str, *, plain: bool) -> Any:
    """Parse the text after `=`, a single value; `plain` keeps it as a string.

    Raises:
        InputError: it is not a single value.
    """
    try:
        value = text if plain else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # an impossible date, or too many digits
        value = ...
    single = value is None or isinstance(value, (str, int, float))
    if not single or "${" in text:  # OmegaConf would interpolate it
        raise InputError(f"{word}: cannot be read; allowed: a number, a word, true, false or null")
    return value


def device(trained_with: Device, changes: Mapping[str, Any]) -> Device | None:
    """Return the requested device settings, None if there are no changes.

    Args:
        trained_with: device settings of the run.
        changes: settings of `device`; under "" the name of a choice in `conf/device`, if one is named.

    Raises:
        InputError: no such choice or setting.
    """
    if not changes:
        return None
    allowed = [name for name in Device.model_fields if name not in ("name", "devices", "nodes")]
    given = _given("device", changes, allowed)
    accelerator = given.get("accelerator", trained_with.accelerator)
    known = accelerator in {"auto", *PRECISIONS}
    adapted = on_accelerator(trained_with, accelerator) if known else trained_with
    base = compose.section("device", changes[""]) if "" in changes else adapted.model_dump()
    return options(Device, base | given | {"devices": 1, "nodes": 1}, "device")


def choose(trained: Trained, split: str, changes: Mapping[str, Any]) -> Chosen:
    """Select the images to evaluate on.

    Args:
        trained: the run to evaluate.
        split: `test` or `val`.
        changes: settings of `data`; under "" the name of a data set, if one is named.

    Raises:
        InputError: the images are not available, or their classes do not match those of the run.
    """
    data = trained.settings.data
    name = changes.get("", data.name)
    root = changes.get("root", data.root)
    elsewhere = name == "imagefolder" and is_path(root) and _resolved(root) != _resolved(data.root)
    if name != data.name or (elsewhere and "" in changes):
        return _other(trained, name, split, changes)
    return _own(trained, split, changes)


def described(data: ImageData, name: str, split: str, notes: tuple[str, ...] = ()) -> Chosen:
    """Return a split of the images that settings describe, for weights of unknown training.

    Args:
        data: the images.
        name: of the data set.
        split: `test` or `val`.
        notes: on the weights.

    Raises:
        InputError: there are no such images.
    """
    images = _held(data, split)
    if split == "val":
        notes += ("cnnbench cannot tell whether the weights were trained on some of these images",)
    size = 4 * data.batching.batch_size
    return Chosen(images, f"the {split} split of {name}", (), notes, size, data.memory)


def _held(data: ImageData, split: str) -> Images:
    images: Images = getattr(data, split)
    if not len(images.labels):
        raise InputError("--split val: there are no val images (data.val_fraction=0); allowed: --split test")
    return images


def _resolved(root: str) -> Path:
    return Path(root).expanduser().resolve()


def _own(trained: Trained, split: str, changes: Mapping[str, Any]) -> Chosen:
    trained_on = trained.settings.data
    # Files are decoded by threads; how much memory that takes is not for the run to say.
    free = {"root": trained_on.root, "num_workers": 0, "in_memory": False, "decode_mib": DECODE_MIB}
    given = _given("data", changes, OWN)
    section = trained_on.model_dump(exclude_unset=True) | free | given
    with nullcontext() if "root" in given else _no_download(trained_on):
        data = make_data(options(Data, section, "data"), trained.settings.arch, trained.settings.seed)
    images = _held(data, split)
    images, notes = _matched(images, trained.preparation.classes)
    if files := origin(trained_on.name, Path(given.get("root", trained_on.root)).expanduser()):
        notes += (f"images: {files}",)
    if split == "val" and "limit_test" in given:
        raise InputError(
            f"data.limit_test={shown(given['limit_test'])}: has no effect on --split val; "
            "allowed: --split test"
        )
    same = given.get("limit_test", trained_on.limit_test) == trained_on.limit_test
    recorded = {"test": ("test/acc", "test/loss"), "val": ("best/val_acc", "best/val_loss")}[split]
    title = "the run's own " * same + f"{split} split of {trained_on.name}"
    if not same:
        title += f", data.limit_test={shown(given['limit_test'])}"
    if split == "val":
        title += " (the best epoch was selected on these images, so their accuracy is optimistic)"
    return Chosen(images, title, recorded if same else (), notes, 4 * data.batching.batch_size, data.memory)


def _no_download(data: Data) -> AbstractContextManager[None]:
    """Download nothing to a folder that only the run names, and somebody else may have chosen."""
    if data.name not in datasets.DATASETS or data.root == compose.section("data", data.name)["root"]:
        return nullcontext()
    return download.without_download("only the run names this folder; data.root=FOLDER downloads to it")


def _other(trained: Trained, name: str, split: str, changes: Mapping[str, Any]) -> Chosen:
    prepared = trained.preparation
    given = _given("data", changes, OTHER if name == "synthetic" else OWN)
    section = compose.section("data", name) | given | {"size": prepared.size}
    data = options(Data, section, "data")
    root, memory = Path(data.root).expanduser(), Memory(data.decode_mib)
    if name == "synthetic":
        classes, limit, limit_test = data.num_classes or 2, data.limit or 1, data.limit_test or 1
        splits = dict(datasets.synthetic(prepared.size, classes, limit, limit_test, data.split_seed))
    else:
        splits = dict(datasets.load(name, root, prepared.size, memory))
    if split not in splits and not (split == "test" and "all" in splits):
        raise InputError(f"--split {split}: {name} has no {split} split of its own; allowed: --split test")
    images = splits[split if split in splits else "all"]
    images = images[subset(images.labels, data.limit_test, 0, "data.limit_test")]
    images, notes = _matched(images, prepared.classes)
    folder = f" in {root}" if name == "imagefolder" else ""
    title = f"{'all images' if split not in splits else f'the {split} split'} of {name}{folder}"
    if split not in splits:
        notes += ("cnnbench cannot tell whether the run was trained on some of these images",)
    return Chosen(images, title, (), notes, 4 * data.batch_size, memory)


def _given(group: str, changes: Mapping[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    """Return the changes without the name of the choice.

    Raises:
        InputError: a setting is not allowed here.
    """
    given = {key: value for key, value in changes.items() if key}
    for key in given:
        if key not in allowed:
            raise InputError(f"{group}.{key}: not a setting of an evaluation; {suggest(key, allowed)}")
    return given


def _matched(images: Images, classes: list[str]) -> tuple[Images, tuple[str, ...]]:
    """Return the images with labels that are indices into `classes`, and notes on how classes were matched.

    Raises:
        InputError: names and number of classes differ; or matching by order would map a class that the run
            has to another one.
    """
    theirs = images.classes
    if theirs == classes:
        return images, ()
    if set(theirs) <= set(classes):
        index = np.array([classes.index(name) for name in theirs])
        subset_note = f"; {len(theirs)} of the run's {len(classes)} classes" * (len(theirs) < len(classes))
        note = f"classes are matched by name{subset_note}"
        return Images(images.pixels, index[images.labels], classes), (note,)
    if len(theirs) != len(classes):
        raise InputError(
            f"data: {len(theirs)} classes ({_first_few(theirs)}), the run has {len(classes)} "
            f"({_first_few(classes)}); allowed: the same number of classes, or a subset with the same names"
        )
    common = [name for name in theirs if name in classes]
    if moved := [name for name in common if theirs.index(name) != classes.index(name)]:
        raise InputError(
            f"data: {_first_few([n for n in theirs if n not in classes])}: not a class of the run, which has "
            f"{_first_few([n for n in classes if n not in theirs])}; allowed: classes with the same names, "
            f"or in the same order (here {moved[0]} would count as {classes[theirs.index(moved[0])]})"
        )
    pairs = [f"{a} counts as {b}" for a, b in zip(theirs, classes, strict=True) if a != b]
    note = f"warning: class names differ, so classes are matched by order: {', '.join(pairs[:5])}"
    return Images(images.pixels, images.labels, classes), (note + ", …" * (len(pairs) > 5),)


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + ", …" * (len(names) > 5)
