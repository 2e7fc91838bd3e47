"""Terminal output of a measurement. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from cnnbench import console
from cnnbench.bench import noise
from cnnbench.models.family import family
from cnnbench.run_store.identity import RUNTIMES
from cnnbench.run_store.run import Run
from cnnbench.run_store.table import shown_of

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
    """Yield labels and texts for the metrics of a run."""
    content = run.content()
    summary, device = shown_of(content), content.status.get("device", {})
    if not content.config.get("parity"):  # its conditions are in a table
        yield "measured", _setup(content.config, device)
    if "time/latency_p50_ms" in summary:
        keys = (f"time/latency_{p}_ms" for p in ("p50", "p95", "p99"))
        p50, p95, p99 = (console.number(summary.get(key), ".3g") for key in keys)
        yield "latency", f"{p50} ms   (one image; p95 {p95}, p99 {p99} ms)"
    if "time/inference_images_per_s" in summary:
        speed, batch = summary["time/inference_images_per_s"], summary.get("time/inference_batch", "-")
        yield "inference", f"{console.count(speed)} images/s   (batch {batch})"
    if "time/share_of_matmul" in summary:
        yield "utilisation", _utilisation(summary)
    if "time/training_images_per_s" in summary:
        speed, batch = summary["time/training_images_per_s"], summary.get("time/training_batch", "-")
        yield "training", f"{console.count(speed)} images/s   (batch {batch})"
    if "memory/process_mb" in summary:
        yield "memory", _memory(summary)
    if "time/first_call_s" in summary:
        yield (
            "start-up",
            f"loaded in {console.duration(summary.get('time/load_s'))}, "
            f"first call {summary['time/first_call_s']:.2g} s",
        )
    if "tune/layout" in summary:
        yield "tune", _tuned(summary, str(device.get("accelerator", "cpu")))
    if "stopped" in summary:
        yield "stopped at", str(summary["stopped"])
    for warning in noise.warnings(summary):
        yield "", Text(warning, "yellow")


def _setup(config: Mapping[str, Any], device: Mapping[str, Any]) -> str:
    """Return `eager on cpu 32-true channels_last 2 threads`; an exported model has no memory format."""
    without_format = config.get("tune") or config.get("backend") in RUNTIMES  # tune measures both formats
    keys = ("accelerator", "precision", *(() if without_format else ("memory_format",)), "threads")
    values = " ".join(str(device[key]) for key in keys if key in device)
    return f"{config.get('backend', '')} on {values} thread{'s' * (device.get('threads') != 1)}"


def _utilisation(summary: Mapping[str, Any]) -> str:
    share, roof = (console.share(summary.get(f"time/share_of_{peak}")) for peak in ("matmul", "roofline"))
    return (
        f"{share} of matmul peak ({console.count(summary.get('time/matmul_flops'))}FLOP/s), "
        f"{roof} of the roofline ({summary.get('roofline/bound', '-')}-bound)"
    )


def _memory(summary: Mapping[str, Any]) -> str:
    def mb(key: str, form: str) -> str:
        return f"{console.number(summary.get(f'memory/{key}_mb'), form)} MB"

    at = summary.get("memory/batch", "-")
    text = f"weights {mb('weights', '.3g')}, activations {mb('activations', '.3g')}"
    text += f", process {mb('process', '.4g')}   (batch {at}"
    if "memory/training_activations_mb" in summary:
        text += f"; training {mb('training_activations', '.4g')}"
        if (batch := summary.get("memory/training_batch", "-")) != at:
            text += f" at batch {batch}"
    return text + ")"


def _tuned(summary: Mapping[str, Any], accelerator: str) -> str:
    return (
        f"layout: {{{accelerator}: {summary['tune/layout']}}}   (channels_last trains {_speedup(summary)} at "
        f"batch {summary.get('tune/batch', '-')})"
    )


def _speedup(summary: Mapping[str, Any]) -> str:
    return f"{console.number(summary.get('tune/channels_last_speedup'), '.2f')} times as fast as contiguous"


def batches(run: Run) -> Table | None:
    """Build a table with a row for each batch size; None if there are fewer than two."""
    content = run.content()
    rows = content.rows
    if len(rows) < 2 or "batch" not in rows[0] or content.state == "damaged":
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
    """Build a table of relative errors, a row for each condition; None if it is not a parity run."""
    conditions = _parity(run)
    if not conditions:
        return None
    table = Table(title=PARITY, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("computed by")
    for quantity in QUANTITIES:
        table.add_column(quantity, justify="right")
    for condition, values in conditions.items():
        table.add_row(condition, *(_error(values.get(quantity)) for quantity in QUANTITIES))
    return table


def findings(runs: Sequence[Run]) -> Iterator[Table]:
    """Yield tables over a sweep: memory format by architecture, parity errors by family."""
    families: dict[str, dict[str, dict[str, float]]] = {}
    tuned = Table("conf/arch", "line", "channels_last against contiguous", box=box.SIMPLE_HEAD)
    for run in runs:
        content = run.content()
        arch, summary = str(content.config.get("arch", {}).get("name", "")), shown_of(content)
        for condition, values in _parity(run).items():
            worst = families.setdefault(family(arch), {}).setdefault(condition, {})
            for quantity, value in values.items():
                worst[quantity] = max(value, worst.get(quantity, 0.0))
        if "tune/layout" in summary:
            accelerator = content.status["device"].get("accelerator", "cpu")
            line = f"layout: {{{accelerator}: {summary['tune/layout']}}}"
            tuned.add_row(f"{arch}.yaml", line, _speedup(summary).removesuffix(" as contiguous"))
    if tuned.row_count:
        yield tuned
    if not families:
        return
    table = Table(title=f"{PARITY}, worst in each family", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("family")
    table.add_column("computed by")
    for quantity in QUANTITIES:
        table.add_column(quantity, justify="right")
    for name, conditions in families.items():
        for condition, values in conditions.items():
            table.add_row(name, condition, *(_error(values.get(quantity)) for quantity in QUANTITIES))
    yield table


def _parity(run: Run) -> dict[str, dict[str, float]]:
    """Return relative errors by condition and quantity."""
    conditions: dict[str, dict[str, float]] = {}
    for key, value in shown_of(run.content()).items():
        if key.startswith("parity/") and key.count("/") == 2:
            _, condition, quantity = key.split("/")
            conditions.setdefault(condition, {})[quantity] = value
    return conditions


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
