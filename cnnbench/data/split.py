"""The splits of a data set: train, val and test.

val is drawn from the training images, stratified, by `data.split_seed`; test depends on no seed. The digest
of the splits is recorded with a run: two runs with equal digests used the same splits.
"""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import numpy as np

from cnnbench.data.images import Images, Indices, Splits, joined
from cnnbench.data.options import Splitting
from cnnbench.errors import InputError

TEST_FRACTION = Fraction(1, 5)
"""Share of a data set without a test set that becomes its fixed test set."""


def divide(labels: Indices, count: int, seed: int, setting: str) -> tuple[Indices, Indices]:
    """Divide `range(len(labels))` into two, stratified; the second has `count` indices.

    Shares of the classes are rounded, but each side has one or more of every class.

    Args:
        labels: int64 (N,).
        count: size of the second side.
        seed: of the draw.
        setting: named in errors.

    Returns:
        Two ascending index arrays, disjoint and together complete. They depend only on `labels`, `count` and
        `seed`, on every machine (numpy's RandomState is frozen for that purpose).

    Raises:
        InputError: a class is too small to have a member on both sides.
    """
    classes, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rest = len(labels) - count
    if min(count, rest) < len(classes):
        raise InputError(
            f"{setting}: of {len(labels)} images, {rest} would stay and {count} be set aside; "
            f"each split needs one or more of each of the {len(classes)} classes"
        )
    if sizes.min() < 2:
        raise InputError(
            f"{setting}: class {classes[sizes.argmin()]} has one image; a stratified split needs two"
        )
    return _draw(labels, _shares(sizes, count, sizes - 1), seed)


def subset(labels: Indices, count: int | None, seed: int, setting: str) -> Indices:
    """Return a stratified draw of `count` ascending indices, one or more of each class; or all of them.

    Args:
        labels: int64 (N,).
        count: number of indices; None, or more than N: all.
        seed: of the draw.
        setting: named in errors.

    Raises:
        InputError: `count` is less than the number of classes.
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
    """Return shares of `count` in proportion to `sizes`, from one to `most` for each class."""
    exact = sizes * count / sizes.sum()
    shares: Indices = np.clip(np.round(exact).astype(np.int64), 1, most)
    while missing := count - shares.sum():  # rounding errors: the class that is furthest from its share
        gap = exact - shares
        if missing > 0:
            shares[np.where(shares < most, gap, -np.inf).argmax()] += 1
        else:
            shares[np.where(shares > 1, gap, np.inf).argmin()] -= 1
    return shares


def _draw(labels: Indices, shares: Indices, seed: int) -> tuple[Indices, Indices]:
    """Draw `shares[k]` indices of each class k, 0 to K - 1; return the other indices, then those."""
    sizes = np.bincount(labels)
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the class
    drawn = rank < np.repeat(shares, sizes)
    return np.sort(by_class[~drawn]), np.sort(by_class[drawn])


def digest(*indices: Indices) -> str:
    """Return a short digest of splits: equal for equal index arrays."""
    digest = hashlib.blake2b(digest_size=6)
    for split in indices:
        digest.update(np.ascontiguousarray(split, dtype="<i8").tobytes() + b"/")
    return digest.hexdigest()


def make_splits(name: str, splits: Splits, splitting: Splitting) -> tuple[Images, Images, Images, str]:
    """Return train, val and test, and their digest.

    Args:
        name: of the data set, for errors.
        splits: those that the data set has.
        splitting: sizes of those to return, and the seed; test does not depend on the seed. val may be empty.

    Raises:
        InputError: too few images of a class.
    """
    seed, limit = splitting.split_seed, splitting.limit
    if "all" in splits:
        images = splits["all"]
        check_enough(name, images, 3, "train, val and test")
        count = max(math.ceil(TEST_FRACTION * len(images.labels)), len(np.unique(images.labels)))
        rest, aside = divide(images.labels, count, 0, f"data={name}, its test set")
        splits = {"train": images[rest], "test": images[aside]}
    pool, test = splits["train"], splits["test"]
    none = splitting.val_fraction == 0
    if none and "val" in splits:
        pool = joined([pool, splits["val"]])
    kept = subset(pool.labels, limit, seed, "data.limit")
    for_test = subset(test.labels, splitting.limit_test, 0, "data.limit_test")
    if none:
        return pool[kept], pool[kept[:0]], test[for_test], digest(kept, kept[:0], for_test)
    if "val" in splits:
        return pool[kept], splits["val"], test[for_test], digest(kept, for_test)
    check_enough(name, pool, 2, "train and val")
    count = max(1, round(splitting.val_fraction * len(kept)))
    setting = f"data.val_fraction={splitting.val_fraction}" + (f" with data.limit={limit}" if limit else "")
    rest, aside = divide(pool.labels[kept], count, seed, setting)
    for_train, for_val = kept[rest], kept[aside]
    return pool[for_train], pool[for_val], test[for_test], digest(for_train, for_val, for_test)


def check_enough(name: str, images: Images, least: int, purpose: str) -> None:
    """Check that each class has `least` images or more, one for each of the splits that `purpose` names.

    Raises:
        InputError: a class has fewer.
    """
    classes, sizes = np.unique(images.labels, return_counts=True)
    if sizes.min() < least:
        fewest = images.classes[classes[sizes.argmin()]]
        raise InputError(
            f"data={name}: class {fewest} has {sizes.min()} of the images that are split into {purpose}; "
            f"allowed: {least} or more"
        )
