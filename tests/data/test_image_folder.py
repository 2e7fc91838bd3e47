"""Image folders: files that count as images, errors in them, and the fingerprint of the content."""

from __future__ import annotations

import os
import shutil
import struct
import zlib

import make_files
import numpy as np
import pytest
from folder_support import GREY, checked, fingerprint, make, refusal, rgb
from make_files import write, write_image
from PIL import Image

from cnnbench.data import image_folder
from cnnbench.data.folder_scan import scan

# --- files to pixels ----------------------------------------------------------------------------


def colour(path, position=(0, 0)):
    image = rgb(path, 1000)
    assert image.mode == "RGB"
    return image.getpixel(position)


def test_modes(tmp_path):
    """All modes of Pillow are converted to 8-bit RGB."""
    wanted = (200, 100, 50)
    rgb = Image.new("RGB", (9, 9), wanted)
    rgb.save(tmp_path / "rgb.png")
    rgb.convert("RGBA").save(tmp_path / "rgba.png")
    rgb.quantize(4).save(tmp_path / "palette.png")
    rgb.quantize(4).save(tmp_path / "palette.gif")
    rgb.quantize(4).save(tmp_path / "transparent palette.png", transparency=bytes([128, 255]))
    rgb.save(tmp_path / "transparent colour.png", transparency=(0, 0, 0))
    for path in tmp_path.iterdir():
        assert colour(path) == wanted, path.name
    for name in ("x.jpg", "x.webp"):
        rgb.save(tmp_path / name, quality=95)
        assert np.abs(np.subtract(colour(tmp_path / name), wanted)).max() <= 6, name
    Image.new("CMYK", (9, 9), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    assert np.abs(np.subtract(colour(tmp_path / "cmyk.jpg"), (255, 0, 0))).max() <= 6
    for mode, value, expected in (("L", 77, 77), ("LA", (77, 3), 77), ("1", 1, 255)):
        Image.new(mode, (9, 9), value).save(tmp_path / f"{mode}.png")
        assert colour(tmp_path / f"{mode}.png") == (expected,) * 3


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
def test_16_bit_grey_is_scaled(name, tmp_path):
    """Pillow's own conversion turns all values above 255 of 65535 into white."""
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    assert np.asarray(rgb(tmp_path / name, 8))[0].tolist() == [[v] * 3 for v in (0, 0, 1, 128, 255)]


def test_16_bit_colour(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, row = (
        struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0),
        b"\0" + struct.pack(">3H", 0x1234, 0x8000, 0xFFFF),
    )
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row)), chunk(b"IEND", b"")
    path = write(tmp_path / "x.png", b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert np.abs(np.subtract(colour(path), (0x12, 0x80, 0xFF))).max() <= 1


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_are_refused(dtype, tmp_path):
    """Their value of white is not defined."""
    make(tmp_path)
    Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / "cat/deep.tif")
    message = refusal(checked, tmp_path, scan(tmp_path)["all"].paths)
    assert (
        "1 of 7 files cannot be read as images: cat/deep.tif (pixels of 32 bits; allowed: 8 or 16)" in message
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(orientation, tmp_path):
    """The red corner is top left for every orientation of the camera."""
    upright = Image.new("RGB", (60, 40), (0, 0, 255))
    upright.paste((255, 0, 0), (0, 0, 20, 20))
    stored = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # transpositions of Pillow
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = upright if stored is None else upright.transpose(Image.Transpose(stored))
    image.save(tmp_path / "x.jpg", exif=exif, quality=95)
    pixels = np.asarray(rgb(tmp_path / "x.jpg", 1000))
    assert pixels.shape == (40, 60, 3)
    assert pixels[10, 10, 0] > 200 > 50 > pixels[10, 50, 0]
    assert pixels[30, 10, 2] > 200


# --- broken files -------------------------------------------------------------------------------


def test_broken_files_are_named_and_counted(tmp_path):
    make(tmp_path, count=12)
    paths = scan(tmp_path)["all"].paths
    checked(tmp_path, paths)
    noisy = Image.fromarray(make_files.noise(50, 50, 3))
    for suffix in ("jpg", "png", "webp", "gif", "bmp", "tif"):
        path = tmp_path / "dog" / f"cut.{suffix}"
        noisy.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    write(tmp_path / "cat/empty.png", b"")
    write(tmp_path / "cat/page.jpg", b"<html>not found</html>")
    (tmp_path / "cat/link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "cat/folder.png").mkdir()
    paths = scan(tmp_path)["all"].paths
    message = refusal(checked, tmp_path, paths)
    assert f"data.root={tmp_path}: 9 of 33 files cannot be read as images: " in message
    assert "cat/empty.png (empty file)" in message
    assert "cat/page.jpg (not an image)" in message
    assert "cat/link.png (No such file or directory)" in message
    for suffix in ("bmp", "gif", "jpg", "png", "tif"):
        assert f"dog/cut.{suffix} (" in message
    assert message.endswith(" and 1 more"), "eight are named"
    for path in (tmp_path / "dog").glob("cut.*"):
        path.unlink()
    assert "3 of 27 files" in refusal(checked, tmp_path, scan(tmp_path)["all"].paths)
    for name in ("empty.png", "page.jpg", "link.png"):
        (tmp_path / "cat" / name).unlink()
    checked(tmp_path, scan(tmp_path)["all"].paths)


def test_files_are_checked_once(tmp_path, monkeypatch):
    make(tmp_path)
    paths = scan(tmp_path)["all"].paths
    looked_at = []
    real = image_folder._fault
    monkeypatch.setattr(
        image_folder, "_fault", lambda path, *more, **how: looked_at.append(path) or real(path, *more, **how)
    )
    checked(tmp_path, paths)
    checked(tmp_path, paths)
    assert sorted(looked_at) == sorted(paths)
    paths[0].write_bytes(b"now broken")
    assert "1 of 6" in refusal(checked, tmp_path, paths)
    assert "1 of 6" in refusal(checked, tmp_path, paths), "a fault is not remembered as checked"
    assert len(looked_at) == 18


def test_in_threads_keeps_the_order():
    items = list(range(2500))
    assert list(image_folder.in_threads(lambda i: i * i, items)) == [i * i for i in items]


# --- fingerprint --------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch):
    """Record the files whose content is read."""
    seen = []
    real = image_folder._digest
    monkeypatch.setattr(image_folder, "_digest", lambda path: seen.append(path.name) or real(path))
    return seen


def test_fingerprint_is_of_the_content_wherever_it_lies(tmp_path, reads):
    first = fingerprint(make(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere/b")  # with other times
    assert fingerprint(tmp_path / "elsewhere/b") == first
    (tmp_path / "link").symlink_to(tmp_path / "a")
    count = len(reads)
    assert fingerprint(tmp_path / "link") == first
    assert len(reads) == count, "the same folder under another name"
    write(tmp_path / "a/cat/notes.txt", b"no image")
    assert fingerprint(tmp_path / "a") == first


def test_fingerprint_is_remembered(tmp_path, home, reads):
    first = fingerprint(make(tmp_path))
    assert len(reads) == 6
    assert fingerprint(tmp_path) == first
    assert len(reads) == 6
    assert len(list((home / "cache/cnnbench/folders").glob("*.json"))) == 1
    checked(tmp_path, scan(tmp_path)["all"].paths)
    assert fingerprint(tmp_path) == first
    assert len(reads) == 6, "both facts are kept"


def test_fingerprint_changes_with_the_content(tmp_path):
    make(tmp_path)
    fingerprints = [fingerprint(tmp_path)]
    path = tmp_path / "cat/000.png"
    before = path.stat()

    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)  # the same size
    assert path.stat().st_size == before.st_size
    fingerprints.append(fingerprint(tmp_path))

    before = path.stat()
    data[-21] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # and mtime set back
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    fingerprints.append(fingerprint(tmp_path))

    path.rename(tmp_path / "dog/moved.png")
    fingerprints.append(fingerprint(tmp_path))
    (tmp_path / "dog/moved.png").rename(tmp_path / "dog/other.png")
    fingerprints.append(fingerprint(tmp_path))
    shutil.copy(tmp_path / "dog/other.png", tmp_path / "dog/one more.png")
    fingerprints.append(fingerprint(tmp_path))
    (tmp_path / "dog").rename(tmp_path / "wolf")
    fingerprints.append(fingerprint(tmp_path))
    assert len(set(fingerprints)) == len(fingerprints)


def test_fingerprint_behind_links(tmp_path):
    """A class folder may be a link; changes behind it are noticed."""
    make(tmp_path / "store")
    (tmp_path / "few").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "few" / name).symlink_to(tmp_path / "store" / name)
    first = fingerprint(tmp_path / "few")
    assert first == fingerprint(tmp_path / "store")
    write_image(tmp_path / "store/cat/000.png", GREY, (20, 20))
    assert fingerprint(tmp_path / "few") == fingerprint(tmp_path / "store") != first


def test_fingerprint_covers_all_splits(tmp_path):
    for split in ("train", "val", "test"):
        make(tmp_path / split)
    first = fingerprint(tmp_path)
    for split in ("train", "val", "test"):
        write_image(tmp_path / split / "cat/000.png", GREY, (9, 9 + len(split)))
        assert fingerprint(tmp_path) != first
        first = fingerprint(tmp_path)


def test_fingerprint_is_frozen(tmp_path):
    """This value must never change: runs of earlier versions would get another identity."""
    for name, data in (("b/x.png", b"1"), ("b/y.JPG", b"22"), ("a/x.png", b"333")):
        write(tmp_path / name, data)
    assert fingerprint(tmp_path) == "aaedfe4ae3a64282d1b1479d800eae27"


def test_names_that_are_no_utf8(tmp_path):
    make(tmp_path)
    odd = os.fsencode(tmp_path) + b"/cat/\xff\xfe.png"
    try:
        shutil.copy(tmp_path / "cat/000.png", odd)
    except OSError:
        pytest.skip("this file system refuses such names")
    assert len(scan(tmp_path)["all"].paths) == 7
    fingerprint(tmp_path)
    checked(tmp_path, scan(tmp_path)["all"].paths)


@pytest.mark.parametrize("content", ["", "no json", "[1]", "null", '{"stamp": "other", "content": "wrong"}'])
def test_broken_cache(content, tmp_path, home):
    first = fingerprint(make(tmp_path))
    (file,) = (home / "cache/cnnbench/folders").iterdir()
    file.write_text(content)
    assert fingerprint(tmp_path) == first


def test_cache_that_cannot_be_written(tmp_path, home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(write(home / "file", b"")))
    first = fingerprint(make(tmp_path))
    assert fingerprint(tmp_path) == first
    checked(tmp_path, scan(tmp_path)["all"].paths)


def test_cache_without_xdg(tmp_path, home, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    fingerprint(make(tmp_path))
    assert list((home / ".cache/cnnbench/folders").glob("*.json"))


def test_fingerprint_of_a_file_that_cannot_be_read(tmp_path):
    make(tmp_path)
    (tmp_path / "cat/link.png").symlink_to(tmp_path / "gone.png")
    assert refusal(fingerprint, tmp_path).endswith("cat/link.png cannot be read (No such file or directory)")


def test_fingerprint_does_not_wait_for_a_pipe(tmp_path):
    make(tmp_path)
    os.mkfifo(tmp_path / "cat/pipe.png")
    message = "cat/pipe.png cannot be read (a pipe or a device; allowed: a file)"
    assert refusal(fingerprint, tmp_path).endswith(message)


def test_needs_no_torch():
    """A finished run is shown from disk without the seconds that importing torch takes."""
    import subprocess
    import sys

    code = "import sys; import cnnbench.data.image_folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
