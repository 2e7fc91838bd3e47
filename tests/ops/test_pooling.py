"""Pooling layers, compared with torch's or with an explicit formula."""

import pytest
import torch
from ops_support import MAPS, close, layer, max_pool
from torch import nn
from torch.nn import functional as F

from cnnbench.ops.factory import Ops
from cnnbench.ops.values import POOLS

WINDOWS = [  # kernel, stride, padding, ceil_mode
    (2, 2, 0, False),
    (3, 2, 0, False),
    (3, 2, 1, False),
    (3, 2, 0, True),
    (2, 2, 0, True),
    (3, 1, 1, True),
    (4, 4, 0, True),
    (5, 3, 0, False),
    (2, 3, 0, True),  # on some maps, the last window would start outside of it
    (3, 2, 1, True),  # on some maps, the middle of a window is outside of it
    (2, 2, 1, False),
]
KINDS = sorted(set(POOLS) - {"none"})
windows = pytest.mark.parametrize("window", WINDOWS, ids=str)
maps = pytest.mark.parametrize("size", MAPS, ids=str)


def pooled(kind, window, x):
    return layer(kind, window).eval()(x)


def avg_pool(x, window):
    return F.avg_pool2d(x, *window[:3], ceil_mode=window[3])


def by_window(x, window, function):
    """Apply `function`, (N, C, count) -> (N, C), to the values of each window that are on the map."""
    kernel, stride, padding, _ = window
    out = torch.empty_like(max_pool(x, window))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            top, left = i * stride - padding, j * stride - padding
            values = x[:, :, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
            out[:, :, i, j] = function(values.flatten(2))
    return out


def by_middle(x, window, function):
    """Apply `function` to the row and column of each window's middle."""
    kernel, stride, padding, _ = window
    out = torch.empty_like(max_pool(x, window))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = function(*(n * stride - padding + (kernel - 1) // 2 for n in (i, j)))
    return out


def blurred(x, window):
    """Apply the binomial filter around each window's middle, on a map whose edge is replicated."""
    line = {2: [1, 2, 1], 3: [1, 2, 1], 4: [1, 4, 6, 4, 1], 5: [1, 4, 6, 4, 1]}[window[0]]
    weight = torch.tensor(line, dtype=x.dtype) / sum(line)
    reach = torch.arange(len(line)) - len(line) // 2

    def around(row, column):
        rows, columns = (row + reach).clamp(0, x.shape[2] - 1), (column + reach).clamp(0, x.shape[3] - 1)
        return (x[:, :, rows][..., columns] * weight[:, None] * weight).sum((2, 3))

    return by_middle(x, window, around)


# Pooling


@pytest.mark.parametrize("kind", KINDS)
@windows
def test_pool_has_torchs_output_size(kind, window):
    for size in MAPS:
        x = torch.randn(2, 3, *size)
        for pool in (layer(kind, window), layer(kind, window).eval()):
            assert pool(x).shape == max_pool(x, window).shape
            assert not pool.state_dict()


@pytest.mark.parametrize("kind", sorted({*KINDS, "none"}))
@windows
def test_pool_keeps_dtype_and_takes_any_memory_format(kind, window):
    x = torch.rand(2, 3, 8, 11)
    output = pooled(kind, window, x)
    close(pooled(kind, window, x.to(memory_format=torch.channels_last)), output)
    close(pooled(kind, window, x.double()), output.double(), rtol=1e-5, atol=1e-5)
    close(pooled(kind, window, x.bfloat16()), output.bfloat16(), rtol=0.03, atol=0.01)


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
    x = torch.randn(2, 3, *size, dtype=torch.float64) - 5  # all negative: a zero would come from the padding
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
    drawn = layer("stochastic", window)(x)
    outputs = iter(drawn.flatten(2).unbind(-1))

    def belongs(values):
        output = next(outputs)
        positive = values.amax(-1) > 0
        return ((values == output[..., None]).any(-1) & ((output > 0) | ~positive)).to(x.dtype)

    assert (by_window(x, window, belongs) == 1).all()


def frequencies(values, window, drawn):
    """Return the frequencies with which the window at `drawn` draws each of `values`."""
    x = torch.tensor(values).expand(20_000, 1, -1, -1)
    output = layer("stochastic", window)(x)[(..., *drawn)]
    return [(output == v).float().mean().item() for row in values for v in row]


def test_stochastic_draws_in_proportion_to_what_is_positive():
    values = [[1.0, 4.0], [-7.0, 3.0]]
    assert frequencies(values, (2, 2, 0, False), (0, 0)) == pytest.approx([1 / 8, 4 / 8, 0, 3 / 8], abs=0.02)
    # windows at an edge are smaller: here the first, below the last
    assert frequencies(values, (3, 2, 1, False), (0, 0)) == pytest.approx([1 / 8, 4 / 8, 0, 3 / 8], abs=0.02)
    values = [[9.0, 8.0, 1.0], [7.0, 6.0, 3.0], [5.0, 4.0, -1.0]]
    assert frequencies(values, (2, 2, 0, True), (0, 1)) == pytest.approx(
        [0, 0, 1 / 4, 0, 0, 3 / 4, 0, 0, 0], abs=0.02
    )


def test_stochastic_draws_evenly_where_nothing_is_positive():
    values = [[-1.0, -4.0], [-7.0, 0.0]]
    for window in [(2, 2, 0, False), (3, 2, 1, False)]:
        assert frequencies(values, window, (0, 0)) == pytest.approx([1 / 4] * 4, abs=0.02)
    values = [[9.0, 8.0, -1.0], [7.0, 6.0, -3.0], [5.0, 4.0, -2.0]]  # the last window is clipped
    assert frequencies(values, (2, 2, 0, True), (0, 1)) == pytest.approx(
        [0, 0, 1 / 2, 0, 0, 1 / 2, 0, 0, 0], abs=0.02
    )


@pytest.mark.parametrize("window", [(2, 2, 0, False), (3, 2, 1, False), (2, 2, 0, True)], ids=str)
def test_stochastic_passes_the_gradient_to_what_was_drawn(window):
    x = torch.randn(4, 3, 8, 8, requires_grad=True)
    output = layer("stochastic", window)(x)
    output.sum().backward()
    assert (x.grad == x.grad.round()).all()
    assert x.grad.sum() == output.numel()
    drawn = torch.isin(x.detach(), output.detach())
    assert ((x.grad > 0) == drawn).all()


# Pooling by the factory


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


@pytest.mark.parametrize("pool", ["native", *POOLS])
@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("kernel", [1, 3, 11])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_strided_convolution_becomes_a_pooled_one(pool, stride, kernel, norm):
    conv = Ops(pool=pool, norm=norm).conv(3, 4, kernel, stride).eval()
    reference = nn.Conv2d(3, 4, kernel, stride, kernel // 2, bias=norm == "none")
    reference.load_state_dict(conv.state_dict())  # the same names
    for size in MAPS:
        x = torch.randn(2, 3, *size)
        dense = F.conv2d(x, conv.weight, conv.bias, padding=kernel // 2)
        if pool == "none":
            close(conv(x), dense)
            continue
        assert conv(x).shape == reference(x).shape
        if pool in ("native", "stride"):
            close(conv(x), reference(x))
        elif pool in ("max", "avg"):
            pooling = {"max": max_pool, "avg": avg_pool}[pool]
            close(conv(x), pooling(dense, (stride, stride, 0, True)))


@pytest.mark.parametrize("pool", ["native", *POOLS])
def test_without_a_stride_nothing_is_pooled(pool):
    conv, x = Ops(pool=pool).conv(3, 4, 3), torch.randn(2, 3, 9, 10)
    close(conv(x), F.conv2d(x, conv.weight, padding=1))
