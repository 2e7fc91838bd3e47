"""Built-in data sets as folders of PNG files: the same pixels and labels as from torchvision's files."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from data_support import image_data
from make_files import MAKERS
from PIL import Image
from running import the_run
from torchvision import datasets as tv

from cnnbench.data import datasets, png_sets
from cnnbench.data.datasets import load
from cnnbench.data.png_sets import PUBLISHED, image_folder
from cnnbench.errors import InputError
from cnnbench.run_store.run import Run

pytestmark = pytest.mark.usefixtures("no_debian")


@pytest.fixture
def published(monkeypatch):
    """`published(name, train, test)`: let a data set have so few images."""

    def few(name, train, test):
        monkeypatch.setitem(png_sets.PUBLISHED, name, replace(PUBLISHED[name], train=train, test=test))

    return few


def write(folder, splits, names):
    """Write the images of `splits` as PNG files into folders named `names`."""
    for part, (pixels, labels) in splits.items():
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            path = folder / part / names[label] / f"{i:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)


def in_order(images):
    """Return labels and pixels, sorted by both."""
    rows = [
        (int(label), image.numpy().tobytes())
        for label, image in zip(images.labels, images.pixels, strict=True)
    ]
    return sorted(rows)


def refusal(name, root):
    with pytest.raises(InputError) as caught:
        load(name, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def cifar(tmp_path, monkeypatch, published):
    """CIFAR-10 of a few images: torchvision's files below `tv`, the same as PNG files below `png`."""
    made = MAKERS["cifar10"](tmp_path / "tv", monkeypatch)
    write(tmp_path / "png/cifar10", made.splits, made.classes)
    published("cifar10", *(len(labels) for _, labels in made.splits.values()))
    return tmp_path


# --- pixels ---------------------------------------------------------------------------------------


def test_equal_to_torchvision_s_files(cifar):
    ours, theirs = (image_data("cifar10", cifar / where, val_fraction=0.2) for where in ("png", "tv"))
    assert ours.preparation == theirs.preparation
    loaded, other = load("cifar10", cifar / "png"), load("cifar10", cifar / "tv")
    for part in ("train", "test"):
        assert loaded[part].classes == other[part].classes
        assert in_order(loaded[part]) == in_order(other[part])
    pixels, *_ = next(iter(ours.test_dataloader()))
    assert torch.equal(pixels, ours.test.pixels[: len(pixels)])


def test_equal_to_the_same_folder_as_image_folder(cifar):
    ours = image_data("cifar10", cifar / "png", val_fraction=0.2)
    root = cifar / "png/cifar10"
    theirs = image_data("imagefolder", root, size=32, val_fraction=0.2, in_memory=False)
    assert ours.split == theirs.split
    for split in ("val", "test"):
        loaders = [getattr(data, f"{split}_dataloader")() for data in (ours, theirs)]
        for mine, other in zip(*loaders, strict=True):
            assert torch.equal(mine[0], other[0])
            assert torch.equal(mine[1], other[1])


@pytest.mark.parametrize("name", sorted(PUBLISHED))
@pytest.mark.parametrize("named", ["names", "numbers"])
def test_every_set_and_both_ways_to_name_classes(name, named, tmp_path, published):
    row, about = datasets.DATASETS[name], PUBLISHED[name]
    count = len(about.classes)
    shape = (len(row.mean), row.size, row.size)
    random = np.random.default_rng(0)
    splits = {
        part: (random.integers(0, 256, (count, *shape), dtype=np.uint8), random.permutation(count))
        for part in ("train", "test")
    }
    names = [name.replace("/", "_") for name in about.classes]
    write(tmp_path / name, splits, names if named == "names" else [str(k) for k in range(count)])
    published(name, count, count)
    loaded = load(name, tmp_path)
    for part, (pixels, labels) in splits.items():
        images = loaded[part]
        assert images.classes == list(about.classes)
        assert sorted(images.labels) == list(range(count))
        for label, image in zip(images.labels, images.pixels, strict=True):
            assert np.array_equal(image.numpy(), pixels[labels.tolist().index(label)])


def test_names_of_classes_are_torchvision_s():
    assert PUBLISHED["mnist"].classes == tv.MNIST.classes
    assert PUBLISHED["fashion_mnist"].classes == tv.FashionMNIST.classes
    assert PUBLISHED["kmnist"].classes == tv.KMNIST.classes
    assert PUBLISHED["emnist"].classes == tv.EMNIST.classes_split_dict["balanced"]
    for name, about in PUBLISHED.items():
        assert len(about.classes) == len(set(about.classes)) == datasets.DATASETS[name].classes


# --- which files are taken ------------------------------------------------------------------------


def test_torchvision_s_files_come_first(cifar, monkeypatch):
    (cifar / "tv/cifar10").symlink_to(cifar / "png/cifar10")
    assert image_folder("cifar10", cifar / "tv") is None
    assert image_folder("cifar10", cifar / "png") == cifar / "png/cifar10"
    (cifar / "png/cifar-10-batches-py").mkdir()  # torchvision leaves it after a download that failed
    assert image_folder("cifar10", cifar / "png") == cifar / "png/cifar10"


@pytest.mark.parametrize("made", ["cifar10", "cifar10/airplane", "train/airplane"])
def test_another_folder_is_no_data_set(made, tmp_path):
    (tmp_path / made).mkdir(parents=True)
    assert image_folder("cifar10", tmp_path) is None
    expected = f"{tmp_path}/cifar10/{{train,test}}/<class>/*.png"
    assert expected in refusal("cifar10", tmp_path)


def test_a_run_says_what_it_takes_and_is_another_run(cifar, cli):
    small = ["data=cifar10", "trainer.max_epochs=1", "arch.width=0.25", "arch.blocks=2", "logger=none"]
    code, _, err = cli("train", *small, f"data.root={cifar / 'png'}")
    assert code == 0, err
    assert f"images: the PNG files of {cifar / 'png/cifar10'}\n" in err
    run = Run(the_run())
    content = run.choice()["data"]["content"]
    code, _, err = cli("evaluate", run.path)
    assert code == 0, err
    assert f"images: the PNG files of {cifar / 'png/cifar10'}\n" in err
    (cifar / "png/cifar-10-batches-py").symlink_to(cifar / "tv/cifar-10-batches-py")
    code, _, err = cli("train", *small, f"data.root={cifar / 'png'}", "output_dir=other")
    assert code == 0, err
    assert f"torchvision's {cifar / 'png/cifar-10-batches-py'}; not read: {cifar / 'png/cifar10'}\n" in err
    assert len(content) == 32
    code, _, err = cli("evaluate", run.path)
    assert code == 0, "the test images are the same"
    assert f"torchvision's {cifar / 'png/cifar-10-batches-py'}; not read: {cifar / 'png/cifar10'}\n" in err
    assert "content" not in Run(the_run("other")).choice()["data"]


# --- what is wrong --------------------------------------------------------------------------------


def test_other_classes(cifar):
    (cifar / "png/cifar10/train/bird").rename(cifar / "png/cifar10/train/birds")
    (cifar / "png/cifar10/test/bird").rename(cifar / "png/cifar10/test/birds")
    message = refusal("cifar10", cifar / "png")
    assert f"{cifar / 'png/cifar10'}/test: no class is called birds; no folder of bird; allowed: " in message
    assert message.endswith(f"allowed: {', '.join(PUBLISHED['cifar10'].classes)}, or 0 to 9")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_of_another_name_in_one_part(part, cifar):
    (cifar / f"png/cifar10/{part}/bird").rename(cifar / f"png/cifar10/{part}/brid")
    message = refusal("cifar10", cifar / "png")
    where = f"data=cifar10: {cifar / 'png/cifar10'}/{part}"
    assert message.startswith(f"{where}: no class is called brid; no folder of bird; allowed: airplane, ")
    shutil.rmtree(cifar / f"png/cifar10/{part}/brid")
    assert refusal("cifar10", cifar / "png").startswith(f"{where}: no folder of bird; allowed: airplane, ")
    for i, path in enumerate(sorted((cifar / f"png/cifar10/{part}").iterdir())):
        path.rename(path.with_name(f"n{i}"))
    assert refusal("cifar10", cifar / "png").startswith(f"{where}: class folders n0, n1, n2, ")


@pytest.mark.parametrize(
    ("renamed", "seen"), [("test_", "test_, train"), ("val", "train, val"), ("../elsewhere", "train")]
)
def test_other_parts(renamed, seen, cifar):
    (cifar / "png/cifar10/test").rename(cifar / "png/cifar10" / renamed)
    expected = f"data=cifar10: {cifar / 'png/cifar10'}: has {seen}; allowed: train and test"
    assert refusal("cifar10", cifar / "png") == expected


def test_other_numbers_of_images(cifar):
    next((cifar / "png/cifar10/test").rglob("*.png")).unlink()
    assert "19 test images; allowed: the published 20 (data=imagefolder" in refusal("cifar10", cifar / "png")


def test_another_size(cifar):
    path = next((cifar / "png/cifar10/train/cat").iterdir())
    Image.new("RGB", (40, 30)).save(path)
    assert refusal("cifar10", cifar / "png") == (f"data=cifar10: {path}: 40 x 30 pixels; allowed: 32 x 32")


def test_lossy_files_and_broken_ones(cifar):
    path = next((cifar / "png/cifar10/train/cat").iterdir())
    path.write_bytes(b"no image")
    assert refusal("cifar10", cifar / "png") == f"data=cifar10: {path}: not an image"
    Image.new("RGB", (32, 32)).save(path, format="JPEG")
    assert f"{path}: no PNG, whatever its name; allowed: PNG" in refusal("cifar10", cifar / "png")
    path.rename(path.with_suffix(".jpg"))
    assert f"train/cat/{path.stem}.jpg: no PNG; allowed: PNG" in refusal("cifar10", cifar / "png")
