"""Image folders in tests: made, scanned, checked and digested."""

from __future__ import annotations

import make_files
import pytest

from cnnbench.data import image_file, image_folder
from cnnbench.data.image_file import Memory
from cnnbench.errors import InputError

GREY = (90, 90, 90)


def make(root, classes=("cat", "dog"), count=3, **options):
    make_files.folder(root, classes=classes, count=count, **options)
    return root


def names(root, files):
    return [path.relative_to(root).as_posix() for path in files.paths]


def checked(root, paths):
    image_folder.check_images(root, paths, 224, Memory())


def rgb(path, size):
    with image_file.open_rgb(path, size, Memory()) as image:
        return image.copy()


def fingerprint(root):
    return image_folder.contents(root).digest


def equals(root):
    return image_folder.contents(root).equals


def refusal(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("data.root=")
    return str(caught.value)
