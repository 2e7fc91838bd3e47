"""Notes on what makes a comparison unfair or its numbers less certain than they look."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from cnnbench.comparison.configurations import Configuration
from cnnbench.comparison.effects import Effect
from cnnbench.comparison.metrics import DEFAULT, VAL, Figure, figure
from cnnbench.comparison.records import Record
from cnnbench.models.family import family, is_known
from cnnbench.run_store.chance import near_chance
from cnnbench.run_store.schema import LAST_EPOCH
from cnnbench.run_store.swa import missed

RATE = "optimizer.lr"
"""Setting whose default may follow from the architecture."""

NAMED = 3
"""Runs that a note names."""


def tuning(
    every: Sequence[Configuration],
    chosen: Sequence[Configuration],
    select: Sequence[str],
    order: str = VAL,
) -> list[str]:
    """Return notes on how settings were tuned: whether rows tried the same values, and a wide enough range.

    Args:
        every: all configurations.
        chosen: the best of each group that differs in tuned settings only.
        select: the tuned settings.
        order: the key of the metric that they were chosen on.
    """

    def others(configuration: Configuration) -> tuple[tuple[str, str], ...]:
        return tuple((key, value) for key, value in configuration.settings.items() if key not in select)

    notes, on = [], "val" if order == VAL else figure(order).label
    for axis in select:
        tried: dict[tuple[tuple[str, str], ...], set[str]] = {}
        for configuration in every:
            tried.setdefault(others(configuration), set()).add(configuration.settings.get(axis, "-"))
        counts = sorted({len(values) for values in tried.values()})
        count = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        notes.append(f"{axis}: chosen on {on} within each row, from {count} value{'s' * (counts != [1])}")
        if len({frozenset(values) for values in tried.values()}) > 1:
            notes[-1] += "; UNEQUAL: rows did not try the same values, which favours rows that tried more"
        edges = sum(_at_the_edge(one.settings.get(axis, "-"), tried[others(one)]) for one in chosen)
        if edges:
            rows = f"{edges} of {len(chosen)} row{'s' * (len(chosen) != 1)}"
            notes.append(
                f"{axis}: the best value is the smallest or largest tried in {rows}; "
                "a value beyond it may be better"
            )
    return notes


def _at_the_edge(value: str, tried: set[str]) -> bool:
    try:
        numbers = list(map(float, tried))
        return len(numbers) > 1 and float(value) in (min(numbers), max(numbers))
    except ValueError:
        return False


def unpaired(
    effects: Sequence[Effect], configurations: Sequence[Configuration], varied: Sequence[str]
) -> list[str]:
    """Return a note for each axis with values that could not be compared with its baseline.

    Args:
        effects: of all axes.
        configurations: those that were to be paired.
        varied: the settings that differ and are not tuned.
    """

    unpaired_values: dict[tuple[str, str], list[str]] = {}
    for effect in effects:
        if not effect.pairs and not effect.lost:
            unpaired_values.setdefault((effect.axis, effect.baseline), []).append(effect.value)
    notes = []
    for (axis, baseline), values in unpaired_values.items():
        name = axis.removesuffix(".name")
        reason = f"no two such runs differ in {name} alone"
        note = f"{name}: {', '.join(values)} not compared with {baseline}: {reason}"
        base = [one for one in configurations if one.settings.get(axis) == baseline]
        others = [one for one in configurations if one.settings.get(axis) in values]
        if any(_differing(a, b, varied) == {axis, RATE} for a in base for b in others):
            note += f", but in {RATE}, too; --select {RATE} compares each at its best"
        notes.append(note)
    return notes


def _differing(one: Configuration, other: Configuration, axes: Sequence[str]) -> set[str]:
    return {axis for axis in axes if one.settings.get(axis, "-") != other.settings.get(axis, "-")}


def notes_on(records: Sequence[Record], metric: Figure | None = None, *, pooled: bool = False) -> list[str]:
    """Return notes on what was mixed, and on the uncertainty from the finite number of test images.

    Args:
        records: the runs.
        metric: the compared metric; None: test accuracy.
        pooled: whether rows are means over several architectures, whose families their intervals cover, too.
    """
    notes = []
    done = [record for record in records if record.state == "finished"]
    for kind, counts in _mixtures(done).items():
        if len(counts) > 1:
            listed = ", ".join(f"{name} ({n} run{'s' * (n != 1)})" for name, n in counts.most_common())
            notes.append(f"mixed {kind}: {listed}")
    if guessed := [record.run.path.name for record in done if near_chance(record.figures) is not None]:
        more = f" and {len(guessed) - NAMED} more" if len(guessed) > NAMED else ""
        runs = f"{len(guessed)} run{'s' * (len(guessed) != 1)}"
        names = ", ".join(guessed[:NAMED])
        notes.append(f"{runs} ended near chance, so that their row says little: {names}{more}")
    if tested := [record for record in done if LAST_EPOCH in record.figures]:
        runs = f"{len(tested)} of {len(done)} runs" if len(tested) < len(done) else "all runs"
        notes.append(
            f"{runs} trained on the val images, too (data.val_fraction=0), and tested the last epoch: as "
            "published figures do, but not comparable with runs that choose an epoch on val"
        )
    notes += _cut_short(done)
    splits: dict[tuple[str, ...], set[str]] = {}
    for record in done:
        data = tuple(value for key, value in sorted(record.settings.items()) if key.startswith("data."))
        splits.setdefault(data, set()).add(record.split)
    if any(len(digests) > 1 for digests in splits.values()):
        notes.append("runs with the same data settings have different splits: their images differ")
    archs = {record.settings.get("arch.name", "") for record in done}
    if pooled and (unknown := sorted(arch for arch in archs if not is_known(arch))):
        named = ", ".join(f"{arch} as {family(arch)}" for arch in unknown)
        notes.append(f"architectures of families that are not known count as their own: {named}")
    if (
        metric
        and metric.key.endswith(("loss", "ece"))
        and "bce" in {r.settings.get("trainer.loss") for r in done}
    ):
        notes.append(
            f"{metric.label} is that of softmax probabilities, which trainer.loss=bce does not train: "
            "compare such runs by accuracy or macro-F1"
        )
    if said := _finite(done, metric or figure(DEFAULT), "families and seeds" if pooled else "seeds"):
        notes.append(said)
    return notes


def _cut_short(done: Sequence[Record]) -> list[str]:
    """Return notes on runs whose recipe was not carried out to its end, by its own rules."""
    notes = []
    averaged = [record for record in done if record.settings.get("trainer.swa", "null") != "null"]
    starts = [
        missed(one.settings["trainer.swa"], one.settings.get("trainer.max_epochs"), one.figures)
        for one in averaged
    ]
    if plain := sum(start is not None for start in starts):
        notes.append(
            f"{plain} of {len(averaged)} runs with trainer.swa tested an epoch before its average began, so "
            "that their weights are no average"
        )
    limited = [record for record in done if record.settings.get("trainer.max_time", "null") != "null"]
    if ended := [record for record in limited if record.run.summary().get("stopped") == "trainer.max_time"]:
        counts = sorted({int(record.figures["epochs"]) for record in ended if "epochs" in record.figures})
        epochs = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "some"
        notes.append(
            f"{len(ended)} of {len(limited)} runs with trainer.max_time were ended by it, after {epochs} "
            "epochs: how many depends on the machine and its load"
        )
    return notes


def _finite(done: Sequence[Record], metric: Figure, covered: str) -> str:
    """Return the note on the finite number of images; empty if the runs have no such metric.

    How far another set of images would move a share of images follows from their number alone. For any other
    metric of images it would take the outputs for each of them; for times and sizes, it is said of accuracy.
    """
    metric = metric if metric.part else figure(DEFAULT)
    sets = {
        (record.figures[f"data/{metric.part}"], record.settings.get("data.name", ""))
        for record in done
        if record.figures.get(f"data/{metric.part}")
    }
    values = [record.figures[metric.key] for record in done if metric.key in record.figures]
    if not sets or not values:
        return ""
    n, _ = min(sets)
    only = f"intervals cover variation between {covered} only; the {n:.0f} {metric.part} images add"
    if not metric.counted:
        return f"{only} to it, which is not estimated for {metric.label}"
    best, shared = max(values), "all rows" if len(sets) == 1 else "rows with the same images"
    return f"{only} about ±{100 * _binomial(best, n):.1f} points at {100 * best:.1f} %, shared by {shared}"


def _binomial(share: float, n: float) -> float:
    """Return half the width of Wilson's 95 % interval (JASA 22, 1927, p. 209) of a share of n images."""
    z = 1.959964
    return z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))


def _mixtures(done: Sequence[Record]) -> dict[str, Counter[str]]:
    """Count the runs by version, device, format, runtime, and digest of the code that they used."""
    counts: dict[str, Counter[str]] = {
        "cnnbench versions": Counter(),
        "torch versions": Counter(),
        "devices": Counter(),
        "formats of run folders": Counter(),
    }
    runtimes: dict[str, Counter[str]] = {}
    for record in done:
        counts["formats of run folders"][str(record.status.get("format"))] += 1
        code = record.status.get("code")
        for room, digest in code.items() if isinstance(code, dict) else ():
            runtimes.setdefault(f"code in cnnbench.{room}", Counter())[str(digest)[:8]] += 1
        versions, device = record.status.get("versions"), record.status.get("device")
        if isinstance(versions, dict):
            counts["cnnbench versions"][str(versions.get("cnnbench"))] += 1
            counts["torch versions"][str(versions.get("torch"))] += 1
        if isinstance(device, dict) and (runtime := device.get("runtime")):
            runtimes.setdefault(f"{str(runtime).partition(' ')[0]} versions", Counter())[str(runtime)] += 1
        if isinstance(device, dict) and record.verb == "train":  # in measurements it is a setting
            threads = device.get("threads")
            name = f"{device.get('accelerator')}"
            counts["devices"][name + (f" with {threads} thread{'s' * (threads != 1)}" * (name == "cpu"))] += 1
    return counts | runtimes
