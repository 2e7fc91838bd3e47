"""From what the processes measured to the figures of summary.json and the rows of metrics.csv."""

from __future__ import annotations

from typing import Any

from cnnbench.bench.roofline import itemsize
from cnnbench.bench.spec import Spec

NAN = float("nan")

Peaks = dict[str, dict[int, dict[str, Any]]]


def figures(
    spec: Spec,
    facts: dict[str, Any],
    numbers: int,
    weights: int,
    found: dict[str, dict[str, Any]],
    peaks: Peaks,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary and the rows, one a batch size.

    Args:
        spec: what was measured.
        facts: `params` and `macs` of the model.
        numbers: that pass between layers and memory, for one image; see `roofline.traffic`.
        weights: how many there are.
        found: what `time` and `training` came to.
        peaks: of memory, by task and batch size.
    """
    timed, trained = found.get("time", {}), found.get("training", {})
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
            summary |= _placed(spec, facts, numbers, weights, timed, best)
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
    """FLOP/s that the device reaches at most: by a product of matrices or by a convolution."""
    return float(max(timed["ceilings"]["matmul"], timed["ceilings"]["convolution"]))


def _stored(spec: Spec) -> str:
    """Mixed precision keeps the weights in float32."""
    return "64-true" if spec.device["precision"] == "64-true" else "32-true"


def _placed(
    spec: Spec, facts: dict[str, Any], numbers: int, weights: int, timed: dict[str, Any], best: dict[str, Any]
) -> dict[str, Any]:
    """Where the model lies under the roofline at its best batch size."""
    flops = 2.0 * facts["macs"] * best["images_per_s"]
    batch = best["batch"]
    moved = numbers * batch * itemsize(spec.device["precision"]) + weights * itemsize(_stored(spec))
    intensity = 2.0 * facts["macs"] * batch / moved
    peak, copied = _peak(timed), timed["ceilings"]["copy"]
    allowed = min(peak, intensity * copied)
    return {
        "time/flops": flops,
        "time/share_of_matmul": flops / timed["ceilings"]["matmul"],
        "time/share_of_roofline": flops / allowed,
        "roofline/flop_per_byte": intensity,
        "roofline/bound": "compute" if allowed == peak else "memory",
    }


def _memory(spec: Spec, peaks: Peaks) -> dict[str, Any]:
    """Of the largest batch that was asked for: if it does not fit, no smaller one takes its place.

    Of `batch_sizes=auto` the largest that was measured.
    """
    found: dict[str, Any] = {}
    for task, prefix in (("memory", "memory/"), ("training_memory", "memory/training_")):
        fine = {size: peak for size, peak in peaks.get(task, {}).items() if "error" not in peak}
        size = max(spec.batch_sizes or fine, default=0)
        if size in fine:
            found[f"{prefix}batch"] = size
            keys = [key for key in ("activations_mb", "process_mb") if key in fine[size]]  # none on MPS
            found |= {f"{prefix}{key}": fine[size][key] for key in keys}
    return found


def _rows(timed: dict[str, Any], trained: dict[str, Any], peaks: Peaks) -> list[dict[str, Any]]:
    """A row a batch size; what was not measured, or did not fit, is NaN."""
    rows: dict[int, dict[str, Any]] = {}
    parts = (
        (timed, "", ("p50_ms", "p95_ms", "p99_ms", "images_per_s", "spread", "calls")),
        (trained, "training_", ("images_per_s", "spread")),
    )
    for part, prefix, columns in parts:
        for row in part.get("rows", []):
            one = rows.setdefault(row["batch"], {"batch": row["batch"]})
            one |= {f"{prefix}{key}": row[key] for key in columns}
    for task, prefix in (("memory", ""), ("training_memory", "training_")):
        for size, peak in peaks.get(task, {}).items():
            one = rows.setdefault(size, {"batch": size})
            one |= {f"{prefix}{key}": peak.get(key, NAN) for key in ("activations_mb", "process_mb")}
    keys = dict.fromkeys(key for row in rows.values() for key in row)
    return [{key: rows[size].get(key, NAN) for key in keys} for size in sorted(rows)]
