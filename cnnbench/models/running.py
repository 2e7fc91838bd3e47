"""Which module of a model is running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """A call of a module.

    Attributes:
        name: of the module in the model.
        kind: its class.
        shapes: of the tensors that it was given, without the batch.
    """

    name: str
    kind: str
    shapes: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        given = " and ".join("x".join(map(str, shape)) for shape in self.shapes)
        return f"{self.name or 'the model'} ({self.kind})" + f", which gets {given}" * bool(given)


@contextmanager
def running(model: nn.Module) -> Iterator[list[Call]]:
    """Yield the calls of the model's modules that have begun and not ended, the innermost last.

    After an error these are the calls in which it was raised.
    """
    names = {module: name for name, module in model.named_modules()}
    calls: list[Call] = []

    def begin(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        shapes = tuple(tuple(x.shape[1:]) for x in inputs if isinstance(x, Tensor))
        calls.append(Call(names[module], type(module).__name__, shapes))

    def end(module: nn.Module, inputs: Any, output: Any) -> None:
        while calls.pop().name != names[module]:  # those in which the model caught an error
            pass

    # Before the hooks that may raise an error.
    hooks = [module.register_forward_pre_hook(begin, prepend=True) for module in names]
    hooks += [module.register_forward_hook(end) for module in names]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
