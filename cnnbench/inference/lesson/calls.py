"""The layers of a model in the order in which they are called, with what each takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cnnbench.inference.network import Network
from cnnbench.ops.layers import Conv2d

SKIPPED = (nn.Identity, nn.Dropout, nn.Dropout2d, StochasticDepth)
"""Layers that do nothing in evaluation."""

IMAGE = -1
"""Stands for the image in the place of a call."""


@dataclass(frozen=True)
class Call:
    """A call of a layer.

    Attributes:
        name: of the layer.
        module: the layer.
        taken, returned: (N, C, H, W) or (N, K), float32 on the CPU.
        source: number of the call whose output it takes; IMAGE; or None: it is computed outside of any layer,
            as the sum of a skip connection is.
    """

    name: str
    module: nn.Module
    taken: Tensor
    returned: Tensor
    source: int | None


def calls(network: Network, pixels: Tensor) -> list[Call]:
    """Return the calls of all layers that compute something, for some images.

    Pooling in the place of a convolution's stride, which is a part of that layer, is a call of its own.

    Args:
        network: the model.
        pixels: uint8 (N, colours, size, size).
    """
    found: list[Call] = []
    # Tensors by identity, and the call that returned each; they are kept, so that no other gets their place.
    origin: dict[int, tuple[Tensor, int]] = {}
    begun: dict[nn.Module, tuple[Tensor, int | None]] = {}
    names = {module: name for name, module in network.model.named_modules()}
    pooled = {
        module.down: module
        for module in names
        if isinstance(module, Conv2d) and not isinstance(module.down, nn.Identity)
    }

    def begin(module: nn.Module, inputs: Any) -> None:
        if not inputs or not isinstance(inputs[0], Tensor):
            return
        given = inputs[0]
        if module in pooled:
            end(pooled[module], given)
        known = origin.get(id(given))
        source = (IMAGE if not found and not origin else None) if known is None else known[1]
        begun[module] = (_copy(given), source)

    def end(module: nn.Module, output: Any) -> None:
        if module not in begun or not isinstance(output, Tensor):
            return
        taken, source = begun.pop(module)
        found.append(Call(names[module], module, taken, _copy(output), source))
        origin[id(output)] = (output, len(found) - 1)

    def skip(module: nn.Module, inputs: Any, output: Any) -> None:
        """Pass on where a tensor comes from."""
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            known = origin.get(id(inputs[0]))
            if known is not None:
                origin[id(output)] = (output, known[1])

    hooks = []
    for module in names:
        if isinstance(module, SKIPPED):
            hooks.append(module.register_forward_hook(skip))
        elif not [*module.children()] or [*module.parameters(recurse=False)]:
            hooks.append(module.register_forward_pre_hook(begin))
            hooks.append(module.register_forward_hook(lambda module, inputs, output: end(module, output)))
    try:
        network.logits(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _copy(tensor: Tensor) -> Tensor:
    """Return a copy: an activation may work in place."""
    return tensor.detach().to("cpu", torch.float32, copy=True)
