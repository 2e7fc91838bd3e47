"""The pictures of one run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnnbench.inference.explain.examples import Examples
from cnnbench.inference.explain.filters import first_filters
from cnnbench.inference.explain.grad_cam import grad_cam
from cnnbench.inference.explain.maps import Maps
from cnnbench.inference.explain.mistakes import Mistake
from cnnbench.inference.explain.survey import outputs
from cnnbench.inference.explain.tiles import Array, Picture, Row, Tile, photo
from cnnbench.inference.explain.top_images import Top, patch
from cnnbench.inference.network import Network
from cnnbench.models.receptive_field import Fields

ACROSS = 8
"""Tiles in a row."""

FILTERS = 64
"""Most filters of the first layer that are shown."""

CONTEXT = 16
"""Least side, in pixels, of what is shown of an image around a receptive field."""


def filters_picture(network: Network, maps: Maps) -> Picture | None:
    """Return the filters of the first layer; None: it does not look at pixels."""
    found = first_filters(network, maps)
    if found is None:
        return None
    name, weight = found
    tiles = filter_tiles(weight[:FILTERS])
    rows = [Row("", tiles[i : i + ACROSS]) for i in range(0, len(tiles), ACROSS)]
    h, w = weight.shape[2:]
    shown = f"the first {FILTERS} of {len(weight)}" if len(weight) > FILTERS else f"{len(weight)}"
    look = "red adds to the output, blue takes from it" if weight.shape[1] == 1 else "grey is 0"
    caption = (
        f"What the first layer, {name}, multiplies the pixels with: {shown} filters of {h}x{w}, each scaled "
        f"by its largest weight; {look}."
    )
    return Picture("filters", "Filters of the first layer", caption, rows)


def filter_tiles(weight: Tensor) -> list[Tile]:
    """Return a tile for each filter, (F, 1 or 3, rows, columns); each is scaled by its largest weight."""
    tiles = []
    for i, one in enumerate(weight):
        scaled = (one / one.abs().max().clamp(min=1e-12)).numpy()
        if len(scaled) == 1:
            tiles.append(Tile(scaled[0], str(i), "RdBu_r", -1, 1))
        else:
            tiles.append(Tile(scaled.transpose(1, 2, 0) / 2 + np.float32(0.5), str(i)))
    return tiles


def maps_pictures(
    network: Network, maps: Maps, layers: Sequence[str], examples: Examples, fields: Fields
) -> list[Picture]:
    """Return for each image its strongest maps in each of the layers."""
    _, found = outputs(network, examples.pixels, layers)
    pictures = []
    for i, name in enumerate(examples.names):
        rows = [Row(f"{name}\n{_label(network, examples.labels[i])}".strip(), [photo(examples.pixels[i])])]
        rows += [
            Row(_layer(maps, layer, fields), map_tiles(found[layer][i], ACROSS))
            for layer in layers
        ]  # fmt: skip
        caption = (
            f"What the layers at the end of each stage make of {name}: of each the {ACROSS} maps with the "
            "largest mean, by the number of the filter. Bright is a large output, and all maps of a row have "
            "the same scale; where outputs can be negative, red is positive and blue negative."
        )
        number = f"-{i + 1}" if len(examples.names) > 1 else ""
        pictures.append(Picture(f"maps{number}", f"Activation maps: {name}", caption, rows))
    return pictures


def map_tiles(maps: Tensor, most: int) -> list[Tile]:
    """Return tiles of up to `most` of the maps (C, h, w), those with the largest mean of absolute outputs."""
    order = maps.abs().mean((1, 2)).argsort(descending=True, stable=True)[:most].sort().values
    chosen = maps[order]
    limit = max(float(chosen.abs().max()), 1e-12)
    signed = float(chosen.min()) < -0.05 * limit
    colours, low = ("RdBu_r", -limit) if signed else ("magma", 0.0)
    return [Tile(one.numpy(), str(int(k)), colours, low, limit) for k, one in zip(order, chosen, strict=True)]


def grad_cam_picture(network: Network, layer: str, examples: Examples) -> Picture:
    """Return the images with the evidence for the predicted class and, where that is wrong, the true one."""
    probabilities, _ = outputs(network, examples.pixels, [])
    predicted = probabilities.argmax(1)
    images = [
        photo(pixels, caption=f"{name}\n{_label(network, label)}".strip())
        for pixels, name, label in zip(examples.pixels, examples.names, examples.labels, strict=True)
    ]
    rows = [Row("image", images)]
    rows.append(
        Row("evidence for what\nit predicts", heat_tiles(network, layer, examples, predicted, probabilities))
    )
    wrong = [
        label is not None and label != int(k) for label, k in zip(examples.labels, predicted, strict=True)
    ]
    if any(wrong):
        true = torch.tensor(
            [k if label is None else label for label, k in zip(examples.labels, predicted, strict=True)]
        )
        tiles = heat_tiles(network, layer, examples, true, probabilities)
        rows.append(
            Row(
                "evidence for the\ntrue class, where\nthat is another",
                [t if w else None for t, w in zip(tiles, wrong, strict=True)],
            )
        )
    return Picture("gradcam", "Grad-CAM", grad_cam_caption(layer), rows)


def grad_cam_caption(layer: str) -> str:
    """Return what Grad-CAM shows."""
    return (
        f"Where the maps of {layer} speak for a class (Grad-CAM, arXiv:1610.02391): from dark to yellow, "
        "each image scaled by its own maximum. The map is as coarse as the layer's. It shows what the "
        "decision rests on, not whether that is right; an image without colour has no evidence for the class."
    )


def heat_tiles(
    network: Network, layer: str, examples: Examples, classes: Tensor, probabilities: Tensor
) -> list[Tile]:
    """Return the images with the evidence for a class of each, captioned with its probability."""
    size = network.preparation.size
    heat = F.interpolate(
        grad_cam(network, examples.pixels, layer, classes)[:, None], (size, size), mode="bilinear"
    )[:, 0]
    heat = heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)
    names = network.preparation.classes
    return [
        photo(
            pixels,
            caption=f"{names[k]}\n{_percent(float(shares[k]))}",
            good=None if label is None else label == k,
            heat=_array(one),
        )
        for pixels, one, k, label, shares in zip(
            examples.pixels, heat, classes.tolist(), examples.labels, probabilities, strict=True
        )
    ]


def top_picture(
    layer: str, top: Top, filters: Sequence[int], photos: Mapping[int, Tensor], fields: Fields, title: str
) -> Picture:
    """Return the images that excite each of the filters most.

    Args:
        layer: name of the layer.
        top: what was found.
        filters: which filters are shown.
        photos: the images by index, uint8 (colours, size, size).
        fields: receptive fields of the layers.
        title: of the images that were searched.
    """
    field = fields.layers.get(layer)
    rows = []
    for k in filters:
        tiles = []
        for value, image, position in zip(top.values[k], top.images[k], top.positions[k], strict=True):
            pixels = photos[int(image)]
            box = patch(field, int(position), top.columns, pixels.shape[-1])
            tiles.append(_around(pixels, box, f"image {int(image)}\n{float(value):.3g}"))
        alive = float(top.values[k, 0]) > 0
        rows.append(Row(f"filter {k}" if alive else f"filter {k}\nis never positive", tiles if alive else []))
    sees = (
        "the whole image"
        if field is None or not math.isfinite(field.rows.size)
        else f"{field.rows.size:g}x{field.columns.size:g} pixels"
    )
    caption = (
        f"The images that excite filters of {layer} most, of {top.seen:,} ({title}), with the output of the "
        f"unit that is excited most. A unit sees {sees}: what is inside the frame; the rest is faded."
    )
    return Picture(f"top-{layer}", f"Top images of {layer}", caption, rows)


def _around(pixels: Tensor, box: tuple[int, int, int, int], caption: str) -> Tile:
    """Return a tile of a part of an image and what is around it."""
    size = pixels.shape[-1]
    y, x, h, w = box
    side = min(size, max(2 * max(h, w), CONTEXT))
    top, left = (
        max(0, min(size - side, first + length // 2 - side // 2)) for first, length in ((y, h), (x, w))
    )
    return photo(
        pixels[:, top : top + side, left : left + side], caption=caption, box=(y - top, x - left, h, w)
    )


def mistakes_picture(
    network: Network, mistakes: Sequence[Mistake], photos: Mapping[int, Tensor], title: str, wrong: int
) -> Picture:
    """Return the worst mistakes.

    Args:
        network: the model.
        mistakes: the worst first.
        photos: the images by index.
        title: of the images.
        wrong: number of all mistakes.
    """
    names = network.preparation.classes
    tiles = [
        photo(
            photos[one.image],
            caption=f"{names[one.true]}, not\n{names[one.predicted]}\n"
            f"{_percent(one.probability)}, loss {one.loss:.2f}",
        )
        for one in mistakes
    ]
    rows = [Row("", tiles[i : i + ACROSS]) for i in range(0, len(tiles), ACROSS)]
    caption = (
        f"The {len(mistakes)} mistakes with the highest loss, of {wrong:,} ({title}): the true class, what "
        "was predicted instead, how sure of it the model is, and the loss in nats."
    )
    return Picture("mistakes", "Worst mistakes", caption, rows)


def _label(network: Network, label: int | None) -> str:
    return "" if label is None else network.preparation.classes[label]


def _layer(maps: Maps, layer: str, fields: Fields) -> str:
    c, h, w = maps.shapes[layer]
    lines = [layer, f"{c} maps of {h}x{w}"]
    field = fields.layers.get(layer)
    if field is not None and not math.isnan(field.rows.size):
        lines.append(
            "sees the image" if field.share == 1 else f"sees {field.rows.size:g}x{field.columns.size:g}"
        )
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _array(tensor: Tensor) -> Array:
    return np.asarray(tensor.numpy(), dtype=np.float32)
