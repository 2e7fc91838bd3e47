"""Which images are train, val and test.

val is drawn from the training images, stratified, by `data.split_seed`; test is never touched by
any seed. The digest of a split is recorded with the run, so that two runs can be seen to have used
the same one.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from cnnbench.errors import InputError

Indices = NDArray[np.int64]

TEST_FRACTION = 0.2
"""Share of a set without a test set of its own that becomes its fixed test set."""


def divide(labels: Indices, count: int, seed: int, setting: str) -> tuple[Indices, Indices]:
    """Split `range(len(labels))` into two, the second of `count`, with equal shares of each class.

    Shares are rounded, but each part has one or more of every class.

    Returns:
        Two ascending index arrays, disjoint and together complete. They follow from `labels`,
        `count` and `seed` on every machine (numpy's RandomState is frozen for that purpose).

    Raises:
        InputError: naming `setting`, when a class is too small to have a member in both.
    """
    classes, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if sizes.min() < 2:
        raise InputError(
            f"{setting}: class {classes[sizes.argmin()]} has one image; a stratified split needs two"
        )
    rest = len(labels) - count
    if min(count, rest) < len(classes):
        raise InputError(
            f"{setting}: of {len(labels)} images, {rest} would stay and {count} be set aside; "
            f"each part needs one or more of each of the {len(classes)} classes"
        )
    quota = np.clip(np.round(sizes * count / len(labels)).astype(int), 1, sizes - 1)
    while (error := count - quota.sum()) != 0:  # rounding: the class that is furthest from its share
        gap = sizes * count / len(labels) - quota
        gap[(quota == sizes - 1) if error > 0 else (quota == 1)] = -np.inf if error > 0 else np.inf
        quota[gap.argmax() if error > 0 else gap.argmin()] += np.sign(error)
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # place within the class
    aside = rank < np.repeat(quota, sizes)
    return np.sort(by_class[~aside]), np.sort(by_class[aside])


def subset(labels: Indices, count: int | None, seed: int, setting: str) -> Indices:
    """`count` ascending indices with equal shares of each class, or all of them."""
    if count is None or count >= len(labels):
        return np.arange(len(labels))
    rest = len(labels) - count
    if rest < len(np.unique(labels)):  # too few are left out for a part of their own
        return np.sort(np.random.RandomState(seed).permutation(len(labels))[:count])
    return divide(labels, count, seed, f"{setting}={count}")[1]


def digest(*parts: Indices) -> str:
    """A short name of a split: equal for equal index sets."""
    digest = hashlib.blake2b(digest_size=6)
    for part in parts:
        digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes() + b"/")
    return digest.hexdigest()
