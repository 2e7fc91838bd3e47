"""Augmentations, compared with slow formulas for one image and with the expected frequencies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnbench.data import augment as aug

SHAPES = [(5, 3, 8, 8), (7, 1, 8, 6), (1, 2, 5, 9), (128, 3, 32, 32)]
OPS = {
    "crop": lambda images, generator: aug.random_crop(images, 2, generator),
    "flip": aug.random_flip,
    "cutout": lambda images, generator: aug.cutout(images, 3, generator),
    "erase": lambda images, generator: aug.erase(images, 0.7, generator),
}


def generator(key: int) -> torch.Generator:
    return torch.Generator().manual_seed(key)


def noise(shape) -> torch.Tensor:
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator(99))


def crops(image: np.ndarray, padding: int) -> dict[tuple[int, int], np.ndarray]:
    """Return all crops of a (C, H, W) image, by their positions."""
    _, h, w = image.shape
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    range_ = range(2 * padding + 1)
    return {(y, x): padded[:, y : y + h, x : x + w] for y in range_ for x in range_}


def erased(image: np.ndarray, side: int, y: int, x: int) -> np.ndarray:
    """Return a (C, H, W) image after cutout, pixel by pixel."""
    out = image.copy()
    _, h, w = image.shape
    for row in range(y - side // 2, y - side // 2 + side):
        for column in range(x - side // 2, x - side // 2 + side):
            if 0 <= row < h and 0 <= column < w:
                out[:, row, column] = 0
    return out


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [1, 4])
def test_crop(shape, padding):
    images = noise(shape)
    cropped = aug.random_crop(images, padding, generator(0))
    assert cropped.shape == images.shape
    assert cropped.dtype == torch.uint8
    positions = torch.randint(2 * padding + 1, (2, shape[0]), generator=generator(0)).T.tolist()
    for image, crop, position in zip(images.numpy(), cropped.numpy(), positions, strict=True):
        np.testing.assert_array_equal(crop, crops(image, padding)[tuple(position)])


@pytest.mark.parametrize("shape", SHAPES)
def test_flip(shape):
    images = noise(shape)
    flipped = aug.random_flip(images, generator(0))
    assert flipped.dtype == torch.uint8
    for image, result in zip(images.numpy(), flipped.numpy(), strict=True):
        assert result.tolist() in (image.tolist(), image[:, :, ::-1].tolist())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [1, 2, 5, 12])
def test_cutout(shape, side):
    images = noise(shape).float()
    cut = aug.cutout(images, side, generator(0))
    draws = generator(0)
    ys, xs = (torch.randint(size, (shape[0],), generator=draws).tolist() for size in shape[2:])
    for image, result, y, x in zip(images.numpy(), cut.numpy(), ys, xs, strict=True):
        np.testing.assert_array_equal(result, erased(image, side, y, x))


@pytest.mark.parametrize("shape", SHAPES)
def test_normalise(shape):
    images = noise(shape)
    mean, std = [0.4, 0.5, 0.1][: shape[1]], [0.2, 0.3, 0.25][: shape[1]]
    result = aug.normalise(images, mean, std)
    assert result.dtype == torch.float32
    expected = (images.double() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(result, expected.float(), rtol=0, atol=1e-5)
    # one pair of values for all channels, where grey images are repeated
    torch.testing.assert_close(aug.normalise(images, [0.4], [0.2])[:, :1], result[:, :1])


# --- odds ---------------------------------------------------------------------------------------


def test_half_are_flipped():
    ramp = torch.arange(4, dtype=torch.uint8).expand(20000, 1, 1, 4)
    flipped = aug.random_flip(ramp, generator(0))[:, 0, 0, 0] == 3
    assert float(flipped.float().mean()) == pytest.approx(0.5, abs=0.015)
    # neighbours are independent
    assert float((flipped[1:] == flipped[:-1]).float().mean()) == pytest.approx(0.5, abs=0.015)


def test_crop_positions_are_uniform():
    count, padding = 25000, 2
    image = torch.arange(1, 26, dtype=torch.uint8).view(5, 5)
    cropped = aug.random_crop(image.expand(count, 1, 5, 5), padding, generator(0))
    middle, hits = torch.bincount(cropped[:, 0, 2, 2], minlength=26)[1:], count / 25
    assert float(((middle - hits) ** 2 / hits).sum()) < 52  # chi square, 24 degrees of freedom: p = 0.001


def test_cutout_centres_are_uniform_and_squares_are_clipped():
    count, size, side = 20000, 6, 4
    cut = aug.cutout(torch.ones(count, 1, size, size), side, generator(0)) == 0
    area = cut.flatten(1).sum(1)
    assert int(area.max()) == side * side
    assert int(area.min()) == (side // 2) ** 2  # around a corner
    # every centre whose square covers a pixel erases it
    reach = [sum(y - side // 2 <= i < y - side // 2 + side for y in range(size)) / size for i in range(size)]
    expected = torch.tensor(reach)[:, None] * torch.tensor(reach)
    torch.testing.assert_close(cut.float().mean((0, 1)), expected, rtol=0, atol=0.02)


def test_erased_rectangles_have_the_sizes_of_the_paper():
    count, size = 20000, 40
    erased = aug.erase(torch.ones(count, 1, size, size), 0.25, generator(0))[:, 0] == 0
    rows, columns = erased.any(2).sum(1), erased.any(1).sum(1)
    assert torch.equal(erased.sum((1, 2)), rows * columns), "rectangles"
    hit = rows > 0
    assert hit.float().mean().item() == pytest.approx(0.25, abs=0.01)
    share = (rows * columns)[hit] / size**2
    assert 0.015 < share.min() < 0.03
    assert 0.3 < share.max() < 0.36
    assert share.mean().item() == pytest.approx((0.02 + 0.33) / 2, abs=0.01)
    ratio = (rows / columns)[hit].log()
    assert ratio.mean().item() == pytest.approx(0, abs=0.02)
    assert ratio.exp().min() < 0.35


# --- generators ---------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_draws_follow_from_the_generator_alone(op):
    images = noise((64, 3, 8, 8)).float()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = OPS[op](images, generator(1))
    assert torch.equal(torch.get_rng_state(), before), "the global generator is not drawn from"
    torch.manual_seed(5)
    assert torch.equal(OPS[op](images, generator(1)), first)
    assert not torch.equal(OPS[op](images, generator(2)), first)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_source_is_left_alone(op, dtype):
    images = noise((64, 3, 8, 8)).to(dtype)
    copy = images.clone()
    result = OPS[op](images, generator(1))
    assert not torch.equal(result, copy)
    result.fill_(0)
    assert torch.equal(images, copy)
    normalised = aug.normalise(images, [0.5], [0.5])
    normalised.fill_(0)
    assert torch.equal(images, copy)
