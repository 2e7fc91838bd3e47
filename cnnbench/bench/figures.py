"""From what the processes measured to the figures of summary.json and the rows of metrics.csv."""

from __future__ import annotations

from typing import Any

from cnnbench.bench.roofline import itemsize
from cnnbench.bench.spec import Spec

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
    timed, trained = found["time"], found.get("training", {})
    rows = _rows(timed, trained, peaks)
    fine = [row for row in timed["rows"] if "error" not in row]
    summary: dict[str, Any] = {
        "time/load_s": timed["load_s"],
        "memory/weights_mb": weights * itemsize(_stored(spec)) / 1e6,
        "noise/others_cpu": max(timed["others_cpu"], trained.get("others_cpu", 0.0)),
        "time/ceiling_flops": timed["matmul_flops"],
        "time/ceiling_bytes_per_s": timed["copy_bytes_per_s"],
    }
    if "first_call_s" in timed:
        summary["time/first_call_s"] = timed["first_call_s"]
    if fine:
        if fine[0]["batch"] == 1:
            for percentile in ("p50", "p95", "p99"):
                summary[f"time/latency_{percentile}_ms"] = fine[0][f"{percentile}_ms"]
            summary["noise/latency_spread"] = fine[0]["spread"]
        best = max(fine, key=lambda row: row["images_per_s"])
        summary |= {
            "time/inference_images_per_s": best["images_per_s"],
            "time/inference_batch": best["batch"],
            "noise/inference_spread": best["spread"],
            **_placed(spec, facts, numbers, weights, timed, best),
        }
    summary |= _training(trained)
    summary |= _memory(peaks)
    for part in found.values():
        if "stopped" in part:
            summary.setdefault("stopped", part["stopped"])
    return summary, rows


def _stored(spec: Spec) -> str:
    """Mixed precision keeps the weights in float32."""
    return "64-true" if spec.device["precision"] == "64-true" else "32-true"


def _placed(
    spec: Spec, facts: dict[str, Any], numbers: int, weights: int, timed: dict[str, Any], best: dict[str, Any]
) -> dict[str, Any]:
    """Where the model lies under the roofline at its best batch size."""
    flops = 2.0 * facts["macs"] * best["images_per_s"]
    batch = best["batch"]
    moved = (numbers * batch + weights) * itemsize(spec.device["precision"])
    intensity = 2.0 * facts["macs"] * batch / moved
    peak, copied = timed["matmul_flops"], timed["copy_bytes_per_s"]
    allowed = min(peak, intensity * copied)
    return {
        "time/flops": flops,
        "time/share_of_matmul": flops / peak,
        "time/share_of_roofline": flops / allowed,
        "roofline/flop_per_byte": intensity,
        "roofline/bound": "compute" if allowed == peak else "memory",
    }


def _training(trained: dict[str, Any]) -> dict[str, Any]:
    fine = [row for row in trained.get("rows", []) if "error" not in row]
    if not fine:
        return {}
    best = max(fine, key=lambda row: row["images_per_s"])
    return {
        "time/training_images_per_s": best["images_per_s"],
        "time/training_batch": best["batch"],
        "noise/training_spread": best["spread"],
    }


def _memory(peaks: Peaks) -> dict[str, Any]:
    """Of the largest batch that was measured."""
    found: dict[str, Any] = {}
    for task, prefix in (("memory", "memory/"), ("training_memory", "memory/training_")):
        fine = {size: peak for size, peak in peaks.get(task, {}).items() if "error" not in peak}
        if fine:
            size = max(fine)
            found[f"{prefix}batch"] = size
            found |= {f"{prefix}{key}": value for key, value in fine[size].items() if key != "loaded_mb"}
    return found


def _rows(timed: dict[str, Any], trained: dict[str, Any], peaks: Peaks) -> list[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    columns = ("p50_ms", "p95_ms", "p99_ms", "images_per_s", "spread", "calls")
    for row in timed["rows"]:
        rows[row["batch"]] = {"batch": row["batch"]} | {key: row.get(key, float("nan")) for key in columns}
    for row in trained.get("rows", []):
        one = rows.setdefault(row["batch"], {"batch": row["batch"]})
        one["training_images_per_s"] = row.get("images_per_s", float("nan"))
        one["training_spread"] = row.get("spread", float("nan"))
    for task, prefix in (("memory", ""), ("training_memory", "training_")):
        for size, peak in peaks.get(task, {}).items():
            for key in ("activations_mb", "process_mb"):
                rows[size][f"{prefix}{key}"] = peak.get(key, float("nan"))
    keys = dict.fromkeys(key for row in rows.values() for key in row)
    return [{key: rows[size].get(key, float("nan")) for key in keys} for size in sorted(rows)]
