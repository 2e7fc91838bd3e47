"""The four ablation axes: norm, activation, pooling and padding, as factories of layers.

Every model is built with one `Ops` and asks it for its layers; it names no such layer itself, so that
each can be exchanged in any model. What a value means is defined here and in `pooling`:

- **norm** sits after each convolution. `none` is the identity, and the convolution gets its bias back.
- **act** follows the norm, and the hidden fully connected layers.
- **pool** is every pooling window of the model. `native` also leaves strided convolutions alone; any
  other value takes the downsampling from them (stride 1, then a pooling window as wide as the stride), except
  `stride`, which does the opposite: no window is pooled, each is sampled at its middle, as a strided
  convolution does. `none` leaves out pooling and strides alike: nothing is downsampled.
- **padding** is that of convolutions. `zeros` and the other modes pad kernel // 2 on each side, `same` as
  TensorFlow does (ceil(n / stride) outputs, an odd pixel goes to the right), `valid` not at all.

Names of attributes and parameters never depend on a value. Initialisation follows the activation:
He's (arXiv:1502.01852, fan-in) for ReLU-like ones, Xavier's for tanh and sigmoid, gain 1 for the
identity and for the layer that gives the logits; biases start at zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, TypeVar

from torch import Tensor, nn

from cnnbench.errors import OpsError
from cnnbench.ops.activations import ACTS, GAINS, XAVIER
from cnnbench.ops.layers import Conv2d, Linear, Mode, Pair
from cnnbench.ops.norms import NORMS
from cnnbench.ops.pooling import POOLS

Layer = TypeVar("Layer", "Conv2d", "Linear")


PADDINGS = ("native", "zeros", "same", "valid", "reflect", "replicate", "circular")


class Ops:
    """One value for each axis, and the layers that they make.

    Args:
        norm, act: keys of `NORMS` and `ACTS`.
        pool: a key of `POOLS`, or `native`: each layer as the model has it.
        padding: one of `PADDINGS`; `native` as each layer has it.
    """

    def __init__(
        self, *, norm: str = "batch", act: str = "relu", pool: str = "native", padding: str = "native"
    ) -> None:
        self.values = {"norm": norm, "act": act, "pool": pool, "padding": padding}
        self._asked: set[str] = set()

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
        """A convolution, to be followed by `norm`: (N, c_in, H, W) -> (N, c_out, H', W').

        Args:
            c_in, c_out: channels.
            kernel, stride: in pixels.
            padding: the model's own; None: kernel // 2. The axis replaces it unless it is `native`.
            groups: `c_in` for a depthwise convolution.
            bias: whether the model has one although a norm follows; it has one anyway if none does.
        """
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        down: nn.Module = nn.Identity()
        if stride > 1:
            down, stride = self._strided(stride)
        pad, mode = self._padding(size, (padding, padding) if isinstance(padding, int) else padding)
        bias = bias or self.values["norm"] == "none"
        layer = Conv2d(c_in, c_out, size, stride, pad, mode, groups, bias, down)
        return self._initialised(layer, size[0] * size[1], hidden=True)

    def linear(self, c_in: int, c_out: int, *, logits: bool = False) -> Linear:
        """A fully connected layer, hidden or that of the logits: (N, c_in) -> (N, c_out)."""
        return self._initialised(Linear(c_in, c_out), 1, hidden=not logits)

    def norm(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> nn.Module:
        """Normalisation of (N, channels, H, W); `momentum` is that of batch norm's running statistics."""
        self._asked.add("norm")
        return NORMS[self.values["norm"]](channels, eps, momentum)

    def act(self) -> nn.Module:
        """The non-linearity."""
        self._asked.add("act")
        return ACTS[self.values["act"]]()

    def pool(
        self,
        kernel: int,
        stride: int,
        *,
        padding: int = 0,
        ceil_mode: bool = False,
        native: Literal["max", "avg"] = "max",
    ) -> nn.Module:
        """A pooling window, or what takes its place: (N, C, H, W) -> (N, C, H', W').

        H' and W' are the same for all values but `none`, for which they are H and W.
        """
        self._asked.add("pool")
        kind = self.values["pool"]
        return POOLS[native if kind == "native" else kind](kernel, stride, padding, ceil_mode)

    def down(self, stride: int) -> nn.Module:
        """Downsampling without a convolution, as in a parameter-free shortcut."""
        self._asked.add("pool")
        kind = self.values["pool"]
        return POOLS["stride" if kind == "native" else kind](stride, stride, 0, True)

    def beside(self, kernel: int, padding: int) -> int:
        """The padding of a convolution and a pooling window of `kernel` whose maps are joined.

        `padding` is what both have natively; it stays as long as both are there and keep it.
        """
        keep = self.values["padding"] == "native" and self.values["pool"] != "none"
        return padding if keep else kernel // 2

    def joins(self, what: str) -> None:
        """Called by a model that adds or concatenates maps, which must be of one size.

        Raises:
            OpsError: for padding `valid`, which makes them differ.
        """
        if self.values["padding"] == "valid":
            raise OpsError("sum", f"ops.padding=valid ({what})")

    def zero(self, norm: nn.Module, conv: nn.Module) -> None:
        """Let a residual branch that ends in `conv`, `norm` start at zero (arXiv:1706.02677).

        Without a norm it is the convolution that starts at zero (arXiv:1901.09321).
        """
        last = norm if isinstance(getattr(norm, "weight", None), Tensor) else conv
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]

    def check_asked(self, axes: Iterable[str], where: str) -> None:
        """After a model is built: it must have asked for a layer of each of these axes.

        Args:
            axes: those that were set.
            where: which model on which images, for the error.

        Raises:
            OpsError: a setting would have changed nothing.
        """
        for axis in axes:
            if axis not in self._asked:
                raise OpsError("absent", f"ops.{axis}={self.values[axis]} with {where}")

    @property
    def initialisation(self) -> str:
        """What `conv` and hidden `linear` layers start from, in words."""
        act = self.values["act"]
        rule = "Xavier" if act in XAVIER else "He, fan-in"
        return f"{rule}, normal, gain {GAINS.get(act, math.sqrt(2)):.4g} ({act}); logits: gain 1"

    def _strided(self, stride: int) -> tuple[nn.Module, int]:
        """What follows a convolution of that stride, and the stride that it is left with."""
        self._asked.add("pool")
        if self.values["pool"] in ("native", "stride"):
            return nn.Identity(), stride
        return self.down(stride), 1

    def _padding(self, size: Pair, own: Pair | None) -> tuple[Pair | None, Mode]:
        """Pixels on each side, None for TensorFlow's rule, and what they are filled with."""
        if size != (1, 1):
            self._asked.add("padding")
        half = size[0] // 2, size[1] // 2
        match self.values["padding"]:
            case "native":
                return own or half, "zeros"
            case "valid":
                return (0, 0), "zeros"
            case "same":
                return None, "zeros"
            case "reflect" | "replicate" | "circular" as mode:
                return half, mode
        return half, "zeros"

    def _initialised(self, layer: Layer, window: int, *, hidden: bool) -> Layer:
        """Draw the weights. Fans are those of one group, so that depthwise layers are no special case."""
        act = self.values["act"] if hidden else "identity"
        fan_in, fan_out = layer.weight[0].numel(), layer.weight.shape[0] * window
        if isinstance(layer, nn.Conv2d):
            fan_out //= layer.groups
        fan = (fan_in + fan_out) / 2 if act in XAVIER else fan_in
        nn.init.normal_(layer.weight, std=GAINS.get(act, math.sqrt(2)) / math.sqrt(fan))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        return layer
