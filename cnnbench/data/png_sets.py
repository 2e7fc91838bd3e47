"""Built-in data sets as PNG files in folders of classes, for where torchvision's files are not.

data.root/cifar10/{train,test}/<class>/*.png are the images that torchvision downloads, in the order of the
names of classes and files. As that is another order, the same seeds divide and shuffle them otherwise: a run
on them is another run, whose identity has the content of the folder. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench.data.folder_scan import PARTS, Files, folders, holds_images, scan, some
from cnnbench.errors import InputError


@dataclass(frozen=True)
class Published:
    """A data set as it was published.

    Attributes:
        files: torchvision's, a file or a folder below data.root.
        classes: names of the classes, in the order of their labels.
        train, test: number of images.
    """

    files: str
    classes: Sequence[str]
    train: int
    test: int


def _names(text: str, between: str | None = None) -> list[str]:
    return text.split(between)


CIFAR10 = _names("airplane automobile bird cat deer dog frog horse ship truck")

CIFAR100 = _names("""
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
""")

MNIST = _names(
    "0 - zero, 1 - one, 2 - two, 3 - three, 4 - four, 5 - five, 6 - six, 7 - seven, 8 - eight, 9 - nine",
    between=", ",
)

FASHION_MNIST = _names(
    "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot",
    between=", ",
)

KMNIST = _names("o ki su tsu na ha ma ya re wo")

EMNIST = [*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"]

SVHN = [*"0123456789"]

STL10 = _names("airplane bird car cat deer dog horse monkey ship truck")

PUBLISHED = {
    "mnist": Published("MNIST/raw", MNIST, 60_000, 10_000),
    "fashion_mnist": Published("FashionMNIST/raw", FASHION_MNIST, 60_000, 10_000),
    "kmnist": Published("KMNIST/raw", KMNIST, 60_000, 10_000),
    "emnist": Published("EMNIST/raw", EMNIST, 112_800, 18_800),
    "cifar10": Published("cifar-10-batches-py", CIFAR10, 50_000, 10_000),
    "cifar100": Published("cifar-100-python", CIFAR100, 50_000, 10_000),
    "svhn": Published("train_32x32.mat", SVHN, 73_257, 26_032),
    "stl10": Published("stl10_binary", STL10, 5_000, 8_000),
}


def image_folder(name: str, root: Path) -> Path | None:
    """Return the folder of image files that a data set is read from; None: files of another kind.

    Torchvision's files come first, so that runs on them stay what they were.

    Args:
        name: of the data set.
        root: data.root.
    """
    if name == "imagefolder":
        return root
    return _png_folder(name, root) if not _torchvisions(name, root) else None


def origin(name: str, root: Path) -> str:
    """Return which files a built-in data set is read from, if there is a folder of PNG files; else empty."""
    folder = _png_folder(name, root)
    if folder is None:
        return ""
    if _torchvisions(name, root):
        return f"torchvision's {root / PUBLISHED[name].files}; not read: {folder}"
    return f"the PNG files of {folder}"


def _png_folder(name: str, root: Path) -> Path | None:
    """Return the folder of a built-in data set that has a folder of training images."""
    folder = root / name
    try:
        parts = [entry for entry in folder.iterdir() if PARTS.get(entry.name.casefold()) == "train"]
    except OSError:
        return None
    return folder if name in PUBLISHED and any(part.is_dir() for part in parts) else None


def _torchvisions(name: str, root: Path) -> bool:
    """Return whether torchvision's files are there, or some of them."""
    return name in PUBLISHED and _holds_any(root / PUBLISHED[name].files)


def _holds_any(path: Path) -> bool:
    try:
        return path.is_file() or next(path.iterdir(), None) is not None
    except OSError:
        return False


def png_files(name: str, folder: Path) -> dict[str, Files]:
    """Return the PNG files of train and test, with the labels that the data set is published with.

    Args:
        name: of the data set.
        folder: as `image_folder` returns it.

    Raises:
        InputError: see `scan`; other parts, classes or numbers of images than the published ones, or files of
            another kind, which may not have their pixels.
    """
    published, where = PUBLISHED[name], f"data={name}: {folder}"
    parts = [part for part in folders(folder) if holds_images(folder / part)]
    if sorted(PARTS.get(part.casefold(), part) for part in parts) != ["test", "train"]:
        raise InputError(f"{where}: has {some(parts) or 'no images'}; allowed: train and test")
    for part in parts:
        seen = [name for name in folders(folder / part) if holds_images(folder / part / name)]
        _labels(f"{where}/{part}", seen, published.classes)
    splits = scan(folder)
    labels = _labels(where, splits["train"].classes, published.classes)
    for part, files in splits.items():
        if others := [path for path in files.paths if path.suffix.lower() != ".png"]:
            names = some([path.relative_to(folder).as_posix() for path in others])
            raise InputError(f"{where}: {names}: no PNG; allowed: PNG, which keeps pixels as they are")
        count, expected = len(files.paths), getattr(published, part)
        if count != expected:
            raise InputError(
                f"{where}: {count:,} {part} images; allowed: the published {expected:,} "
                "(data=imagefolder reads any number)"
            )
    classes = list(published.classes)
    return {
        part: Files(files.paths, [labels[label] for label in files.labels], classes, files.left_out)
        for part, files in splits.items()
    }


def _labels(where: str, seen: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the label of each class folder, named after a class or numbered from 0.

    Raises:
        InputError: other folders.
    """
    for spelled in (str, _plain):  # T-shirt/top cannot be the name of a folder
        found = [spelled(name) for name in seen]
        known = [spelled(name) for name in classes]
        if sorted(found) == sorted(known) and len(set(known)) == len(known):
            return [known.index(name) for name in found]
    if all(name.isascii() and name.isdecimal() for name in seen):
        numbers = [int(name) for name in seen]
        if sorted(numbers) == list(range(len(classes))):
            return numbers
    plain = {_plain(name) for name in classes}
    unknown = sorted(name for name in seen if _plain(name) not in plain)
    missing = [name for name in classes if _plain(name) not in {_plain(name) for name in seen}]
    wrong = f"no class is called {some(unknown)}" * bool(unknown)
    if unknown and len(unknown) == len(seen):
        wrong = f"class folders {some(unknown)}"
    elif missing:
        wrong += "; " * bool(wrong) + f"no folder of {some(missing)}"
    raise InputError(
        f"{where}: {wrong or f'class folders {some(sorted(seen))}'}; "
        f"allowed: {some(list(classes), len(classes))}, or 0 to {len(classes) - 1}"
    )


def _plain(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return re.sub(r"[^0-9a-z]", "", name.casefold())
