"""ImageData: from the name of a data set to the batches of a model."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from data_support import image_data
from make_files import MAKERS, folder, write, write_image
from PIL import Image
from torchvision.transforms.v2 import functional as tvf

from cnnbench.data import augment as aug
from cnnbench.data import datasets
from cnnbench.data.options import Augmentation
from cnnbench.data.sampler import EpochOrder
from cnnbench.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # Python 3.12's fork


GREY = ["mnist", "fashion_mnist", "kmnist", "emnist"]
COLOUR = ["cifar10", "cifar100", "svhn", "stl10"]


def digits(**settings):
    return image_data("digits", "/nonexistent", **settings)


def test_given_constants():
    data = digits(mean=(0.2,), std=(0.5,))
    assert (data.preparation.mean, data.preparation.std) == ([0.2], [0.5])
    pixels = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
    assert data.transform(pixels, None).unique().item() == pytest.approx((1 - 0.2) / 0.5)
    repeated = digits(channels=3, mean=(0.2, 0.3, 0.4), std=(0.5, 0.5, 1.0))
    assert repeated.transform(pixels, None)[0, :, 0, 0].tolist() == pytest.approx([1.6, 1.4, 0.6])
    assert refusal("digits", "", mean=(0.2, 0.2), std=(0.5, 0.5)) == (
        "data.mean=[0.2, 0.2]: of digits with 1 channels; allowed: one value"
    )


def test_the_constants_of_digits_are_those_of_its_images_for_training():
    """It has no test set of its own: its 360 test images are drawn, and must not count."""
    data = digits()
    pixels = torch.cat([data.train.pixels, data.val.pixels]).double() / 255
    assert len(pixels) == 1797 - 360
    assert data.mean == (round(pixels.mean().item(), 4),)
    assert data.std == (round(pixels.std(correction=0).item(), 4),)


def images(root, **settings):
    return image_data(
        "imagefolder", root, **{"size": 16, "in_memory": False, "val_fraction": 0.125, **settings}
    )


def refusal(*arguments, **settings) -> str:
    with pytest.raises(InputError) as caught:
        image_data(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def batches(loader):
    """Return (images, labels) of all batches, concatenated."""
    pixels, labels, *_ = zip(*loader, strict=True)
    return torch.cat(pixels), torch.cat(labels)


# --- every data set -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_every_data_set_to_the_batch(name, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", tmp_path / "none")
    made = MAKERS[name](tmp_path, monkeypatch)
    size = None if name in GREY + COLOUR else 24
    data = image_data(name, tmp_path, size=size, val_fraction=0.5, batch_size=4)
    channels = 1 if name in GREY else 3
    assert (data.channels, data.num_classes, data.classes) == (channels, len(made.classes), made.classes)
    assert sum(len(p.labels) for p in (data.train, data.val, data.test)) == sum(
        len(labels) for _, labels in made.splits.values()
    )
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        pixels, labels, key, _ = next(iter(loader))
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1:] == (channels, data.size, data.size)
        assert labels.dtype == torch.int64
        x = data.transform(pixels, key)
        assert x.dtype == torch.float32
        assert x.shape == pixels.shape


# --- size and channels --------------------------------------------------------------------------


def test_normalised_images_have_mean_0_and_deviation_1():
    data = digits()
    x = data.transform(data.train.pixels, None)
    assert float(x.mean()) == pytest.approx(0, abs=0.02)
    assert float(x.std()) == pytest.approx(1, abs=0.02)


def test_grey_images_for_a_model_that_wants_colour():
    data, grey = digits(channels=3), digits()
    assert (data.channels, grey.channels) == (3, 1)
    pixels, _, key, _ = next(iter(data.train_dataloader()))
    x = data.transform(pixels, key)
    assert x.shape == (64, 3, 8, 8)
    for channel in range(3):
        assert torch.equal(x[:, channel], grey.transform(pixels, key)[:, 0])
    augment = Augmentation(crop=1, flip=True, cutout=3)
    x = digits(channels=3, augment=augment).transform(pixels, 5)
    assert torch.equal(x, digits(augment=augment).transform(pixels, 5).repeat(1, 3, 1, 1))


def test_channels_that_do_not_fit(tmp_path, monkeypatch):
    MAKERS["cifar10"](tmp_path, monkeypatch)
    assert refusal("cifar10", tmp_path, channels=1) == (
        "arch.in_channels=1: the images of cifar10 have 3; allowed: null"
    )
    assert refusal("digits", tmp_path, channels=0) == (
        "arch.in_channels=0: the images of digits have 1; allowed: 1 or more"
    )
    assert image_data("cifar10", tmp_path, channels=3).channels == 3


def test_size_resizes():
    data, small = digits(size=20), digits()
    assert (data.size, small.size) == (20, 8)
    assert data.split == small.split
    for split in ("train", "val", "test"):
        resized, source = getattr(data, split), getattr(small, split)
        assert torch.equal(resized.pixels, tvf.resize(source.pixels, [20, 20], antialias=True))
        assert resized.pixels.dtype == torch.uint8
    assert next(iter(data.train_dataloader()))[0].shape == (64, 1, 20, 20)


def test_size_of_files(tmp_path):
    folder(tmp_path)
    assert refusal("imagefolder", tmp_path) == (
        "data.size=null: the images of imagefolder differ in size; allowed: 4 or more pixels"
    )


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (Augmentation(crop=9), "data.augment.crop=9: the images are 8 pixels wide; allowed: 0 to 8"),
        (Augmentation(cutout=17), "data.augment.cutout=17: the images are 8 pixels wide; allowed: 0 to 16"),
    ],
)
def test_augmentation_that_does_not_fit(augment, message):
    assert refusal("digits", "", augment=augment) == message
    digits(augment=augment, size=32)


# --- augmentation -------------------------------------------------------------------------------


def test_transform_is_its_parts_in_order():
    augment = Augmentation(crop=2, flip=True, cutout=4)
    data = digits(augment=augment)
    pixels = data.train.pixels[:50]
    draws = torch.Generator().manual_seed(77)
    expected = aug.random_flip(aug.random_crop(pixels, 2, draws), draws)
    expected = aug.cutout(aug.normalise(expected, data.mean, data.std), 4, draws)
    source = pixels.clone()
    assert torch.equal(data.transform(pixels, 77), expected)
    assert not torch.equal(data.transform(pixels, 78), expected)
    assert torch.equal(pixels, source)
    plain = aug.normalise(pixels, data.mean, data.std)
    assert torch.equal(data.transform(pixels, None), plain), "evaluation augments nothing"
    assert torch.equal(digits().transform(pixels, 77), plain)


@pytest.mark.parametrize(
    "augment", [Augmentation(resized_crop=(0.3, 0.6)), Augmentation(policy="trivialaugment")]
)
def test_what_is_drawn_for_each_image_acts_in_memory_too(augment):
    """A setting that is part of a run's identity must have an effect."""
    plain, labels = batches(digits(size=16).train_dataloader())
    drawn, same = batches(digits(size=16, augment=augment).train_dataloader())
    assert torch.equal(labels, same)
    assert (plain != drawn).flatten(1).any(1).float().mean() > 0.5
    again, _ = batches(digits(size=16, augment=augment, num_workers=2).train_dataloader())
    assert torch.equal(again, drawn)
    for loader in ("val_dataloader", "test_dataloader"):
        for data in (digits(size=16, augment=augment), digits(size=16)):
            pixels, _ = batches(getattr(data, loader)())
            assert torch.equal(pixels, data.val.pixels if loader[0] == "v" else data.test.pixels)


def test_order_follows_seed():
    def order(**settings):
        return batches(digits(**settings).train_dataloader())[1].tolist()

    assert order() == order() != order(seed=1)
    assert sorted(order(batch_size=1293)) == sorted(digits().train.labels)
    assert len(order()) == 20 * 64, "the last 13 are left for another epoch"
    assert digits().batches == 20


# --- image folders ------------------------------------------------------------------------------


def test_folder_without_a_test_split(tmp_path):
    folder(tmp_path)
    data = images(tmp_path)
    sizes = [len(split.labels) for split in (data.train, data.val, data.test)]
    assert sizes == [21, 3, 6]
    paths = [*data.train.pixels, *data.val.pixels, *data.test.pixels]
    assert sorted(paths) == sorted(tmp_path.rglob("*.png"))
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    for settings in ({"seed": 5}, {"split_seed": 5}, {"limit": 12, "val_fraction": 0.3}):
        assert images(tmp_path, **settings).test.pixels == data.test.pixels
    assert images(tmp_path, split_seed=5).val.pixels != data.val.pixels


def test_folder_with_a_test_part(tmp_path):
    folder(tmp_path / "train")
    folder(tmp_path / "val", count=4)
    data = images(tmp_path, val_fraction=0.1)
    assert [len(split.labels) for split in (data.train, data.val, data.test)] == [27, 3, 12]
    assert {path.parts[-3] for path in data.test.pixels} == {"val"}


def test_folder_with_three_splits(tmp_path):
    for split, count in (("train", 10), ("val", 4), ("test", 3)):
        folder(tmp_path / split, count=count)
    data = images(tmp_path, split_seed=3)
    for name, count in (("train", 30), ("val", 12), ("test", 9)):
        split = getattr(data, name)
        assert len(split.labels) == count
        assert {path.parts[-3] for path in split.pixels} == {name}
    limited = images(tmp_path, limit=12, limit_test=6)
    assert [len(split.labels) for split in (limited.train, limited.val, limited.test)] == [12, 12, 6]


def test_in_memory_is_the_same_picture(tmp_path):
    folder(tmp_path)
    write_image(tmp_path / "cat/large.jpg", (9, 100, 200), (300, 200))
    lazy, decoded = images(tmp_path, num_workers=0), images(tmp_path, in_memory=True)
    assert decoded.train.pixels.shape == (len(lazy.train.pixels), 3, 16, 16)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for here, there in zip(
            batches(getattr(lazy, loader)()), batches(getattr(decoded, loader)()), strict=True
        ):
            assert torch.equal(here, there)


def test_size_and_shape_of_files_do_not_matter(tmp_path):
    sizes = [(5, 5), (1, 1), (40, 12), (7, 90), (16, 16)]
    for label, name in enumerate(("cat", "dog")):
        for i, size in enumerate(sizes * 2):
            write_image(tmp_path / name / f"{i}.png", (label * 255, 0, 9), size)
    for augment in (
        Augmentation(),
        Augmentation(resized_crop=(0.1, 1.0), crop=2, cutout=4, policy="randaugment"),
    ):
        data = images(tmp_path, augment=augment, batch_size=8)
        pixels, labels, key, _ = next(iter(data.train_dataloader()))
        assert data.transform(pixels, key).shape == (8, 3, 16, 16)
        if augment == Augmentation():
            assert torch.equal(pixels[:, 0, 8, 8] > 127, labels == 1)


def test_resized_crop_sees_the_whole_file(tmp_path):
    """White images have a black frame, as wide as the margin that evaluation cuts off."""
    for i in range(20):
        image = Image.new("L", (64, 64), 0)
        image.paste(255, (4, 4, 60, 60))
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
    for resized_crop, framed in ((None, False), ((0.9, 1.0), True)):
        data = images(tmp_path, size=32, augment=Augmentation(resized_crop=resized_crop), batch_size=14)
        for loader in (data.train_dataloader(), data.val_dataloader()):
            dark = batches(loader)[0].amin((1, 2, 3)) < 100
            assert bool(dark.any()) == (framed and len(dark) == 14)


def test_few_images_of_a_class(tmp_path):
    folder(tmp_path, classes=("ant", "bee"))
    for i in range(2):
        write_image(tmp_path / f"cow/{i}.png", (i, i, i))
    assert refusal("imagefolder", tmp_path, size=8) == (
        "data=imagefolder: class cow has 2 of the images that are split into train, val and test; "
        "allowed: 3 or more"
    )
    write_image(tmp_path / "cow/2.png", (9, 9, 9))
    data = images(tmp_path, val_fraction=0.2)
    assert all(set(split.labels) == {0, 1, 2} for split in (data.train, data.val, data.test))
    other = tmp_path / "splits"
    folder(other / "train", classes=("ant", "bee"))
    write_image(other / "train/cow/0.png", (1, 2, 3))
    write_image(other / "test/cow/0.png", (1, 2, 3))
    assert "class cow has 1 of the images that are split into train and val; " in refusal(
        "imagefolder", other, size=8
    )


def test_many_classes_of_three(tmp_path):
    """A fifth of each class is less than one image; the test set still gets one."""
    folder(tmp_path, classes=[f"c{i}" for i in range(8)], count=3)
    data = images(tmp_path, val_fraction=0.5)
    assert [sorted(split.labels) for split in (data.train, data.val, data.test)] == [list(range(8))] * 3


def test_broken_folders_are_refused_before_training(tmp_path):
    assert "no such folder" in refusal("imagefolder", tmp_path / "gone", size=8)
    folder(tmp_path)
    write(tmp_path / "dog/broken.png", b"no image")
    for in_memory in (True, False):
        message = refusal("imagefolder", tmp_path, size=8, in_memory=in_memory)
        assert "1 of 31 files cannot be read as images: dog/broken.png (not an image)" in message


def test_home_is_understood(home):
    folder(home / "pictures")
    assert len(images("~/pictures").train.pixels) == 21


# --- synthetic ----------------------------------------------------------------------------------

SYNTHETIC = {"size": 8, "num_classes": 4, "limit": 100, "limit_test": 40}


def test_synthetic():
    data = image_data("synthetic", "", **SYNTHETIC)
    assert data.facts | {"data/split": ""} == {
        "data/train": 90,
        "data/val": 10,
        "data/test": 40,
        "data/classes": 4,
        "data/split": "",
        "data/dropped": 26,
        "data/chance": 0.25,
    }
    assert (data.channels, data.size) == (3, 8)
    x = data.transform(data.train.pixels, None)
    assert abs(float(x.mean())) < 0.2
    assert 0.7 < float(x.std()) < 1.3
    other = image_data("synthetic", "", seed=1, **SYNTHETIC)
    assert torch.equal(other.train.pixels, data.train.pixels)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_synthetic_needs_its_settings(name):
    assert f"data.{name}" in refusal("synthetic", "", **(SYNTHETIC | {name: None}))


def test_num_classes_is_for_synthetic_alone():
    assert "data.num_classes=3: only data=synthetic" in refusal("digits", "", num_classes=3)


def test_synthetic_with_fewer_images_than_classes():
    assert refusal("synthetic", "", **(SYNTHETIC | {"limit": 3}))


# --- under Lightning ----------------------------------------------------------------------------


class Watch(pl.LightningModule):
    """Model that records its batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {"train": [], "val": [], "test": []}

    def _keep(self, split, batch):
        assert batch[0].dtype == torch.float32
        self.seen[split].append((self.current_epoch, batch[0].clone(), batch[1].clone()))

    def training_step(self, batch, batch_idx):
        self._keep("train", batch)
        return self.weight * 0

    def validation_step(self, batch, batch_idx):
        self._keep("val", batch)

    def test_step(self, batch, batch_idx):
        self._keep("test", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_under_lightning(workers, tmp_path):
    """Each epoch has its own order and draws; val and test are not augmented."""
    folder(tmp_path, suffix="jpg")
    data = images(
        tmp_path,
        num_workers=workers,
        batch_size=4,
        augment=Augmentation(resized_crop=(0.5, 1.0), crop=4, flip=True, cutout=3, policy="randaugment"),
    )
    watch = Watch()
    trainer = pl.Trainer(
        max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, accelerator="cpu", default_root_dir=tmp_path,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(watch, datamodule=data)
    trainer.test(watch, datamodule=data, verbose=False)

    dataset = data.train_dataloader().dataset
    expected = []
    for epoch in range(3):
        for spec in EpochOrder(21, 4, seed=0, shuffle=True, epoch=epoch):
            pixels, labels, key, _ = dataset[spec]
            expected.append((epoch, data.transform(pixels, key), labels))
    assert len(watch.seen["train"]) == len(expected) == 15
    for (epoch, x, y), (epoch2, x2, y2) in zip(watch.seen["train"], expected, strict=True):
        assert epoch == epoch2
        assert torch.equal(y, y2)
        assert torch.equal(x, x2)
    plain = images(tmp_path)
    for split, loader in (("val", plain.val_dataloader()), ("test", plain.test_dataloader())):
        pixels, labels = batches(loader)
        seen = watch.seen[split][: len(watch.seen[split]) // (3 if split == "val" else 1)]
        assert torch.equal(torch.cat([x for _, x, _ in seen]), plain.transform(pixels, None))
        assert torch.equal(torch.cat([y for _, _, y in seen]), labels)
