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
    """Return the data of a run with these settings, by their names in the configuration."""
    values = {"name": name, "root": root, **DEFAULTS, **settings}

    def of(kind):
        return kind(**{f.name: values.pop(f.name) for f in fields(kind) if f.name in values})

    options = of(Source), of(Splitting), of(Batching), augment or Augmentation(), of(ModelInput), of(Sharding)
    assert not values
    return ImageData(*options)


def refusal(name: str, root: Path) -> str:
    """Return the one line of the error with which reading a data set fails."""
    with pytest.raises(InputError) as caught:
        load(name, root)
    message = str(caught.value)
    assert "\n" not in message
    assert "download=True" not in message
    assert name in message
    assert f"data.root={root}" in message
    return message


def check(splits, made) -> None:
    """Check the names, pixels, labels and classes of splits."""
    assert set(splits) == set(made.splits)
    for split, (pixels, labels) in made.splits.items():
        images = splits[split]
        assert images.classes == made.classes
        assert images.labels.dtype == np.int64
        if isinstance(images.pixels, torch.Tensor):
            assert images.pixels.dtype == torch.uint8
            assert images.pixels.is_contiguous()
            np.testing.assert_array_equal(images.pixels.numpy(), pixels)
            np.testing.assert_array_equal(images.labels, labels)
            continue
        # Files are in the order of their names; their colours, which JPEG hardly changes, identify them
        colours = np.array([decode(path, 30)[:, 9, 9].numpy() for path in images.pixels]).astype(int)
        order = [np.abs(pixels.astype(int) - colour).sum(1).argmin() for colour in colours]
        assert sorted(order) == list(range(len(pixels)))
        assert np.abs(pixels[order].astype(int) - colours).max() <= 4
        np.testing.assert_array_equal(images.labels, labels[order])


# --- broken files -------------------------------------------------------------------------------


def cut(path: Path, keep: int | None = None) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 if keep is None else keep])
