"""The values of the ablation axes: a new one is one entry here, and a class if no layer of torch does it.

Settings, completion and documentation read the names from these tables, so this module imports nothing heavy:
an entry gives the dotted name of its layer, which is imported when a model is built.
"""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

Fill = Literal["zeros", "reflect", "replicate", "circular"]
"""The padding modes of `nn.Conv2d`."""


@dataclass(frozen=True)
class Value:
    """One value of an axis.

    Attributes:
        about: what it does, with its source.
        layer: dotted name of the class or function that makes the layer; each table states its arguments.
        options: further keyword arguments.
    """

    about: str
    layer: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def make(self, *arguments: Any, **more: Any) -> nn.Module:
        """Import the layer and build it."""
        layer: nn.Module = pkgutil.resolve_name(self.layer)(*arguments, **more, **self.options)
        return layer


@dataclass(frozen=True)
class Activation(Value):
    """One value of `ops.act`.

    Attributes:
        gain: factor of the standard deviation of the weights in front of it; the default is that of ReLU.
        init: `he` scales it by the fan-in (arXiv:1502.01852), `xavier` by the mean of both fans.
        per_channel: its parameters are one per channel, whose number it takes.
    """

    gain: float = math.sqrt(2)
    init: Literal["he", "xavier"] = "he"
    per_channel: bool = False


@dataclass(frozen=True)
class Padding(Value):
    """One value of `ops.padding`: its layer is the convolution itself.

    Attributes:
        sides: pixels added on each side: `half` the kernel, `none`, or by TensorFlow's rule `same`.
        fill: what they are filled with.
    """

    layer: str = "cnnbench.ops.layers.Conv2d"
    sides: Literal["half", "none", "same"] = "half"
    fill: Fill = "zeros"


@dataclass(frozen=True)
class Init(Value):
    """One value of `ops.init`: its layer is the end of each residual branch, before the shortcut is added.

    Attributes:
        zero: the branch's last norm, or without norms its last convolution, starts at zero.
        replaces_norm: the network has no norms. Instead the other convolutions of the branches start the
            smaller the more branches there are, the layer of the logits starts at zero, and each
            convolution and fully connected layer adds a learned scalar to its input (arXiv:1901.09321).
    """

    layer: str = "torch.nn.Identity"
    zero: bool = False
    replaces_norm: bool = False


NORMS = {
    "batch": Value("batch norm (arXiv:1502.03167)", "torch.nn.BatchNorm2d"),
    "group": Value(
        "group norm (arXiv:1803.08494): 32 groups, or the next fewer that divide the channels",
        "cnnbench.ops.norms.group_norm",
    ),
    "layer": Value(
        "layer norm (arXiv:1607.06450) over all channels and pixels of an image",
        "cnnbench.ops.norms.layer_norm",
    ),
    "instance": Value(
        "instance norm (arXiv:1607.08022), each channel of an image by itself, with scale and shift",
        "cnnbench.ops.norms.instance_norm",
    ),
    "frn": Value(
        "filter response norm (arXiv:1911.09737); its thresholded activation is `act=tlu`",
        "cnnbench.ops.norms.FilterResponseNorm",
    ),
    "none": Value("no norm; the convolution gets its bias back", "torch.nn.Identity"),
}
"""`ops.norm`, after each convolution. Arguments: channels, eps, momentum (of batch norm's statistics)."""

_INPLACE = {"inplace": True}

ACTS = {
    "relu": Activation("rectified linear unit", "torch.nn.ReLU", _INPLACE),
    "leaky_relu": Activation(
        "leaky ReLU of slope 0.01", "torch.nn.LeakyReLU", {"negative_slope": 0.01} | _INPLACE,
        gain=math.sqrt(2 / (1 + 0.01**2)),
    ),
    "prelu": Activation(
        "parametric ReLU (arXiv:1502.01852), one slope for all channels of a layer", "torch.nn.PReLU",
        gain=math.sqrt(2 / (1 + 0.25**2)),
    ),
    "gelu": Activation("Gaussian error linear unit (arXiv:1606.08415)", "torch.nn.GELU"),
    "silu": Activation("sigmoid linear unit, or Swish (arXiv:1702.03118)", "torch.nn.SiLU", _INPLACE),
    "relu6": Activation("ReLU, at most 6", "torch.nn.ReLU6", _INPLACE),
    "tlu": Activation(
        "max(x, t) with a learned t per channel, which starts at 0: made for `norm=frn` (arXiv:1911.09737)",
        "cnnbench.ops.layers.ThresholdedLinear", per_channel=True,
    ),
    "tanh": Activation("hyperbolic tangent", "torch.nn.Tanh", gain=5 / 3, init="xavier"),
    "sigmoid": Activation("logistic sigmoid", "torch.nn.Sigmoid", gain=1.0, init="xavier"),
    "identity": Activation("no activation", "torch.nn.Identity", gain=1.0),
}  # fmt: skip
"""`ops.act`, after the norm and after hidden fully connected layers. Argument: channels, if `per_channel`."""

POOLS = {
    "max": Value("maximum of the window", "torch.nn.MaxPool2d"),
    "avg": Value("mean of the window", "torch.nn.AvgPool2d"),
    "lp": Value("root mean square of the window (p = 2, arXiv:1311.1780)", "cnnbench.ops.pooling.Lp"),
    "stride": Value(
        "middle pixel of the window, as a strided convolution samples it", "cnnbench.ops.pooling.Stride"
    ),
    "blur": Value("binomial low-pass filter (arXiv:1904.11486)", "cnnbench.ops.pooling.Blur"),
    "max_blur": Value(
        "maximum around each pixel, then blur: anti-aliased max pooling (arXiv:1904.11486)",
        "cnnbench.ops.pooling.MaxBlur",
    ),
    "mixed": Value("half the maximum, half the mean (arXiv:1509.08985)", "cnnbench.ops.pooling.Mixed"),
    "stochastic": Value(
        "value drawn in proportion to its positive part; its expectation in evaluation (arXiv:1301.3557)",
        "cnnbench.ops.pooling.Stochastic",
    ),
    "none": Value("no downsampling: windows are left out, strides become 1", "torch.nn.Identity"),
}
"""`ops.pool`, for pooling windows and strides. Arguments: kernel, stride, padding; keyword `ceil_mode`."""

PADDINGS = {
    "zeros": Padding("zeros, kernel // 2 on each side"),
    "same": Padding("TensorFlow's rule: zeros for ceil(n / stride) outputs, an odd one last", sides="same"),
    "valid": Padding("no padding", sides="none"),
    "reflect": Padding("mirror image of the map, kernel // 2 on each side", fill="reflect"),
    "replicate": Padding("the edge repeated, kernel // 2 on each side", fill="replicate"),
    "circular": Padding("the opposite edge continued, kernel // 2 on each side", fill="circular"),
}
"""`ops.padding`, of convolutions. Arguments: those of `cnnbench.ops.layers.Conv2d`."""

INITS = {
    "zero": Init(
        "each residual branch starts at zero, by the scale of its last norm (arXiv:1706.02677) or, without "
        "norms, by its last convolution",
        zero=True,
    ),
    "skipinit": Init(
        "each residual branch ends in a learned factor that starts at zero (SkipInit, arXiv:2002.10444)",
        "cnnbench.ops.residual.Multiplier",
        {"start": 0.0},
    ),
    "fixup": Init(
        "Fixup (arXiv:1901.09321), for `norm=none`: residual branches start at zero and their other layers "
        "small, and have learned scalar factors and biases; the logits start at zero",
        "cnnbench.ops.residual.Multiplier",
        {"start": 1.0, "biased": True},
        zero=True,
        replaces_norm=True,
    ),
}
"""`ops.init`, of residual branches. No arguments."""

AXES: Mapping[str, Mapping[str, Value]] = {
    "norm": NORMS,
    "act": ACTS,
    "pool": POOLS,
    "padding": PADDINGS,
    "init": INITS,
}
"""The five tables. Each axis also has the value `native`: as the architecture has it."""
