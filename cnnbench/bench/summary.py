"""The metrics of summary.json and the rows of metrics.csv, from what the processes measured."""

from __future__ import annotations

from typing import Any

from cnnbench.bench.roofline import itemsize
from cnnbench.bench.spec import Spec

NAN = float("nan")

Peaks = dict[str, dict[int, dict[str, Any]]]


def summarise(
    spec: Spec,
    facts: dict[str, Any],
    numbers: int,
    weights: int,
    results: dict[str, dict[str, Any]],
    peaks: Peaks,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Build the summary, and the rows, one for each batch size.

    Args:
        spec: the measurement.
        facts: `params` and `macs` of the model.
        numbers: moved between layers and memory for one image; see `roofline.traffic`.
        weights: number of weights.
        results: of the tasks `time` and `training`; a task that failed is absent.
        peaks: of memory, by task and batch size.
    """
    timed, trained = results.get("time", {}), results.get("training", {})
    summary: dict[str, Any] = {"memory/weights_mb": weights * itemsize(_stored(spec)) / 1e6}
    if first := next((peak for peak in peaks.get("memory", {}).values() if "error" not in peak), None):
        summary |= {"time/load_s": first["load_s"], "time/first_call_s": first["first_call_s"]}
    if timed:
        summary |= {
            "time/matmul_flops": timed["ceilings"]["matmul"],
            "time/ceiling_flops": _peak(timed),
            "time/ceiling_bytes_per_s": timed["ceilings"]["copy"],
            "noise/others_cpu": max(timed["others_cpu"], trained.get("others_cpu", 0.0)),
        }
        first, best = timed["rows"][0], max(timed["rows"], key=_speed)
        if first["batch"] == 1:
            summary |= {f"time/latency_{p}_ms": first[f"{p}_ms"] for p in ("p50", "p95", "p99")}
            summary["noise/latency_spread"] = first["spread"]
        summary |= {
            "time/inference_images_per_s": best["images_per_s"],
            "time/inference_batch": best["batch"],
            "noise/inference_spread": best["spread"],
        }
        if facts["macs"]:
            summary |= _roofline(spec, facts, numbers, weights, timed, best)
    if trained:
        best = max(trained["rows"], key=_speed)
        summary |= {
            "time/training_images_per_s": best["images_per_s"],
            "time/training_batch": best["batch"],
            "noise/training_spread": best["spread"],
        }
    return summary | _memory(spec, peaks), _rows(timed, trained, peaks)


def _speed(row: dict[str, Any]) -> float:
    return float(row["images_per_s"])


def _peak(timed: dict[str, Any]) -> float:
    """Return the device's peak FLOP/s: the faster of matrix product and convolution."""
    return float(max(timed["ceilings"]["matmul"], timed["ceilings"]["convolution"]))


def _stored(spec: Spec) -> str:
    """Return the precision of the stored weights: mixed precision keeps them in float32."""
    return "64-true" if spec.device["precision"] == "64-true" else "32-true"


def _roofline(
    spec: Spec, facts: dict[str, Any], numbers: int, weights: int, timed: dict[str, Any], best: dict[str, Any]
) -> dict[str, Any]:
    """Relate the model at its best batch size to the device's peaks and to the roofline."""
    flops = 2.0 * facts["macs"] * best["images_per_s"]
    batch = best["batch"]
    moved = numbers * batch * itemsize(spec.device["precision"]) + weights * itemsize(_stored(spec))
    intensity = 2.0 * facts["macs"] * batch / moved
    peak, bandwidth = _peak(timed), timed["ceilings"]["copy"]
    roof = min(peak, intensity * bandwidth)
    return {
        "time/flops": flops,
        "time/share_of_matmul": flops / timed["ceilings"]["matmul"],
        "time/share_of_roofline": flops / roof,
        "roofline/flop_per_byte": intensity,
        "roofline/bound": "compute" if roof == peak else "memory",
    }


def _memory(spec: Spec, peaks: Peaks) -> dict[str, Any]:
    """Return the peaks of the largest of `batch_sizes`, or nothing if that one does not fit.

    With `batch_sizes=auto` it is the largest that was measured.
    """
    summary: dict[str, Any] = {}
    for task, prefix in (("memory", "memory/"), ("training_memory", "memory/training_")):
        fitting = {size: peak for size, peak in peaks.get(task, {}).items() if "error" not in peak}
        size = max(spec.batch_sizes or fitting, default=0)
        if size in fitting:
            summary[f"{prefix}batch"] = size
            keys = [key for key in ("activations_mb", "process_mb") if key in fitting[size]]  # none on MPS
            summary |= {f"{prefix}{key}": fitting[size][key] for key in keys}
    return summary


def _rows(timed: dict[str, Any], trained: dict[str, Any], peaks: Peaks) -> list[dict[str, Any]]:
    """Build a row for each batch size; values that were not measured or did not fit are NaN."""
    rows: dict[int, dict[str, Any]] = {}
    sources = (
        (timed, "", ("p50_ms", "p95_ms", "p99_ms", "images_per_s", "spread", "calls")),
        (trained, "training_", ("images_per_s", "spread")),
    )
    for source, prefix, columns in sources:
        for measured in source.get("rows", []):
            row = rows.setdefault(measured["batch"], {"batch": measured["batch"]})
            row |= {f"{prefix}{key}": measured[key] for key in columns}
    for task, prefix in (("memory", ""), ("training_memory", "training_")):
        for size, peak in peaks.get(task, {}).items():
            row = rows.setdefault(size, {"batch": size})
            row |= {f"{prefix}{key}": peak.get(key, NAN) for key in ("activations_mb", "process_mb")}
    keys = dict.fromkeys(key for row in rows.values() for key in row)
    return [{key: rows[size].get(key, NAN) for key in keys} for size in sorted(rows)]
