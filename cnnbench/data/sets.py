"""The table of data sets: how each is read, and what it is normalised with.

A new data set is a row in `DATASETS` and a file in `conf/data`. A loader returns the parts that a set has:
`train` and `test`, sometimes `val`, or `all` when it has no test set of its own.
"""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from torchvision import datasets as tv

from cnnbench.data.folder import check_images, scan
from cnnbench.data.split import Indices
from cnnbench.errors import InputError
from cnnbench.seeds import mix

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class Images:
    """Labelled images: pixels in memory, or files that are decoded when they are needed.

    `pixels` is uint8 (N, C, H, W) or a list of N paths; `labels` int64 (N,), indices into `classes`.
    """

    pixels: Tensor | list[Path]
    labels: Indices
    classes: list[str]

    def __getitem__(self, chosen: Indices) -> Images:
        some = (
            self.pixels[torch.from_numpy(chosen)]
            if isinstance(self.pixels, Tensor)
            else [self.pixels[i] for i in chosen]
        )
        return Images(some, self.labels[chosen], self.classes)


Parts = Mapping[str, Images]


@dataclass(frozen=True)
class DataSet:
    """One row: `load(root)` and the training images' mean and deviation per channel, in [0, 1]."""

    load: Callable[[Path], Parts]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: str = ""  # what is expected below data.root, for the error when it cannot be had


def _pixels(data: Any, labels: Any, classes: list[str]) -> Images:
    """(N, H, W) or (N, C, H, W) arrays of any library as `Images`."""
    pixels = torch.as_tensor(data)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels
    return Images(pixels.contiguous(), np.asarray(labels, dtype=np.int64), list(classes))


def _digits(root: Path) -> Parts:
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.round(found.images * (255 / 16)).astype(np.uint8)
    return {"all": _pixels(pixels, found.target, [str(name) for name in found.target_names])}


def _fetch(dataset: Callable[..., Any], root: Path, **options: Any) -> Any:
    """A torchvision data set: from disk if it is there, else downloaded first."""
    try:
        return dataset(root, **options)
    except RuntimeError as error:  # torchvision's word for "not there, or not what its checksum says"
        if "not found" not in str(error):
            raise
    root.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # torchvision sets none: a dead network would hang for ever
    try:
        with FileLock(root / ".download.lock"):
            return dataset(root, download=True, **options)
    finally:
        socket.setdefaulttimeout(before)


def _mnist(dataset: Callable[..., Any], transpose: bool = False, **options: Any) -> Callable[[Path], Parts]:
    def load(root: Path) -> Parts:
        parts = {}
        for part in ("train", "test"):
            found = _fetch(dataset, root, train=part == "train", **options)
            data = found.data.transpose(1, 2) if transpose else found.data
            parts[part] = _pixels(data, found.targets, found.classes)
        return parts

    return load


def _fashion_mnist(root: Path) -> Parts:
    debian, own = DEBIAN_FASHION_MNIST, root / "FashionMNIST" / "raw"
    if own.is_dir() or not debian.is_dir():
        return _mnist(tv.FashionMNIST)(root)
    return {
        part: _pixels(
            _idx(debian / f"{prefix}-images-idx3-ubyte.gz"),
            _idx(debian / f"{prefix}-labels-idx1-ubyte.gz"),
            tv.FashionMNIST.classes,
        )
        for part, prefix in (("train", "train"), ("test", "t10k"))
    }


def _idx(path: Path) -> Any:
    """A gzipped IDX file of bytes as an array (the format is described on MNIST's page)."""
    data = gzip.decompress(path.read_bytes())
    dims = data[3]
    shape = np.frombuffer(data, ">i4", count=dims, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape).copy()


def _cifar(dataset: Callable[..., Any]) -> Callable[[Path], Parts]:
    def load(root: Path) -> Parts:
        found = {part: _fetch(dataset, root, train=part == "train") for part in ("train", "test")}
        return {p: _pixels(f.data.transpose(0, 3, 1, 2), f.targets, f.classes) for p, f in found.items()}

    return load


def _svhn(root: Path) -> Parts:
    found = {part: _fetch(tv.SVHN, root, split=part) for part in ("train", "test")}
    return {part: _pixels(f.data, f.labels, [str(i) for i in range(10)]) for part, f in found.items()}


def _stl10(root: Path) -> Parts:
    found = {part: _fetch(tv.STL10, root, split=part) for part in ("train", "test")}
    return {part: _pixels(f.data, f.labels, f.classes) for part, f in found.items()}


def _imagenette(root: Path) -> Parts:
    parts = {}
    for part, split in (("train", "train"), ("test", "val")):
        found = _fetch(tv.Imagenette, root, split=split, size="160px")
        paths, labels = zip(*found._samples, strict=True)
        parts[part] = _files([Path(p) for p in paths], labels, [names[0] for names in found.classes])
    return _checked(root / "imagenette2-160", parts)


def _flowers102(root: Path) -> Parts:
    found = {part: _fetch(tv.Flowers102, root, split=part) for part in ("train", "val", "test")}
    paths = {part: [Path(p) for p in f._image_files] for part, f in found.items()}
    classes = found["train"].classes
    train = _files(paths["train"] + paths["val"], found["train"]._labels + found["val"]._labels, classes)
    parts = {"train": train, "test": _files(paths["test"], found["test"]._labels, classes)}
    return _checked(root / "flowers-102", parts)


def _pets(root: Path) -> Parts:
    found = {part: _fetch(tv.OxfordIIITPet, root, split=split) for part, split in
             (("train", "trainval"), ("test", "test"))}  # fmt: skip
    parts = {part: _files([Path(p) for p in f._images], f._labels, f.classes) for part, f in found.items()}
    return _checked(root / "oxford-iiit-pet" / "images", parts)


def _imagefolder(root: Path) -> Parts:
    parts = {part: _files(f.paths, f.labels, f.classes) for part, f in scan(root).items()}
    return _checked(root, parts)


def _files(paths: list[Path], labels: Any, classes: list[str]) -> Images:
    return Images(paths, np.asarray(labels, dtype=np.int64), list(classes))


def _checked(root: Path, parts: Parts) -> Parts:
    check_images(root, [path for images in parts.values() for path in images.pixels])
    return parts


def synthetic(size: int, num_classes: int, count: int, count_test: int, seed: int) -> Parts:
    """Colour images of `num_classes` fixed random patterns under noise, equally many of each."""
    generator = torch.Generator().manual_seed(mix("synthetic", seed))
    pattern = torch.rand((num_classes, 3, size, size), generator=generator)

    def draw(n: int) -> Images:
        labels = torch.arange(n) % num_classes
        noise = torch.randn((n, 3, size, size), generator=generator)
        pixels = ((pattern[labels] + 0.5 * noise).clamp(0, 1) * 255).to(torch.uint8)
        return _pixels(pixels, labels, [f"pattern {i}" for i in range(num_classes)])

    return {"train": draw(count), "test": draw(count_test)}


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_FILES = "{train,t10k}-{images-idx3,labels-idx1}-ubyte"

DATASETS: dict[str, DataSet] = {
    "digits": DataSet(_digits, (0.3053,), (0.3760,)),
    "mnist": DataSet(_mnist(tv.MNIST), (0.1307,), (0.3081,), f"MNIST/raw/{GREY_FILES}"),
    "fashion_mnist": DataSet(_fashion_mnist, (0.2860,), (0.3530,), f"FashionMNIST/raw/{GREY_FILES}"),
    "kmnist": DataSet(_mnist(tv.KMNIST), (0.1918,), (0.3483,), f"KMNIST/raw/{GREY_FILES}"),
    "emnist": DataSet(
        _mnist(tv.EMNIST, transpose=True, split="balanced"), (0.1751,), (0.3332,),
        "EMNIST/raw/emnist-balanced-{train,test}-{images-idx3,labels-idx1}-ubyte",
    ),
    "cifar10": DataSet(
        _cifar(tv.CIFAR10), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
        "cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}",
    ),
    "cifar100": DataSet(
        _cifar(tv.CIFAR100), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
        "cifar-100-python/{train,test,meta}",
    ),
    "svhn": DataSet(
        _svhn, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), "{train,test}_32x32.mat"
    ),
    "stl10": DataSet(
        _stl10, (0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713),
        "stl10_binary/{train,test}_{X,y}.bin and unlabeled_X.bin",
    ),
    "imagenette": DataSet(_imagenette, *IMAGENET, "imagenette2-160/{train,val}/<class>/*.JPEG"),
    "flowers102": DataSet(_flowers102, *IMAGENET, "flowers-102/{jpg/*.jpg,imagelabels.mat,setid.mat}"),
    "pets": DataSet(_pets, *IMAGENET, "oxford-iiit-pet/{images/*.jpg,annotations/{trainval,test}.txt}"),
    "imagefolder": DataSet(_imagefolder, *IMAGENET),
}  # fmt: skip


def load(name: str, root: Path) -> Parts:
    """Read a data set, downloading what is missing.

    Raises:
        InputError: an unknown name; files that are missing and cannot be downloaded; files that
            are not what they should be; fewer than two classes; labels out of range.
    """
    if name not in DATASETS:
        raise InputError(f"data.name={name}: no such data set; known: {', '.join(DATASETS)}, synthetic")
    dataset = DATASETS[name]
    expected = f"expected {root}/{dataset.files}"
    try:
        parts = dataset.load(root)
    except InputError:
        raise
    except OSError as error:  # includes urllib's errors
        raise InputError(
            f"data={name}: not in data.root={root} and cannot be downloaded ({error}); {expected}"
        ) from error
    except (RuntimeError, ValueError, AssertionError, IndexError, KeyError, EOFError, TypeError) as error:
        if "downloading" in str(error):
            raise InputError(
                f"data={name}: not in data.root={root} and cannot be downloaded ({error}); {expected}"
            ) from error
        raise InputError(
            f"data={name}: data.root={root} holds files that cannot be read ({error}); {expected}"
        ) from error
    for part, images in parts.items():
        if len(images.labels) == 0 or len(images.labels) != len(images.pixels):
            raise InputError(
                f"data={name}: {len(images.pixels)} {part} images with {len(images.labels)} labels; {expected}"
            )
        if not 0 <= images.labels.min() <= images.labels.max() < len(images.classes):
            raise InputError(
                f"data={name}: {part} labels from {images.labels.min()} to {images.labels.max()} in {root}; "
                f"allowed: 0 to {len(images.classes) - 1}"
            )
    return parts
