"""Each layer of the ablation axes alone, against torch's own or a formula that is written out."""

import math
from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models._utils import _make_divisible

from cnnbench import settings
from cnnbench.errors import OpsError
from cnnbench.models import scaling
from cnnbench.ops import norms
from cnnbench.ops.activations import ACTS
from cnnbench.ops.factory import PADDINGS, Ops
from cnnbench.ops.norms import NORMS
from cnnbench.ops.pooling import POOLS

WINDOWS = [  # kernel, stride, padding, ceil_mode
    (2, 2, 0, False),
    (3, 2, 0, False),
    (3, 2, 1, False),
    (3, 2, 0, True),
    (2, 2, 0, True),
    (3, 1, 1, True),
    (4, 4, 0, True),
    (5, 3, 0, False),
    (2, 3, 0, True),  # on some maps, the last window would start outside
    (3, 2, 1, True),  # on some maps, a middle lies outside
    (2, 2, 1, False),
]
MAPS = [(8, 11), (7, 10), (9, 13), (5, 5)]
KINDS = sorted(set(POOLS) - {"none"})
windows = pytest.mark.parametrize("window", WINDOWS, ids=str)
maps = pytest.mark.parametrize("size", MAPS, ids=str)
close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def pooled(kind, window, x):
    return POOLS[kind](*window).eval()(x)


def max_pool(x, window):
    return F.max_pool2d(x, *window[:3], ceil_mode=window[3])


def avg_pool(x, window):
    return F.avg_pool2d(x, *window[:3], ceil_mode=window[3])


def by_window(x, window, function):
    """`function(values)` of what lies on the map of each window, (N, C, count) -> (N, C)."""
    kernel, stride, padding, _ = window
    out = torch.empty_like(max_pool(x, window))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            top, left = i * stride - padding, j * stride - padding
            part = x[:, :, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
            out[:, :, i, j] = function(part.flatten(2))
    return out


def by_middle(x, window, function):
    """`function(row, column)` of each window's middle."""
    kernel, stride, padding, _ = window
    out = torch.empty_like(max_pool(x, window))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = function(*(n * stride - padding + (kernel - 1) // 2 for n in (i, j)))
    return out


def blurred(x, window):
    """The binomial filter around each window's middle, on a map whose edge goes on for ever."""
    line = {2: [1, 2, 1], 3: [1, 2, 1], 4: [1, 4, 6, 4, 1], 5: [1, 4, 6, 4, 1]}[window[0]]
    weight = torch.tensor(line, dtype=x.dtype) / sum(line)
    reach = torch.arange(len(line)) - len(line) // 2

    def around(row, column):
        rows, columns = (row + reach).clamp(0, x.shape[2] - 1), (column + reach).clamp(0, x.shape[3] - 1)
        return (x[:, :, rows][..., columns] * weight[:, None] * weight).sum((2, 3))

    return by_middle(x, window, around)


# Values


def test_the_settings_name_what_there_is():
    assert set(get_args(settings.Norm)) == {"native", *NORMS}
    assert set(get_args(settings.Act)) == {"native", *ACTS}
    assert set(get_args(settings.Pool)) == {"native", *POOLS}
    assert set(get_args(settings.Padding)) == set(PADDINGS)


def test_a_setting_that_changes_nothing_is_an_error():
    asked = Ops(norm="frn", act="relu", pool="blur", padding="same")
    asked.conv(3, 4, 1)  # a kernel of one pixel is never padded, and without a stride nothing is pooled
    asked.linear(3, 4)
    for axis in asked.values:
        with pytest.raises(OpsError, match=f"ops.{axis}={asked.values[axis]}") as error:
            asked.check_asked([axis], "arch=x")
        assert error.value.reason == "absent"
    asked.conv(3, 4, 3)
    asked.check_asked(["padding"], "arch=x")
    with pytest.raises(OpsError):
        asked.check_asked(["padding", "pool"], "arch=x")
    asked.norm(4)
    asked.act()
    asked.conv(3, 4, 1, stride=2)
    asked.check_asked(asked.values, "arch=x")


@pytest.mark.parametrize("ask", [lambda o: o.pool(2, 2), lambda o: o.down(2), lambda o: o.conv(1, 1, 1, 2)])
def test_what_counts_as_pooling(ask):
    for kind in get_args(settings.Pool):
        asked = Ops(pool=kind)
        ask(asked)
        asked.check_asked(["pool"], "arch=x")


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
    found = Ops(norm=norm).norm(64, eps=0.2, momentum=0.3)
    weight, bias = torch.randn(64, 1, 1), torch.randn(64, 1, 1)
    assert (found.weight == 1).all()
    assert (found.bias == 0).all()
    with torch.no_grad():
        found.weight.copy_(weight.flatten())
        found.bias.copy_(bias.flatten())
    for _ in range(3):
        x = torch.randn(4, 64, 5, 6) * 3 + 2
        close(found(x), reference(x) * weight + bias)
    close(found.eval()(x), reference.eval()(x) * weight + bias)  # batch norm: the running statistics


def test_frn_divides_by_the_root_mean_square_of_a_channel():
    found = Ops(norm="frn").norm(3, eps=0.2)
    with torch.no_grad():
        found.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        found.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    x = torch.randn(2, 3, 4, 5) + 1
    want = torch.empty_like(x)
    for n in range(2):
        for c in range(3):
            power = sum(v**2 for v in x[n, c].flatten().tolist()) / 20
            want[n, c] = (c + 1) * x[n, c] / math.sqrt(power + 0.2) + (0, 1, -1)[c]
    close(found(x), want)
    with pytest.raises(ValueError, match="pixel"):
        found(x[:, :, :1, :1])


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
    made = Ops(norm=norm)
    found = made.conv(3, 4, 3, bias=bias)
    assert list(found.state_dict()) == (["weight", "bias"] if bias or norm == "none" else ["weight"])
    assert isinstance(made.norm(4), nn.Identity) == (norm == "none")


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
    ],
)
def test_act_is_torchs(act, reference):
    x = torch.randn(2, 3, 4, 5) * 5
    close(Ops(act=act).act()(x.clone()), reference(x), rtol=0, atol=0)


# Pooling


@pytest.mark.parametrize("kind", KINDS)
@windows
def test_pool_has_torchs_output_size(kind, window):
    for size in MAPS:
        x = torch.randn(2, 3, *size)
        for layer in (POOLS[kind](*window), POOLS[kind](*window).eval()):
            assert layer(x).shape == max_pool(x, window).shape
            assert not layer.state_dict()


@pytest.mark.parametrize("kind", sorted({*KINDS, "none"}))
@windows
def test_pool_keeps_dtype_and_takes_any_memory_format(kind, window):
    x = torch.rand(2, 3, 8, 11)
    found = pooled(kind, window, x)
    close(pooled(kind, window, x.to(memory_format=torch.channels_last)), found)
    close(pooled(kind, window, x.double()), found.double(), rtol=1e-5, atol=1e-5)
    close(pooled(kind, window, x.bfloat16()), found.bfloat16(), rtol=0.03, atol=0.01)


@windows
@maps
def test_max_avg_and_mixed(window, size):
    x = torch.randn(2, 3, *size)
    close(pooled("max", window, x), by_window(x, window, lambda v: v.amax(-1)))
    close(pooled("avg", window, x), avg_pool(x, window))
    close(pooled("mixed", window, x), (max_pool(x, window) + avg_pool(x, window)) / 2)
    assert pooled("none", window, x) is x


@windows
@maps
def test_lp_is_the_root_mean_square(window, size):
    x = torch.randn(2, 3, *size)
    close(pooled("lp", window, x), avg_pool(x**2, window).sqrt())
    kernel, stride, padding, ceil_mode = window
    if not padding and not ceil_mode:
        close(pooled("lp", window, x), nn.LPPool2d(2, kernel, stride)(x) / kernel)


@windows
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lp_has_a_gradient_where_all_is_zero(window, dtype):
    x = torch.zeros(1, 1, 8, 8, dtype=dtype, requires_grad=True)
    pooled("lp", window, x).sum().backward()
    assert (x.grad == 0).all()


@windows
@maps
def test_stride_takes_the_middle_of_each_window(window, size):
    x = torch.randn(2, 3, *size)

    def nearest(row, column):
        return x[:, :, min(max(row, 0), size[0] - 1), min(max(column, 0), size[1] - 1)]

    close(pooled("stride", window, x), by_middle(x, window, nearest))


@maps
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_stride_is_what_a_strided_convolution_computes(size, kernel):
    x, weight = torch.randn(2, 3, *size), torch.randn(4, 3, kernel, kernel)
    dense = F.conv2d(x, weight, padding=kernel // 2)
    close(pooled("stride", (2, 2, 0, True), dense), F.conv2d(x, weight, stride=2, padding=kernel // 2))


@windows
@maps
def test_blur_is_a_binomial_filter_on_a_replicated_edge(window, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    close(pooled("blur", window, x), blurred(x, window))
    same = torch.full((1, 2, *size), 1.7)
    for kind in ("blur", "max_blur"):
        close(pooled(kind, window, same), torch.full_like(max_pool(same, window), 1.7))


@windows
@maps
def test_max_blur_takes_the_greatest_around_each_pixel_first(window, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64) - 5  # all negative: no zero may come from outside
    above = (window[0] - 1) // 2
    dense = torch.empty_like(x)
    for i in range(size[0]):
        for j in range(size[1]):
            rows = slice(max(i - above, 0), i - above + window[0])
            columns = slice(max(j - above, 0), j - above + window[0])
            dense[:, :, i, j] = x[:, :, rows, columns].amax((2, 3))
    close(pooled("max_blur", window, x), blurred(dense, window))


@windows
@maps
def test_stochastic_evaluates_to_the_expected_value(window, size):
    def expected(values):
        weight = values.clamp(min=0)
        alone = (weight.sum(-1) == 0)[..., None]
        weight = torch.where(alone, torch.ones_like(weight), weight)
        return (weight * values).sum(-1) / weight.sum(-1)

    for x in (torch.randn(2, 3, *size), torch.randn(2, 3, *size) - 2, torch.zeros(2, 3, *size)):
        close(pooled("stochastic", window, x), by_window(x, window, expected))


@windows
@pytest.mark.parametrize("shift", [-9, -1, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_stochastic_draws_from_the_window_and_never_from_the_padding(window, shift, dtype):
    x = (torch.randn(16, 3, 9, 10) + shift).to(dtype)
    drawn = POOLS["stochastic"](*window)(x)
    outputs = iter(drawn.flatten(2).unbind(-1))

    def belongs(values):
        found = next(outputs)
        positive = values.amax(-1) > 0
        return ((values == found[..., None]).any(-1) & ((found > 0) | ~positive)).to(x.dtype)

    assert (by_window(x, window, belongs) == 1).all()


def frequencies(values, window, drawn):
    """How often each of `values` was drawn by the window at `drawn`."""
    x = torch.tensor(values).expand(20_000, 1, -1, -1)
    found = POOLS["stochastic"](*window)(x)[(..., *drawn)]
    return [(found == v).float().mean().item() for row in values for v in row]


def test_stochastic_draws_in_proportion_to_what_is_positive():
    values = [[1.0, 4.0], [-7.0, 3.0]]
    assert frequencies(values, (2, 2, 0, False), (0, 0)) == pytest.approx([1 / 8, 4 / 8, 0, 3 / 8], abs=0.02)
    # at an edge the window is smaller, first here and last below
    assert frequencies(values, (3, 2, 1, False), (0, 0)) == pytest.approx([1 / 8, 4 / 8, 0, 3 / 8], abs=0.02)
    values = [[9.0, 8.0, 1.0], [7.0, 6.0, 3.0], [5.0, 4.0, -1.0]]
    assert frequencies(values, (2, 2, 0, True), (0, 1)) == pytest.approx(
        [0, 0, 1 / 4, 0, 0, 3 / 4, 0, 0, 0], abs=0.02
    )


def test_stochastic_draws_evenly_where_nothing_is_positive():
    values = [[-1.0, -4.0], [-7.0, 0.0]]
    for window in [(2, 2, 0, False), (3, 2, 1, False)]:
        assert frequencies(values, window, (0, 0)) == pytest.approx([1 / 4] * 4, abs=0.02)
    values = [[9.0, 8.0, -1.0], [7.0, 6.0, -3.0], [5.0, 4.0, -2.0]]  # the last window is cut off
    assert frequencies(values, (2, 2, 0, True), (0, 1)) == pytest.approx(
        [0, 0, 1 / 2, 0, 0, 1 / 2, 0, 0, 0], abs=0.02
    )


@pytest.mark.parametrize("window", [(2, 2, 0, False), (3, 2, 1, False), (2, 2, 0, True)], ids=str)
def test_stochastic_passes_the_gradient_to_what_was_drawn(window):
    x = torch.randn(4, 3, 8, 8, requires_grad=True)
    found = POOLS["stochastic"](*window)(x)
    found.sum().backward()
    assert (x.grad == x.grad.round()).all()
    assert x.grad.sum() == found.numel()
    drawn = torch.isin(x.detach(), found.detach())
    assert ((x.grad > 0) == drawn).all()


# Pooling as models ask for it


def test_native_pooling_is_the_models_own():
    x, window = torch.randn(2, 3, 9, 10), (3, 2, 1, True)
    options = {"padding": 1, "ceil_mode": True}
    close(Ops().pool(3, 2, **options)(x), max_pool(x, window))
    close(Ops().pool(3, 2, **options, native="avg")(x), avg_pool(x, window))
    close(Ops(pool="max").pool(3, 2, **options, native="avg")(x), max_pool(x, window))
    close(Ops(pool="avg").pool(3, 2, **options)(x), avg_pool(x, window))
    assert Ops(pool="none").pool(3, 2, **options)(x) is x


@maps
@pytest.mark.parametrize("stride", [2, 4])
def test_down(size, stride):
    x, window = torch.randn(2, 3, *size), (stride, stride, 0, True)
    close(Ops(pool="max").down(stride)(x), max_pool(x, window))
    close(Ops(pool="avg").down(stride)(x), avg_pool(x, window))
    assert Ops(pool="none").down(stride)(x) is x
    if stride == 2:
        for kind in ("native", "stride"):
            close(Ops(pool=kind).down(stride)(x), x[:, :, ::2, ::2])


@pytest.mark.parametrize("pool", get_args(settings.Pool))
@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("kernel", [1, 3, 11])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_strided_convolution_becomes_a_pooled_one(pool, stride, kernel, norm):
    found = Ops(pool=pool, norm=norm).conv(3, 4, kernel, stride).eval()
    reference = nn.Conv2d(3, 4, kernel, stride, kernel // 2, bias=norm == "none")
    reference.load_state_dict(found.state_dict())  # the same names
    for size in MAPS:
        x = torch.randn(2, 3, *size)
        dense = F.conv2d(x, found.weight, found.bias, padding=kernel // 2)
        if pool == "none":
            close(found(x), dense)
            continue
        assert found(x).shape == reference(x).shape
        if pool in ("native", "stride"):
            close(found(x), reference(x))
        elif pool in ("max", "avg"):
            pooling = {"max": max_pool, "avg": avg_pool}[pool]
            close(found(x), pooling(dense, (stride, stride, 0, True)))


@pytest.mark.parametrize("pool", get_args(settings.Pool))
def test_without_a_stride_nothing_is_pooled(pool):
    found, x = Ops(pool=pool).conv(3, 4, 3), torch.randn(2, 3, 9, 10)
    close(found(x), F.conv2d(x, found.weight, padding=1))


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
        found = Ops(padding=mode).conv(3, 4, kernel, stride, padding=own)
        close(found(x), F.conv2d(padded, found.weight, stride=stride))


@pytest.mark.parametrize("kernel", [1, 3, 4, 11, (1, 7)])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [*MAPS, (12, 16)], ids=str)
def test_same_is_tensorflows_rule(kernel, stride, size):
    found, x = Ops(padding="same").conv(3, 4, kernel, stride, padding=0), torch.randn(2, 3, *size)
    sides = []
    for side, width in zip(size, (kernel, kernel) if isinstance(kernel, int) else kernel, strict=True):
        total = max(width - (side % stride or stride), 0)
        sides = [total // 2, math.ceil(total / 2), *sides]
    want = F.conv2d(F.pad(x, sides), found.weight, stride=stride)
    assert want.shape[2:] == (math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    close(found(x), want)


def test_same_pads_for_the_stride_that_is_left():
    found, x = Ops(padding="same", pool="max").conv(3, 4, 3, 2), torch.randn(2, 3, 8, 9)
    close(found(x), max_pool(F.conv2d(x, found.weight, padding=1), (2, 2, 0, True)))


@pytest.mark.parametrize(
    ("kernel", "own", "pixels"), [(3, None, (1, 1)), ((1, 7), None, (0, 3)), (3, 0, 0), (3, 2, 2)]
)
def test_native_padding_is_the_models_own(kernel, own, pixels):
    found, x = Ops().conv(3, 4, kernel, padding=own), torch.randn(2, 3, 9, 12)
    close(found(x), F.conv2d(x, found.weight, padding=pixels))
    found = Ops().conv(3, 4, (1, 7), padding=(0, 3))
    close(found(x), F.conv2d(x, found.weight, padding=(0, 3)))


@pytest.mark.parametrize("padding", PADDINGS)
def test_only_valid_maps_cannot_be_joined(padding):
    if padding != "valid":
        return Ops(padding=padding).joins("a sum")
    with pytest.raises(OpsError, match=r"ops\.padding=valid \(a sum\)") as error:
        Ops(padding=padding).joins("a sum")
    assert error.value.reason == "sum"
    return None


@pytest.mark.parametrize("padding", sorted(set(PADDINGS) - {"valid"}))
@pytest.mark.parametrize("pool", get_args(settings.Pool))
@pytest.mark.parametrize("size", [8, 9])
def test_maps_beside_each_other_have_one_size(padding, pool, size):
    made, x = Ops(padding=padding, pool=pool), torch.randn(1, 2, size, size)
    edge = made.beside(3, 0)
    assert edge == (0 if padding == "native" and pool != "none" else 1)
    conv, window = made.conv(2, 2, 3, 2, padding=edge), made.pool(3, 2, padding=edge)
    assert conv(x).shape == window(x).shape


# Initialisation

GAINS = {
    "relu": math.sqrt(2),
    "leaky_relu": math.sqrt(2 / (1 + 0.01**2)),
    "prelu": math.sqrt(2 / (1 + 0.25**2)),
    "gelu": math.sqrt(2),
    "silu": math.sqrt(2),
    "relu6": math.sqrt(2),
    "tanh": 5 / 3,
    "sigmoid": 1.0,
    "identity": 1.0,
}


@pytest.mark.parametrize("act", ACTS)
def test_weights_start_as_the_activation_needs(act):
    made = Ops(act=act, norm="none")
    for layer, fan_in, fan_out in [
        (made.conv(128, 512, 3), 128 * 9, 512 * 9),
        (made.conv(64, 256, (1, 7)), 64 * 7, 256 * 7),
        (made.conv(8192, 8192, 3, groups=8192), 9, 9),
        (made.conv(512, 1024, 3, groups=4), 128 * 9, 256 * 9),
        (made.linear(512, 256), 512, 256),
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


@pytest.mark.parametrize("act", ACTS)
def test_initialisation_in_words(act):
    text = Ops(act=act).initialisation
    assert f"gain {GAINS[act]:.4g} ({act})" in text
    assert text.startswith("Xavier" if act in ("tanh", "sigmoid") else "He, fan-in")


def test_one_seed_gives_one_start_whatever_the_norm_and_the_pooling():
    def weights(**values):
        torch.manual_seed(1)
        made = Ops(**values)
        layers = [made.conv(3, 8, 3, 2), made.norm(8), made.act(), made.pool(2, 2), made.conv(8, 8, 3)]
        layers = [layers[0], layers[-1], made.linear(8, 4, logits=True)]
        return [layer.weight for layer in layers]

    want = weights()
    for values in [{"norm": norm} for norm in NORMS] + [{"pool": pool} for pool in POOLS]:
        close(weights(**values), want, rtol=0, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_residual_branch_can_start_at_zero(norm):
    made = Ops(norm=norm)
    conv, last, x = made.conv(3, 4, 3), made.norm(4), torch.randn(2, 3, 8, 8)
    assert last(conv(x)).abs().max() > 0
    made.zero(last, conv)
    assert (last(conv(x)) == 0).all()
    assert (conv.weight == 0).all() == (norm == "none")


# Stems


@pytest.mark.parametrize(
    ("stem", "size", "small"),
    [("auto", 64, True), ("auto", 65, False), ("small", 224, True), ("imagenet", 32, False)],
)
def test_stem(stem, size, small):
    assert scaling.is_small(stem, size) == small
    assert scaling.is_small("auto", 64, imagenet_from=64) is False


@pytest.mark.parametrize("strides", [[2] * 5, [2, 2, 1, 2, 2], [1, 2, 1], [2, 1, 2, 2, 1], []])
@pytest.mark.parametrize("shrink", [lambda n: -(-n // 2), lambda n: n // 2, lambda n: (n - 1) // 2])
def test_small_strides_keep_as_many_of_the_last_twos_as_fit(strides, shrink):
    for size in range(1, 70):
        for smallest in (1, 4, 7):
            places = [i for i, stride in enumerate(strides) if stride == 2]
            sides = [size]
            while len(sides) <= len(places) and shrink(sides[-1]) >= smallest:
                sides.append(shrink(sides[-1]))
            kept = places[len(places) - len(sides) + 1 :]
            want = [2 if i in kept else 1 for i in range(len(strides))]
            assert scaling.small_strides(strides, size, smallest, shrink) == (want, sides[-1])


def test_small_strides_halve_upwards_unless_told():
    assert scaling.small_strides([2, 2, 2], 9, 3) == ([1, 2, 2], 3)


def test_widths():
    for by in (4, 8):
        for tenths in range(1, 3000):
            channels = tenths / 7
            assert scaling.divisible(channels, by) == _make_divisible(channels, by)
    assert scaling.divisible(37) == _make_divisible(37, 8) == 40
    assert [scaling.scaled(c, w) for c, w in [(64, 1), (64, 0.25), (10, 0.26), (3, 0.2)]] == [64, 16, 3, 1]
    with pytest.raises(ValueError, match="width=0\\.1"):
        scaling.scaled(3, 0.1)


def test_last_side_learns_nothing():
    features = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4))
    before = [value.clone() for value in features.state_dict().values()]
    assert scaling.last_side(features, 3, 15, most=9) == 7
    assert scaling.last_side(features, 3, 15, most=6) == 6
    close(list(features.state_dict().values()), before)
    assert features.training
    assert features[1].training
    with pytest.raises(OpsError, match="2 pixels") as error:
        scaling.last_side(features, 3, 2, most=6)
    assert error.value.reason == "small"
