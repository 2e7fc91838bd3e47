"""Sets whose classes differ in size: draws in which they do not, and what is said of empty classes."""

from collections import Counter

import numpy as np
import pytest
import torch
from running import TINY, runs, the_run
from torchvision.transforms import v2

from cnnbench.data.balance import class_sizes, class_weights
from cnnbench.data.images import Images
from cnnbench.data.loader import MemoryImages, loader
from cnnbench.data.sampler import EpochOrder, repeats
from cnnbench.errors import InputError
from cnnbench.run_store.run import Run

SIZES = (900, 90, 10)
LABELS = torch.from_numpy(np.random.default_rng(0).permutation(np.repeat([0, 1, 2], SIZES)))


def order(**options):
    return EpochOrder(1000, 64, seed=1, shuffle=True, balanced=LABELS, **options)


def drawn(epochs, **options):
    return [i for epoch in range(epochs) for spec in order(epoch=epoch, **options) for i in spec.indices]


def test_classes_are_equally_likely_and_so_are_the_images_of_each():
    indices = drawn(60)
    n = len(indices)
    assert n == 60 * 960  # as many as without it
    by_class = Counter(LABELS[indices].tolist())
    for k, size in enumerate(SIZES):
        assert abs(by_class[k] - n / 3) < 4 * (n * 2 / 9) ** 0.5
        counts = torch.bincount(torch.tensor(indices), minlength=1000)[k == LABELS].double()
        expected = by_class[k] / size
        # The sum of squares over the expectation is distributed like chi squared, of mean and variance below.
        assert abs(((counts - expected) ** 2 / expected).sum() - (size - 1)) < 5 * (2 * size) ** 0.5


def test_it_follows_from_seed_and_epoch_and_can_start_anywhere():
    torch.manual_seed(0)
    first = list(order(epoch=3))
    torch.manual_seed(1)
    assert list(order(epoch=3)) == first != list(order(epoch=4))
    assert list(order(epoch=3, start=7)) == first[7:]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_batches_of_one(world):
    shards = zip(*(order(rank=rank, world=world) for rank in range(world)), strict=True)
    for batch, shard in zip(order(), shards, strict=True):
        assert [i for one in shard for i in one.indices] == batch.indices
        assert [i for one in shard for i in one.earlier] == batch.earlier
        assert {one.total for one in shard} == {batch.total}


def test_repeats():
    assert repeats(torch.tensor([5, 2, 5, 5, 0, 2])).tolist() == [0, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_comes_again_is_augmented_anew(workers):
    """In the same way whichever worker does it."""
    pixels = torch.randint(0, 256, (1000, 3, 8, 8), dtype=torch.uint8)
    images = MemoryImages(pixels, LABELS, v2.RandomResizedCrop(8, antialias=True), seed=4)
    seen: dict[int, list[torch.Tensor]] = {}
    for spec, batch in zip(order(), loader(images, order(), workers=workers, pin=False), strict=True):
        assert torch.equal(batch[0], images[spec][0])
        for index, image in zip(spec.indices, batch[0], strict=True):
            seen.setdefault(index, []).append(image)
    again = [versions for versions in seen.values() if len(versions) > 1]
    assert len(again) > 10
    different = [len({bytes(v.numpy()) for v in versions}) > 1 for versions in again]
    assert np.mean(different) > 0.9  # few crops of so small an image differ


def test_a_class_without_images_is_named():
    images = Images(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), np.array([0, 0, 2, 2]), ["a", "b", "c"])
    with pytest.raises(InputError, match=r"data.sampler=balanced: no training image of class b; allowed: "):
        class_sizes(images, "data.sampler=balanced")
    with pytest.raises(InputError, match=r"data.class_weights=balanced: no training image of class b"):
        class_weights("balanced", images)
    assert class_weights([1, 2, 3], images).tolist() == [1, 2, 3]


def test_the_settings(cli):
    assert cli("train", *TINY, "data.sampler=balanced", "trainer.max_epochs=1")[0] == 0
    (row,) = Run(the_run()).rows()
    assert row["time/images"] == 256
    for word, said in (
        ("data.sampler=random", "data.sampler=random: should be 'shuffle' or 'balanced'"),
        ("data.class_weights=balanced", "data.class_weights=balanced: not with data.sampler=balanced"),
    ):
        code, _, err = cli("train", *TINY, "output_dir=wrong", "data.sampler=balanced", word)
        assert (code, said in " ".join(err.split())) == (2, True), err
    assert not runs("wrong")
