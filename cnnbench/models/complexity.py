"""Cost of a model: parameters and multiply-accumulate operations, in total and for each layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cnnbench.errors import InputError, Unfit
from cnnbench.models.counting import MacCounter
from cnnbench.models.running import running
from cnnbench.models.shapes import QuickShapes, Watching
from cnnbench.ops.layers import Conv2d
from cnnbench.ops.local import LocallyConnected2d
from cnnbench.ops.residual import is_stochastic_depth

Shape = tuple[int, int, int]
"""(C, H, W) of an image."""


@dataclass(frozen=True)
class Layer:
    """One layer of a model, for a single image.

    Attributes:
        name: in the model.
        kind: its class.
        output: (C, H, W), or (K,) after flattening; () if it is not called.
        params, macs: its own; those of all layers add up to the model's.
        window: that slides over the map; None: there is none.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    params: int
    macs: int
    window: Window | None = None

    @property
    def activation_bytes(self) -> int:
        """Memory of its output for one image, as float32."""
        return 4 * math.prod(self.output) if self.output else 0


@dataclass(frozen=True)
class Window:
    """Geometry of what slides over the map.

    Attributes:
        kernel, stride, dilation: rows and columns, in pixels of the map.
        padding: pixels at each side, rows and columns; `same` if it depends on the map (TensorFlow's rule).
        groups: of channels.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]
    groups: int


def window(module: nn.Module) -> Window | None:
    """Return the window of a convolution or a pooling layer; None: the module has none."""
    kernel = getattr(module, "kernel_size", getattr(module, "kernel", None))
    if not isinstance(kernel, int | tuple):
        return None
    padding = getattr(module, "padding", 0)
    same = getattr(module, "same", False) or padding == "same"
    return Window(
        _pair(kernel),
        _pair(getattr(module, "stride", 1)),
        "same" if same else (0, 0) if padding == "valid" else _pair(padding),
        _pair(getattr(module, "dilation", 1)),
        getattr(module, "groups", 1),
    )


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def params(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module, shape: Shape, num_classes: int) -> int:
    """Return the multiply-accumulates of one image: half of the operations that torch's FLOP counter counts.

    Nothing is computed (meta tensors). This also checks that the model takes such images.

    Args:
        model: any classifier.
        shape: (C, H, W) of the image.
        num_classes: K.

    Raises:
        Unfit: the model cannot take images of this shape.
        InputError: it returns anything but (1, K) logits.
    """
    with running(model) as calls:
        try:
            counter = MacCounter()
            logits = forward(model, shape, 1, "meta", watching=counter)
        except Exception:  # an operation without a meta kernel, or a real error: of any model's code
            calls.clear()
            try:
                counter = MacCounter()
                logits = forward(model, shape, 1, "cpu", watching=counter)
            except Exception as error:
                c, h, w = shape
                where = f" in {calls[-1]}" if calls else ""
                raise Unfit(
                    f"arch: cannot take images of {c}x{h}x{w}: {' '.join(str(error).split())[:300]}{where}"
                ) from error
    if tuple(logits.shape) != (1, num_classes):
        raise InputError(
            f"arch: returns {tuple(logits.shape)} for one image; expected (1, {num_classes}) logits"
        )
    return sum(counter.macs.values())


def layers(model: nn.Module, shape: Shape) -> list[Layer]:
    """Return the layers that compute something, in the order of execution.

    They are followed by modules with parameters that are not called (auxiliary classifiers are used in
    training only) and by the operations outside of any layer, so that all add up to the model's totals.

    Args:
        model: any classifier.
        shape: (C, H, W) of the image.
    """
    names = {
        module: name
        for name, module in model.named_modules()
        if not isinstance(module, nn.Identity | nn.Dropout | nn.Flatten)
        and not is_stochastic_depth(module)
        and (not list(module.children()) or list(module.parameters(recurse=False)))
    }
    outputs: dict[str, tuple[int, ...]] = {}
    device = next((p.device.type for p in model.parameters()), "cpu")
    listed_names = set(names.values())
    watching = watched(model, lambda name, output: outputs.setdefault(name, tuple(output.shape[1:])))
    with watching, running(model) as calls:
        counter = MacCounter(calls, listed_names)
        forward(model, shape, 1, device, watching=counter)
    outputs = {name: output for name, output in outputs.items() if name in listed_names}
    own = counter.macs
    order = [*outputs, *(name for name in names.values() if name not in outputs)]
    listed = [
        Layer(
            name,
            type(model.get_submodule(name)).__name__,
            outputs.get(name, ()),
            sum(p.numel() for p in model.get_submodule(name).parameters(recurse=False)),
            own.get(name, 0),
            window(model.get_submodule(name)),
        )
        for name in order
        if name in outputs or list(model.get_submodule(name).parameters(recurse=False))
    ]
    between = own.get("", 0)
    return [*listed, *([Layer("", "between layers", (), 0, between)] if between else [])]


def forward(
    model: nn.Module,
    shape: Shape,
    batch: int,
    device: str,
    *,
    training: bool = False,
    watching: Watching | None = None,
) -> Tensor:
    """Return the model's logits of images of zeros, without changing the model.

    Args:
        model: any classifier.
        shape: (C, H, W) of the images.
        batch: number of images.
        device: where to compute; on "meta" only shapes are computed.
        training: in train mode instead of eval mode.
        watching: sees each operation.
    """
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    images = torch.zeros((batch, *shape), device=device, dtype=dtype)
    state = {}
    if device == "meta":  # without copying the weights
        state = {k: v.to("meta") for k, v in (*model.named_parameters(), *model.named_buffers())}
    with torch.no_grad(), in_mode(model, training), watching or QuickShapes():
        return functional_call(model, state, (images,))  # type: ignore[no-any-return]


@contextmanager
def watched(model: nn.Module, see: Callable[[str, Tensor], object]) -> Iterator[None]:
    """Call `see` with each module's name and what it returns, whenever it is called.

    Pooling within a convolution is its last step, but a layer of its own here: before it, `see` is called for
    the convolution alone, and after it for both. The first call counts.
    """
    names = {module: name for name, module in model.named_modules()}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        name = names[module]
        parent = name.removesuffix(".down")
        if parent != name and isinstance(model.get_submodule(parent), Conv2d | LocallyConnected2d):
            see(parent, inputs[0])
        while isinstance(output, tuple | list) and output:
            output = output[0]
        if isinstance(output, Tensor):
            see(name, output)

    hooks = [module.register_forward_hook(record) for module in names]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Switch a model to train or eval mode; restore the mode of each module afterwards."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode
