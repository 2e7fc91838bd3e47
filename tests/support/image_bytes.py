"""Any bytes in place of an image: headers and bodies that were damaged, for hypothesis."""

import io
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image

MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "JPEG": ["L", "RGB", "CMYK"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "GIF": ["1", "L", "P", "RGB"],
    "WEBP": ["RGB", "RGBA"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"],
    "PPM": ["1", "L", "RGB", "I;16"],
}


def encoded(pair, side, more):
    """An image file in memory; with `more` progressive, or with several frames."""
    (kind, mode), file = pair, io.BytesIO()
    pixels = np.random.default_rng(side).integers(0, 256, (side, side + 3, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    several = {"save_all": True, "append_images": [image]} if kind in ("GIF", "PNG", "TIFF") else {}
    image.save(file, kind, **((several or {"progressive": True}) if more else {}))
    return file.getvalue()


PAIRS = [(kind, mode) for kind, modes in MODES.items() for mode in modes]
IMAGES = st.builds(encoded, st.sampled_from(PAIRS), st.integers(1, 20), st.booleans())
EXTREME = [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\xff\xff", b"\xff\xff\0\0", b"\1\0\0\0"]


@st.composite
def damaged(draw):
    """An image whose header or body was damaged, or bytes that were never one."""
    data = bytearray(draw(IMAGES))
    for _ in range(draw(st.integers(1, 3))):
        near = draw(st.integers(0, min(len(data), 120)) if draw(st.booleans()) else st.integers(0, len(data)))
        match draw(st.sampled_from(["cut", "flip", "number", "zeros", "insert", "swap", "none"])):
            case "cut":
                del data[near:]
            case "flip" if near < len(data):
                data[near] ^= 1 << draw(st.integers(0, 7))
            case "number":
                data[near : near + 4] = draw(st.sampled_from(EXTREME))
            case "zeros":
                data[near : near + 8] = bytes(8)
            case "insert":
                data[near:near] = draw(st.binary(max_size=20))
            case "swap":  # the start of one file, the end of another
                data[near:] = draw(IMAGES)[near:]
    if data[:8] == b"\x89PNG\r\n\x1a\n" and draw(st.booleans()):  # with checksums that are right again
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)
