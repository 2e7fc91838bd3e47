"""The five ablation axes: norm, activation, pooling, padding and the start of residual branches.

Every model is built with one `Ops`, which makes its layers. Models name no such layer themselves, so each can
be exchanged in any model. The values are listed in `cnnbench.ops.values`; this is where they act:

- **norm** follows each convolution. With `none` it is the identity, and the convolution gets its bias back.
- **act** follows the norm, and the hidden fully connected layers.
- **pool** replaces every pooling window of the model. `native` also leaves strided convolutions alone; any
  other value takes the downsampling from them (stride 1, then a pooling window as wide as the stride), except
  `stride`, which does the opposite: windows are not pooled but sampled at their middle, as a strided
  convolution does. `none` leaves out pooling and strides alike: nothing is downsampled.
- **padding** is that of convolutions.
- **init** is how residual branches start; some values add parameters.

Names of attributes and parameters never depend on a value. Initialisation follows the activation: He's
(arXiv:1502.01852, fan-in) for ReLU-like ones, Xavier's for tanh and sigmoid, gain 1 for the identity and for
the layer of the logits; biases start at zero. Where **init** starts weights otherwise, they are drawn first:
with one seed all other weights are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

import torch
from torch import nn

from cnnbench.errors import InputError, OpsError
from cnnbench.ops import residual
from cnnbench.ops.layers import Conv2d, Linear, Pair
from cnnbench.ops.local import LocallyConnected2d
from cnnbench.ops.values import ACTS, INITS, NORMS, PADDINGS, POOLS, Init, Padding

Layer = TypeVar("Layer", Conv2d, LocallyConnected2d, Linear)


class Ops:
    """Factory of a model's layers, with one value for each axis.

    Args:
        norm, act: keys of `values.NORMS` and `values.ACTS`.
        pool, padding, init: keys of `values.POOLS`, `values.PADDINGS` and `values.INITS`, or `native`: as the
            model has each layer.
    """

    def __init__(
        self,
        *,
        norm: str = "batch",
        act: str = "relu",
        pool: str = "native",
        padding: str = "native",
        init: str = "native",
    ) -> None:
        self.values = {"norm": norm, "act": act, "pool": pool, "padding": padding, "init": init}
        self._asked: set[str] = set()
        self._branches: list[Sequence[nn.Module]] = []

    def conv(
        self,
        c_in: int,
        c_out: int,
        kernel: int | Pair,
        stride: int = 1,
        *,
        padding: int | Pair | None = None,
        groups: int = 1,
        bias: bool = False,
    ) -> Conv2d:
        """Return a convolution, to be followed by `norm`: (N, c_in, H, W) -> (N, c_out, H', W').

        Args:
            c_in, c_out: channels.
            kernel, stride: in pixels.
            padding: the model's own, in pixels; None: kernel // 2. Used if the axis is at `native`.
            groups: groups of channels; `c_in` for a depthwise convolution.
            bias: add a bias although a norm follows; without a norm there is always one.
        """
        size, stride, sides, rule, down = self._geometry(kernel, stride, padding)
        bias = bias or self.values["norm"] == "none"
        layer = rule.make(c_in, c_out, size, stride, sides, rule.fill, groups, bias, down)
        assert isinstance(layer, Conv2d)
        taps = size[0] * size[1]
        return self._initialised(layer, c_in // groups * taps, c_out // groups * taps, hidden=True)

    def local(
        self, c_in: int, c_out: int, kernel: int | Pair, stride: int = 1, *, side: int
    ) -> LocallyConnected2d:
        """Return `conv` without shared weights, which start with the variance of the convolution's.

        Args:
            c_in, c_out, kernel, stride: as of `conv`.
            side: H = W of the map.

        Raises:
            TooSmall: the map has no window.
        """
        size, stride, sides, rule, down = self._geometry(kernel, stride, None)
        bias = self.values["norm"] == "none"
        layer = LocallyConnected2d(
            c_in, c_out, size, (stride, stride), sides, rule.fill, bias, down, (side, side)
        )
        taps = size[0] * size[1]
        return self._initialised(layer, c_in * taps, c_out * taps, hidden=True)

    def linear(self, c_in: int, c_out: int, *, logits: bool = False) -> Linear:
        """Return a fully connected layer, hidden or that of the logits: (N, c_in) -> (N, c_out)."""
        layer = self._initialised(Linear(c_in, c_out), c_in, c_out, hidden=not logits)
        if logits and self._init.replaces_norm:
            nn.init.zeros_(layer.weight)
        return layer

    def norm(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> nn.Module:
        """Return a norm of (N, channels, H, W).

        Args:
            channels: C.
            eps: added to the variance.
            momentum: of batch norm's running statistics.
        """
        self._asked.add("norm")
        return NORMS[self.values["norm"]].make(channels, eps, momentum)

    def act(self, channels: int | None = None) -> nn.Module:
        """Return an activation of (N, channels, …).

        Raises:
            InputError: it has parameters for each channel, and the model does not say how many there are.
        """
        self._asked.add("act")
        name = self.values["act"]
        if not ACTS[name].per_channel:
            return ACTS[name].make()
        if channels is None:
            raise InputError(f"ops.act={name}: the model's code must call ops.act(channels) for it")
        return ACTS[name].make(channels)

    def pool(
        self,
        kernel: int,
        stride: int,
        *,
        padding: int = 0,
        ceil_mode: bool = False,
        native: Literal["max", "avg"] = "max",
    ) -> nn.Module:
        """Return a pooling layer: (N, C, H, W) -> (N, C, H', W').

        H' and W' are the same for all values but `none`, for which they are H and W.

        Args:
            kernel, stride, padding, ceil_mode: as of `nn.MaxPool2d`.
            native: the kind of pooling that the model has itself.
        """
        self._asked.add("pool")
        kind = self.values["pool"]
        layer = POOLS[native if kind == "native" else kind]
        return layer.make(kernel, stride, padding, ceil_mode=ceil_mode)

    def down(self, stride: int) -> nn.Module:
        """Return downsampling without a convolution, as in a parameter-free shortcut."""
        self._asked.add("pool")
        kind = self.values["pool"]
        return POOLS["stride" if kind == "native" else kind].make(stride, stride, 0, ceil_mode=True)

    def beside(self, kernel: int, padding: int) -> int:
        """Return the padding of a convolution and a pooling window of `kernel` whose maps are concatenated.

        `padding` is what both have natively; it is kept as long as neither axis replaces one of them.
        """
        keep = self.values["padding"] == "native" and self.values["pool"] != "none"
        return padding if keep else kernel // 2

    def joins(self, what: str) -> None:
        """Check that the maps which a model adds or concatenates are of one size.

        Args:
            what: what the model joins, for the error.

        Raises:
            OpsError: without padding (`valid`) they would differ.
        """
        if self._padding is not None and self._padding.sides == "none":
            raise OpsError("sum", f"ops.padding={self.values['padding']} ({what})")

    def branch(self, convs: Sequence[nn.Module], norm: nn.Module, *, zero: bool = False) -> nn.Module:
        """Return the end of a residual branch, (N, C, H, W) -> (N, C, H, W), and initialise the branch.

        Its output is added to the shortcut.

        Args:
            convs: the convolutions of the branch that are in series; the last one is followed by `norm`.
            norm: of `norm`.
            zero: the model has the branch start at zero, if the axis is at `native`.

        Raises:
            OpsError: the value is for networks without norms, and this one has some.
        """
        self._asked.add("init")
        init = self._init
        if init.replaces_norm and self.values["norm"] != "none":
            raise OpsError("norm", f"ops.init={self.values['init']} with ops.norm={self.values['norm']}")
        self._branches.append(convs)
        if zero or init.zero:
            residual.zero(norm, convs[-1])
        return init.make()

    def finish(self) -> None:
        """Scale the residual branches, once a model has all of them, if `init` does so by their number."""
        if self._init.replaces_norm:
            residual.scale_by_depth(self._branches)

    def check_asked(self, axes: Iterable[str], where: str) -> None:
        """Check, once a model is built, that it has a layer of each of these axes.

        Args:
            axes: the axes that are not at `native`.
            where: the model and the images, for the error.

        Raises:
            OpsError: a setting changes nothing in this model.
        """
        for axis in axes:
            if axis not in self._asked:
                raise OpsError("absent", f"ops.{axis}={self.values[axis]} with {where}")

    @property
    def initialisation(self) -> str:
        """Description of a model's initial weights."""
        act = ACTS[self.values["act"]]
        rule = {"xavier": "Xavier", "he": "He, fan-in"}[act.init]
        text = f"{rule}, normal, gain {act.gain:.4g} ({self.values['act']})"
        text += f"; logits: {'zero' if self._init.replaces_norm else 'gain 1'}"
        if self.values["init"] != "native":
            text += f"; {len(self._branches)} residual branches: {self.values['init']}"
        return text

    @property
    def _padding(self) -> Padding | None:
        """Rule that replaces the padding of all convolutions; None for `native`."""
        return None if self.values["padding"] == "native" else PADDINGS[self.values["padding"]]

    @property
    def _init(self) -> Init:
        """Start and end of residual branches."""
        native = Init("as the model has them")
        return native if self.values["init"] == "native" else INITS[self.values["init"]]

    def _geometry(
        self, kernel: int | Pair, stride: int, padding: int | Pair | None
    ) -> tuple[Pair, int, Pair | None, Padding, nn.Module]:
        """Return a convolution's kernel, stride, sides of padding, their rule, and what takes its stride."""
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        down: nn.Module = nn.Identity()
        if stride > 1:
            down, stride = self._strided(stride)
        if size != (1, 1):
            self._asked.add("padding")
        sides = self._sides(size, (padding, padding) if isinstance(padding, int) else padding)
        return size, stride, sides, self._padding or PADDINGS["zeros"], down

    def _strided(self, stride: int) -> tuple[nn.Module, int]:
        """Return what follows a convolution of that stride, and the stride that it is left with."""
        self._asked.add("pool")
        if self.values["pool"] in ("native", "stride"):
            return nn.Identity(), stride
        return self.down(stride), 1

    def _sides(self, kernel: Pair, own: Pair | None) -> Pair | None:
        """Return the pixels of padding at each side (rows, columns); None for TensorFlow's rule."""
        half = kernel[0] // 2, kernel[1] // 2
        if self._padding is None:
            return own or half
        return {"half": half, "none": (0, 0), "same": None}[self._padding.sides]

    def _initialised(self, layer: Layer, fan_in: int, fan_out: int, *, hidden: bool) -> Layer:
        """Draw the weights. Fans are those of one group, so that depthwise layers need no special case."""
        act = ACTS[self.values["act"] if hidden else "identity"]
        fan = (fan_in + fan_out) / 2 if act.init == "xavier" else fan_in
        nn.init.normal_(layer.weight, std=act.gain / math.sqrt(fan))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if self._init.replaces_norm:
            layer.shift = nn.Parameter(torch.tensor(0.0))
        return layer
