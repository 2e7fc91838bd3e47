"""What `cnnbench bench` measured, beside what was trained: where accuracy meets latency.

A measurement belongs to every run of the same model on images of the same size, however that was trained.
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
"""The settings that say what was measured."""

WAY = ("backend", "batch_sizes", "device.")
"""The settings that say how it was measured."""

NAMED = 4
"""Measurements without a result that are named one by one."""

Signature = frozenset[tuple[str, str]]


def joined(records: Sequence[Record]) -> tuple[list[Record], Kind, list[Record], list[str]]:
    """The runs to be compared: what was trained, with what was measured of it; else the measurements.

    Returns:
        The runs, their kind, the measurements that are none of them, and what a reader must know.
    """
    measured = [record for record in records if record.verb == "bench" and _is_timed(record)]
    others = [record for record in records if record.verb == "bench" and not _is_timed(record)]
    trained = [record for record in records if record.verb == "train"]
    if not (trained or measured):
        return others, KINDS["bench"], [], []
    said = f"{len(others)} run{'s' * (len(others) != 1)} of parity or tune left out"
    notes = [f"{said} (cnnbench runs shows them)"] if others else []
    done = [record for record in measured if record.counts]
    notes += _without(measured)
    if not trained:
        return measured, KINDS["bench"], others, [*notes, *_noise(done), *_unequal(done)]
    if not measured:
        return trained, KINDS["train"], others, notes
    ended = [record for record in trained if record.counts]
    used = {signature(record) for record in ended}
    mine = [record for record in done if signature(record) in used]
    figures = _by_model(mine)
    found = [replace(one, figures=one.figures | figures.get(signature(one), {})) for one in trained]
    fitted = sum(signature(record) in figures for record in ended)
    of = f"{len(done)} measurement{'s' * (len(done) != 1)} of cnnbench bench"
    whole = f"{len(ended)} run{'s' * (len(ended) != 1)}"
    said = f"{len(mine)} of {of} beside them, of the models of {fitted} of {whole}"
    notes.append(said + _nearest(ended, done))
    notes += [*_noise(mine), *_unequal(mine), *(f"measurements: {note}" for note in notes_on(mine))]
    return found, KINDS["train"], [*measured, *others], notes


def signature(record: Record) -> Signature:
    """The model and, by what it costs on them, the size of its images: what speed depends on on a device."""
    free = {"arch.weights", "arch.freeze"}
    settings = {(k, v) for k, v in record.settings.items() if k.startswith(MODEL) and k not in free}
    return frozenset(settings | {(key, f"{record.figures.get(key, 0):.0f}") for key in ("params", "macs")})


def _nearest(trained: Sequence[Record], done: Sequence[Record]) -> str:
    """Where no measurement is of a model that was trained: what keeps the nearest one from it."""
    ours, theirs = ({signature(record) for record in records} for records in (trained, done))
    if not ours or not theirs or ours & theirs:
        return ""
    one, other = min(((a, b) for a in ours for b in theirs), key=lambda pair: len(pair[0] ^ pair[1]))
    trained_, measured_ = dict(one), dict(other)
    keys = sorted({key for key, _ in one ^ other})
    said = [f"{key} {measured_.get(key, '-')} (trained: {trained_.get(key, '-')})" for key in keys]
    return f"; the nearest differs in {', '.join(said)}"


def _is_timed(record: Record) -> bool:
    return "true" not in (record.settings.get("parity"), record.settings.get("tune"))


def _by_model(done: Sequence[Record]) -> dict[Signature, dict[str, float]]:
    """Means over repeats, by model; named by what differs between the measurements if something does."""
    ways = [{k: v for k, v in record.settings.items() if k.startswith(WAY)} for record in done]
    keys = sorted({key for way in ways for key in way} - {"device.name"})
    differ = [key for key in keys if len({way.get(key) for way in ways}) > 1]
    values: dict[Signature, dict[str, list[float]]] = {}
    for record, way in zip(done, ways, strict=True):
        said = ", ".join(f"{key.removeprefix('device.')}={way.get(key, '-')}" for key in differ)
        for key, name in JOINED.items():
            if key in record.figures:
                name = f"{name} ({said})" if said else name
                values.setdefault(signature(record), {}).setdefault(name, []).append(record.figures[key])
    return {model: {name: fmean(some) for name, some in found.items()} for model, found in values.items()}


def _without(measured: Sequence[Record]) -> list[str]:
    """The measurements that did not finish, and why."""
    lacking = [record for record in measured if record.state != "finished"]
    notes = [
        f"{record.run.path.name} {record.state}" + f": {record.error}" * bool(record.error)
        for record in lacking[:NAMED]
    ]
    more = len(lacking) - NAMED
    return [*notes, *([f"{more} more measurement{'s' * (more != 1)} did not finish"] if more > 0 else [])]


def _unequal(done: Sequence[Record]) -> list[str]:
    """Memory grows with the batch, and `batch_sizes=auto` goes as far as each model does."""
    batches = {record.figures["memory/batch"] for record in done if "memory/batch" in record.figures}
    if len(batches) < 2:
        return []
    among = f"{min(batches):.0f} to {max(batches):.0f}"
    return [f"activations are those of batches of {among} images: not to be compared"]


def _noise(done: Sequence[Record]) -> list[str]:
    """How many of the measurements are not to be trusted to the last percent."""
    shares = {
        "other processes were at work": [noise.others(record.figures) for record in done],
        "rounds differed": [noise.spread(record.figures) for record in done],
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
