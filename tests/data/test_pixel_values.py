"""The pixels of all kinds of image files: known values, Pillow's conversions, torchvision's decoder."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from folder_support import rgb
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from cnnbench.data.transforms import decode

# torchvision means to remove its decoders; another one that knows no Pillow will then have to do.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")

HEIGHT, WIDTH = 6, 8


def noise(channels, dtype=np.uint8):
    random = np.random.default_rng(channels)
    return random.integers(0, np.iinfo(dtype).max + 1, (HEIGHT, WIDTH, channels), dtype=dtype)


def three(grey):
    """(H, W) as (H, W, 3)."""
    return np.repeat(grey[..., None], 3, -1)


COLOUR, ALPHA, DEEP = noise(3), noise(1)[..., 0], noise(4, np.uint16)
GREY = COLOUR[..., 0]
UPPER = (DEEP >> 8).astype(np.uint8)
"""The upper 8 of 16 bits, as libpng's png_set_strip_16 keeps them."""


def ours(path):
    return np.asarray(rgb(path, 1000))


def torchvisions(path):
    """(H, W, 3) uint8 by torchvision's own decoders, libpng and libjpeg without Pillow."""
    image = decode_image(str(path), mode=ImageReadMode.RGB, apply_exif_orientation=True)
    eight = (image.int() >> 8).to(torch.uint8) if image.dtype == torch.uint16 else image
    return eight.permute(1, 2, 0).numpy()


# --- Pillow writes --------------------------------------------------------------------------------

PALETTE = Image.fromarray(COLOUR).quantize(8)
INDEX = np.asarray(PALETTE)
PALETTE_COLOURS = np.asarray(PALETTE.getpalette(), np.uint8).reshape(-1, 3)[INDEX]
RGBA = Image.fromarray(np.dstack([COLOUR, ALPHA]))
LA = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
EXACT = {"lossless": True, "exact": True}

WRITTEN = {
    "grey.png": (Image.fromarray(GREY), {}, three(GREY)),
    "grey of a transparent value.png": (
        Image.fromarray(GREY), {"transparency": int(GREY[0, 0])}, three(GREY),
    ),
    "black and white.png": (Image.fromarray(GREY > 127), {}, three((GREY > 127) * np.uint8(255))),
    "colour.png": (Image.fromarray(COLOUR), {}, COLOUR),
    "colour of a transparent one.png": (
        Image.fromarray(COLOUR), {"transparency": tuple(COLOUR[0, 0].tolist())}, COLOUR,
    ),
    "colour and alpha.png": (RGBA, {}, COLOUR),
    "colour and alpha.webp": (RGBA, EXACT, COLOUR),
    "grey and alpha.png": (LA, {}, three(GREY)),
    "palette.png": (PALETTE, {}, PALETTE_COLOURS),
    "palette of a transparent entry.png": (PALETTE, {"transparency": 3}, PALETTE_COLOURS),
    "palette with alpha.png": (PALETTE, {"transparency": bytes(range(0, 256, 32))}, PALETTE_COLOURS),
    "palette.gif": (PALETTE, {}, PALETTE_COLOURS),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_pixels_are_those_that_were_written(name, tmp_path):
    """Alpha is dropped, not blended: the stored colour is seen, also where a pixel is transparent."""
    image, options, expected = WRITTEN[name]
    path = tmp_path / name
    image.save(path, **options)
    assert np.array_equal(ours(path), expected)
    assert np.array_equal(torchvisions(path), expected)
    # ITU-R 601, as Pillow's documentation of convert("L") has it; of grey images the value itself
    luma = expected.astype(int) @ (19595, 38470, 7471) + 0x8000 >> 16
    assert np.array_equal(decode(path, 1000, mode="L")[0].numpy(), luma)


def test_a_transparent_gif_keeps_the_colour_of_its_palette(tmp_path):
    """torchvision's decoder draws it over the background colour instead."""
    PALETTE.save(tmp_path / "x.gif", transparency=3)
    assert np.array_equal(ours(tmp_path / "x.gif"), PALETTE_COLOURS)


@pytest.mark.parametrize("name", ["x.tif", "x.webp"])
def test_alpha_in_formats_of_pillow_alone(name, tmp_path):
    RGBA.save(tmp_path / name, **(EXACT if name.endswith("webp") else {}))
    assert np.array_equal(ours(tmp_path / name), COLOUR)


# --- PNG of 16 bits, and of less than 8 -----------------------------------------------------------


def png(path, kind, depth, rows, **chunks):
    """Write a PNG of rows of packed bytes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, kind, 0, 0, 0)
    more = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_png_of_16_bits(kind, channels, tmp_path):
    path = png(tmp_path / "x.png", kind, 16, [row.astype(">u2").tobytes() for row in DEEP[..., :channels]])
    expected = UPPER[..., :3] if channels > 2 else three(UPPER[..., 0])
    assert np.array_equal(ours(path), expected)
    raw = decode_image(str(path)).int().permute(1, 2, 0).numpy() >> 8
    assert np.array_equal(raw[..., :3] if channels > 2 else three(raw[..., 0]), expected)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_of_few_bits(depth, tmp_path):
    values = (GREY >> (8 - depth)).astype(np.uint8)
    bits = np.unpackbits(values[..., None], axis=-1)[..., 8 - depth :].reshape(HEIGHT, -1)
    rows = np.packbits(bits, axis=1)
    grey = png(tmp_path / "grey.png", 0, depth, rows)
    assert np.array_equal(ours(grey), three(values * (255 // (2**depth - 1))))
    assert np.array_equal(ours(grey), torchvisions(grey))
    colours = COLOUR.reshape(-1, 3)[: 2**depth]
    palette = png(tmp_path / "palette.png", 3, depth, rows, PLTE=colours.tobytes(), tRNS=bytes(2**depth))
    assert np.array_equal(ours(palette), colours[values])
    assert np.array_equal(ours(palette), torchvisions(palette))


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("white", [100, 255, 1000, 4095, 65535])
def test_pgm_of_any_white(white, text, tmp_path):
    values = DEEP[..., 0].astype(int) % (white + 1)
    values[0, :2] = 0, white
    words = " ".join(map(str, values.ravel())).encode()
    body = words if text else values.astype(">u2" if white > 255 else "u1").tobytes()
    path = tmp_path / "x.pgm"
    path.write_bytes(f"P{2 if text else 5}\n{WIDTH} {HEIGHT}\n{white}\n".encode() + body)
    found = ours(path)
    assert found[0, :2].tolist() == [[0] * 3, [255] * 3]
    assert np.abs(found - three(values / white * 255)).max() < 1


# --- TIFF -----------------------------------------------------------------------------------------


def tiff(path, pixels, photometric, order="<", extra=None):
    """Write an uncompressed TIFF of (H, W, C) pixels."""
    data, (height, width, channels) = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes(), pixels.shape
    bits = struct.pack(f"{order}{channels}H", *[8 * pixels.itemsize] * channels)
    short = {256: width, 257: height, 259: 1, 262: photometric, 277: channels, 278: height}
    short |= {} if extra is None else {338: extra}
    entries = {tag: struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in short.items()}
    end = 8 + len(data) + 2 + 12 * (len(short) + 3) + 4
    at = (struct.pack(f"{order}I", end) if channels > 2 else bits.ljust(4, b"\0"))[:4]
    entries[258] = struct.pack(f"{order}HHI", 258, 3, channels) + at
    for tag, value in ((273, 8), (279, len(data))):
        entries[tag] = struct.pack(f"{order}HHII", tag, 4, 1, value)
    folder = (
        struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    )
    start = b"II*\0" if order == "<" else b"MM\0*"
    path.write_bytes(start + struct.pack(f"{order}I", 8 + len(data)) + data + folder + bits)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_16_bits(order, tmp_path):
    grey = tiff(tmp_path / "grey.tif", DEEP[..., :1], 1, order)
    assert np.array_equal(ours(grey), three(UPPER[..., 0]))
    colour = tiff(tmp_path / "colour.tif", DEEP[..., :3], 2, order)
    assert np.array_equal(ours(colour), UPPER[..., :3])


@pytest.mark.parametrize("pixels", [DEEP[..., :1], UPPER[..., :1]], ids=["16 bits", "8 bits"])
def test_tiff_in_which_0_is_white(pixels, tmp_path):
    """Pillow turns only 8 bits around."""
    path = tiff(tmp_path / "x.tif", pixels, 0)
    assert np.array_equal(ours(path), 255 - three(UPPER[..., 0]))


def test_tiff_of_colours_multiplied_by_alpha(tmp_path):
    """The colour is what was multiplied: 64 at an alpha of 128 is 127."""
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[...] = (64, 128, 0, 128)
    path = tiff(tmp_path / "x.tif", pixels, 2, extra=1)
    assert ours(path)[0, 0].tolist() == [127, 255, 0]


# --- CMYK -----------------------------------------------------------------------------------------

INK = np.zeros((48, 64, 4), np.uint8)
INK[:16, :, 0], INK[16:32, :, 1], INK[32:, :, 2] = 255, 255, 255  # cyan, magenta, yellow
INK[:, 32:, 3] = 128  # and half of black
PAPER = np.round((255 - INK[..., :3].astype(float)) * (255 - INK[..., 3:]) / 255)


def test_cmyk_jpeg(tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(INK, mode="CMYK").save(path, quality=100)
    assert b"Adobe" in path.read_bytes()[:40]  # as Photoshop writes it: the values are stored inverted
    found = ours(path)
    assert np.abs(found - PAPER).max() <= 4
    assert found[8, 8].tolist() == pytest.approx([0, 255, 255], abs=4), "cyan"
    assert np.abs(found.astype(int) - torchvisions(path)).max() <= 1


def test_cmyk_tiff(tmp_path):
    path = tmp_path / "x.tif"
    Image.fromarray(INK, mode="CMYK").save(path)
    assert np.abs(ours(path) - PAPER).max() <= 1


# --- orientation ----------------------------------------------------------------------------------

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}
"""From stored pixels to upright ones, by the places of row 0 and column 0 in Exif (CIPA DC-008)."""


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jpg"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_upright_by_exif(orientation, suffix, tmp_path):
    exif, path = Image.Exif(), tmp_path / f"x.{suffix}"
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    stored = np.asarray(Image.open(path)) if suffix == "jpg" else COLOUR
    expected = UPRIGHT[orientation](stored)
    assert np.array_equal(ours(path), expected)
    if suffix in ("png", "jpg"):  # torchvision ignores the orientation of the others
        assert np.array_equal(torchvisions(path), expected)
