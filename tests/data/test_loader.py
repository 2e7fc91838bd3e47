"""Batches: the order of an epoch, random transforms of images, and independence of workers."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from make_files import noise, write_image
from torchvision.transforms import v2

from cnnbench.data.decoded import Decoder, decode_all
from cnnbench.data.image_file import Memory
from cnnbench.data.loader import FileImages, MemoryImages, alternating_flips, loader
from cnnbench.data.options import Augmentation
from cnnbench.data.sampler import BatchSpec, EpochOrder
from cnnbench.data.transforms import decode, eval_transform, train_transforms

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # Python 3.12's fork
POLICIES = ["randaugment", "trivialaugment"]


def specs(order):
    return [(spec.epoch, spec.key, tuple(spec.indices)) for spec in order]


# --- order --------------------------------------------------------------------------------------


def test_order_follows_from_seed_and_epoch_alone():
    def order(seed, epoch):
        return specs(EpochOrder(100, 8, seed=seed, shuffle=True, epoch=epoch))

    torch.manual_seed(0)
    first = order(3, 5)
    torch.manual_seed(1)
    assert order(3, 5) == first
    assert [spec[2] for spec in order(3, 6)] != [spec[2] for spec in first]
    assert [spec[2] for spec in order(4, 5)] != [spec[2] for spec in first]
    keys = {key for seed in (3, 4) for epoch in (5, 6) for _, key, _ in order(seed, epoch)}
    assert len(keys) == 4 * 12, "every batch draws on its own"
    assert all(0 <= key < 2**63 for key in keys)


def test_every_image_comes_once_an_epoch():
    indices = [i for spec in EpochOrder(96, 8, seed=0, shuffle=True) for i in spec.indices]
    assert sorted(indices) == list(range(96))
    assert indices != sorted(indices)


def test_set_epoch():
    order = EpochOrder(50, 5, seed=1, shuffle=True)
    before = specs(order)
    order.set_epoch(2)
    assert specs(order) == specs(EpochOrder(50, 5, seed=1, shuffle=True, epoch=2)) != before
    order.set_epoch(0)
    assert specs(order) == before


def test_start_skips_the_first_batches_of_one_epoch():
    batches = specs(EpochOrder(50, 5, seed=1, shuffle=True))
    for start in (0, 3, 9, 10):
        order = EpochOrder(50, 5, seed=1, shuffle=True, start=start)
        assert len(order) == 10, "Lightning counts an epoch's batches from its first"
        assert specs(order) == batches[start:]
        assert specs(order) == batches, "the next epoch is complete"


@pytest.mark.parametrize(
    ("count", "train", "evaluation"),
    [(8, [8], [8]), (9, [8], [4, 5]), (15, [8], [7, 8]), (16, [8, 8], [8, 8]), (7, [7], [7]), (1, [1], [1])],
)
def test_last_batch(count, train, evaluation):
    """Training drops an incomplete last batch, unless it is the only one."""
    for shuffle, expected in ((True, train), (False, evaluation)):
        order = EpochOrder(count, 8, shuffle=shuffle)
        assert [len(spec.indices) for spec in order] == expected
        assert len(order) == len(expected)


def test_evaluation_is_in_order():
    assert [i for spec in EpochOrder(20, 8) for i in spec.indices] == list(range(20))


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("count", [4, 5, 11, 24, 25, 63, 100])
def test_processes_share_all_images_and_wait_for_none(count, world):
    shards = [list(EpochOrder(count, 24, rank=rank, world=world)) for rank in range(world)]
    assert [i for shard in shards for spec in shard for i in spec.indices] == list(range(count))
    assert len({len(shard) for shard in shards}) == 1
    assert all(spec.indices for shard in shards for spec in shard)


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("count", [24, 25, 63, 100])
def test_processes_share_each_training_batch(count, world):
    batches = list(EpochOrder(count, 24, seed=5, shuffle=True))
    shards = [EpochOrder(count, 24, seed=5, shuffle=True, rank=rank, world=world) for rank in range(world)]
    for batch, *shares in zip(batches, *shards, strict=True):
        assert [i for spec in shares for i in spec.indices] == batch.indices
        assert {spec.key for spec in shares} == {batch.key}
        assert max(len(p.indices) for p in shares) - min(len(p.indices) for p in shares) <= 1


# --- in memory ----------------------------------------------------------------------------------


def memory(transform=None, seed=0, channels=3):
    pixels = torch.from_numpy(noise(40, channels, 16, 16))
    return MemoryImages(pixels, torch.arange(40), transform, seed)


def policy(name):
    return v2.Compose(train_transforms(16, Augmentation(policy=name)))


def run(dataset, *, workers=0, epoch=0, seed=0, batch_size=8):
    order = EpochOrder(len(dataset.labels), batch_size, seed=seed, shuffle=True, epoch=epoch)
    images, labels, keys, _ = zip(*loader(dataset, order, workers=workers, pin=False), strict=True)
    return torch.cat(images), torch.cat(labels), list(keys)


def test_batches_from_memory():
    dataset = memory()
    order = EpochOrder(40, 8, seed=0, shuffle=True)
    for (images, labels, key, _), spec in zip(
        loader(dataset, order, workers=0, pin=False), order, strict=True
    ):
        assert images.dtype == torch.uint8
        assert images.shape == (8, 3, 16, 16)
        assert labels.tolist() == spec.indices
        assert torch.equal(images, dataset.pixels[spec.indices])
        assert key == spec.key
        images.fill_(0)
    assert dataset.pixels.any(), "batches are copies"


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_policies_depend_on_seed_epoch_and_image_alone(name, channels):
    dataset = memory(policy(name), channels=channels)
    source = dataset.pixels.clone()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    images, labels, *_ = run(dataset)
    assert torch.equal(dataset.pixels, source)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    dataset[next(iter(EpochOrder(40, 8)))]
    assert torch.equal(torch.get_rng_state(), state), "the global generator is as it was"
    assert not torch.equal(state, before)
    changed = (images != source[labels]).flatten(1).any(1).float().mean()
    assert changed > 0.6
    # The same for an image in any batch
    again, order, _ = run(dataset, seed=3, batch_size=5)
    assert torch.equal(again[order.argsort()], images[labels.argsort()])
    for other in (
        run(dataset, epoch=1),
        run(MemoryImages(source, dataset.labels, dataset.transform, seed=1)),
    ):
        assert not torch.equal(other[0][other[1].argsort()], images[labels.argsort()])


def test_policy_and_resized_crop_are_torchvision_s():
    augmentation = Augmentation(resized_crop=(0.3, 0.8), policy="trivialaugment", jitter=0.4)
    dataset = memory(v2.Compose(train_transforms(16, augmentation)))
    images, *_ = run(dataset)
    assert images.shape == (40, 3, 16, 16)
    names = [type(step).__name__ for step in train_transforms(16, augmentation)]
    assert names == ["RandomResizedCrop", "TrivialAugmentWide", "ColorJitter"]
    names = [type(step).__name__ for step in train_transforms(16, Augmentation(policy="randaugment"))]
    assert names == ["RandAugment"]
    assert train_transforms(16, Augmentation()) == []


def test_alternating_flips_show_each_image_both_ways_in_any_two_epochs():
    pixels = torch.from_numpy(noise(400, 3, 4, 4))
    dataset = MemoryImages(pixels, torch.arange(400), flips=alternating_flips("alternating", 400, seed=3))

    def epoch(number):
        return dataset[BatchSpec(number, 0, 400, list(range(400)), [0] * 400)][0]

    first, second = epoch(0), epoch(1)
    mirrored = (first == pixels.flip(3)).flatten(1).all(1)
    assert 160 < mirrored.sum() < 240
    assert torch.equal(first[~mirrored], pixels[~mirrored])
    assert torch.equal(second, first.flip(3))
    assert torch.equal(epoch(6), first)
    assert not torch.equal(alternating_flips("alternating", 400, seed=4), dataset.flips)
    assert alternating_flips(True, 400, seed=3) is None


def test_resized_crop_cuts_out_the_share_that_is_asked_for():
    """A ramp shows which share of its width and height is kept."""
    ramp = (torch.arange(64).float() * 4).to(torch.uint8)
    image = torch.stack(
        [ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.zeros(64, 64, dtype=torch.uint8)]
    )
    dataset = MemoryImages(image.expand(200, 3, 64, 64), torch.zeros(200, dtype=torch.int64))
    dataset.transform = v2.Compose(train_transforms(64, Augmentation(resized_crop=(0.25, 0.5))))
    images, *_ = run(dataset)
    low, high = images.flatten(2).float().min(2).values, images.flatten(2).float().max(2).values
    area = ((high - low)[:, 0] / 252) * ((high - low)[:, 1] / 252)
    assert 0.2 < area.min() < 0.3
    assert 0.45 < area.max() < 0.55


# --- from files ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Write twelve JPEGs of different sizes and shapes."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    from PIL import Image

    for i in range(12):
        blocks = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        blocks.resize((30 + 5 * i, 70 - 4 * i), Image.Resampling.BICUBIC).save(folder / f"{i:02}.jpg")
    return sorted(folder.iterdir())


def files(paths, name="none", resized_crop=(0.3, 1.0), seed=0):
    transform = v2.Compose(train_transforms(24, Augmentation(resized_crop=resized_crop, policy=name)))
    return FileImages(paths, torch.arange(12), 24, transform, Memory(), seed)


@pytest.mark.parametrize("name", ["none", *POLICIES])
def test_workers_change_nothing(name, paths):
    """Also in later epochs, for which Lightning keeps the workers."""
    dataset, results = files(paths, name), {}
    for workers in (0, 2):
        torch.manual_seed(workers)
        order = EpochOrder(12, 5, seed=0, shuffle=True)
        batches = loader(dataset, order, workers=workers, pin=False)
        assert batches.persistent_workers == (workers > 0)
        epochs = []
        for epoch in (0, 1, 4):
            order.set_epoch(epoch)
            epochs.append(list(batches))
        results[workers] = epochs
    for here, there in zip(results[0], results[2], strict=True):
        assert len(here) == len(there) == 2
        for (images, labels, key, _), (images2, labels2, key2, _) in zip(here, there, strict=True):
            assert torch.equal(images, images2)
            assert torch.equal(labels, labels2)
            assert key == key2
    assert images.dtype == torch.uint8
    assert images.shape == (5, 3, 24, 24)
    first, second = (torch.cat([batch[0] for batch in epoch]) for epoch in results[2][:2])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", POLICIES)
def test_policies_in_workers_change_nothing(name):
    dataset = memory(policy(name))
    for here, there in zip(run(dataset), run(dataset, workers=2), strict=True):
        assert here == there if isinstance(here, list) else torch.equal(here, there)


def test_workers_that_resume_within_an_epoch(paths):
    dataset = files(paths)
    complete = list(loader(dataset, EpochOrder(12, 3, seed=0, shuffle=True, epoch=3), workers=0, pin=False))
    order = EpochOrder(12, 3, seed=0, shuffle=True, epoch=3, start=2)
    rest = list(islice(loader(dataset, order, workers=2, pin=False), 2))
    for (images, labels, key, _), (images2, labels2, key2, _) in zip(complete[2:], rest, strict=True):
        assert torch.equal(images, images2)
        assert torch.equal(labels, labels2)
        assert key == key2


def test_files_leave_the_global_generator_alone(paths):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    files(paths)[next(iter(EpochOrder(12, 4)))]
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_takes_the_centre(tmp_path):
    """It keeps 7/8 of the shorter side: of 64 x 96 pixels, the central 56 x 56."""
    image = torch.zeros(3, 64, 96, dtype=torch.uint8)
    image[:, 4:60, 20:76] = 200
    cut = eval_transform(28, 0.875)(image)
    assert cut.shape == (3, 28, 28)
    assert cut[:, 1:-1, 1:-1].eq(200).all()
    assert eval_transform(28, 0.875)(image[:, :, 16:80].transpose(1, 2)).float().mean() > 180
    assert eval_transform(56, 0.875)(image).eq(200).all(), "nothing to resize, only to cut"


def test_decode_all_is_decode_of_each(paths, capfd):
    threads = torch.get_num_threads()
    cut = eval_transform(24, 0.875)
    pixels = decode_all(paths, Decoder(lambda path: decode(path, 24, cut), (3, 24, 24), ""))
    assert torch.get_num_threads() == threads
    assert pixels.dtype == torch.uint8
    for path, image in zip(paths, pixels, strict=True):
        assert torch.equal(image, cut(decode(path, 24)))


def test_large_jpegs_are_decoded_at_a_fraction(tmp_path):
    path = write_image(tmp_path / "large.jpg", (10, 200, 30), (1600, 1200))
    assert decode(path, 32).shape == (3, 150, 200)
    assert decode(path, 300).shape == (3, 600, 800)
    assert decode(path, 700).shape == (3, 1200, 1600)
    path = write_image(tmp_path / "large.png", (10, 200, 30), (800, 600))
    assert decode(path, 32).shape == (3, 600, 800)
