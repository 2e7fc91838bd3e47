"""What a model was trained to see: from any image to its input, as evaluation during training does it.

A checkpoint carries these values, so that a run can be used where its data set is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from cnnbench.data import datasets
from cnnbench.data.augment import normalise
from cnnbench.data.datasets import DATASETS
from cnnbench.data.transforms import EVAL_CROP, LONGEST, decode, eval_transform
from cnnbench.errors import InputError

Positive = Annotated[float, Field(gt=0)]


class Preparation(BaseModel):
    """From images to the input of a model; plain values alone.

    Attributes:
        classes: the name of each of the K classes.
        size: side in pixels of the square that the model sees.
        colours: channels of the pixels before they are normalised, 1 (grey) or 3 (RGB).
        channels: C of the model's input; grey pixels are repeated.
        mean, std: per channel, of pixels in [0, 1].
        centre: share of the shorter side that is kept around the centre of an image file; None: the whole
            image is resized to the square, whatever its proportions.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    classes: Annotated[list[str], Field(min_length=2)]
    size: Annotated[int, Field(ge=1, le=4096)]
    colours: Literal[1, 3]
    channels: Annotated[int, Field(ge=1, le=64)]
    mean: Annotated[list[float], Field(min_length=1, max_length=64)]
    std: Annotated[list[Positive], Field(min_length=1, max_length=64)]
    centre: Annotated[float, Field(gt=0, le=1)] | None

    @model_validator(mode="after")
    def _channels_agree(self) -> Preparation:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, self.channels):
            raise ValueError("mean and std: one value for all channels, or one for each")
        if self.colours not in (1, len(self.mean)):
            raise ValueError("colours: 1, or as many as mean has values")
        return self

    def open(self, path: Path) -> Tensor:
        """An image file as uint8 (colours, size, size), upright.

        Raises:
            Exception: see `cnnbench.data.image_folder.open_rgb`.
        """
        pixels = decode(path, self.size)
        pixels = pixels if self.colours == 3 else grey(pixels)
        if self.centre is not None:
            cut: Tensor = eval_transform(self.size, self.centre)(pixels)
            return cut
        return self._resized(pixels)

    def fit(self, pixels: Tensor) -> Tensor:
        """Images of an array set as the model takes them: uint8 (N, c, H, W) -> (N, colours, size, size)."""
        if self.colours == 1 and pixels.shape[1] == 3:
            pixels = grey(pixels)
        pixels = pixels.expand(-1, self.colours, -1, -1)
        if self.centre is not None:  # as if they were files
            cut: Tensor = eval_transform(self.size, self.centre)(pixels)
            return cut
        return self._resized(pixels)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (N, colours, H, W) -> float32 (N, channels, H, W), on the device of the pixels."""
        pixels = pixels.expand(-1, len(self.mean), -1, -1)  # grey ones that get ImageNet's normalisation
        found = normalise(pixels, self.mean, self.std)
        return found if found.shape[1] == self.channels else found.repeat(1, self.channels, 1, 1)

    def plain(self) -> dict[str, Any]:
        """As plain values, for a checkpoint or a file of metadata."""
        return self.model_dump()

    @property
    def resizing(self) -> str:
        """How an image comes to its size, in words."""
        upright = (
            f"a JPEG decoded at the least fraction that has {2 * self.size} pixels a side (Pillow's draft); "
            f"turned upright as its EXIF says{', luma (ITU-R 601)' * (self.colours == 1)}; "
        )
        if self.centre is None:
            return f"{upright}the whole image resized to {self.size}x{self.size}, bilinear with antialiasing"
        shorter = round(self.size / self.centre)
        return (
            f"{upright}of a strip longer than {LONGEST} times its width the middle; the shorter side resized "
            f"to {shorter}, bilinear with antialiasing, then the centre {self.size}x{self.size}"
        )

    def _resized(self, pixels: Tensor) -> Tensor:
        sized: Tensor = tvf.resize(pixels, [self.size, self.size], antialias=True)
        return sized


def grey(pixels: Tensor) -> Tensor:
    """RGB as luma, uint8 (…, 3, H, W) -> (…, 1, H, W), to the value that Pillow's mode L has (ITU-R 601)."""
    r, g, b = pixels.int().unbind(-3)
    return ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16).byte().unsqueeze(-3)


def preparation(
    name: str,
    classes: list[str],
    pixels: Tensor | list[Path],
    size: int | None,
    channels: int | None,
    *,
    imagenet_normalisation: bool,
) -> Preparation:
    """What becomes of the images of a set, `pixels`, when they are evaluated; see `ImageData`.

    Raises:
        InputError: images that differ in size without `size`, or `channels` that they cannot have.
    """
    row, files = DATASETS[name], not isinstance(pixels, Tensor)
    if size is None:
        if not isinstance(pixels, Tensor):
            raise InputError(
                f"data.size=null: the images of {name} differ in size; allowed: 4 or more pixels"
            )
        size = pixels.shape[-1]
    own, channels = len(row.mean), datasets.channels(name, channels)
    mean, std = datasets.IMAGENET if imagenet_normalisation and channels == 3 else (row.mean, row.std)
    return Preparation(
        classes=list(classes),
        size=size,
        colours=3 if own == 3 else 1,
        channels=channels,
        mean=list(mean),
        std=list(std),
        centre=EVAL_CROP if files else None,
    )
