"""One measurement as a run: settings -> model -> measuring processes -> summary."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from cnnbench.bench import backends, machine, memory, roofline
from cnnbench.bench.check import check_possible
from cnnbench.bench.launch import Killed, measure
from cnnbench.bench.parity import parity
from cnnbench.bench.probe import OUT_OF_MEMORY
from cnnbench.bench.spec import TORCH, Spec
from cnnbench.bench.summary import summarise
from cnnbench.console import console
from cnnbench.errors import Finding, InputError
from cnnbench.inference import trained_model
from cnnbench.ops.factory import Ops
from cnnbench.processes.logs import log_file, quiet
from cnnbench.run_store.attempt import attempt
from cnnbench.run_store.finished import finished
from cnnbench.run_store.run import Run
from cnnbench.seeds import seed_all
from cnnbench.settings.bench import Bench
from cnnbench.settings.identity import check_own_code, code_used
from cnnbench.tracking import track
from cnnbench.training.device import MEMORY_FORMATS, resolve
from cnnbench.training.model import assemble, sketch

log = logging.getLogger("cnnbench")

GROWTH = 4
"""`batch_sizes=auto` tries the batch sizes 1, 4, 16, …"""

LONGEST_S = 5.0
"""`batch_sizes=auto` stops at the first batch that takes longer."""

TUNED_AT = 64
"""Batch size of `tune=true` with `batch_sizes=auto`."""

LEAST_GAIN = 0.05
"""Smallest gain for which `tune=true` recommends another memory format than the default."""


class OutOfMemory(Finding):
    """A batch does not fit into memory; it is not replaced by a smaller one."""


def bench(settings: Bench, run: Run, cores: int | None = None, rank: object = None) -> None:
    """Measure one configuration, and write the results into the run's folder.

    Args:
        settings: the measurement.
        run: its run.
        cores: number of cores that it may use; None for all.
        rank: unused, since only one process is measured.

    Raises:
        Busy: another process is making this measurement.
        InputError: the settings are wrong; nothing has been written.
        OutOfMemory: one of the batch sizes does not fit; results of the others are kept.
        NotTheSame: with `parity=true`, a tolerance is exceeded.
        RuntimeError: a measuring process died.
    """
    with quiet():
        device = resolve(settings.device, None, cores, settings.arch.layout)
        check_possible(settings, device["accelerator"])
        track.check(settings)
        about = machine.about(device["accelerator"], settings.backend)
        model, shape, classes, facts = sketch(settings)
        numbers, weights = roofline.traffic(model, shape)
        with (
            tempfile.TemporaryDirectory(prefix="cnnbench-") as folder,
            _caches(Path(folder)),
        ):
            spec = _spec(settings, device, shape, classes, Path(folder))
            check_own_code(settings, run)
            with (
                attempt(
                    run,
                    OmegaConf.to_yaml(OmegaConf.create(settings.config())),
                    device | about,
                    afresh=settings.force,
                    verb=settings.verb,
                    code=code_used(settings),
                ) as this,
                log_file(this.log),
                track.track(settings, this.run, this.status["repeats"], []) as tracker,
                _progress(run.path.name) as report,
            ):
                if settings.parity:
                    summary, rows, problem = parity(spec, report)
                elif settings.tune:
                    summary, rows, problem = _tuned(spec, report), [], None
                else:
                    summary, rows, problem = _measured(spec, facts, numbers, weights, report)
                this.check()
                this.run.write_rows(rows)
                this.run.write_summary(facts | summary)
                for row in rows:
                    tracker.log(row)
                tracker.finish(facts | summary, None)
                if problem is not None:
                    raise problem


def _spec(
    settings: Bench, device: dict[str, Any], shape: tuple[int, int, int], classes: int, folder: Path
) -> Spec:
    """Write the weights, and the exported model if the backend needs one, as files in `folder`.

    Raises:
        InputError: the model cannot be exported.
    """
    seed_all("init", settings.seed)
    if settings.of is not None:
        cpu = trained_model.CPU | {"threads": device["threads"]}
        trained_run = finished(Path(settings.of).expanduser())
        model = trained_model.load(trained_run, cpu, trust_code=settings.trust_code).model
    else:
        model = assemble(settings.arch, Ops(**settings.resolved_ops()), shape, classes)
    weights, exported = folder / "weights.pt", None
    torch.save(model.state_dict(), weights)
    if settings.backend not in TORCH or settings.parity:
        exported = folder / "model.onnx"
        try:
            backends.export(model, shape, exported)
        except (InputError, ImportError):
            if not settings.parity:
                raise
            exported = None
    sizes = () if settings.batch_sizes == "auto" else tuple(settings.batch_sizes)
    limit = settings.memory_limit_gb
    memory_bytes = memory.free() if limit is None else int(limit * 1e9)
    return Spec("time", settings, device, shape, classes, weights, exported, sizes, memory_bytes)


def _tuned(spec: Spec, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure which memory format trains faster; contiguous wins only by more than noise."""
    sizes = spec.batch_sizes or (TUNED_AT,)
    result = measure(replace(spec, task="tune", batch_sizes=sizes), report)
    spread = max(result[layout]["spread"] for layout in MEMORY_FORMATS)
    ratio = result["contiguous"]["seconds"] / result["channels_last"]["seconds"]
    return {
        "tune/layout": "contiguous" if ratio < 1 - max(spread, LEAST_GAIN) else "channels_last",
        "tune/channels_last_speedup": ratio,
        "tune/batch": result["batch"],
        "noise/training_spread": spread,
        "noise/others_cpu": result["others_cpu"],
    }


def _measured(
    spec: Spec, facts: dict[str, Any], numbers: int, weights: int, report: Callable[[str], None]
) -> tuple[dict[str, Any], list[dict[str, Any]], Exception | None]:
    """Measure memory, then time the batch sizes that fit, each in a process of its own."""
    results: dict[str, dict[str, Any]] = {}
    peaks: dict[str, dict[int, dict[str, Any]]] = {}
    stopped = ""
    # Training steps of a partly frozen model are not timed.
    trains = spec.settings.backend in TORCH and not spec.settings.arch.freeze
    tasks = {"time": "memory"} | ({"training": "training_memory"} if trains else {})
    failures = []
    for task, memory_task in tasks.items():
        mode = "in training " * (task == "training")
        peaks[memory_task], reason = _fitting(replace(spec, task=memory_task), report)
        stopped = stopped or reason
        sizes = tuple(size for size, peak in peaks[memory_task].items() if "error" not in peak)
        if too_large := [str(size) for size in peaks[memory_task] if size not in sizes]:
            failures.append(f"{mode}at {', '.join(too_large)}")
        if not sizes:
            continue
        timed = _or_exhausted(replace(spec, task=task, batch_sizes=sizes), report)
        if "error" in timed:  # the batches of all sizes and the ceilings' buffers are in memory together
            failures.append(f"{mode}while timing {', '.join(map(str, sizes))}")
        else:
            results[task] = timed
    summary, rows = summarise(spec, facts, numbers, weights, results, peaks)
    summary |= {"stopped": stopped} if stopped else {}
    return summary, rows, _out_of_memory(spec, failures) if failures else None


def _out_of_memory(spec: Spec, failures: Sequence[str]) -> OutOfMemory:
    batch_sizes = list(spec.batch_sizes) or "auto"
    allowed = "batches that fit the device"
    if spec.device["accelerator"] == "cpu":
        limit = spec.settings.memory_limit_gb
        free = f" (free memory: {spec.memory_bytes / 1e9:.3g} GB)" * (limit is None)
        allowed = f"batches that fit memory_limit_gb={'null' if limit is None else f'{limit:g}'}{free}"
    return OutOfMemory(
        f"batch_sizes={batch_sizes}: {OUT_OF_MEMORY} {', '.join(failures)}; allowed: {allowed}"
    )


def _fitting(spec: Spec, report: Callable[[str], None]) -> tuple[dict[int, dict[str, Any]], str]:
    """Measure the peaks of the batch sizes; return them, and why `auto` stopped."""
    least = 2 if spec.task == "training_memory" else 1  # one image alone has no batch statistics
    auto = not spec.batch_sizes
    peaks: dict[int, dict[str, Any]] = {}
    for size in (GROWTH**step for step in count()) if auto else spec.batch_sizes:
        if size < least:
            continue
        peak = _or_exhausted(replace(spec, batch_sizes=(size,)), report)
        if auto and "error" in peak:  # kept if it is the first: no batch fits
            return peaks or {size: peak}, f"batch size {size}: {OUT_OF_MEMORY}"
        peaks[size] = peak
        if auto and peak["seconds"] > LONGEST_S:
            return peaks, f"batch size {size} takes more than {LONGEST_S:g} s"
    return peaks, ""


def _or_exhausted(spec: Spec, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return out of memory as a result also if the system killed the process for it."""
    try:
        return measure(spec, report)
    except Killed as death:
        if not death.exhausted:
            raise
        return {"error": OUT_OF_MEMORY}


@contextmanager
def _caches(folder: Path) -> Iterator[None]:
    """Give torch.compile an empty cache, so that its first call includes compilation."""
    import os

    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    os.environ[name] = str(folder / "compiled")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _progress(name: str) -> Iterator[Callable[[str], None]]:
    """Show the current phase as one line in a terminal, and log every phase."""
    with console.status(name) as status:

        def report(phase: str) -> None:
            log.info(phase)
            status.update(f"{name}: {phase}")

        yield report
