"""Filters of the first layer, as they look at the pixels."""

from __future__ import annotations

from torch import Tensor

from cnnbench.inference.explain.maps import Maps
from cnnbench.inference.network import Network


def first_filters(network: Network, maps: Maps) -> tuple[str, Tensor] | None:
    """Return the name of the first layer and its filters, (F, colours, rows, columns).

    A linear layer on the pixels has filters of the image's size. Grey pixels that a model gets on several
    channels see the sum of a filter over them.

    Returns:
        None: the first layer does not look at the pixels of an image.
    """
    name = maps.first
    if name is None:
        return None
    weight = network.model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    weight = weight.detach().float().cpu()
    if weight.ndim == 2:
        if weight[0].numel() != network.preparation.channels * network.preparation.size**2:
            return None
        weight = weight.reshape(-1, *network.shape)
    if weight.shape[1] != network.preparation.colours:
        weight = weight.sum(1, keepdim=True)
    return name, weight
