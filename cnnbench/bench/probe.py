"""One measurement, in a process of its own.

Reads a `Spec` from standard input and writes JSON objects to standard output, one a line: `phase` for
progress, `result` at the end. It exits when standard input closes, which is when its parent ends.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from cnnbench.bench import backends, memory
from cnnbench.bench.spec import Spec
from cnnbench.bench.timing import Call, Durations, OtherProcesses, in_turn

PREFIX = "cnnbench-bench "
"""Prefix of each line, since libraries print, too."""

MB = 1e6
OUT_OF_MEMORY = "out of memory"


def main() -> None:
    """Read a `Spec` from standard input, measure, and write the result."""
    spec: Spec = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _prepare(spec)
    tasks: dict[str, Callable[[Spec], dict[str, Any]]] = {
        "tune": _tune,
        "time": _time,
        "training": _time,
        "memory": _memory,
        "training_memory": _memory,
    }
    _write("result", tasks[spec.task](spec))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _write(kind: str, value: Any) -> None:
    print(PREFIX + json.dumps({kind: value}), flush=True)


def _report(phase: str) -> None:
    _write("phase", phase)


def _prepare(spec: Spec) -> None:
    """Import the backend before anything is timed, and limit the memory of this process."""
    if spec.settings.backend == "onnxruntime" and spec.task == "memory":
        import onnxruntime  # noqa: F401 - without torch, as in deployment
    elif spec.settings.backend == "openvino" and spec.task == "memory":
        backends.openvino()
    else:
        import torch

        import cnnbench.training.model  # noqa: F401 - with all that it imports

        torch.set_num_threads(int(spec.device["threads"]))
    if spec.device["accelerator"] == "cpu" and "memory" in spec.task:
        memory.confine(spec.memory_bytes)


def _load(spec: Spec) -> backends.Loaded:
    return backends.training(spec) if spec.task.startswith("training") else backends.inference(spec)


# --- time ---------------------------------------------------------------------------------------


def _time(spec: Spec) -> dict[str, Any]:
    """Time batches of each size and, for inference, the device's peaks, all in turn."""
    from cnnbench.bench import ceilings

    _report("loading")
    settings = spec.settings
    try:
        model = _load(spec)
        calls: dict[str, Call] = {str(size): model.prepare(size) for size in spec.batch_sizes}
        peaks: dict[str, tuple[Call, float]] = {}
        if spec.task == "time":
            peaks = {
                "matmul": ceilings.matmul(spec.device),
                "convolution": ceilings.convolution(spec.device),
                "copy": ceilings.copy(spec.device),
            }
        others = OtherProcesses()
        durations = in_turn(
            calls | {name: call for name, (call, _) in peaks.items()},
            settings.rounds,
            settings.round_s,
            lambda name: _report(f"{spec.task}: batch {name}" if name[0].isdigit() else f"ceiling: {name}"),
        )
    except Exception as error:
        if not memory.exhausted(error):
            raise
        return {"error": OUT_OF_MEMORY}
    return {
        "others_cpu": others.share(),
        "ceilings": {name: work / durations[name].best for name, (_, work) in peaks.items()},
        "rows": [_row(size, durations[str(size)]) for size in spec.batch_sizes],
    }


def _seconds(call: Call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _row(size: int, durations: Durations) -> dict[str, Any]:
    return {
        "batch": size,
        "calls": len(durations.all),
        "p50_ms": 1e3 * durations.typical,
        "p95_ms": 1e3 * durations.percentile(95),
        "p99_ms": 1e3 * durations.percentile(99),
        "images_per_s": size / durations.typical,
        "spread": durations.spread,
    }


def _tune(spec: Spec) -> dict[str, Any]:
    """Time training steps in both memory formats, in turn, at the largest of the batch sizes."""
    from dataclasses import replace

    size = spec.batch_sizes[-1]
    calls = {
        layout: backends.training(replace(spec, device=spec.device | {"memory_format": layout})).prepare(size)
        for layout in ("contiguous", "channels_last")
    }
    others = OtherProcesses()
    durations = in_turn(calls, spec.settings.rounds, spec.settings.round_s, _report)
    return {
        "others_cpu": others.share(),
        "batch": size,
        **{layout: {"seconds": d.typical, "spread": d.spread} for layout, d in durations.items()},
    }


# --- memory -------------------------------------------------------------------------------------


def _memory(spec: Spec) -> dict[str, Any]:
    """Measure peak memory at one batch size in this fresh process, and the times to load and to call.

    The first such process finds the compiler's cache empty, so its `first_call_s` includes compilation.
    """
    (size,) = spec.batch_sizes
    _report(f"{spec.task}: batch {size}")
    try:
        begin = time.perf_counter()
        model = _load(spec)
        load_s = time.perf_counter() - begin
        if spec.device["accelerator"] != "cpu":
            return {"load_s": load_s, **_on_accelerator(spec.device["accelerator"], model.prepare(size))}
        first_call_s, peak = 0.0, 0
        if spec.settings.backend == "compile":  # the compiler's memory is not the model's
            first_call_s, peak = _seconds(model.prepare(size)), memory.peak()
            model.forget()
        loaded = memory.resident()
        memory.forget_peak()
        call = model.prepare(size)
        first_call_s = max(first_call_s, _seconds(call))
        seconds = _seconds(call)
    except Exception as error:
        if not memory.exhausted(error):
            raise
        return {"error": OUT_OF_MEMORY}
    return {
        "load_s": load_s,
        "first_call_s": first_call_s,
        "seconds": seconds,
        "activations_mb": max(0, memory.peak() - loaded) / MB,
        "process_mb": max(peak, memory.peak()) / MB,
    }


def _on_accelerator(accelerator: str, call: Call) -> dict[str, Any]:
    """Measure the peaks of torch's allocator on a GPU; on MPS, which keeps no peak, durations only."""
    import torch

    gpu = accelerator == "gpu"
    loaded = torch.cuda.memory_allocated() if gpu else 0
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    result = {"first_call_s": _seconds(call), "seconds": _seconds(call)}
    if gpu:
        result["activations_mb"] = (torch.cuda.max_memory_allocated() - loaded) / MB
        result["process_mb"] = torch.cuda.max_memory_reserved() / MB
    return result
