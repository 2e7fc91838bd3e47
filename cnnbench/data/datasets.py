"""The table of data sets: how each is read, and what it is normalised with.

A new data set is a row in `DATASETS` and a file in `conf/data`. A loader returns the parts that a set has:
`train` and `test`, sometimes `val`, or `all` when it has no test set of its own.
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets as tv
from torchvision.datasets.utils import download_and_extract_archive

from cnnbench.data.download import DownloadError, fetch, sentence
from cnnbench.data.image_folder import check_images, scan
from cnnbench.data.images import Images, Splits
from cnnbench.errors import InputError
from cnnbench.seeds import mix

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class DataSet:
    """One row of the table.

    Attributes:
        load: called with data.root.
        size: side of the images in pixels; None: they differ, or are a setting.
        classes: how many there are; None: the folder's, or a setting.
        mean, std: of the training images per channel, in [0, 1].
        files: what is expected below data.root, for the error when it cannot be had.
    """

    load: Callable[[Path], Splits]
    size: int | None
    classes: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: str = ""


def _pixels(data: Any, labels: Any, classes: list[str]) -> Images:
    """(N, H, W) or (N, C, H, W) arrays of any library as `Images`."""
    pixels = torch.as_tensor(data)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels
    return Images(pixels.contiguous(), np.asarray(labels, dtype=np.int64), list(classes))


def _digits(root: Path) -> Splits:
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.round(found.images * (255 / 16)).astype(np.uint8)
    return {"all": _pixels(pixels, found.target, [str(name) for name in found.target_names])}


def _mnist(dataset: Callable[..., Any], transpose: bool = False, **options: Any) -> Callable[[Path], Splits]:
    def load(root: Path) -> Splits:
        parts = {}
        for part in ("train", "test"):
            found = fetch(dataset, root, train=part == "train", **options)
            data = found.data.transpose(1, 2) if transpose else found.data
            parts[part] = _pixels(data, found.targets, found.classes)
        return parts

    return load


def _fashion_mnist(root: Path) -> Splits:
    raw, debian = root / "FashionMNIST" / "raw", DEBIAN_FASHION_MNIST
    names = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    if all((raw / name).is_file() for name in names) or not debian.is_dir():
        return _mnist(tv.FashionMNIST)(root)
    pixels, labels, test_pixels, test_labels = (_idx(debian / f"{name}.gz") for name in names)
    return {
        "train": _pixels(pixels, labels, tv.FashionMNIST.classes),
        "test": _pixels(test_pixels, test_labels, tv.FashionMNIST.classes),
    }


def _idx(path: Path) -> Any:
    """A gzipped IDX file of bytes as an array (the format is described on MNIST's page)."""
    try:
        data = gzip.decompress(path.read_bytes())
        dims = data[3]
        shape = np.frombuffer(data, ">i4", count=dims, offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape).copy()
    except (OSError, EOFError, zlib.error, IndexError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _cifar(dataset: Callable[..., Any]) -> Callable[[Path], Splits]:
    def load(root: Path) -> Splits:
        found = {part: fetch(dataset, root, train=part == "train") for part in ("train", "test")}
        return {p: _pixels(f.data.transpose(0, 3, 1, 2), f.targets, f.classes) for p, f in found.items()}

    return load


def _svhn(root: Path) -> Splits:
    found = {part: fetch(tv.SVHN, root, split=part) for part in ("train", "test")}
    return {part: _pixels(f.data, f.labels, [str(i) for i in range(10)]) for part, f in found.items()}


class _STL10(tv.STL10):  # type: ignore[misc]
    """Without the unlabelled images: 2.6 GB that torchvision would read for their checksum each time."""

    train_list = tv.STL10.train_list[:2]


def _stl10(root: Path) -> Splits:
    found = {part: fetch(_STL10, root, split=part) for part in ("train", "test")}
    return {part: _pixels(f.data, f.labels, f.classes) for part, f in found.items()}


class _Imagenette(tv.Imagenette):  # type: ignore[misc]
    """Unpacked aside and then moved: torchvision takes the folder for complete once it exists."""

    def _download(self) -> None:
        if self._check_exists():
            return
        aside = Path(self.root) / ".imagenette.partial"
        shutil.rmtree(aside, ignore_errors=True)
        download_and_extract_archive(self._url, self.root, aside, md5=self._md5)
        (aside / self._size_root.name).rename(self._size_root)
        aside.rmdir()


def _imagenette(root: Path) -> Splits:
    parts = {}
    for part, split in (("train", "train"), ("test", "val")):
        found = fetch(_Imagenette, root, split=split, size="160px")
        paths, labels = zip(*found._samples, strict=True)
        parts[part] = _files([Path(p) for p in paths], labels, [names[0] for names in found.classes])
    return _checked(root / "imagenette2-160", parts)


def _flowers102(root: Path) -> Splits:
    found = {part: fetch(tv.Flowers102, root, split=part) for part in ("train", "val", "test")}
    paths = {part: [Path(p) for p in f._image_files] for part, f in found.items()}
    classes = found["train"].classes
    train = _files(paths["train"] + paths["val"], found["train"]._labels + found["val"]._labels, classes)
    parts = {"train": train, "test": _files(paths["test"], found["test"]._labels, classes)}
    return _checked(root / "flowers-102", parts)


def _pets(root: Path) -> Splits:
    found = {part: fetch(tv.OxfordIIITPet, root, split=split) for part, split in
             (("train", "trainval"), ("test", "test"))}  # fmt: skip
    parts = {part: _files([Path(p) for p in f._images], f._labels, f.classes) for part, f in found.items()}
    return _checked(root / "oxford-iiit-pet" / "images", parts)


def _imagefolder(root: Path) -> Splits:
    parts = {part: _files(f.paths, f.labels, f.classes) for part, f in scan(root).items()}
    return _checked(root, parts)


def _files(paths: list[Path], labels: Any, classes: list[str]) -> Images:
    return Images(paths, np.asarray(labels, dtype=np.int64), list(classes))


def _checked(root: Path, parts: Splits) -> Splits:
    check_images(root, [path for images in parts.values() for path in images.pixels])
    return parts


def synthetic(size: int, num_classes: int, count: int, count_test: int, seed: int) -> Splits:
    """Colour images of `num_classes` fixed random patterns under noise, equally many of each."""
    generator = torch.Generator().manual_seed(mix("synthetic", seed))
    pattern = torch.rand((num_classes, 3, size, size), generator=generator)

    def draw(n: int) -> Images:
        labels = torch.arange(n) % num_classes
        noise = torch.randn((n, 3, size, size), generator=generator)
        pixels = ((pattern[labels] + 0.5 * noise).clamp(0, 1) * 255).to(torch.uint8)
        return _pixels(pixels, labels, [f"pattern {i}" for i in range(num_classes)])

    return {"train": draw(count), "test": draw(count_test)}


def _not_loaded(root: Path) -> Splits:
    raise InputError("data=synthetic is drawn, not read")


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

GREY_FILES = "{train,t10k}-{images-idx3,labels-idx1}-ubyte"


DATASETS: dict[str, DataSet] = {
    "digits": DataSet(_digits, 8, 10, (0.3053,), (0.3760,)),
    "mnist": DataSet(_mnist(tv.MNIST), 28, 10, (0.1307,), (0.3081,), f"MNIST/raw/{GREY_FILES}"),
    "fashion_mnist": DataSet(_fashion_mnist, 28, 10, (0.2860,), (0.3530,), f"FashionMNIST/raw/{GREY_FILES}"),
    "kmnist": DataSet(_mnist(tv.KMNIST), 28, 10, (0.1918,), (0.3483,), f"KMNIST/raw/{GREY_FILES}"),
    "emnist": DataSet(
        _mnist(tv.EMNIST, transpose=True, split="balanced"), 28, 47, (0.1751,), (0.3332,),
        "EMNIST/raw/emnist-balanced-{train,test}-{images-idx3,labels-idx1}-ubyte",
    ),
    "cifar10": DataSet(
        _cifar(tv.CIFAR10), 32, 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
        "cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}",
    ),
    "cifar100": DataSet(
        _cifar(tv.CIFAR100), 32, 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
        "cifar-100-python/{train,test,meta}",
    ),
    "svhn": DataSet(
        _svhn, 32, 10, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), "{train,test}_32x32.mat"
    ),
    "stl10": DataSet(
        _stl10, 96, 10, (0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713),
        "stl10_binary/{train_X.bin,train_y.bin,test_X.bin,test_y.bin,class_names.txt}",
    ),
    "imagenette": DataSet(_imagenette, None, 10, *IMAGENET, "imagenette2-160/{train,val}/<class>/*.JPEG"),
    "flowers102": DataSet(
        _flowers102, None, 102, *IMAGENET, "flowers-102/{jpg/*.jpg,imagelabels.mat,setid.mat}"
    ),
    "pets": DataSet(
        _pets, None, 37, *IMAGENET, "oxford-iiit-pet/{images/*.jpg,annotations/{trainval,test}.txt}"
    ),
    "imagefolder": DataSet(_imagefolder, None, None, *IMAGENET),
    "synthetic": DataSet(_not_loaded, None, None, (0.5,) * 3, (0.35,) * 3),
}  # fmt: skip


def dataset(name: str) -> DataSet:
    """The row of a data set.

    Raises:
        InputError: there is none.
    """
    if name not in DATASETS:
        raise InputError(f"data.name={name}: no such data set; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def channels(name: str, asked: int | None) -> int:
    """Channels of the images as a model gets them: grey ones can be repeated.

    Raises:
        InputError: the images have not as many as are asked for.
    """
    own = len(dataset(name).mean)
    if asked is not None and (asked < 1 or own not in (1, asked)):
        allowed = "1 or more" if own == 1 else "null"
        raise InputError(f"arch.in_channels={asked}: the images of {name} have {own}; allowed: {allowed}")
    return asked or own


def check_classes(name: str, asked: int | None) -> None:
    """Whether a number of classes may be asked for.

    Raises:
        InputError: the data set has its own.
    """
    if asked is not None and name != "synthetic":
        raise InputError(f"data.num_classes={asked}: only data=synthetic has it as a setting")


def load(name: str, root: Path) -> Splits:
    """Read a data set, downloading what is missing.

    Raises:
        InputError: an unknown name; files that are missing and cannot be downloaded; files that
            are not what they should be; fewer than two classes; labels out of range.
    """
    row = dataset(name)
    expected = f"expected {root}/{row.files}"
    try:
        parts = row.load(root)
    except InputError:
        raise
    except DownloadError as error:
        raise InputError(
            f"data={name}: not in data.root={root}, or not intact, and cannot be downloaded ({error}); "
            f"{expected}"
        ) from error
    except Exception as error:  # broken files: pickle, zlib, scipy and torchvision raise what they like
        raise InputError(
            f"data={name}: files in data.root={root} cannot be read ({sentence(error)}); {expected}, "
            "or delete them to have them downloaded anew"
        ) from error
    for part, images in parts.items():
        count, labels, classes = len(images.pixels), images.labels, images.classes
        if count == 0 or count != len(labels):
            raise InputError(
                f"data={name}: data.root={root} holds {count} {part} images with {len(labels)} labels; "
                f"{expected}"
            )
        if len(classes) < 2 or classes != next(iter(parts.values())).classes:
            raise InputError(
                f"data={name}: data.root={root} holds {part} images of {len(classes)} classes; {expected}, "
                "two or more classes, the same in each part"
            )
        if not 0 <= labels.min() <= labels.max() < len(classes):
            raise InputError(
                f"data={name}: data.root={root} holds {part} labels from {labels.min()} to {labels.max()}; "
                f"allowed: 0 to {len(classes) - 1}"
            )
    return parts
