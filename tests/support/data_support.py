"""Helpers of tests/data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cnnbench.data.datasets import load
from cnnbench.data.transforms import decode
from cnnbench.errors import InputError


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


def check(parts, made) -> None:
    """Whether `parts` hold what was `made`: pixels, labels, classes, and which part is which."""
    assert set(parts) == set(made.parts)
    for part, (pixels, labels) in made.parts.items():
        found = parts[part]
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
