"""Helpers of tests/ops."""

import torch
from torch.nn import functional as F

MAPS = [(8, 11), (7, 10), (9, 13), (5, 5)]
close = torch.testing.assert_close


def max_pool(x, window):
    return F.max_pool2d(x, *window[:3], ceil_mode=window[3])
