"""Measurements of `cnnbench bench` beside trained runs: accuracy meets latency.

A measurement belongs to every trained run of the same model on images of the same size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from cnnbench.bench import noise
from cnnbench.comparison.caveats import notes_on
from cnnbench.comparison.metrics import JOINED, KINDS, Kind
from cnnbench.comparison.records import Record

MODEL = ("arch.", "ops.")
"""Prefixes of the settings that say what was measured."""

WAY = ("backend", "batch_sizes", "device.")
"""Prefixes of the settings that say how it was measured."""

NAMED = 4
"""The number of measurements without a result that are listed one by one."""

Signature = frozenset[tuple[str, str]]
"""The settings and sizes that a trained run and its measurements have in common."""


def joined(records: Sequence[Record]) -> tuple[list[Record], Kind, list[Record], list[str]]:
    """Give trained runs what was measured on their models; without trained runs, keep the measurements.

    Returns:
        The runs to compare, their kind, the measurements that are not among them, and notes.
    """
    measured = [record for record in records if record.verb == "bench" and _is_timed(record)]
    others = [record for record in records if record.verb == "bench" and not _is_timed(record)]
    trained = [record for record in records if record.verb == "train"]
    if not (trained or measured):
        return others, KINDS["bench"], [], []
    left_out = f"{len(others)} parity or tune run{'s' * (len(others) != 1)} left out"
    notes = [f"{left_out} (cnnbench runs lists them)"] if others else []
    done = [record for record in measured if record.counts]
    notes += _unfinished(measured)
    if not trained:
        return measured, KINDS["bench"], others, [*notes, *_noise(done), *_unequal(done)]
    if not measured:
        return trained, KINDS["train"], others, notes
    ended = [record for record in trained if record.counts]
    used = {signature(record) for record in ended}
    matched = [record for record in done if signature(record) in used]
    figures = _by_model(matched)
    runs = [replace(one, figures=one.figures | figures.get(signature(one), {})) for one in trained]
    fitted = sum(signature(record) in figures for record in ended)
    of_measurements = f"{len(matched)} of {len(done)} cnnbench bench measurement{'s' * (len(done) != 1)}"
    of_runs = f"{fitted} of {len(ended)} trained run{'s' * (len(ended) != 1)}"
    notes.append(f"{of_measurements} matched to {of_runs}, by model and image size{_nearest(ended, done)}")
    notes += [*_noise(matched), *_unequal(matched), *(f"measurements: {note}" for note in notes_on(matched))]
    return runs, KINDS["train"], [*measured, *others], notes


def signature(record: Record) -> Signature:
    """Return what speed on a device depends on: the model and, by its parameters and MACs, the image size."""
    free = {"arch.weights", "arch.weights_key", "arch.freeze"}
    settings = {(k, v) for k, v in record.settings.items() if k.startswith(MODEL) and k not in free}
    return frozenset(settings | {(key, f"{record.figures.get(key, 0):.0f}") for key in ("params", "macs")})


def _nearest(trained: Sequence[Record], done: Sequence[Record]) -> str:
    """Return, if no measurement matches a trained run, in what the closest one differs."""
    of_runs, of_measurements = ({signature(record) for record in records} for records in (trained, done))
    if not of_runs or not of_measurements or of_runs & of_measurements:
        return ""
    pairs = ((run, measurement) for run in of_runs for measurement in of_measurements)
    run, measurement = min(pairs, key=lambda pair: len(pair[0] ^ pair[1]))
    trained_values, measured_values = dict(run), dict(measurement)
    keys = sorted({key for key, _ in run ^ measurement})
    differences = [
        f"{key}={measured_values.get(key, '-')} (trained: {trained_values.get(key, '-')})" for key in keys
    ]
    return f"; the closest measurement differs in {', '.join(differences)}"


def _is_timed(record: Record) -> bool:
    return "true" not in (record.settings.get("parity"), record.settings.get("tune"))


def _by_model(done: Sequence[Record]) -> dict[Signature, dict[str, float]]:
    """Return means over repeats, by model and key; keys name settings that differ between measurements."""
    ways = [{k: v for k, v in record.settings.items() if k.startswith(WAY)} for record in done]
    keys = sorted({key for way in ways for key in way} - {"device.name"})
    differing = [key for key in keys if len({way.get(key) for way in ways}) > 1]
    values: dict[Signature, dict[str, list[float]]] = {}
    for record, way in zip(done, ways, strict=True):
        suffix = ", ".join(f"{key.removeprefix('device.')}={way.get(key, '-')}" for key in differing)
        for key, name in JOINED.items():
            if key in record.figures:
                name = f"{name} ({suffix})" if suffix else name
                values.setdefault(signature(record), {}).setdefault(name, []).append(record.figures[key])
    return {
        model: {name: fmean(numbers) for name, numbers in by_name.items()}
        for model, by_name in values.items()
    }


def _unfinished(measured: Sequence[Record]) -> list[str]:
    """Return notes on the measurements that did not finish, with their errors."""
    unfinished = [record for record in measured if record.state != "finished"]
    notes = [
        f"{record.run.path.name} {record.state}" + f": {record.error}" * bool(record.error)
        for record in unfinished[:NAMED]
    ]
    more = len(unfinished) - NAMED
    return [*notes, *([f"{more} more measurement{'s' * (more != 1)} did not finish"] if more > 0 else [])]


def _unequal(done: Sequence[Record]) -> list[str]:
    """Return a note if memory was measured at different batch sizes, as with `batch_sizes=auto`."""
    batches = {record.figures["memory/batch"] for record in done if "memory/batch" in record.figures}
    if len(batches) < 2:
        return []
    sizes = f"{min(batches):.0f} to {max(batches):.0f}"
    return [f"activations MB was measured at batch sizes of {sizes} images: not comparable between rows"]


def _noise(done: Sequence[Record]) -> list[str]:
    """Return notes on how many measurements were disturbed."""
    shares = {
        "other processes used the CPU": [noise.others(record.figures) for record in done],
        "rounds varied": [noise.spread(record.figures) for record in done],
    }
    notes = []
    for reason, values in shares.items():
        noisy = [share for share in values if share > noise.BUSY]
        if noisy:
            of_all = f"{len(noisy)} of {len(done)} measurement{'s' * (len(done) != 1)}"
            notes.append(
                f"{reason} in {of_all} (up to {100 * max(noisy):.0f} %): smaller differences are noise"
            )
    return notes
