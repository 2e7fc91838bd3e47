"""One image file: the memory that it takes, by its header; and any bytes instead of an image."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import struct
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_bytes import damaged
from make_files import noise, write, write_image
from PIL import Image
from search import examples

from cnnbench.data import image_file, prefetch
from cnnbench.data.folder_scan import scan
from cnnbench.data.image_file import MIB, Memory, look
from cnnbench.data.image_folder import check_images
from cnnbench.data.preprocessing import Preparation
from cnnbench.data.transforms import decode
from cnnbench.errors import InputError, Unreadable

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# --- the memory of images -----------------------------------------------------------------------


def kinds(folder, side):
    """Write an image of each kind that Pillow decodes in its own way."""
    folder.mkdir()
    rgb, size = Image.new("RGB", (side, side), (200, 100, 50)), (side, side)
    rgba, cmyk, palette = rgb.convert("RGBA"), rgb.convert("CMYK"), Image.new("P", size)
    palette.putpalette([1, 2, 3] * 256)
    grey, bits = Image.new("L", size, 77), Image.new("1", size)
    deep = Image.fromarray(np.zeros(size, np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    several = {"save_all": True, "append_images": [Image.new("RGB", size, 3)]}
    for image, name, options in (
        *((bits, f"bits.{suffix}", {}) for suffix in ("png", "bmp")),
        (bits, "fax.tif", {"compression": "group4"}),
        *((grey, f"grey.{suffix}", {}) for suffix in ("png", "jpg", "bmp", "pgm")),
        (Image.new("LA", size), "grey-alpha.png", {}),
        *((palette, f"palette.{suffix}", {}) for suffix in ("png", "gif", "bmp", "tif")),
        (palette, "palette-alpha.png", {"transparency": bytes([128] * 256)}),
        *((rgb, f"rgb.{suffix}", {}) for suffix in ("png", "jpg", "bmp", "tif", "webp", "ppm")),
        *((rgb, f"turned.{suffix}", {"exif": turned}) for suffix in ("png", "jpg", "tif", "webp")),
        (rgb, "progressive.jpg", {"progressive": True, "subsampling": 0}),
        (rgb, "moving.png", several), (rgb, "moving.webp", several), (rgb, "moving.gif", several),
        (rgb, "rgb.avif", {}), (rgb, "turned.avif", {"exif": turned}), (rgba, "rgba.avif", {}),
        (rgba, "rgba.png", {}), (rgba, "rgba.webp", {}), (rgba, "rgba.tif", {"compression": "tiff_lzw"}),
        (cmyk, "cmyk.jpg", {}), (cmyk, "cmyk-progressive.jpg", {"progressive": True, "subsampling": 0}),
        (cmyk, "cmyk.tif", {"compression": "tiff_deflate"}), (rgb.convert("YCbCr"), "ycbcr.tif", {}),
        *((deep, f"deep.{suffix}", {}) for suffix in ("png", "tif", "pgm")),
        (deep, "deep-turned.png", {"exif": turned}),
    ):  # fmt: skip
        image.save(folder / name, **options)
    plain = b"P3 %d %d 255\n" % (side, side) + b"1 2 3 " * side**2
    (folder / "plain.ppm").write_bytes(plain)


def memory_of(key):
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))


def peak_of(function, *arguments):
    """Return by how many bytes a function raises the peak of this process's memory."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_of("VmRSS")
    function(*arguments)
    return memory_of("VmHWM") - before


def answer_to(answer, function, arguments):
    torch.set_num_threads(1)
    for _ in range(3):  # glibc keeps blocks of such a size for later ones from now on
        bytearray(31 * MIB)
    answer.send(function(*arguments))


def in_child(function, *arguments, start="fork"):
    """Return what a function returns in a process of its own."""
    context = multiprocessing.get_context(start)
    answers, answer = context.Pipe(duplex=False)
    child = context.Process(target=answer_to, args=(answer, function, arguments))
    child.start()
    answer.close()
    result = answers.recv()
    child.join()
    return result


def prepared(colours=3):
    std = [0.5] * colours
    centre = 0.875 if colours == 3 else None
    values = {"classes": ["a", "b"], "size": 32, "colours": colours, "channels": colours, "centre": centre}
    return Preparation(mean=std, std=std, **values)


def taken(folder, colours):
    """Return the bytes that were estimated for each image of a folder, and those that it took."""
    found, preparation = {}, prepared(colours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        preparation.open(folder / "rgb.png")  # what the first one loads is not its own
        for path in sorted(folder.iterdir()):
            with image_file._opened(path, 32, Memory()) as (_, needed):
                pass
            found[path.name] = needed, peak_of(preparation.open, path)
    return found


@linux
@pytest.mark.parametrize(
    ("side", "colours", "vectors"),
    [
        (800, 3, True),
        pytest.param(4000, 3, True, marks=pytest.mark.slow),
        pytest.param(4000, 1, True, marks=pytest.mark.slow),
        pytest.param(4000, 3, False, marks=pytest.mark.slow),
    ],
)
def test_no_kind_takes_more_than_was_estimated(tmp_path, monkeypatch, side, colours, vectors):
    kinds(tmp_path / "kinds", side)
    if not vectors:  # as on a processor without AVX2: images are resized in float32
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    # A forked process would begin with the gaps that earlier tests have left in the heap.
    found = in_child(taken, tmp_path / "kinds", colours, start="spawn")
    assert len(found) == 42
    assert {name: pair for name, pair in found.items() if pair[1] > pair[0] + 4 * MIB} == {}
    if side > 1000:  # not by far more than is needed, either: one that is estimated too high is refused
        assert {name: pair for name, pair in found.items() if pair[0] > 4 * pair[1] + 16 * MIB} == {}


def read_all(paths, mib):
    opened = prefetch.opened(prepared(), paths, 64, Memory(mib))
    assert not [reason for _, reason in opened if isinstance(reason, str)]


@linux
@pytest.mark.parametrize(("mib", "least", "most"), [(120, 0, 240), (2048, 260, 2048)])
def test_the_images_of_all_threads_share_the_memory(tmp_path, monkeypatch, mib, least, most):
    """Sixteen bombs of 2,600 x 2,600 pixels in eight threads; without a limit they would take more."""
    monkeypatch.setattr(prefetch, "cpu_cores", lambda: 8)
    Image.new("1", (2600, 2600)).save(tmp_path / "large.png", optimize=True)
    assert (tmp_path / "large.png").stat().st_size < 2000
    peak = in_child(peak_of, read_all, [tmp_path / "large.png"] * 16, mib)
    assert least <= peak / MIB <= most


@pytest.mark.parametrize("shared", [False, True])
def test_memory_is_never_exceeded(shared):
    """Six threads or processes hold a third of it at a time."""
    memory = Memory(3, shared=shared)
    context = multiprocessing.get_context("fork") if shared else threading
    barrier, lock = context.Barrier(6), context.Lock()
    now, most = (multiprocessing.RawValue("i", 0) for _ in range(2))

    def hold():
        barrier.wait()
        for _ in range(5):
            with memory.hold(MIB):
                with lock:
                    now.value += 1
                    most.value = max(most.value, now.value)
                time.sleep(0.01)
                with lock:
                    now.value -= 1

    holders = [(context.Process if shared else context.Thread)(target=hold) for _ in range(6)]
    for holder in holders:
        holder.start()
    for holder in holders:
        holder.join()
    assert most.value == 3
    assert memory._held.value == 0


def test_what_is_held_is_released_after_an_error(tmp_path):
    memory = Memory(1)
    Image.new("RGB", (50, 50)).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(Unreadable):
        decode(tmp_path / "x.png", 8, memory=memory)
    Image.new("RGB", (50, 50)).save(tmp_path / "x.png")
    with pytest.raises(ZeroDivisionError):
        decode(tmp_path / "x.png", 8, lambda pixels: 1 / 0, memory)
    assert memory._held.value == 0


def test_an_image_beyond_the_limit_is_named_with_the_setting(tmp_path):
    for name in ("cat/large.png", "dog/small.png"):
        write_image(tmp_path / name, (9, 9, 9), (700, 700) if "large" in name else (9, 9))
    paths = scan(tmp_path)["all"].paths
    check_images(tmp_path, paths, 32, Memory(8))
    for _ in range(2):  # also if the images were checked within a larger memory
        with pytest.raises(InputError) as caught:
            check_images(tmp_path, paths, 32, Memory(7))
        assert str(caught.value) == (
            f"data.root={tmp_path}: 1 of 2 files cannot be read as images: cat/large.png (700 x 700 pixels "
            "can take 8 MiB to decode; allowed: data.decode_mib=7)"
        )
    with pytest.raises(Unreadable, match=r"large.png: 700 x 700 pixels .* allowed: --decode-mib=2"):
        look(paths[0], 32, Memory(2, "--decode-mib"))


def test_a_large_jpeg_takes_little_where_it_is_reduced(tmp_path):
    Image.new("RGB", (3000, 3000)).save(tmp_path / "x.jpg")
    look(tmp_path / "x.jpg", 32, Memory(3))
    with pytest.raises(Unreadable, match="MiB"):
        look(tmp_path / "x.jpg", 600, Memory(3))
    Image.new("RGB", (3000, 3000)).save(tmp_path / "x.jpg", progressive=True)  # all coefficients are kept
    with pytest.raises(Unreadable, match="MiB"):
        look(tmp_path / "x.jpg", 32, Memory(3))


def tiled(side, tile):
    """A TIFF of `side` pixels whose only tile is of `tile` pixels a side."""
    strip = zlib.compress(bytes(tile * tile // 8))
    tags = [(256, 4, side), (257, 4, side), (258, 3, 1), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    tags += [(322, 4, tile), (323, 4, tile), (324, 4, 8), (325, 4, len(strip))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    start = 8 + len(strip)
    return b"II*\0" + struct.pack("<I", start) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tile_larger_than_its_image_counts(tmp_path):
    write(tmp_path / "fine.tif", tiled(32, 32))
    assert decode(tmp_path / "fine.tif", 8, memory=Memory(1)).shape == (3, 32, 32)
    write(tmp_path / "bomb.tif", tiled(32, 16384))
    with pytest.raises(Unreadable, match="can take 2049 MiB"):
        decode(tmp_path / "bomb.tif", 8)


def test_a_huge_file_is_not_read(tmp_path):
    """Its metadata could fill the memory before the size of the image is known."""
    png = struct.pack(">I4s", 2**31 - 1, b"eXIf")
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 1, 1, 8, 0, 0, 0, 0, 0x3A7E9B55)
    write(tmp_path / "x.png", header + png)
    os.truncate(tmp_path / "x.png", 3 * 2**30)
    with pytest.raises(Unreadable, match=r"3,221,225,472 bytes can take 3072 MiB"):
        decode(tmp_path / "x.png", 8)


def test_other_formats_are_not_tried(tmp_path):
    """EPS would start Ghostscript, whatever the file is called."""
    write(tmp_path / "x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with Image.open(tmp_path / "x.png") as image:
        assert image.format == "EPS"
    with pytest.raises(Unreadable, match=r"x\.png: not an image"):
        decode(tmp_path / "x.png", 8)


def test_pixels_are_those_of_pillow(tmp_path):
    """Saving memory changes no pixel: no copy of RGB, transparency that is ignored, luma by Pillow."""
    rgb = Image.fromarray(noise(40, 50, 3))
    palette, grey = rgb.quantize(200), rgb.convert("L")
    cases = {
        "rgb": (rgb, {"transparency": tuple(noise(3).tolist())}), "palette": (palette, {"transparency": 3}),
        "bytes": (palette, {"transparency": bytes(range(200))}), "grey": (grey, {"transparency": 7}),
        "rgba": (Image.fromarray(noise(40, 50, 4)), {}), "bits": (rgb.convert("1"), {"transparency": 1}),
    }  # fmt: skip
    for name, (image, options) in cases.items():
        path = tmp_path / f"{name}.png"
        image.save(path, **options)
        with Image.open(path) as stored:
            expected = np.asarray(stored.convert("RGBA").convert("RGB"))
        np.testing.assert_array_equal(decode(path, 99).permute(1, 2, 0), expected, name)
        r, g, b = (expected[..., k].astype(int) for k in range(3))
        luma = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
        np.testing.assert_array_equal(decode(path, 99, mode="L")[0], luma, name)


# --- any bytes ----------------------------------------------------------------------------------


@examples(150)
@given(damaged(), st.sampled_from(sorted(image_file.SUFFIXES)))
def test_any_bytes_are_an_image_or_named(tmp_path, data, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    memory, pixels = Memory(64), None
    with contextlib.suppress(Unreadable), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = decode(path, 16, memory=memory)
    assert pixels is None or 3 <= pixels.numel() <= 12 * MIB
    assert memory._held.value == 0
