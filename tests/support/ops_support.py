"""Helpers of tests/ops."""

import torch
from torch.nn import functional as F

from cnnbench.ops.values import POOLS

MAPS = [(8, 11), (7, 10), (9, 13), (5, 5)]
close = torch.testing.assert_close


def layer(kind, window):
    """Return a pooling layer with the window (kernel, stride, padding, ceil_mode)."""
    return POOLS[kind].make(*window[:3], ceil_mode=window[3])


def max_pool(x, window):
    return F.max_pool2d(x, *window[:3], ceil_mode=window[3])
