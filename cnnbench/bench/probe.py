"""One measurement, in a process that does nothing else.

Gets a `Spec` on standard input, and says what it finds on standard output, a JSON object a line: `said` is
what goes on, `found` the end. Ends when standard input does: with whoever started it.
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
from cnnbench.bench.timing import Call, Company, Durations, in_turn

PREFIX = "cnnbench-bench "
"""Before each line: libraries print, too."""

MB = 1e6
OUT_OF_MEMORY = "out of memory"


def main() -> None:
    """Measure what standard input asks for."""
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
    _tell("found", tasks[spec.task](spec))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _tell(kind: str, what: Any) -> None:
    print(PREFIX + json.dumps({kind: what}), flush=True)


def _say(what: str) -> None:
    _tell("said", what)


def _prepare(spec: Spec) -> None:
    """Import what the backend needs, before anything is timed; take no more memory than allowed."""
    if spec.settings.backend == "onnxruntime" and spec.task == "memory":
        import onnxruntime  # noqa: F401 - without torch: as it would be deployed
    elif spec.settings.backend == "openvino" and spec.task == "memory":
        backends.openvino()
    else:
        import torch

        from cnnbench.training import model as training_model  # noqa: F401 - with what it imports

        torch.set_num_threads(int(spec.device["threads"]))
    if spec.device["accelerator"] == "cpu" and "memory" in spec.task:
        memory.confine(spec.memory_bytes)


def _load(spec: Spec) -> backends.Loaded:
    return backends.training(spec) if spec.task.startswith("training") else backends.inference(spec)


# --- time ---------------------------------------------------------------------------------------


def _time(spec: Spec) -> dict[str, Any]:
    """Durations of batches of each size and, of inference, of what the device can do at most, in turn."""
    from cnnbench.bench import ceilings

    _say("loading")
    settings = spec.settings
    try:
        model = _load(spec)
        calls: dict[str, Call] = {str(size): model.prepare(size) for size in spec.batch_sizes}
        most: dict[str, tuple[Call, float]] = {}
        if spec.task == "time":
            most = {
                "matmul": ceilings.matmul(spec.device),
                "convolution": ceilings.convolution(spec.device),
                "copy": ceilings.copy(spec.device),
            }
        company = Company()
        durations = in_turn(
            calls | {name: call for name, (call, _) in most.items()},
            settings.rounds,
            settings.round_s,
            lambda name: _say(f"{spec.task}: batch {name}" if name[0].isdigit() else f"ceiling: {name}"),
        )
    except Exception as error:
        if not memory.exhausted(error):
            raise
        return {"error": OUT_OF_MEMORY}
    return {
        "others_cpu": company.share(),
        "ceilings": {name: work / durations[name].best for name, (_, work) in most.items()},
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
    """Training steps in both memory formats, in turn; at the largest batch size that was asked for."""
    from dataclasses import replace

    size = spec.batch_sizes[-1]
    calls = {
        layout: backends.training(replace(spec, device=spec.device | {"memory_format": layout})).prepare(size)
        for layout in ("contiguous", "channels_last")
    }
    company = Company()
    found = in_turn(calls, spec.settings.rounds, spec.settings.round_s, _say)
    return {
        "others_cpu": company.share(),
        "batch": size,
        **{layout: {"seconds": some.typical, "spread": some.spread} for layout, some in found.items()},
    }


# --- memory -------------------------------------------------------------------------------------


def _memory(spec: Spec) -> dict[str, Any]:
    """Peaks of one batch size, in a process that has done nothing else, and how long it takes to get there.

    The first of these processes finds an empty compiler's cache: its `first_call_s` is what compiling takes.
    """
    (size,) = spec.batch_sizes
    _say(f"{spec.task}: batch {size}")
    try:
        begin = time.perf_counter()
        model = _load(spec)
        load_s = time.perf_counter() - begin
        if spec.device["accelerator"] != "cpu":
            return {"load_s": load_s, **_elsewhere(spec.device["accelerator"], model.prepare(size))}
        first_call_s, most = 0.0, 0
        if spec.settings.backend == "compile":  # what the compiler takes is not what the model takes
            first_call_s, most = _seconds(model.prepare(size)), memory.peak()
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
        "process_mb": max(most, memory.peak()) / MB,
    }


def _elsewhere(accelerator: str, call: Call) -> dict[str, Any]:
    """On a GPU what torch's allocator had at most; on MPS, which keeps no peak, durations alone."""
    import torch

    gpu = accelerator == "gpu"
    loaded = torch.cuda.memory_allocated() if gpu else 0
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    found = {"first_call_s": _seconds(call), "seconds": _seconds(call)}
    if gpu:
        found["activations_mb"] = (torch.cuda.max_memory_allocated() - loaded) / MB
        found["process_mb"] = torch.cuda.max_memory_reserved() / MB
    return found
