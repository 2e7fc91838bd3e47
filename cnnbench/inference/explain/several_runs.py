"""The same pictures of several runs, one row for each: the values of an ablation side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cnnbench.inference.explain.examples import Examples
from cnnbench.inference.explain.filters import first_filters
from cnnbench.inference.explain.maps import Maps
from cnnbench.inference.explain.one_run import (
    ACROSS,
    filter_tiles,
    grad_cam_caption,
    heat_tiles,
    map_tiles,
)
from cnnbench.inference.explain.survey import outputs
from cnnbench.inference.explain.tiles import Picture, Row, Tile, photo
from cnnbench.inference.network import Network


class Subject(NamedTuple):
    """A run among others.

    Attributes:
        label: what sets it apart.
        network: its model.
        maps: the layers of it.
        layer: whose maps Grad-CAM looks at; None: it has none.
        examples: the images, as this model takes them.
    """

    label: str
    network: Network
    maps: Maps
    layer: str | None
    examples: Examples


def filters_picture(subjects: Sequence[Subject]) -> Picture:
    """Return the first filters of each run."""
    rows = []
    for one in subjects:
        found = first_filters(one.network, one.maps)
        rows.append(Row(one.label, [] if found is None else filter_tiles(found[1][:ACROSS])))
    caption = (
        f"What the first layer of each run multiplies the pixels with: the first {ACROSS} filters, each "
        "scaled by its largest weight. Filters of different runs do not correspond."
    )
    return Picture("filters", "Filters of the first layer", caption, rows)


def maps_picture(subjects: Sequence[Subject]) -> Picture:
    """Return for the first image the strongest map at the end of each stage of each run."""
    rows = []
    for one in subjects:
        stages = one.maps.stages
        _, found = outputs(one.network, one.examples.pixels[:1], stages)
        tiles: list[Tile] = [photo(one.examples.pixels[0], caption=one.examples.names[0])]
        for name in stages:
            [tile] = map_tiles(found[name][0], 1)
            _, h, w = one.maps.shapes[name]
            tiles.append(Tile(tile.pixels, f"{name}\n{h}x{w}", tile.colours, tile.low, tile.high))
        rows.append(Row(one.label, tiles))
    caption = (
        "What the end of each stage makes of the same image: of each layer the map with the largest mean, "
        "scaled by its own maximum. Where outputs can be negative, red is positive and blue negative."
    )
    return Picture("maps", "Activation maps", caption, rows)


def grad_cam_picture(subjects: Sequence[Subject]) -> Picture:
    """Return the evidence of each run for what it predicts, on the same images."""
    first = subjects[0]
    classes = first.network.preparation.classes
    captions = [
        name if label is None else f"{name}\n{classes[label]}"
        for name, label in zip(first.examples.names, first.examples.labels, strict=True)
    ]
    images = [
        photo(pixels, caption=text) for pixels, text in zip(first.examples.pixels, captions, strict=True)
    ]
    rows = [Row("image", images)]
    for one in subjects:
        tiles: Sequence[Tile] = []
        if one.layer is not None:
            probabilities, _ = outputs(one.network, one.examples.pixels, [])
            predicted = probabilities.argmax(1)
            tiles = heat_tiles(one.network, one.layer, one.examples, predicted, probabilities)
        rows.append(Row(one.label, tiles))
    layers = dict.fromkeys(one.layer for one in subjects if one.layer)
    return Picture("gradcam", "Grad-CAM", grad_cam_caption(", ".join(layers)), rows)
