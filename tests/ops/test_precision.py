"""Every norm, activation and pooling layer in float16 and bfloat16, against float64."""

import copy

import pytest
import torch

from cnnbench.ops.factory import Ops
from cnnbench.ops.values import ACTS, NORMS, POOLS

SIZES = {torch.float16: (1e-2, 1.0, 300.0, 2e4), torch.bfloat16: (1e-2, 1.0, 300.0, 1e6)}
"""Deviations of the inputs: squares of 256 and more, and sums of 65,504 and more, overflow float16."""

LAYERS = [f"norm={name}" for name in NORMS] + [f"act={name}" for name in ACTS]
LAYERS += [f"pool={name}" for name in POOLS if name != "none"]


def made(axis, name):
    ops = Ops(**{axis: name})
    return ops.pool(3, 2, padding=1) if axis == "pool" else getattr(ops, axis)(6)


@pytest.mark.parametrize("dtype", SIZES, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_reductions_do_not_overflow_or_round(name, dtype):
    torch.manual_seed(0)
    layer = made(*name.split("=")).eval()
    if name == "norm=batch":
        layer.train()  # batch statistics
    exact = copy.deepcopy(layer).double()
    for size in SIZES[dtype]:
        x = (torch.randn(4, 6, 12, 12) * size).clamp(-6e4, 6e4).to(dtype)
        with torch.autocast("cpu", dtype):
            found = layer(x.clone())
        expected = exact(x.double())
        assert found.isfinite().all(), size
        assert found.dtype in (dtype, torch.float32)
        # 8 roundings of the largest value: each output is rounded, and so are products and sums of a few
        allowed = 8 * torch.finfo(dtype).eps * expected.abs().amax()
        assert (found.double() - expected).abs().amax() <= allowed, size
