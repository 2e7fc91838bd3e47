"""A measurement as people read it. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from cnnbench import console
from cnnbench.bench import noise
from cnnbench.bench.machine import RUNTIMES
from cnnbench.models.family import family
from cnnbench.run_store.run import Run

PARITY = "relative error against float64 on the CPU"
QUANTITIES = ("logits", "loss", "gradient")
COLUMNS = {
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "images_per_s": "images/s",
    "activations_mb": "activations MB",
    "training_images_per_s": "training images/s",
    "training_activations_mb": "training MB",
}


def lines(run: Run) -> Iterator[tuple[str, str | Text]]:
    """What the figures of a run say, in words."""
    found = run.summary()
    if not run.config().get("parity"):  # which has its conditions in a table
        yield "measured", _way(run)
    if "time/latency_p50_ms" in found:
        p50, p95, p99 = (found[f"time/latency_{p}_ms"] for p in ("p50", "p95", "p99"))
        yield "latency", f"{p50:.3g} ms   (one image; p95 {p95:.3g}, p99 {p99:.3g} ms)"
    if "time/inference_images_per_s" in found:
        speed, batch = found["time/inference_images_per_s"], found["time/inference_batch"]
        yield "inference", f"{console.count(speed)} images/s   (batch {batch})"
    if "time/share_of_matmul" in found:
        yield "of the device", _ceilings(found)
    if "time/training_images_per_s" in found:
        speed, batch = found["time/training_images_per_s"], found["time/training_batch"]
        yield "training", f"{console.count(speed)} images/s   (batch {batch})"
    if "memory/process_mb" in found:
        yield "memory", _memory(found)
    if "time/first_call_s" in found:
        yield (
            "start",
            f"loaded in {console.duration(found['time/load_s'])}, "
            f"first call {found['time/first_call_s']:.2g} s",
        )
    if "tune/layout" in found:
        accelerator = run.status().get("device", {}).get("accelerator", "cpu")
        yield "tune", _tuned(found, str(accelerator))
    if "stopped" in found:
        yield "no larger batch", str(found["stopped"])
    for warning in noise.warnings(found):
        yield "", Text(warning, "yellow")


def _way(run: Run) -> str:
    """`eager on cpu 32-true channels_last 2 threads`; an exported model has no memory format."""
    config, device = run.config(), run.status().get("device", {})
    both = config.get("tune") or config.get("backend") in RUNTIMES
    keys = ("accelerator", "precision", *(() if both else ("memory_format",)), "threads")
    said = " ".join(str(device[key]) for key in keys if key in device)
    return f"{config.get('backend', '')} on {said} thread{'s' * (device.get('threads') != 1)}"


def _ceilings(found: Mapping[str, Any]) -> str:
    share, roof = found["time/share_of_matmul"], found["time/share_of_roofline"]
    return (
        f"{100 * share:.0f} % of its matrix products ({console.count(found['time/matmul_flops'])}FLOP/s), "
        f"{100 * roof:.0f} % of its roofline ({found['roofline/bound']}-bound)"
    )


def _memory(found: Mapping[str, Any]) -> str:
    text = f"weights {found['memory/weights_mb']:.3g} MB, activations {found['memory/activations_mb']:.3g} MB"
    text += f", process {found['memory/process_mb']:.4g} MB   (batch {found['memory/batch']}"
    if "memory/training_activations_mb" in found:
        text += f"; training {found['memory/training_activations_mb']:.4g} MB"
        if (batch := found["memory/training_batch"]) != found["memory/batch"]:
            text += f" at batch {batch}"
    return text + ")"


def _tuned(found: Mapping[str, Any], accelerator: str) -> str:
    ratio = found["tune/channels_last_speedup"]
    return (
        f"layout: {{{accelerator}: {found['tune/layout']}}}   (channels_last trains {ratio:.2f} times as "
        f"fast as contiguous at batch {found['tune/batch']})"
    )


def batches(run: Run) -> Table | None:
    """A row a batch size; None if there is only one, or nothing."""
    rows = run.rows()
    if len(rows) < 2:
        return None
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("batch", justify="right")
    keys = [key for key in COLUMNS if any(math.isfinite(row.get(key, math.nan)) for row in rows)]
    for key in keys:
        table.add_column(COLUMNS[key], justify="right")
    for row in rows:
        cells = (row.get(key, math.nan) for key in keys)
        table.add_row(f"{row['batch']:g}", *(f"{x:.4g}" if math.isfinite(x) else "-" for x in cells))
    return table


def errors(run: Run) -> Table | None:
    """A row a condition of a parity run: relative errors against float64 on the CPU; None if it is none."""
    found = _parity(run)
    if not found:
        return None
    table = Table(title=PARITY, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("computed by")
    for quantity in QUANTITIES:
        table.add_column(quantity, justify="right")
    for condition, values in found.items():
        table.add_row(condition, *(_error(values.get(quantity)) for quantity in QUANTITIES))
    return table


def findings(runs: Sequence[Run]) -> Iterator[Table]:
    """What the runs of a sweep say together: errors by family, and the memory format of each architecture."""
    families: dict[str, dict[str, dict[str, float]]] = {}
    tuned = Table("conf/arch", "line", "channels_last against contiguous", box=box.SIMPLE_HEAD)
    for run in runs:
        arch, summary = str(run.config().get("arch", {}).get("name", "")), run.summary()
        for condition, values in _parity(run).items():
            worst = families.setdefault(family(arch), {}).setdefault(condition, {})
            for quantity, value in values.items():
                worst[quantity] = max(value, worst.get(quantity, 0.0))
        if "tune/layout" in summary:
            accelerator = run.status().get("device", {}).get("accelerator", "cpu")
            line = f"layout: {{{accelerator}: {summary['tune/layout']}}}"
            tuned.add_row(f"{arch}.yaml", line, f"{summary['tune/channels_last_speedup']:.2f} times as fast")
    if tuned.row_count:
        yield tuned
    if not families:
        return
    table = Table(title=f"{PARITY}, the worst of each family", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("family")
    table.add_column("computed by")
    for quantity in QUANTITIES:
        table.add_column(quantity, justify="right")
    for name, conditions in families.items():
        for condition, values in conditions.items():
            table.add_row(name, condition, *(_error(values.get(quantity)) for quantity in QUANTITIES))
    yield table


def _parity(run: Run) -> dict[str, dict[str, float]]:
    """By condition and quantity."""
    found: dict[str, dict[str, float]] = {}
    for key, value in run.summary().items():
        if key.startswith("parity/") and key.count("/") == 2:
            _, condition, quantity = key.split("/")
            found.setdefault(condition, {})[quantity] = value
    return found


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
