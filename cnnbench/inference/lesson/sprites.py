"""Numbers as small grey pictures, of 256 levels, that fit into a page."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

LEVELS = 255
SIDE = 64
"""Largest side of a map in a page; a larger one is averaged over blocks of pixels."""


def sprite(maps: Tensor) -> dict[str, Any]:
    """Return maps as a picture, and the numbers of the darkest and the brightest level of each channel.

    Args:
        maps: (N, C, h, w); the picture has a row for each of N, and a column for each of C.

    Returns:
        `src`, `low` and `high`, a number for each channel, and the `rows` and `columns` of a map in it.
    """
    maps = reduced(maps)
    n, c, h, w = maps.shape
    low, high = maps.amin((0, 2, 3)), maps.amax((0, 2, 3))
    share = (maps - low.view(1, -1, 1, 1)) / (high - low).clamp(min=1e-12).view(1, -1, 1, 1)
    picture = (share * LEVELS).round().byte().permute(0, 2, 1, 3).reshape(n * h, c * w)
    return {"src": png(picture), "low": low.tolist(), "high": high.tolist(), "rows": h, "columns": w}


def reduced(maps: Tensor) -> Tensor:
    """Return maps (N, C, h, w) with sides of SIDE at most; a single row is a vector, and stays whole."""
    h, w = maps.shape[2:]
    if max(h, w) <= SIDE or h == 1:
        return maps
    scale = SIDE / max(h, w)
    return F.adaptive_avg_pool2d(maps, (max(1, round(h * scale)), max(1, round(w * scale))))


def png(pixels: Tensor) -> str:
    """Return uint8 pixels, (H, W) or (H, W, 3), as a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def photos(pixels: Tensor) -> dict[str, Any]:
    """Return images, uint8 (N, 1 or 3, H, W), below each other as a picture, and the side of one in it."""
    small = reduced(pixels.float()).round().byte() if max(pixels.shape[2:]) > SIDE else pixels
    picture = torch.cat([*small], 1)
    shown = picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)
    return {"src": png(shown), "side": small.shape[-1]}
