"""Single layers of the ablation axes, compared with torch's or with an explicit formula."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ops_support import MAPS, close, max_pool
from torch import nn
from torch.nn import functional as F

from cnnbench.errors import InputError, OpsError
from cnnbench.ops import norms
from cnnbench.ops.factory import Ops
from cnnbench.ops.values import ACTS, NORMS, PADDINGS, POOLS

# Values


NEW = {
    "norm": "Value('scale and shift alone', 'mine.Scale')",
    "act": "Activation('the square', 'mine.Square', gain=0.5)",
    "pool": "Value('L4 norm of the window', 'mine.Power', {'p': 4.0})",
    "padding": "Padding('ones', 'mine.Ones', sides='none')",
    "init": "Init('branches of half the size', 'mine.Half')",
}

CLASSES = """
import torch
from torch import nn
from torch.nn import functional as F

from cnnbench.ops.layers import Conv2d


class Scale(nn.Module):
    def __init__(self, channels, eps, momentum):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        return x * self.weight


class Square(nn.Module):
    def forward(self, x):
        return x.square()


class Power(nn.LPPool2d):
    def __init__(self, kernel, stride, padding, ceil_mode, p):
        super().__init__(p, kernel, stride, ceil_mode)


class Half(nn.Module):
    def forward(self, x):
        return x / 2


class Ones(Conv2d):
    def forward(self, x):
        return super().forward(F.pad(x, (self.kernel_size[0] // 2,) * 4, value=1.0))
"""

TRAIN = """
import sys

from cnnbench.ops.values import AXES, Activation, Init, Padding, Value

{entries}
from cnnbench.cli import main

for axis in AXES:
    assert main(["train", f"ops.{{axis}}=mien"]) == 2
assert "torch" not in sys.modules
tiny = ["data.limit=100", "data.limit_test=50", "trainer.max_epochs=1", "logger=none", "arch.width=0.5"]
assert main(["train", *tiny, *(f"ops.{{axis}}=mine" for axis in AXES if axis != "init")]) == 0
sys.exit(main(["train", *tiny, "arch=resnet20", "ops.init=mine"]))
"""


@pytest.mark.slow
def test_a_new_value_is_an_entry_and_its_class():
    """The command line lists it among the allowed values, without importing torch, and trains with it."""
    Path("mine.py").write_text(CLASSES)
    entries = "\n".join(f"AXES[{axis!r}]['mine'] = {entry}" for axis, entry in NEW.items())
    command = [sys.executable, "-c", TRAIN.format(entries=entries)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for axis in NEW:
        (line,) = [
            line for line in done.stderr.splitlines() if f"ops.{axis}=mien: should be 'native'," in line
        ]
        assert line.endswith(" or 'mine'")
    assert len(list(Path("outputs").rglob("summary.json"))) == 2


def test_names_are_known_without_torch():
    code = "import sys, cnnbench.ops.values, cnnbench.settings.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    code = "from cnnbench.ops import Ops; from cnnbench.ops.factory import Ops as same; assert Ops is same"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_setting_that_changes_nothing_is_an_error():
    ops = Ops(norm="frn", act="relu", pool="blur", padding="same")
    ops.conv(3, 4, 1)  # a 1x1 kernel is never padded, and without a stride nothing is pooled
    ops.linear(3, 4)
    for axis in ops.values:
        with pytest.raises(OpsError, match=f"ops.{axis}={ops.values[axis]}") as error:
            ops.check_asked([axis], "arch=x")
        assert error.value.reason == "absent"
    ops.conv(3, 4, 3)
    ops.check_asked(["padding"], "arch=x")
    with pytest.raises(OpsError):
        ops.check_asked(["padding", "pool"], "arch=x")
    ops.norm(4)
    ops.act()
    ops.branch([ops.conv(3, 4, 1, stride=2)], ops.norm(4))
    ops.check_asked(ops.values, "arch=x")


@pytest.mark.parametrize("ask", [lambda o: o.pool(2, 2), lambda o: o.down(2), lambda o: o.conv(1, 1, 1, 2)])
def test_what_counts_as_pooling(ask):
    for kind in ["native", *POOLS]:
        ops = Ops(pool=kind)
        ask(ops)
        ops.check_asked(["pool"], "arch=x")


# Norms


@pytest.mark.parametrize(
    ("norm", "reference"),
    [
        ("batch", nn.BatchNorm2d(64, eps=0.2, momentum=0.3)),
        ("group", nn.GroupNorm(32, 64, eps=0.2)),
        ("layer", nn.LayerNorm([64, 5, 6], eps=0.2, elementwise_affine=False)),
        ("instance", nn.InstanceNorm2d(64, eps=0.2)),
    ],
)
def test_norm_is_torchs_with_its_eps_and_a_weight_and_bias_for_each_channel(norm, reference):
    layer = Ops(norm=norm).norm(64, eps=0.2, momentum=0.3)
    weight, bias = torch.randn(64, 1, 1), torch.randn(64, 1, 1)
    assert (layer.weight == 1).all()
    assert (layer.bias == 0).all()
    with torch.no_grad():
        layer.weight.copy_(weight.flatten())
        layer.bias.copy_(bias.flatten())
    for _ in range(3):
        x = torch.randn(4, 64, 5, 6) * 3 + 2
        close(layer(x), reference(x) * weight + bias)
    close(layer.eval()(x), reference.eval()(x) * weight + bias)  # for batch norm, with the running statistics


def test_frn_divides_by_the_root_mean_square_of_a_channel():
    layer = Ops(norm="frn").norm(3, eps=0.2)  # of batch norm; its own is 1e-6
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    x = (torch.randn(2, 3, 4, 5) + 1) * 1e-3  # small enough for eps to count
    want = torch.empty_like(x)
    for n in range(2):
        for c in range(3):
            power = sum(v**2 for v in x[n, c].flatten().tolist()) / 20
            want[n, c] = (c + 1) * x[n, c] / math.sqrt(power + 1e-6) + (0, 1, -1)[c]
    close(layer(x), want)
    with pytest.raises(ValueError, match="pixel"):
        layer(x[:, :, :1, :1])


def test_groups_are_the_most_up_to_32_that_leave_no_channel_alone():
    for channels in range(1, 513):
        allowed = [g for g in range(1, 33) if channels % g == 0 and channels // g > 1]
        assert norms.groups(channels) == max(allowed, default=1)
    assert [norms.groups(c) for c in (64, 128, 256, 512)] == [32] * 4
    assert [norms.groups(c) for c in (1, 2, 3, 7, 31, 37, 509)] == [1] * 7
    assert [norms.groups(c) for c in (16, 24, 32, 48, 62)] == [8, 12, 16, 24, 31]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_has_a_bias_if_no_norm_follows(norm, bias):
    ops = Ops(norm=norm)
    layer = ops.conv(3, 4, 3, bias=bias)
    assert list(layer.state_dict()) == (["weight", "bias"] if bias or norm == "none" else ["weight"])
    assert isinstance(ops.norm(4), nn.Identity) == (norm == "none")


# Activations


@pytest.mark.parametrize(
    ("act", "reference"),
    [
        ("relu", F.relu),
        ("leaky_relu", lambda x: F.leaky_relu(x, 0.01)),
        ("prelu", lambda x: F.prelu(x, torch.tensor([0.25]))),
        ("gelu", F.gelu),
        ("silu", F.silu),
        ("relu6", F.relu6),
        ("tanh", torch.tanh),
        ("sigmoid", torch.sigmoid),
        ("identity", lambda x: x),
        ("tlu", F.relu),  # until it has learned thresholds
    ],
)
def test_act_is_torchs(act, reference):
    x = torch.randn(2, 3, 4, 5) * 5
    close(Ops(act=act).act(3)(x.clone()), reference(x), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5)])
def test_thresholds_are_of_channels(shape):
    layer = Ops(act="tlu").act(3)
    layer.threshold.data = torch.tensor([-1.0, 0.0, 2.0])
    x = torch.randn(shape) * 3
    expected = torch.stack([x[:, i].clamp(min=t) for i, t in enumerate((-1.0, 0.0, 2.0))], 1)
    close(layer(x), expected, rtol=0, atol=0)
    with pytest.raises(InputError, match=r"ops\.act=tlu: .* ops\.act\(channels\)"):
        Ops(act="tlu").act()


# Padding


@pytest.mark.parametrize("mode", ["zeros", "valid", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("kernel", [3, 5, (1, 7), (7, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_replaces_the_models_own(mode, kernel, stride):
    x = padded = torch.randn(2, 3, 9, 12)
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
    if mode != "valid":
        sides = [columns // 2, columns // 2, rows // 2, rows // 2]
        padded = F.pad(x, sides, mode="constant" if mode == "zeros" else mode)
    for own in (None, 0, 2, (1, 0)):
        layer = Ops(padding=mode).conv(3, 4, kernel, stride, padding=own)
        close(layer(x), F.conv2d(padded, layer.weight, stride=stride))


@pytest.mark.parametrize("kernel", [1, 3, 4, 11, (1, 7)])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [*MAPS, (12, 16)], ids=str)
def test_same_is_tensorflows_rule(kernel, stride, size):
    layer, x = Ops(padding="same").conv(3, 4, kernel, stride, padding=0), torch.randn(2, 3, *size)
    sides = []
    for side, width in zip(size, (kernel, kernel) if isinstance(kernel, int) else kernel, strict=True):
        total = max(width - (side % stride or stride), 0)
        sides = [total // 2, math.ceil(total / 2), *sides]
    want = F.conv2d(F.pad(x, sides), layer.weight, stride=stride)
    assert want.shape[2:] == (math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    close(layer(x), want)


def test_same_pads_for_the_stride_that_is_left():
    layer, x = Ops(padding="same", pool="max").conv(3, 4, 3, 2), torch.randn(2, 3, 8, 9)
    close(layer(x), max_pool(F.conv2d(x, layer.weight, padding=1), (2, 2, 0, True)))


@pytest.mark.parametrize(
    ("kernel", "own", "pixels"), [(3, None, (1, 1)), ((1, 7), None, (0, 3)), (3, 0, 0), (3, 2, 2)]
)
def test_native_padding_is_the_models_own(kernel, own, pixels):
    layer, x = Ops().conv(3, 4, kernel, padding=own), torch.randn(2, 3, 9, 12)
    close(layer(x), F.conv2d(x, layer.weight, padding=pixels))
    layer = Ops().conv(3, 4, (1, 7), padding=(0, 3))
    close(layer(x), F.conv2d(x, layer.weight, padding=(0, 3)))


@pytest.mark.parametrize("padding", ["native", *PADDINGS])
def test_only_valid_maps_cannot_be_joined(padding):
    if padding != "valid":
        return Ops(padding=padding).joins("a sum")
    with pytest.raises(OpsError, match=r"ops\.padding=valid \(a sum\)") as error:
        Ops(padding=padding).joins("a sum")
    assert error.value.reason == "sum"
    return None


@pytest.mark.parametrize("padding", ["native", *sorted({*PADDINGS} - {"valid"})])
@pytest.mark.parametrize("pool", ["native", *POOLS])
@pytest.mark.parametrize("size", [8, 9])
def test_maps_beside_each_other_have_one_size(padding, pool, size):
    ops, x = Ops(padding=padding, pool=pool), torch.randn(1, 2, size, size)
    edge = ops.beside(3, 0)
    assert edge == (0 if padding == "native" and pool != "none" else 1)
    conv, window = ops.conv(2, 2, 3, 2, padding=edge), ops.pool(3, 2, padding=edge)
    assert conv(x).shape == window(x).shape


# Initialisation

GAINS = {
    "relu": math.sqrt(2),
    "leaky_relu": math.sqrt(2 / (1 + 0.01**2)),
    "prelu": math.sqrt(2 / (1 + 0.25**2)),
    "gelu": math.sqrt(2),
    "silu": math.sqrt(2),
    "relu6": math.sqrt(2),
    "tlu": math.sqrt(2),
    "tanh": 5 / 3,
    "sigmoid": 1.0,
    "identity": 1.0,
}


def test_published_gains_are_those_of_the_table():
    """An activation that a user adds has its gain there, and need not be here."""
    assert set(GAINS) <= set(ACTS)


@pytest.mark.parametrize("act", GAINS)
def test_weights_start_as_the_activation_needs(act):
    ops = Ops(act=act, norm="none")
    for layer, fan_in, fan_out in [
        (ops.conv(128, 512, 3), 128 * 9, 512 * 9),
        (ops.conv(64, 256, (1, 7)), 64 * 7, 256 * 7),
        (ops.conv(8192, 8192, 3, groups=8192), 9, 9),
        (ops.conv(512, 1024, 3, groups=4), 128 * 9, 256 * 9),
        (ops.linear(512, 256), 512, 256),
    ]:
        fan = (fan_in + fan_out) / 2 if act in ("tanh", "sigmoid") else fan_in
        want = GAINS[act] / math.sqrt(fan)
        assert layer.weight.std().item() == pytest.approx(want, rel=0.012)
        assert abs(layer.weight.mean().item()) < 0.02 * want
        assert layer.weight.abs().max() > 3 * want  # normal, not uniform
        assert (layer.bias == 0).all()


@pytest.mark.parametrize("act", ACTS)
def test_the_layer_of_the_logits_starts_with_gain_1(act):
    layer = Ops(act=act).linear(1024, 256, logits=True)
    assert layer.weight.std().item() == pytest.approx(1 / 32, rel=0.01)
    assert (layer.bias == 0).all()


@pytest.mark.parametrize("act", GAINS)
def test_initialisation_in_words(act):
    text = Ops(act=act).initialisation
    assert f"gain {GAINS[act]:.4g} ({act})" in text
    assert text.startswith("Xavier" if act in ("tanh", "sigmoid") else "He, fan-in")


def test_one_seed_gives_one_start_whatever_the_norm_and_the_pooling():
    def weights(**values):
        torch.manual_seed(1)
        ops = Ops(**values)
        layers = [ops.conv(3, 8, 3, 2), ops.norm(8), ops.act(), ops.pool(2, 2), ops.conv(8, 8, 3)]
        layers = [layers[0], layers[-1], ops.linear(8, 4, logits=True)]
        return [layer.weight for layer in layers]

    want = weights()
    for values in [{"norm": norm} for norm in NORMS] + [{"pool": pool} for pool in POOLS]:
        close(weights(**values), want, rtol=0, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_residual_branch_can_start_at_zero(norm):
    ops = Ops(norm=norm)
    conv, last, x = ops.conv(3, 4, 3), ops.norm(4), torch.randn(2, 3, 8, 8)
    assert last(conv(x)).abs().max() > 0
    ops.branch([conv], last, zero=True)
    assert (last(conv(x)) == 0).all()
    assert (conv.weight == 0).all() == (norm == "none")
