"""Table of the data sets: how each is read and normalised.

A new data set is a row in `DATASETS` and a file in `conf/data`. Its loader returns the splits that the data
set has: `train`, `test` and sometimes `val`, or `all` if it has no test set.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnnbench.data.image_file import Memory
from cnnbench.data.images import Images, Splits, files, from_arrays
from cnnbench.data.png_sets import PUBLISHED, image_folder
from cnnbench.errors import InputError
from cnnbench.seeds import mix

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class DataSet:
    """One row of the table.

    Attributes:
        load: reads the splits; called with data.root.
        size: side of the images in pixels; None: sizes differ, or are a setting.
        classes: number of classes; None: that of the folder, or a setting.
        mean, std: of the training images per channel, in [0, 1].
        files: expected below data.root, for errors.
        images: folder below data.root with image files; None: arrays.
    """

    load: Callable[[Path], Splits]
    size: int | None
    classes: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: str = ""
    images: str | None = None


def _digits(root: Path) -> Splits:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return {"all": from_arrays(pixels, bunch.target, [str(name) for name in bunch.target_names])}


def _fetched(name: str, root: Path, **options: Any) -> Any:
    """Return a data set of torchvision, downloaded if it is not there."""
    from torchvision import datasets as tv

    from cnnbench.data.download import fetch

    return fetch(getattr(tv, name), root, **options)


def _image_files(name: str) -> Callable[[Path], Splits]:
    def load(root: Path) -> Splits:
        from cnnbench.data import image_sets

        splits: Splits = getattr(image_sets, name)(root)
        return splits

    return load


def _mnist(name: str, transpose: bool = False, **options: Any) -> Callable[[Path], Splits]:
    def load(root: Path) -> Splits:
        splits = {}
        for split in ("train", "test"):
            images = _fetched(name, root, train=split == "train", **options)
            data = images.data.transpose(1, 2) if transpose else images.data
            splits[split] = from_arrays(data, images.targets, images.classes)
        return splits

    return load


def _fashion_mnist(root: Path) -> Splits:
    raw, debian = root / "FashionMNIST" / "raw", DEBIAN_FASHION_MNIST
    kinds = ("images-idx3", "labels-idx1")
    names = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in kinds]
    if all((raw / name).is_file() for name in names) or not debian.is_dir():
        return _mnist("FashionMNIST")(root)
    from torchvision.datasets import FashionMNIST

    pixels, labels, test_pixels, test_labels = (_idx(debian / f"{name}.gz") for name in names)
    return {
        "train": from_arrays(pixels, labels, FashionMNIST.classes),
        "test": from_arrays(test_pixels, test_labels, FashionMNIST.classes),
    }


def _idx(path: Path) -> Any:
    """Read a gzipped IDX file of bytes as an array (the format is described on MNIST's page)."""
    try:
        data = gzip.decompress(path.read_bytes())
        dims = data[3]
        shape = np.frombuffer(data, ">i4", count=dims, offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape).copy()
    except (OSError, EOFError, zlib.error, IndexError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _cifar(name: str) -> Callable[[Path], Splits]:
    def load(root: Path) -> Splits:
        read = {split: _fetched(name, root, train=split == "train") for split in ("train", "test")}
        return {
            split: from_arrays(images.data.transpose(0, 3, 1, 2), images.targets, images.classes)
            for split, images in read.items()
        }

    return load


def _svhn(root: Path) -> Splits:
    read = {split: _fetched("SVHN", root, split=split) for split in ("train", "test")}
    classes = [str(digit) for digit in range(10)]
    return {split: from_arrays(images.data, images.labels, classes) for split, images in read.items()}


def _stl10(root: Path) -> Splits:
    from cnnbench.data.download import STL10, fetch

    read = {split: fetch(STL10, root, split=split) for split in ("train", "test")}
    return {split: from_arrays(images.data, images.labels, images.classes) for split, images in read.items()}


def synthetic(size: int, num_classes: int, count: int, count_test: int, seed: int) -> Splits:
    """Return colour images of `num_classes` fixed random patterns under noise, equally many of each.

    Args:
        size: side in pixels.
        num_classes: number of patterns.
        count, count_test: images for train (and val), and for test.
        seed: of patterns and noise.
    """
    generator = torch.Generator().manual_seed(mix("synthetic", seed))
    pattern = torch.rand((num_classes, 3, size, size), generator=generator)

    def draw(n: int) -> Images:
        labels = torch.arange(n) % num_classes
        noise = torch.randn((n, 3, size, size), generator=generator)
        pixels = ((pattern[labels] + 0.5 * noise).clamp(0, 1) * 255).to(torch.uint8)
        return from_arrays(pixels, labels, [f"pattern {i}" for i in range(num_classes)])

    return {"train": draw(count), "test": draw(count_test)}


def _not_loaded(root: Path) -> Splits:
    raise InputError("data=synthetic is drawn, not read")


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

GREY_FILES = "{train,t10k}-{images-idx3,labels-idx1}-ubyte"


DATASETS: dict[str, DataSet] = {
    "digits": DataSet(_digits, 8, 10, (0.3058,), (0.3762,)),
    "mnist": DataSet(_mnist("MNIST"), 28, 10, (0.1307,), (0.3081,), f"MNIST/raw/{GREY_FILES}"),
    "fashion_mnist": DataSet(_fashion_mnist, 28, 10, (0.2860,), (0.3530,), f"FashionMNIST/raw/{GREY_FILES}"),
    "kmnist": DataSet(_mnist("KMNIST"), 28, 10, (0.1918,), (0.3483,), f"KMNIST/raw/{GREY_FILES}"),
    "emnist": DataSet(
        _mnist("EMNIST", transpose=True, split="balanced"), 28, 47, (0.1751,), (0.3332,),
        "EMNIST/raw/emnist-balanced-{train,test}-{images-idx3,labels-idx1}-ubyte",
    ),
    "cifar10": DataSet(
        _cifar("CIFAR10"), 32, 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
        "cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}",
    ),
    "cifar100": DataSet(
        _cifar("CIFAR100"), 32, 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
        "cifar-100-python/{train,test,meta}",
    ),
    "svhn": DataSet(
        _svhn, 32, 10, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), "{train,test}_32x32.mat"
    ),
    "stl10": DataSet(
        _stl10, 96, 10, (0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713),
        "stl10_binary/{train_X.bin,train_y.bin,test_X.bin,test_y.bin,class_names.txt}",
    ),
    "imagenette": DataSet(
        _image_files("imagenette"), None, 10, *IMAGENET,
        "imagenette2-160/{train,val}/<class>/*.JPEG", "imagenette2-160",
    ),
    "flowers102": DataSet(
        _image_files("flowers102"), None, 102, *IMAGENET,
        "flowers-102/{jpg/*.jpg,imagelabels.mat,setid.mat}", "flowers-102",
    ),
    "pets": DataSet(
        _image_files("pets"), None, 37, *IMAGENET,
        "oxford-iiit-pet/{images/*.jpg,annotations/{trainval,test}.txt}", "oxford-iiit-pet/images",
    ),
    "imagefolder": DataSet(_image_files("imagefolder"), None, None, *IMAGENET, images=""),
    "synthetic": DataSet(_not_loaded, None, None, (0.5,) * 3, (0.35,) * 3),
}  # fmt: skip


def dataset(name: str) -> DataSet:
    """Return the row of a data set.

    Raises:
        InputError: there is none of this name.
    """
    if name not in DATASETS:
        raise InputError(f"data.name={name}: no such data set; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def channels(name: str, in_channels: int | None) -> int:
    """Return the number of channels of a model's input: `in_channels`, or that of the data set if it is None.

    Raises:
        InputError: the images have another number, and are not grey: only grey ones can be repeated.
    """
    own = len(dataset(name).mean)
    if in_channels is not None and (in_channels < 1 or own not in (1, in_channels)):
        allowed = "1 or more" if own == 1 else "null"
        raise InputError(
            f"arch.in_channels={in_channels}: the images of {name} have {own}; allowed: {allowed}"
        )
    return in_channels or own


def check_classes(name: str, num_classes: int | None) -> None:
    """Check that the number of classes is a setting of the data set.

    Raises:
        InputError: it is not, but `num_classes` is given.
    """
    if num_classes is not None and name != "synthetic":
        raise InputError(f"data.num_classes={num_classes}: only data=synthetic has it as a setting")


def load(name: str, root: Path, size: int | None = None, memory: Memory | None = None) -> Splits:
    """Read a data set, downloading missing files; check its image files as `check_images` does.

    Raises:
        InputError: an unknown name; files that are missing and cannot be downloaded, or are broken; fewer
            than two classes; labels out of range.
    """
    from cnnbench.data import image_sets
    from cnnbench.data.download import DownloadError, sentence
    from cnnbench.data.image_folder import check_images

    row = dataset(name)
    folder = image_folder(name, root)
    expected = f"expected {root}/{row.files}"
    if name in PUBLISHED:
        expected += f" or {root}/{name}/{{train,test}}/<class>/*.png"
    try:
        if name in PUBLISHED and folder is not None:
            return image_sets.pngs(name, folder, row.size or 0, len(row.mean), memory or Memory())
        splits = row.load(root)
        if row.images is not None:
            check_images(root / row.images, files(splits), size, memory or Memory())
    except InputError:
        raise
    except DownloadError as error:
        raise InputError(
            f"data={name}: not in data.root={root}, or not intact, and cannot be downloaded ({error}); "
            f"{expected}"
        ) from error
    except Exception as error:  # broken files: pickle, zlib, scipy and torchvision raise many kinds
        raise InputError(
            f"data={name}: files in data.root={root} cannot be read ({sentence(error)}); {expected}, "
            "or delete them to download them again"
        ) from error
    for split, images in splits.items():
        count, labels, classes = len(images.pixels), images.labels, images.classes
        if count == 0 or count != len(labels):
            raise InputError(
                f"data={name}: data.root={root} holds {count} {split} images with {len(labels)} labels; "
                f"{expected}"
            )
        if len(classes) < 2 or classes != next(iter(splits.values())).classes:
            raise InputError(
                f"data={name}: data.root={root} holds {split} images of {len(classes)} classes; {expected}, "
                "two or more classes, the same in each split"
            )
        if not 0 <= labels.min() <= labels.max() < len(classes):
            raise InputError(
                f"data={name}: data.root={root} holds {split} labels from {labels.min()} to {labels.max()}; "
                f"allowed: 0 to {len(classes) - 1}"
            )
    return splits
