"""Image files that are held in memory are decoded once for all runs, and kept with a digest."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple

import pytest
import torch
from data_support import image_data
from folder_support import make
from make_files import write, write_image

from cnnbench.data import pixel_cache, preprocessing
from cnnbench.errors import InputError

SPLITS = ("train", "val", "test")


@pytest.fixture
def root(tmp_path):
    """30 images of 40 x 30 pixels in two classes."""
    return make(tmp_path / "photos", count=15)


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that are decoded."""
    names, real = [], preprocessing.decode

    def decode(path, *arguments):
        names.append(path.name)
        return real(path, *arguments)

    monkeypatch.setattr(preprocessing, "decode", decode)
    return names


@pytest.fixture
def entries(home):
    return lambda: sorted((home / "cache/cnnbench/pixels").glob("*.uint8"))


def held(root, **options):
    return image_data("imagefolder", root, in_memory=True, **({"size": 16, "val_fraction": 0.2} | options))


def by_path(root, data):
    """The pixels of each split as they are decoded from the files."""
    files = image_data("imagefolder", root, size=16, val_fraction=0.2, in_memory=False)
    return all(
        torch.equal(
            getattr(data, split).pixels,
            torch.stack([data.preparation.open(path) for path in getattr(files, split).pixels]),
        )
        for split in SPLITS
    )


def test_decoded_once(root, decoded, entries, capfd):
    first = held(root)
    assert len(decoded) == len(set(decoded)) == 30
    (entry,) = entries()
    size = 30 * 3 * 16 * 16
    assert entry.stat().st_size == size + 16
    assert f"images: decoded, and kept for the next run: 0.0 MiB in {entry}\n" in capfd.readouterr().err
    second, third = held(root), held(root, split_seed=1)
    assert len(decoded) == 30
    assert capfd.readouterr().err == ""
    for split in SPLITS:
        assert torch.equal(getattr(first, split).pixels, getattr(second, split).pixels)
    assert not torch.equal(first.val.pixels, third.val.pixels)
    assert by_path(root, first)
    assert entries() == [entry]


@pytest.mark.parametrize("change", [{"size": 24}, {"eval_crop": 0.5}])
def test_other_settings_are_other_pixels(change, root, decoded, entries):
    held(root)
    assert held(root, **change).test.pixels.float().mean() > 0
    assert (len(decoded), len(entries())) == (60, 2)


def test_other_files_are_other_pixels(root, decoded, entries):
    held(root)
    write_image(root / "cat/000.png", (1, 2, 3))
    data = held(root)
    assert (len(decoded), len(entries())) == (60, 2)
    assert by_path(root, data)
    decoded.clear()
    shutil.copytree(root, root.parent / "copy")  # the same content, wherever it lies
    held(root.parent / "copy")
    assert (decoded, len(entries())) == ([], 2)


def test_of_some_images_nothing_is_kept(root, decoded, entries):
    data = held(root, limit=12)
    assert len(decoded) < 30
    assert entries() == []
    held(root)
    count = len(decoded)
    again = held(root, limit=12)
    assert len(decoded) == count, "they are among all"
    assert torch.equal(data.train.pixels, again.train.pixels)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    ],
    ids=["cut", "longer", "empty", "a pixel", "the digest"],
)
def test_a_damaged_entry_is_made_again(damage, root, decoded, entries, capfd):
    held(root)
    (entry,) = entries()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    capfd.readouterr()
    assert by_path(root, held(root))
    assert f"images: {entry} is damaged, and made again\n" in capfd.readouterr().err
    assert entry.read_bytes() == whole


def test_no_more_than_a_tenth_of_what_is_free(root, decoded, entries, monkeypatch, capfd):
    free, usage = 0, namedtuple("usage", "free")
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda folder: usage(free))
    size = 30 * 3 * 16 * 16 + 16
    free = 10 * size - 1
    assert by_path(root, held(root))
    assert entries() == []
    assert "images: not kept for the next run: 0.0 MiB of 0.0 MiB in " in capfd.readouterr().err
    free = 10 * size
    held(root)
    assert len(entries()) == 1


def test_entries_that_were_not_used_for_longest_make_room(root, entries, monkeypatch):
    held(root, size=16)
    (first,) = entries()
    held(root, size=17)
    second = next(path for path in entries() if path != first)
    for entry, used in ((first, 1_000), (second, 2_000)):
        os.utime(entry, (used, used))
    held(root, size=16)  # used now
    sizes = sum(path.stat().st_size for path in entries())
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda folder: usage(9 * sizes))
    held(root, size=16, eval_crop=0.5)
    assert first in entries()
    assert second not in entries()
    assert len(entries()) == 2


def test_a_cache_that_cannot_be_written_to(root, home, capfd, entries):
    write(home / "cache/cnnbench/pixels", b"a file")
    assert by_path(root, held(root))
    assert "images: not kept for the next run in " in capfd.readouterr().err


def test_a_full_disk(root, entries, monkeypatch, capfd):
    class Full(torch.Tensor):
        def numpy(self):
            raise OSError(28, "No space left on device")

    real = preprocessing.decode
    monkeypatch.setattr(preprocessing, "decode", lambda *a: real(*a).as_subclass(Full))
    data = held(root)
    monkeypatch.undo()
    assert by_path(root, data)
    assert "(No space left on device)" in capfd.readouterr().err
    assert entries() == []


def test_what_a_killed_process_left_is_removed(root, home, entries):
    left = write(home / "cache/cnnbench/pixels/.x.uint8.123", b"half")
    held(root)
    assert not left.exists()
    assert len(entries()) == 1


def test_files_that_change_meanwhile_are_not_kept(root, entries, monkeypatch):
    real = preprocessing.decode

    def decode(path, *arguments):
        if path.name == "003.png":
            write_image(root / "dog/029.png", (9, 9, 9))
        return real(path, *arguments)

    monkeypatch.setattr(preprocessing, "decode", decode)
    with pytest.raises(InputError, match=r"photos: files have changed while they were decoded$"):
        held(root)
    assert entries() == []
