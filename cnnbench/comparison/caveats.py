"""What would make a comparison unfair, or a reader believe too much."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from cnnbench.comparison.configurations import Configuration
from cnnbench.comparison.effects import Effect
from cnnbench.comparison.metrics import DEFAULT, VAL, figure
from cnnbench.comparison.records import Record


def tuning(
    every: Sequence[Configuration],
    chosen: Sequence[Configuration],
    select: Sequence[str],
    order: str = VAL,
) -> list[str]:
    """Whether all rows were tuned alike, and far enough."""

    def around(one: Configuration) -> tuple[tuple[str, str], ...]:
        return tuple((key, value) for key, value in one.settings.items() if key not in select)

    notes, on = [], "val" if order == VAL else figure(order).label
    for axis in select:
        tried: dict[tuple[tuple[str, str], ...], set[str]] = {}
        for one in every:
            tried.setdefault(around(one), set()).add(one.settings.get(axis, "-"))
        counts = sorted({len(values) for values in tried.values()})
        among = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        values = f"{among} value{'s' * (counts != [1])}"
        notes.append(f"{axis} chosen on {on} within each row, among {values}")
        if len({frozenset(values) for values in tried.values()}) > 1:
            notes[-1] += ": UNEQUAL, and what was tuned more looks better than it is"
        edges = sum(_at_the_edge(one.settings.get(axis, "-"), tried[around(one)]) for one in chosen)
        if edges:
            rows = f"{edges} of {len(chosen)} row{'s' * (len(chosen) != 1)}"
            notes.append(f"{axis}: the smallest or largest is the best in {rows}; one beyond may be better")
    return notes


def _at_the_edge(value: str, tried: set[str]) -> bool:
    try:
        numbers = [float(one) for one in tried]
        return len(numbers) > 1 and float(value) in (min(numbers), max(numbers))
    except ValueError:
        return False


def unpaired(effects: Sequence[Effect]) -> list[str]:
    """Values that could not be compared with their baseline."""
    lone: dict[tuple[str, str], list[str]] = {}
    for effect in effects:
        if not effect.pairs and not effect.lost:
            lone.setdefault((effect.axis.removesuffix(".name"), effect.baseline), []).append(effect.value)
    return [
        f"no run differs in {axis} alone from one with {axis}={baseline}: {', '.join(values)}"
        for (axis, baseline), values in lone.items()
    ]


def notes_on(records: Sequence[Record]) -> list[str]:
    """What was mixed, and how far other test images would move the accuracies."""
    notes = []
    done = [record for record in records if record.state == "finished"]
    for what, versions in _mixtures(done).items():
        if len(versions) > 1:
            said = ", ".join(f"{name} ({n} run{'s' * (n != 1)})" for name, n in versions.most_common())
            notes.append(f"a mixture of {what}: {said}")
    splits: dict[tuple[str, ...], set[str]] = {}
    for record in done:
        data = tuple(value for key, value in sorted(record.settings.items()) if key.startswith("data."))
        splits.setdefault(data, set()).add(record.split)
    if any(len(found) > 1 for found in splits.values()):
        notes.append(
            "the same data settings gave different splits: the images themselves differ between runs"
        )
    sizes = {record.figures["data/test"] for record in done if record.figures.get("data/test")}
    best = max((record.figures[DEFAULT] for record in done if DEFAULT in record.figures), default=None)
    if sizes and best is not None:
        n = min(sizes)
        notes.append(
            f"intervals are about other seeds; another {n:.0f} test images would move accuracies "
            f"together, one of {100 * best:.1f} % by ±{100 * _binomial(best, n):.1f} points"
        )
    return notes


def _binomial(share: float, n: float) -> float:
    """Half the width of Wilson's 95 % interval (JASA 22, 1927, p. 209) of a share of n images."""
    z = 1.959964
    return z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))


def _mixtures(done: Sequence[Record]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {
        "cnnbench versions": Counter(),
        "torch versions": Counter(),
        "devices": Counter(),
        "formats of run folders": Counter(),
    }
    runtimes: dict[str, Counter[str]] = {}
    for record in done:
        found["formats of run folders"][str(record.status.get("format"))] += 1
        code = record.status.get("code")
        for room, digest in code.items() if isinstance(code, dict) else ():
            runtimes.setdefault(f"code in cnnbench.{room}", Counter())[str(digest)[:8]] += 1
        versions, device = record.status.get("versions"), record.status.get("device")
        if isinstance(versions, dict):
            found["cnnbench versions"][str(versions.get("cnnbench"))] += 1
            found["torch versions"][str(versions.get("torch"))] += 1
        if isinstance(device, dict) and (runtime := device.get("runtime")):
            runtimes.setdefault(f"{str(runtime).partition(' ')[0]} versions", Counter())[str(runtime)] += 1
        if isinstance(device, dict) and record.verb == "train":  # else it is a setting, see `record`
            threads = device.get("threads")
            name = f"{device.get('accelerator')}"
            found["devices"][name + (f" with {threads} thread{'s' * (threads != 1)}" * (name == "cpu"))] += 1
    return found | runtimes
