"""Splits: exact counts, equal shares, complete, and the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from data_support import image_data
from sklearn.datasets import load_digits

from cnnbench.data.split import digest, divide, subset
from cnnbench.errors import InputError


def digits(**settings):
    return image_data("digits", "/nonexistent", **settings)


def random_labels(trial: int, smallest: int) -> np.ndarray:
    """Return labels of a few classes (not 0 to K - 1) of very different sizes, in random order."""
    rng = np.random.default_rng(trial)
    num_classes = rng.integers(1, 15)
    sizes = np.maximum(smallest, rng.geometric(rng.choice([0.02, 0.1, 0.5]), num_classes))
    names = rng.choice(100, num_classes, replace=False)
    return rng.permutation(np.repeat(names, sizes))


def off(labels, chosen):
    """Return each class's deviation from its exact share, its number of images, and its size."""
    names, sizes = np.unique(labels, return_counts=True)
    got = np.array([(labels[chosen] == name).sum() for name in names])
    return got - sizes * len(chosen) / len(labels), got, sizes


@pytest.mark.parametrize("trial", range(60))
def test_divide(trial):
    labels = random_labels(trial, smallest=2)
    classes = len(np.unique(labels))
    for count in {classes, (len(labels) + 1) // 2, len(labels) // 10, len(labels) - classes}:
        if not classes <= count <= len(labels) - classes:
            continue
        rest, aside = divide(labels, count, trial, "setting")
        assert len(aside) == count
        np.testing.assert_array_equal(np.sort(np.concatenate([rest, aside])), np.arange(len(labels)))
        for split in (rest, aside):
            assert (np.diff(split) > 0).all()
            assert set(labels[split]) == set(labels)
        gap, got, sizes = off(labels, aside)
        free = (got > 1) & (got < sizes - 1)  # not bound by "one or more in each split"
        if free.all():
            assert np.abs(gap).max() < 1
        for again in (divide(labels, count, trial, "other"), divide(labels * 3 + 1, count, trial, "")):
            np.testing.assert_array_equal(again[1], aside)


@pytest.mark.parametrize("trial", range(60))
def test_subset(trial):
    labels = random_labels(trial, smallest=1)
    classes = len(np.unique(labels))
    for count in {classes, (len(labels) + 1) // 2, len(labels) - 1, len(labels)}:
        if count < classes:
            continue
        chosen = subset(labels, count, trial, "data.limit")
        assert len(chosen) == count
        assert (np.diff(chosen) > 0).all()
        assert set(labels[chosen]) == set(labels)
        gap, got, _ = off(labels, chosen)
        if (got > 1).all():
            assert np.abs(gap).max() < 1


def test_shares_are_exact_where_they_can_be():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    assert np.bincount(labels[divide(labels, 10, 0, "")[1]]).tolist() == [5, 3, 2]
    assert np.bincount(labels[subset(labels, 50, 0, "")]).tolist() == [25, 15, 10]


def test_frozen():
    """These numbers must never change: published results depend on them."""
    labels = np.arange(30) % 3
    assert divide(labels, 6, 0, "")[1].tolist() == [2, 13, 24, 26, 27, 28]
    assert divide(labels, 6, 1, "")[1].tolist() != [2, 13, 24, 26, 27, 28]
    assert digest(*divide(labels, 6, 0, "")) == "b5ec659cd169"


def test_draws_are_uniform():
    """All images of a class are equally likely to be set aside."""
    labels = np.repeat([0, 1], [10, 30])
    hits = sum(np.bincount(divide(labels, 8, seed, "")[1], minlength=40) for seed in range(2000))
    assert np.abs(hits / 2000 - 0.2).max() < 0.05


def test_bad_counts():
    labels = np.array([0, 0, 0, 1, 1, 1])
    for count in (0, 1, 5, 6, 7):
        with pytest.raises(InputError, match=r"^data\.x: .* each of the 2 classes$"):
            divide(labels, count, 0, "data.x")
    with pytest.raises(InputError, match=r"^data\.x: class 7 has one image"):
        divide(np.array([3, 3, 3, 7]), 2, 0, "data.x")
    with pytest.raises(InputError, match=r"^data\.limit=1: less than one image of each class; allowed: 2 or"):
        subset(labels, 1, 0, "data.limit")
    for count in (None, 6, 7, 1000):
        assert subset(labels, count, 0, "data.limit").tolist() == list(range(6))
    assert set(subset(np.array([0, 0, 0, 0, 1]), 4, 0, "")) > {4}, "the only image of a class is kept"


def test_digest():
    a, b = np.arange(5), np.arange(3)
    assert digest(a, b) == digest(a.astype(np.int32), b)
    assert len({digest(a, b), digest(b, a), digest(a), digest(np.arange(8)), digest(a, a)}) == 5


# --- the splits of digits, which has no test set ------------------------------------------------


def images(split):
    return {pixels.numpy().tobytes() for pixels in split.pixels}


def test_splits_of_digits_are_disjoint_and_complete():
    data = digits()
    assert [len(split.labels) for split in (data.train, data.val, data.test)] == [1293, 144, 360]
    together = np.concatenate([split.pixels.numpy() for split in (data.train, data.val, data.test)])
    pixels = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    assert sorted(map(bytes, together)) == sorted(map(bytes, pixels))
    assert not images(data.train) & images(data.val)
    assert not images(data.train) & images(data.test)
    for split in (data.train, data.val, data.test):
        share = np.bincount(split.labels) / np.bincount(load_digits().target)
        assert share.max() - share.min() < 0.012  # one image of about 180
    assert data.facts == {
        "data/train": 1293,
        "data/val": 144,
        "data/test": 360,
        "data/classes": 10,
        "data/split": data.split,
        "data/dropped": 13,
        "data/chance": data.facts["data/chance"],
    }


def test_test_set_of_digits_is_fixed():
    data = digits()
    for other in (
        digits(seed=1),
        digits(split_seed=1),
        digits(split_seed=7, val_fraction=0.3, limit=200),
    ):
        np.testing.assert_array_equal(other.test.pixels, data.test.pixels)
        np.testing.assert_array_equal(other.test.labels, data.test.labels)
    assert digest(data.test.pixels.numpy(), data.test.labels) == "57bb62aa4c27", (
        "published results depend on this test set"
    )


def test_val_follows_split_seed_and_not_seed():
    data = digits()
    assert digits(seed=1).split == data.split
    assert images(digits(seed=1).val) == images(data.val)
    other = digits(split_seed=1)
    assert other.split != data.split
    assert len(images(other.val) & images(data.val)) < 50
    assert len({digits(**setting).split for setting in (
        {}, {"split_seed": 1}, {"val_fraction": 0.2}, {"limit": 500}, {"limit_test": 100})}) == 5  # fmt: skip


def test_limits():
    data = digits(limit=100, limit_test=50, val_fraction=0.2)
    assert [len(split.labels) for split in (data.train, data.val, data.test)] == [80, 20, 50]
    for split, share in ((data.train, 8), (data.val, 2), (data.test, 5)):
        assert np.abs(np.bincount(split.labels) - share).max() <= 1
    full = digits()
    assert images(data.train) | images(data.val) <= images(full.train) | images(full.val)
    assert images(data.test) < images(full.test)
    other = digits(limit=100, limit_test=50, split_seed=1)
    assert images(other.train) | images(other.val) != images(data.train) | images(data.val)
    np.testing.assert_array_equal(other.test.pixels, data.test.pixels)
    for limit in (1437, 5000):  # all images, or more
        assert digits(limit=limit, limit_test=limit).split == full.split
    assert len(digits(limit=1436).train.labels) == 1292


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 9}, r"^data\.limit=9: .* allowed: 10 or more$"),
        ({"limit_test": 9}, r"^data\.limit_test=9: .* allowed: 10 or more$"),
        ({"limit": 10}, r"^data\.val_fraction=0\.1 with data\.limit=10: of 10 images, 9 would stay and 1 "),
        ({"limit": 50}, r"^data\.val_fraction=0\.1 with data\.limit=50: of 50 images, 45 would stay and 5 "),
        ({"val_fraction": 0.001}, r"^data\.val_fraction=0\.001: of 1437 images, 1436 would stay and 1 "),
        ({"val_fraction": 0.999}, r"^data\.val_fraction=0\.999: of 1437 images, 1 would stay and 1436 "),
    ],
)
def test_limits_that_leave_too_little(settings, message):
    with pytest.raises(InputError, match=message):
        digits(**settings)
