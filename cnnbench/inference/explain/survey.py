"""One pass over a data set: its evaluation, and the images that excite the filters most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from cnnbench.inference.evaluate.metrics import Evaluation, evaluate
from cnnbench.inference.explain.maps import seen
from cnnbench.inference.explain.top_images import Top
from cnnbench.inference.network import Network


def survey(
    network: Network, batches: Iterable[tuple[Tensor, Tensor]], layers: Sequence[str], most: int
) -> tuple[Evaluation, dict[str, Top]]:
    """Return the evaluation of a model, and for each of some layers up to `most` images of each filter.

    Args:
        network: the model.
        batches: uint8 pixels (N, colours, size, size) with labels (N,).
        layers: names of layers that return maps.
        most: images per filter.
    """
    tops = {name: Top(most) for name in layers}
    with seen(network.model, layers, lambda name, maps: tops[name].add(maps)):
        return evaluate(network, batches), tops


def outputs(network: Network, pixels: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the probabilities (N, K) of some images, and the maps (N, C, h, w) of layers, on the CPU."""
    maps: dict[str, Tensor] = {}
    with seen(network.model, layers, lambda name, found: maps.__setitem__(name, found.cpu())):
        probabilities = network.logits(pixels).softmax(1)
    return probabilities, maps
