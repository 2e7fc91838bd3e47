"""Classes of unequal size: weights of the classes in the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.images import Images, Indices
from cnnbench.errors import InputError


def class_weights(asked: str | Sequence[float] | None, images: Images) -> Tensor | None:
    """Return the weights of the classes as float32 (K,); None if all count the same.

    Args:
        asked: `balanced`, as in scikit-learn: the number of images / (K x those of the class), with which all
            classes weigh the same; or a weight per class.
        images: those of the training.

    Raises:
        InputError: not one weight per class, or no image of a class that is to be balanced.
    """
    if asked is None:
        return None
    classes = len(images.classes)
    if isinstance(asked, str):
        sizes = class_sizes(images, f"data.class_weights={asked}")
        return torch.from_numpy(sizes.sum() / (classes * sizes)).float()
    if len(asked) != classes:
        order = ", ".join(images.classes[:5]) + ", …" * (classes > 5)
        raise InputError(
            f"data.class_weights={list(asked)}: {len(asked)} numbers for {classes} classes; "
            f"allowed: one for each ({order})"
        )
    return torch.tensor(asked, dtype=torch.float32)


def class_sizes(images: Images, setting: str) -> Indices:
    """Return the number of images of each class (K,).

    Raises:
        InputError: none of a class; names `setting`, which needs them.
    """
    sizes = np.bincount(images.labels, minlength=len(images.classes))
    if missing := [name for name, size in zip(images.classes, sizes, strict=True) if not size]:
        named = ", ".join(missing[:5]) + ", …" * (len(missing) > 5)
        raise InputError(f"{setting}: no training image of class {named}; allowed: with images of each class")
    return sizes
