"""Small data sets in exactly their published formats, with the expected content."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from torchvision import datasets as tv

from cnnbench.data import download

RNG = np.random.default_rng(0)


@dataclass
class Made:
    """Expected content of a data set.

    Attributes:
        splits: (pixels, labels) by name. Pixels are uint8 (N, C, H, W), or for image files the colour of
            each, (N, 3).
        classes: names of the classes.
    """

    splits: dict[str, tuple[np.ndarray, np.ndarray]]
    classes: list[str]


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def labels(count: int, num_classes: int) -> np.ndarray:
    """Return labels with about equally many of each class, in random order."""
    return RNG.permutation(np.arange(count) % num_classes)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """Encode in the IDX format: two zeros, the type (8: bytes), the number of dimensions, these, the data."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_image(path: Path, colour, size=(40, 30), **options) -> Path:
    """Write an image of one colour, which JPEG changes by a few steps at most."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(int(c) for c in colour)).save(path, **options)
    return path


# --- arrays -------------------------------------------------------------------------------------

COUNTS = {"train": 60, "test": 30}


def grey(folder: str, classes: list[str], *, names=("train-", "t10k-"), transpose=False):
    def make(root: Path, monkeypatch=None) -> Made:
        splits = {}
        for (split, count), name in zip(COUNTS.items(), names, strict=True):
            count = max(count, 3 * len(classes))
            pixels, targets = noise(count, 28, 28), labels(count, len(classes))
            stored = pixels.transpose(0, 2, 1) if transpose else pixels
            write(root / folder / f"{name}images-idx3-ubyte", idx(stored))
            write(root / folder / f"{name}labels-idx1-ubyte", idx(targets.astype(np.uint8)))
            splits[split] = (pixels[:, None], targets)
        return Made(splits, classes)

    return make


def debian(folder: Path) -> Made:
    """Write the files of Debian's package: MNIST's format, gzipped."""
    made = grey("", tv.FashionMNIST.classes)(folder)
    for path in list(folder.iterdir()):
        write(folder / f"{path.name}.gz", gzip.compress(path.read_bytes()))
        path.unlink()
    return made


def cifar(dataset: type, key: str, classes: list[str]):
    def make(root: Path, monkeypatch) -> Made:
        folder, splits = root / dataset.base_folder, {}
        for split, listed in (("train", dataset.train_list), ("test", dataset.test_list)):
            all_pixels, all_labels = [], []
            for name, _ in listed:
                count = 2 * len(classes)
                pixels, targets = noise(count, 3, 32, 32), labels(count, len(classes))
                entry = {"data": pixels.reshape(count, -1), key: targets.tolist(), "batch_label": name}
                write(folder / name, pickle.dumps(entry, protocol=2))
                all_pixels.append(pixels)
                all_labels.append(targets)
            splits[split] = (np.concatenate(all_pixels), np.concatenate(all_labels))
        write(folder / dataset.meta["filename"], pickle.dumps({dataset.meta["key"]: classes}, protocol=2))
        cifar_checksums(dataset, root, monkeypatch)
        return Made(splits, classes)

    return make


def cifar_checksums(dataset: type, root: Path, monkeypatch) -> None:
    folder = root / dataset.base_folder
    for listed in ("train_list", "test_list"):
        sums = [[name, md5(folder / name)] for name, _ in getattr(dataset, listed)]
        monkeypatch.setattr(dataset, listed, sums)
    meta = folder / dataset.meta["filename"]
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": md5(meta)})


def svhn(root: Path, monkeypatch) -> Made:
    splits = {}
    for split, count in COUNTS.items():
        pixels, targets = noise(count, 3, 32, 32), labels(count, 10)
        root.mkdir(exist_ok=True)
        stored = np.where(targets == 0, 10, targets)  # the label of the digit 0
        savemat(
            root / f"{split}_32x32.mat",
            {"X": pixels.transpose(2, 3, 1, 0), "y": stored.astype(np.uint8)[:, None]},
        )
        splits[split] = (pixels, targets)
    svhn_checksums(root, monkeypatch)
    return Made(splits, [str(digit) for digit in range(10)])


def svhn_checksums(root: Path, monkeypatch) -> None:
    listed = dict(tv.SVHN.split_list)
    for split in COUNTS:
        url, name, _ = listed[split]
        listed[split] = [url, name, md5(root / name)]
    monkeypatch.setattr(tv.SVHN, "split_list", listed)


STL10_CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


def stl10(root: Path, monkeypatch) -> Made:
    folder, splits = root / "stl10_binary", {}
    for split, count in (("train", 30), ("test", 10)):
        pixels, targets = noise(count, 3, 96, 96), labels(count, 10)
        write(folder / f"{split}_X.bin", pixels.transpose(0, 1, 3, 2).tobytes())  # column by column
        write(folder / f"{split}_y.bin", (targets + 1).astype(np.uint8).tobytes())
        splits[split] = (pixels, targets)
    write(folder / "class_names.txt", "\n".join(STL10_CLASSES).encode())
    stl10_checksums(root, monkeypatch)
    return Made(splits, STL10_CLASSES)


def stl10_checksums(root: Path, monkeypatch) -> None:
    folder = root / "stl10_binary"
    for listed in ("train_list", "test_list"):
        sums = [[name, md5(folder / name)] for name, _ in getattr(download.STL10, listed)]
        monkeypatch.setattr(download.STL10, listed, sums)


# --- image files --------------------------------------------------------------------------------


def imagenette(root: Path, monkeypatch=None) -> Made:
    wnids = sorted(tv.Imagenette._WNID_TO_CLASS)
    splits = {}
    for split, folder, count in (("train", "train", 3), ("test", "val", 2)):
        targets = np.repeat(np.arange(10), count)
        colours = noise(len(targets), 3)
        for i, (label, colour) in enumerate(zip(targets, colours, strict=True)):
            write_image(root / "imagenette2-160" / folder / wnids[label] / f"img_{i:03}.JPEG", colour)
        splits[split] = (colours, targets)
    names = "tench,English springer,cassette player,chain saw,church,French horn,garbage truck,gas pump"
    return Made(splits, [*names.split(","), "golf ball", "parachute"])


def flowers102(root: Path, monkeypatch) -> Made:
    folder = root / "flowers-102"
    targets, colours = np.arange(24) % 4, noise(24, 3)
    for i, colour in enumerate(colours, 1):
        write_image(folder / "jpg" / f"image_{i:05}.jpg", colour)
    ids = np.arange(24, 0, -1)
    train, val, test = ids[:8], ids[8:14], ids[14:]
    savemat(folder / "imagelabels.mat", {"labels": (targets + 1).astype(np.uint8)[None]})
    savemat(folder / "setid.mat", {"trnid": train[None], "valid": val[None], "tstid": test[None]})
    flowers_checksums(root, monkeypatch)
    chosen = {"train": np.concatenate([train, val]) - 1, "test": test - 1}
    return Made({split: (colours[i], targets[i]) for split, i in chosen.items()}, tv.Flowers102.classes)


def flowers_checksums(root: Path, monkeypatch) -> None:
    listed = tv.Flowers102._file_dict
    sums = {
        key: (name, md5(root / "flowers-102" / name)) for key, (name, _) in listed.items() if key != "image"
    }
    monkeypatch.setattr(tv.Flowers102, "_file_dict", listed | sums)


def pets(root: Path, monkeypatch=None) -> Made:
    folder, splits = root / "oxford-iiit-pet", {}
    breeds = ["Abyssinian", "american_bulldog", "Egyptian_Mau"]
    for split, theirs, count in (("train", "trainval", 12), ("test", "test", 6)):
        targets, colours, lines = labels(count, 3), noise(count, 3), []
        for i, (label, colour) in enumerate(zip(targets, colours, strict=True)):
            name = f"{breeds[label]}_{theirs}{i}"
            write_image(folder / "images" / f"{name}.jpg", colour)
            lines.append(f"{name} {label + 1} {1 + (label == 1)} 1\n")
        write(folder / "annotations" / f"{theirs}.txt", "".join(lines).encode())
        splits[split] = (colours, targets)
    return Made(splits, ["Abyssinian", "American Bulldog", "Egyptian Mau"])


def folder(root: Path, monkeypatch=None, *, classes=("cat", "dog", "owl"), count=10, suffix="png", **options):
    """Write a folder of class folders, with `count` images in each."""
    targets = np.repeat(np.arange(len(classes)), count)
    colours = noise(len(targets), 3)
    for i, (label, colour) in enumerate(zip(targets, colours, strict=True)):
        write_image(root / classes[label] / f"{i:03}.{suffix}", colour, **options)
    return Made({"all": (colours, targets)}, list(classes))


DIGITS = ["0 - zero", "1 - one", "2 - two", "3 - three", "4 - four"]
DIGITS += ["5 - five", "6 - six", "7 - seven", "8 - eight", "9 - nine"]
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag"]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BALANCED = [*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"]  # other small letters count as capitals

MAKERS = {
    "mnist": grey("MNIST/raw", DIGITS),
    "fashion_mnist": grey("FashionMNIST/raw", [*FASHION, "Ankle boot"]),
    "kmnist": grey("KMNIST/raw", ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]),
    "emnist": grey(
        "EMNIST/raw",
        BALANCED,
        names=("emnist-balanced-train-", "emnist-balanced-test-"),
        transpose=True,
    ),
    "cifar10": cifar(tv.CIFAR10, "labels", CIFAR10),
    "cifar100": cifar(tv.CIFAR100, "fine_labels", [f"class {i}" for i in range(100)]),
    "svhn": svhn,
    "stl10": stl10,
    "imagenette": imagenette,
    "flowers102": flowers102,
    "pets": pets,
    "imagefolder": folder,
}
