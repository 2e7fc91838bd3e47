"""What `cnnbench bench` measured, beside what was trained: where accuracy meets latency.

A measurement belongs to every run of the same model on images of the same size, however that was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from cnnbench.bench import noise
from cnnbench.compare.figures import KINDS, LATENCY, Kind
from cnnbench.compare.records import Record

JOINED = {
    LATENCY: "latency_p50_ms",
    "time/inference_images_per_s": "inference_images_per_s",
    "memory/activations_mb": "memory_activations_mb",
}
"""The figures of a measurement that a trained run gets, and what they are called there."""

Signature = tuple[tuple[str, str], ...]


def joined(records: Sequence[Record]) -> tuple[list[Record], Kind, list[str]]:
    """The runs to be compared: what was trained, with what was measured of it; else the measurements.

    Returns:
        The runs, their kind, and what a reader must know.
    """
    measured = [record for record in records if record.verb == "bench" and _is_timed(record)]
    others = [record for record in records if record.verb == "bench" and not _is_timed(record)]
    trained = [record for record in records if record.verb == "train"]
    said = f"{len(others)} run{'s' * (len(others) != 1)} of parity or tune left out"
    notes = [f"{said} (cnnbench runs shows them)"] if others else []
    notes += _noise(measured)
    if not trained:
        return measured or others, KINDS["bench"], notes
    if not measured:
        return trained, KINDS["train"], notes
    done = [record for record in measured if record.state == "finished"]
    figures = _by_model(done)
    fitted, used = 0, {signature(record) for record in trained}
    found = []
    for record in trained:
        more = figures.get(signature(record), {})
        fitted += bool(more)
        found.append(replace(record, figures=record.figures | more))
    count = sum(signature(record) in used for record in done)
    said = f"{count} finished measurement{'s' * (count != 1)} of cnnbench bench beside them, of the models of"
    notes.append(f"{said} {fitted} of {len(trained)} run{'s' * (len(trained) != 1)}")
    return found, KINDS["train"], notes


def signature(record: Record) -> Signature:
    """The model and the size of its images: what speed depends on besides the device."""
    free = {"arch.weights", "arch.freeze"}
    wanted = ("data.name", "data.size", "data.num_classes")
    return tuple(
        sorted(
            (key, value)
            for key, value in record.settings.items()
            if (key.startswith(("arch.", "ops.")) and key not in free) or key in wanted
        )
    )


def _is_timed(record: Record) -> bool:
    return "true" not in (record.settings.get("parity"), record.settings.get("tune"))


def _by_model(done: Sequence[Record]) -> dict[Signature, dict[str, float]]:
    """Means over repeats, by model; named by what differs between the measurements if something does."""
    ways = [{k: v for k, v in r.settings.items() if k not in dict(signature(r)) and k != "of"} for r in done]
    keys = sorted({key for way in ways for key in way})
    differ = [key for key in keys if len({way.get(key) for way in ways}) > 1 and key != "optimizer.lr"]
    values: dict[Signature, dict[str, list[float]]] = {}
    for record, way in zip(done, ways, strict=True):
        said = ", ".join(f"{key.removeprefix('device.')}={way.get(key, '-')}" for key in differ)
        for key, name in JOINED.items():
            if key in record.figures:
                name = f"{name} ({said})" if said else name
                values.setdefault(signature(record), {}).setdefault(name, []).append(record.figures[key])
    return {model: {name: fmean(some) for name, some in found.items()} for model, found in values.items()}


def _noise(measured: Sequence[Record]) -> list[str]:
    """How many of the measurements are not to be trusted to the last percent."""
    done = [record for record in measured if record.state == "finished"]
    shares = {
        "other processes were at work": [r.figures.get("noise/others_cpu", 0.0) for r in done],
        "rounds differed": [
            max(
                (v for k, v in r.figures.items() if k.startswith("noise/") and k.endswith("spread")),
                default=0.0,
            )
            for r in done
        ],
    }
    notes = []
    for why, found in shares.items():
        loud = [share for share in found if share > noise.BUSY]
        if loud:
            of = f"{len(done)} measurement{'s' * (len(done) != 1)}"
            notes.append(
                f"{why} in {len(loud)} of {of} (up to {100 * max(loud):.0f} %): "
                "smaller differences than that are noise"
            )
    return notes
