"""Which images are train, val and test.

val is drawn from the training images, stratified, by `data.split_seed`; test is never touched by
any seed. The digest of a split is recorded with the run, so that two runs can be seen to have used
the same one.
"""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import numpy as np

from cnnbench.data.images import Images, Indices, Splits
from cnnbench.errors import InputError

TEST_FRACTION = Fraction(1, 5)
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
    rest = len(labels) - count
    if min(count, rest) < len(classes):
        raise InputError(
            f"{setting}: of {len(labels)} images, {rest} would stay and {count} be set aside; "
            f"each part needs one or more of each of the {len(classes)} classes"
        )
    if sizes.min() < 2:
        raise InputError(
            f"{setting}: class {classes[sizes.argmin()]} has one image; a stratified split needs two"
        )
    return _draw(labels, _shares(sizes, count, sizes - 1), seed)


def subset(labels: Indices, count: int | None, seed: int, setting: str) -> Indices:
    """`count` ascending indices with equal shares of each class, one or more of each; or all of them.

    Raises:
        InputError: naming `setting`, when `count` is less than the number of classes.
    """
    if count is None or count >= len(labels):
        return np.arange(len(labels))
    classes, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if count < len(classes):
        raise InputError(
            f"{setting}={count}: less than one image of each class; allowed: {len(classes)} or more"
        )
    return _draw(labels, _shares(sizes, count, sizes), seed)[1]


def _shares(sizes: Indices, count: int, most: Indices) -> Indices:
    """`count` shared out in proportion to `sizes`, to each class from one to `most`."""
    exact = sizes * count / sizes.sum()
    shares: Indices = np.clip(np.round(exact).astype(np.int64), 1, most)
    while missing := count - shares.sum():  # rounding: the class that is furthest from its share
        gap = exact - shares
        if missing > 0:
            shares[np.where(shares < most, gap, -np.inf).argmax()] += 1
        else:
            shares[np.where(shares > 1, gap, np.inf).argmin()] -= 1
    return shares


def _draw(labels: Indices, shares: Indices, seed: int) -> tuple[Indices, Indices]:
    """All indices but `shares[k]` of each class k, and those; `labels` are 0 to K - 1."""
    sizes = np.bincount(labels)
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # place within the class
    chosen = rank < np.repeat(shares, sizes)
    return np.sort(by_class[~chosen]), np.sort(by_class[chosen])


def digest(*parts: Indices) -> str:
    """A short name of a split: equal for equal index sets."""
    digest = hashlib.blake2b(digest_size=6)
    for part in parts:
        digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes() + b"/")
    return digest.hexdigest()


def split(
    name: str, parts: Splits, limit: int | None, limit_test: int | None, val_fraction: float, seed: int
) -> tuple[Images, Images, Images, str]:
    """Train, val and test from what a set has, and the split's digest; test depends on no seed."""
    if "all" in parts:
        whole = parts["all"]
        check_enough(name, whole, 3, "train, val and test")
        count = max(math.ceil(TEST_FRACTION * len(whole.labels)), len(np.unique(whole.labels)))
        rest, aside = divide(whole.labels, count, 0, f"data={name}, its test set")
        parts = {"train": whole[rest], "test": whole[aside]}
    pool, test = parts["train"], parts["test"]
    kept = subset(pool.labels, limit, seed, "data.limit")
    for_test = subset(test.labels, limit_test, 0, "data.limit_test")
    if "val" in parts:
        return pool[kept], parts["val"], test[for_test], digest(kept, for_test)
    check_enough(name, pool, 2, "train and val")
    count = max(1, round(val_fraction * len(kept)))
    limited = f" with data.limit={limit}" if limit else ""
    rest, aside = divide(pool.labels[kept], count, seed, f"data.val_fraction={val_fraction}{limited}")
    for_train, for_val = kept[rest], kept[aside]
    return pool[for_train], pool[for_val], test[for_test], digest(for_train, for_val, for_test)


def check_enough(name: str, images: Images, least: int, purpose: str) -> None:
    """Whether a stratified split can give each of its parts an image of each class that there is."""
    classes, sizes = np.unique(images.labels, return_counts=True)
    if sizes.min() < least:
        fewest = images.classes[classes[sizes.argmin()]]
        raise InputError(
            f"data={name}: class {fewest} has {sizes.min()} of the images that are split into {purpose}; "
            f"allowed: {least} or more"
        )
