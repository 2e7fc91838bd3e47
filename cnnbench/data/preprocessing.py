"""Preprocessing of any image to a model's input, as evaluation during training does it.

Checkpoints carry its values, so that a run can be used without its data set.
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
from cnnbench.data.image_file import Memory
from cnnbench.data.options import EVAL_CROP, ModelInput, Source
from cnnbench.data.transforms import LONGEST, decode, eval_transform
from cnnbench.errors import InputError

Positive = Annotated[float, Field(gt=0)]


class Preparation(BaseModel):
    """Preprocessing from images to a model's input, in plain values.

    Attributes:
        classes: the name of each of the K classes.
        size: side of the model's input in pixels.
        colours: channels of the pixels before normalisation, 1 (grey) or 3 (RGB).
        channels: C of the model's input; grey pixels are repeated.
        mean, std: per channel, of pixels in [0, 1].
        centre: share of an image file's shorter side that is kept around its centre; None: the full image is
            resized to a square, regardless of its proportions.
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

    def open(self, path: Path, memory: Memory | None = None) -> Tensor:
        """Read an image file as uint8 (colours, size, size), upright.

        Raises:
            Unreadable: see `cnnbench.data.image_file.open_rgb`.
        """
        return decode(path, self.size, self.sized, memory, "RGB" if self.colours == 3 else "L")

    def fit(self, pixels: Tensor) -> Tensor:
        """Resize images in memory and convert colours: uint8 (N, c, H, W) -> (N, colours, size, size)."""
        if self.colours == 1 and pixels.shape[1] == 3:
            pixels = grey(pixels)
        return self.sized(pixels.expand(-1, self.colours, -1, -1))  # as if they were files

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalise on the device of the pixels: uint8 (N, colours, H, W) -> float32 (N, channels, H, W)."""
        pixels = pixels.expand(-1, len(self.mean), -1, -1)  # grey ones that get ImageNet's normalisation
        images = normalise(pixels, self.mean, self.std)
        return images if images.shape[1] == self.channels else images.repeat(1, self.channels, 1, 1)

    def plain(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint or a file of metadata."""
        return self.model_dump()

    @property
    def resizing(self) -> str:
        """Description of how an image file is decoded and resized."""
        upright = (
            f"JPEGs decoded at the smallest scale of {2 * self.size} or more pixels a side (Pillow's draft); "
            f"rotated upright according to EXIF{', luma (ITU-R 601)' * (self.colours == 1)}; "
        )
        if self.centre is None:
            return f"{upright}the full image resized to {self.size}x{self.size}, bilinear with antialiasing"
        shorter = round(self.size / self.centre)
        return (
            f"{upright}strips longer than {LONGEST} times their width cut to the middle; the shorter side "
            f"resized to {shorter}, bilinear with antialiasing, then the centre {self.size}x{self.size}"
        )

    def sized(self, pixels: Tensor) -> Tensor:
        """Cut and resize images as evaluation does: uint8 (…, H, W) -> (…, size, size)."""
        sized: Tensor = (
            tvf.resize(pixels, [self.size, self.size], antialias=True)
            if self.centre is None
            else eval_transform(self.size, self.centre)(pixels)
        )
        return sized


def grey(pixels: Tensor) -> Tensor:
    """Convert RGB to luma as Pillow's mode L has it (ITU-R 601): uint8 (…, 3, H, W) -> (…, 1, H, W)."""
    r, g, b = pixels.int().unbind(-3)
    return ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16).byte().unsqueeze(-3)


def preparation(
    source: Source,
    classes: list[str],
    pixels: Tensor | list[Path],
    model_input: ModelInput,
    eval_crop: float | None = None,
) -> Preparation:
    """Return the preprocessing of a data set's images for evaluation.

    Args:
        source: the data set; without a size, that of the pixels is the model's.
        classes: their names.
        pixels: uint8 (N, C, H, W), or N files.
        model_input: channels and normalisation.
        eval_crop: share of the shorter side that is kept of files; None: `EVAL_CROP`.

    Raises:
        InputError: images that differ in size without a size, or channels that they cannot have;
            a share to keep of images that are no files.
    """
    name, size = source.name, source.size
    row, files = DATASETS[name], not isinstance(pixels, Tensor)
    if eval_crop is not None and not files:
        raise InputError(f"data.eval_crop={eval_crop}: only image files are cut; allowed for {name}: null")
    if size is None:
        if not isinstance(pixels, Tensor):
            raise InputError(
                f"data.size=null: the images of {name} differ in size; allowed: 4 or more pixels"
            )
        size = pixels.shape[-1]
    own, channels = len(row.mean), datasets.channels(name, model_input.channels)
    from_imagenet = model_input.imagenet_normalisation and channels == 3
    mean, std = datasets.IMAGENET if from_imagenet else (row.mean, row.std)
    if source.mean is not None and source.std is not None:
        mean, std = source.mean, source.std
        if len(mean) not in (allowed := {3} if own == 3 else {1, channels}):
            values = "one value" if allowed == {1} else f"{' or '.join(map(str, sorted(allowed)))} values"
            raise InputError(f"data.mean={list(mean)}: of {name} with {channels} channels; allowed: {values}")
    return Preparation(
        classes=list(classes),
        size=size,
        colours=3 if own == 3 else 1,
        channels=channels,
        mean=list(mean),
        std=list(std),
        centre=(eval_crop or EVAL_CROP) if files else None,
    )
