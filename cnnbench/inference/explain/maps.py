"""Feature maps of a model: which layers return them, where its stages end, and what Grad-CAM looks at.

All of it follows from the shapes that a pass through the model shows, whoever wrote it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnnbench.errors import InputError, suggest
from cnnbench.models.complexity import Shape, forward

STAGES = 6
"""Most stages that are shown; nets without padding shrink the map with each convolution."""

NAMED = 3
"""Layers that an error lists."""


class Event(NamedTuple):
    """A tensor on its way through a model: taken by a module or returned by it.

    Attributes:
        module: name of the module; "" is the model.
        returned: by the module; else taken.
        shape: without the batch.
    """

    module: str
    returned: bool
    shape: tuple[int, ...]


class Maps:
    """Layers of a model that return feature maps, in the order of execution.

    A layer that is called several times, such as a ReLU that a residual block shares, is left out: which of
    its outputs is meant would not be known.

    Args:
        model: any classifier.
        shape: (C, H, W) of the image.
    """

    def __init__(self, model: nn.Module, shape: Shape) -> None:
        self.model = model
        self.events = _events(model, shape)
        calls = Counter(event.module for event in self.events if event.returned)
        self.shapes = {
            event.module: event.shape
            for event in self.events
            if event.returned and event.module and len(event.shape) == 3 and calls[event.module] == 1
        }

    def named(self, name: str) -> str:
        """Return the name of a layer that a user named.

        Raises:
            InputError: no layer of this name returns a map.
        """
        if name in self.shapes:
            return name
        near = suggest(name, self.shapes).partition("allowed:")[0]
        some = ", ".join([*self.shapes][:NAMED])
        raise InputError(
            f"--layer {name}: no map, or several; {near}allowed: {some}, … (see `cnnbench inspect`)"
            if some
            else f"--layer {name}: the model has no feature maps; allowed: a convolutional network"
        )

    @property
    def first(self) -> str | None:
        """Name of the first layer with weights: a convolution, or a linear layer on the pixels."""
        for event in self.events:
            weight = getattr(self.model.get_submodule(event.module), "weight", None)
            if isinstance(weight, Tensor) and weight.ndim in (2, 4):
                return event.module
        return None

    @property
    def last(self) -> str | None:
        """Name of the layer whose maps Grad-CAM looks at (arXiv:1610.02391); None: there are none.

        They are the last maps of full resolution, which the pooling behind the last convolution takes,
        whether it is global (ResNet) or comes before flattening (VGG). A pooling is a step that leaves the
        channels and reduces the positions, in a module or between two. Without one, it is the end of the last
        stage.
        """
        for i in range(len(self.events) - 1, 1, -1):
            before, after = self.events[i - 1], self.events[i]
            if after.returned and self._convolves(after):
                break
            if not _pools(before.shape, after.shape):
                continue
            if not before.returned:  # taken by the pooling layer; who returned it?
                before = self.events[i - 2]
            same = before.shape == self.events[i - 1].shape
            if before.returned and same and before.module in self.shapes:
                return before.module
        return next(reversed(self.stages or [*self.shapes]), None)

    @property
    def stages(self) -> list[str]:
        """Names of the layers that end the stages, a stage being the layers whose maps have the same size.

        Only what follows the first convolution at that size counts, so that the pooling that begins a stage
        does not end it, and of nested modules the outermost.
        """
        ends: dict[tuple[int, ...], str] = {}
        begun: set[tuple[int, ...]] = set()
        for event in self.events:
            size = event.shape[1:]
            if not event.returned or event.module not in self.shapes or size == (1, 1):
                continue
            if self._convolves(event):
                begun.add(size)
            if size in begun and (size not in ends or _depth(event.module) <= _depth(ends[size])):
                ends[size] = event.module
        names = [name for name in self.shapes if name in ends.values()]
        if len(names) <= STAGES:
            return names
        return [names[round(i * (len(names) - 1) / (STAGES - 1))] for i in range(STAGES)]

    def _convolves(self, event: Event) -> bool:
        """Return whether an event is a convolution that returns a map of several positions."""
        own = self.model.get_submodule(event.module).parameters(recurse=False)
        return event.shape[1:] not in ((), (1, 1)) and any(parameter.ndim == 4 for parameter in own)


def _depth(name: str) -> int:
    return name.count(".")


def _pools(before: Sequence[int], after: Sequence[int]) -> bool:
    """Return whether a step keeps a map's channels and reduces its positions."""
    if len(before) != 3 or len(after) not in (1, 3) or before[0] != after[0]:
        return False
    positions = after[1] * after[2] if len(after) == 3 else 1
    return positions < before[1] * before[2]


def _events(model: nn.Module, shape: Shape) -> list[Event]:
    events: list[Event] = []

    def see(name: str, returned: bool, value: Any) -> None:
        value = _first(value)
        if value is not None:
            events.append(Event(name, returned, tuple(value.shape[1:])))

    hooks = []
    for name, module in model.named_modules():

        def take(module: nn.Module, inputs: Any, name: str = name) -> None:
            see(name, False, inputs)

        def give(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            see(name, True, output)

        hooks += [module.register_forward_pre_hook(take), module.register_forward_hook(give)]
    device = next((p.device.type for p in model.parameters()), "cpu")
    try:
        forward(model, shape, 1, device)
    finally:
        for hook in hooks:
            hook.remove()
    return events


def _first(value: Any) -> Tensor | None:
    while isinstance(value, tuple | list) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


@contextmanager
def seen(model: nn.Module, names: Sequence[str], see: Callable[[str, Tensor], object]) -> Iterator[None]:
    """Call `see` with the name of each of these layers and what it returns, float32 (N, C, H, W).

    It is a copy: an activation may work in place on what a layer returned.
    """
    hooks = []
    for name in names:

        def give(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            if (value := _first(output)) is not None:
                see(name, value.detach().to(torch.float32, copy=True))

        hooks.append(model.get_submodule(name).register_forward_hook(give))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
