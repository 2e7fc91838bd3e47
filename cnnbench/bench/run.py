"""One measurement as a run: settings -> model -> processes that measure -> summary."""

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
from cnnbench.bench.summary import figures
from cnnbench.console import console
from cnnbench.errors import Finding, InputError
from cnnbench.inference import trained_model
from cnnbench.ops.factory import Ops
from cnnbench.processes.logs import log_file, quiet
from cnnbench.run_store import finished
from cnnbench.run_store.attempt import attempt
from cnnbench.run_store.run import Run
from cnnbench.seeds import seed_all
from cnnbench.settings.bench import Bench
from cnnbench.settings.identity import code_used
from cnnbench.tracking import track
from cnnbench.training import model as training_model
from cnnbench.training.device import MEMORY_FORMATS, resolve

log = logging.getLogger("cnnbench")

GROWTH = 4
"""`batch_sizes=auto` tries 1, 4, 16, … images at a time."""

LONGEST_S = 5.0
"""`batch_sizes=auto` does not go beyond a batch that takes longer."""

TUNED_AT = 64
"""Images at a time, where `batch_sizes=auto` does not say."""

LEAST_GAIN = 0.05
"""Below it the common memory format stays: a rule for each architecture is worth having for a reason."""


class OutOfMemory(Finding):
    """A batch does not fit; no smaller one is measured in its place."""


def bench(settings: Bench, run: Run, cores: int | None = None, rank: object = None) -> None:
    """Measure one configuration, and leave what was found in the run's folder.

    Args:
        settings: what was asked for.
        run: where it lies.
        cores: how many of the machine's cores it may use; all if it is None.
        rank: no meaning: one process is measured.

    Raises:
        Busy: another process measures it.
        InputError: before anything is written.
        OutOfMemory: a batch size that was asked for does not fit; what was measured before is kept.
        RuntimeError: a process that measures did not survive.
    """
    with quiet():
        device = resolve(settings.device, None, cores, settings.arch.layout)
        check_possible(settings, device["accelerator"])
        track.check(settings)
        about = machine.about(device["accelerator"], settings.backend)
        model, shape, classes, facts = training_model.sketch(settings)
        numbers, weights = roofline.traffic(model, shape)
        with (
            tempfile.TemporaryDirectory(prefix="cnnbench-") as folder,
            _caches(Path(folder)),
        ):
            spec = _spec(settings, device, shape, classes, Path(folder))
            with (
                attempt(
                    run,
                    OmegaConf.to_yaml(OmegaConf.create(settings.config())),
                    device | about,
                    afresh=settings.force,
                    verb=settings.verb,
                    code=code_used(settings),
                ) as this,
                log_file(run.path / "train.log"),
                track.track(settings, run, this.status["repeats"], []) as tracker,
                _progress(run.path.name) as said,
            ):
                if settings.parity:
                    summary, rows, problem = parity(spec, said)
                elif settings.tune:
                    summary, rows, problem = _tuned(spec, said), [], None
                else:
                    summary, rows, problem = _measured(spec, facts, numbers, weights, said)
                this.check()
                run.write_rows(rows)
                run.write_summary(facts | summary)
                for row in rows:
                    tracker.log(row)
                tracker.finish(facts | summary, None)
                if problem is not None:
                    raise problem


def _spec(
    settings: Bench, device: dict[str, Any], shape: tuple[int, int, int], classes: int, folder: Path
) -> Spec:
    """The weights, and the exported model if the backend wants one, as files.

    Raises:
        InputError: the model cannot be exported.
    """
    seed_all("init", settings.seed)
    if settings.of is not None:
        here = trained_model.CPU | {"threads": device["threads"]}
        model = trained_model.load(
            finished.finished(Path(settings.of).expanduser()), here, trust_code=settings.trust_code
        ).model
    else:
        model = training_model.assemble(settings.arch, Ops(**settings.resolved_ops()), shape, classes)
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
    most = memory.free() if limit is None else int(limit * 1e9)
    return Spec("time", settings, device, shape, classes, weights, exported, sizes, most)


def _tuned(spec: Spec, said: Callable[[str], None]) -> dict[str, Any]:
    """Which memory format trains faster: contiguous only if that is more than noise."""
    sizes = spec.batch_sizes or (TUNED_AT,)
    found = measure(replace(spec, task="tune", batch_sizes=sizes), said)
    spread = max(found[layout]["spread"] for layout in MEMORY_FORMATS)
    ratio = found["contiguous"]["seconds"] / found["channels_last"]["seconds"]
    return {
        "tune/layout": "contiguous" if ratio < 1 - max(spread, LEAST_GAIN) else "channels_last",
        "tune/channels_last_speedup": ratio,
        "tune/batch": found["batch"],
        "noise/training_spread": spread,
        "noise/others_cpu": found["others_cpu"],
    }


def _measured(
    spec: Spec, facts: dict[str, Any], numbers: int, weights: int, said: Callable[[str], None]
) -> tuple[dict[str, Any], list[dict[str, Any]], Exception | None]:
    """Memory first: what fits is timed after that. Each in a process of its own."""
    found: dict[str, dict[str, Any]] = {}
    peaks: dict[str, dict[int, dict[str, Any]]] = {}
    stopped = ""
    trains = spec.settings.backend in TORCH and not spec.settings.arch.freeze  # a part alone is not timed
    tasks = {"time": "memory"} | ({"training": "training_memory"} if trains else {})
    failed = []
    for task, before in tasks.items():
        doing = "in training " * (task == "training")
        peaks[before], why = _fitting(replace(spec, task=before), said)
        stopped = stopped or why
        sizes = tuple(size for size, peak in peaks[before].items() if "error" not in peak)
        if lacking := [str(size) for size in peaks[before] if size not in sizes]:
            failed.append(f"{doing}with {', '.join(lacking)}")
        if not sizes:
            continue
        timed = _or_exhausted(replace(spec, task=task, batch_sizes=sizes), said)
        if "error" in timed:  # beside the batches of all sizes, and what the ceilings take
            failed.append(f"{doing}while {', '.join(map(str, sizes))} were timed")
        else:
            found[task] = timed
    summary, table = figures(spec, facts, numbers, weights, found, peaks)
    summary |= {"stopped": stopped} if stopped else {}
    return summary, table, _out_of_memory(spec, failed) if failed else None


def _out_of_memory(spec: Spec, where: Sequence[str]) -> OutOfMemory:
    asked = list(spec.batch_sizes) or "auto"
    allowed = "what fits the device"
    if spec.device["accelerator"] == "cpu":
        limit = spec.settings.memory_limit_gb
        free = f", what was free: {spec.memory_bytes / 1e9:.3g} GB" * (limit is None)
        allowed = f"what fits memory_limit_gb={'null' if limit is None else f'{limit:g}'}{free}"
    return OutOfMemory(f"batch_sizes={asked}: {OUT_OF_MEMORY} {', '.join(where)}; allowed: {allowed}")


def _fitting(spec: Spec, said: Callable[[str], None]) -> tuple[dict[int, dict[str, Any]], str]:
    """Peaks of the batch sizes, and why `auto` went no further."""
    least = 2 if spec.task == "training_memory" else 1  # one image alone has no batch statistics
    auto = not spec.batch_sizes
    found: dict[int, dict[str, Any]] = {}
    for size in (GROWTH**step for step in count()) if auto else spec.batch_sizes:
        if size < least:
            continue
        peak = _or_exhausted(replace(spec, batch_sizes=(size,)), said)
        if auto and "error" in peak:  # of the first, that nothing fits
            return found or {size: peak}, f"a batch of {size}: {OUT_OF_MEMORY}"
        found[size] = peak
        if auto and peak["seconds"] > LONGEST_S:
            return found, f"a batch of {size} takes more than {LONGEST_S:g} s"
    return found, ""


def _or_exhausted(spec: Spec, said: Callable[[str], None]) -> dict[str, Any]:
    """What a process found; that it was out of memory also where the system ended it before it said so."""
    try:
        return measure(spec, said)
    except Killed as death:
        if not death.exhausted:
            raise
        return {"error": OUT_OF_MEMORY}


@contextmanager
def _caches(folder: Path) -> Iterator[None]:
    """torch.compile starts from nothing, so that its first call shows what compiling takes."""
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
    """One line in a terminal that says what is measured; in the log every phase."""
    with console.status(name) as status:

        def said(what: str) -> None:
            log.info(what)
            status.update(f"{name}: {what}")

        yield said
