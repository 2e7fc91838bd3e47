"""Peak performance of a device, as measured: a matrix product, a convolution and a memory copy.

No layer computes faster than the faster of the first two, or reads and writes faster than the third (the
roofline model, Williams et al. 2009, doi:10.1145/1498765.1498785). Both are timed because different libraries
compute them: on AMD's CPUs torch's matrix product (MKL) reaches half the speed of its convolution (oneDNN).
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.nn import functional

from cnnbench.bench.timing import Call
from cnnbench.training.device import DEVICE_TYPES, MEMORY_FORMATS, MIXED, synchronise

WORK_S = 0.03
"""Minimum seconds of a timed call: smaller problems do not reach the device's peak."""

COPIED = 256 * 2**20
"""Bytes copied: more than a CPU's caches hold."""

DTYPES = MIXED | {"64-true": torch.float64}


def matmul(device: dict[str, Any]) -> tuple[Call, float]:
    """Return a call that multiplies two square matrices, and its floating-point operations."""
    target, dtype = DEVICE_TYPES[device["accelerator"]], DTYPES.get(device["precision"], torch.float32)
    size = 512
    while True:
        a, b = (torch.randn(size, size, device=target).to(dtype) for _ in range(2))
        out = torch.empty_like(a)

        def call(a: torch.Tensor = a, b: torch.Tensor = b, out: torch.Tensor = out) -> None:
            torch.mm(a, b, out=out)
            synchronise(out.device)

        call()
        begin = time.perf_counter()
        call()
        if time.perf_counter() - begin > WORK_S or size >= 16384:
            return call, 2.0 * size**3
        size *= 2


def convolution(device: dict[str, Any]) -> tuple[Call, float]:
    """Return a 3x3 convolution with 256 channels on 32 x 32 pixels, and its floating-point operations."""
    target, dtype = DEVICE_TYPES[device["accelerator"]], DTYPES.get(device["precision"], torch.float32)
    layout = MEMORY_FORMATS[device["memory_format"]]
    weight = torch.randn(256, 256, 3, 3, device=target).to(dtype, memory_format=layout)
    batch = 1
    while True:
        images = torch.randn(batch, 256, 32, 32, device=target).to(dtype, memory_format=layout)

        def call(images: torch.Tensor = images) -> None:
            with torch.inference_mode():
                functional.conv2d(images, weight, padding=1)
            synchronise(images.device)

        call()
        begin = time.perf_counter()
        call()
        if time.perf_counter() - begin > WORK_S or batch >= 1024:
            return call, 2.0 * batch * 32 * 32 * 256 * 256 * 9
        batch *= 2


def copy(device: dict[str, Any]) -> tuple[Call, float]:
    """Return a call that copies within the device's memory, and the bytes that it reads and writes."""
    source = torch.zeros(COPIED // 4, device=DEVICE_TYPES[device["accelerator"]])
    target = torch.ones_like(source)

    def call() -> None:
        target.copy_(source)
        synchronise(target.device)

    return call, 2.0 * COPIED
