"""Helpers of tests/data."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from cnnbench.data.datamodule import ImageData
from cnnbench.data.datasets import load
from cnnbench.data.options import Augmentation, Batching, ModelInput, Sharding, Source, Splitting
from cnnbench.data.transforms import decode
from cnnbench.errors import InputError

DEFAULTS = {"seed": 0, "val_fraction": 0.1, "split_seed": 0, "batch_size": 64}


def image_data(name, root, augment=None, **settings) -> ImageData:
    """The data of a run with these settings, by the names that they have in the configuration."""
    values = {"name": name, "root": root, **DEFAULTS, **settings}

    def of(kind):
        return kind(**{f.name: values.pop(f.name) for f in fields(kind) if f.name in values})

    options = of(Source), of(Splitting), of(Batching), augment or Augmentation(), of(ModelInput), of(Sharding)
    assert not values
    return ImageData(*options)


def refusal(name: str, root: Path) -> str:
    """The one line that says why a data set cannot be had."""
    with pytest.raises(InputError) as caught:
        load(name, root)
    message = str(caught.value)
    assert "\n" not in message
    assert "download=True" not in message
    assert name in message
    assert f"data.root={root}" in message
    return message


def check(splits, made) -> None:
    """Whether `splits` hold what was `made`: pixels, labels, classes, and which split is which."""
    assert set(splits) == set(made.splits)
    for split, (pixels, labels) in made.splits.items():
        found = splits[split]
        assert found.classes == made.classes
        assert found.labels.dtype == np.int64
        if isinstance(found.pixels, torch.Tensor):
            assert found.pixels.dtype == torch.uint8
            assert found.pixels.is_contiguous()
            np.testing.assert_array_equal(found.pixels.numpy(), pixels)
            np.testing.assert_array_equal(found.labels, labels)
            continue
        # Files come in the order of their names: told apart by their colours, which JPEG hardly changes
        colours = np.array([decode(path, 30)[:, 9, 9].numpy() for path in found.pixels]).astype(int)
        order = [np.abs(pixels.astype(int) - colour).sum(1).argmin() for colour in colours]
        assert sorted(order) == list(range(len(pixels)))
        assert np.abs(pixels[order].astype(int) - colours).max() <= 4
        np.testing.assert_array_equal(found.labels, labels[order])


# --- broken files -------------------------------------------------------------------------------


def cut(path: Path, keep: int | None = None) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 if keep is None else keep])
