"""Shapes and multiply-accumulates: what torch itself says, and what is imported for it."""

import subprocess
import sys

import pytest
import torch
import torchvision
from cells import families, make
from hypothesis import given
from hypothesis import strategies as st
from search import examples
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cnnbench.models import complexity
from cnnbench.models.running import running
from cnnbench.models.shapes import QuickShapes
from cnnbench.ops.residual import StochasticDepth


@pytest.mark.parametrize("family", families())
def test_macs_are_those_of_torchs_counter(family):
    """In all, and of each layer with its children, on a real forward pass."""
    size = 75 if family == "inception_v3" else 32
    model, facts = make(family, size=size, width=0.25)
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, size, size))
    assert facts["macs"] == counter.get_total_flops() // 2
    found = complexity.layers(model, (3, size, size))
    root = type(model).__name__
    for name, counts in counter.get_flop_counts().items():
        inside = name.removeprefix(f"{root}.")
        if name != "Global" and inside != root:
            mine = sum(x.macs for x in found if f"{x.name}.".startswith(f"{inside}."))
            assert mine == sum(counts.values()) // 2, inside


NUMBER = st.integers(1, 4)
PAIR = st.tuples(NUMBER, NUMBER)


@st.composite
def operations(draw):
    """Return an operation that is answered quickly, as a function of the device."""
    n, c, groups, wrong = draw(NUMBER), draw(NUMBER), draw(st.integers(1, 2)), draw(NUMBER)
    image = (n, c * groups, draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    kernel, stride, dilation, yes = draw(PAIR), draw(PAIR), draw(PAIR), draw(st.booleans())
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    weight = (draw(NUMBER) * groups, draw(st.sampled_from([c, wrong])), *kernel)
    other = tuple(draw(st.sampled_from([1, side])) for side in image[draw(st.integers(0, 4)) :])

    def zeros(device, *shape):
        return torch.zeros(shape, device=device)

    def x(device):
        return zeros(device, *image)

    def conv(device):
        return F.conv2d(x(device), zeros(device, *weight), None, stride, padding, dilation, groups)

    name, call = draw(
        st.sampled_from(
            [
                (
                    "conv",
                    lambda d: conv(d),
                ),
                ("max", lambda d: F.max_pool2d(x(d), kernel, stride, padding, dilation, ceil_mode=yes)),
                ("mean", lambda d: F.avg_pool2d(x(d), kernel, stride, padding, ceil_mode=yes)),
                ("cat", lambda d: torch.cat([x(d), zeros(d, wrong, *image[1:])], 0)),
                ("no cat", lambda d: torch.cat([x(d), zeros(d, *image[:3], wrong)], 1)),
                ("add", lambda d: x(d) + zeros(d, *other)),
                ("mul", lambda d: zeros(d, *other) * x(d)),
                ("no sum", lambda d: x(d) - zeros(d, wrong)),
                ("div", lambda d: x(d) / 3),
                ("reduced", lambda d: x(d).mean((2, 3), keepdim=yes)),
                ("adaptive", lambda d: F.adaptive_avg_pool2d(x(d), kernel)),
                ("linear", lambda d: F.linear(x(d)[:, :, 0, 0], zeros(d, 5, weight[1]), zeros(d, 5))),
                ("dropout", lambda d: F.dropout(x(d).relu_(), 0.5, training=yes)),
                ("norm", lambda d: nn.BatchNorm2d(image[1], device=d).train(yes and n > 1)(F.silu(x(d)))),
            ]
        )
    )
    return name, call


def outcome(call, device):
    """Return shape and type of a result, or that there is none."""
    try:
        result = call(device)
    except (RuntimeError, ValueError):
        return "refused"
    return tuple(result.shape), result.dtype


@examples(150)
@given(operations())
def test_quick_shapes_are_those_of_real_tensors(operation):
    """And what torch refuses is refused."""
    _, call = operation
    with torch.no_grad():
        real = outcome(call, "cpu")
        with QuickShapes():
            assert outcome(call, "meta") == real


def test_a_dropped_branch_is_drawn_as_torchvision_does():
    x = torch.ones(64, 2, 3, 3)
    for p in (0.0, 0.3, 1.0):
        torch.manual_seed(1)
        ours = StochasticDepth(p)(x)
        torch.manual_seed(1)
        assert torch.equal(ours, torchvision.ops.StochasticDepth(p, "row")(x))
    assert StochasticDepth(0.3).eval()(x) is x


def test_an_error_is_placed_in_the_innermost_layer():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU(), nn.MaxPool2d(9)))
    with pytest.raises(RuntimeError), running(model) as calls:
        model(torch.zeros(2, 1, 6, 6))
    assert str(calls[-1]) == "1.1 (MaxPool2d), which gets 2x4x4"
    with running(model) as calls:
        model(torch.zeros(2, 1, 16, 16))
    assert calls == []


def test_inspect_waits_for_no_compiler():
    """Neither torchvision nor torch's compiler, which take seconds to import, are needed."""
    script = """
import sys
from cnnbench.cli import main
for arch in ("mlp", "googlenet", "efficientnet_b0"):
    assert main(["inspect", "--json", f"arch={arch}"]) == 0
print({"torchvision", "torch._dynamo", "sympy", "lightning"} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"
