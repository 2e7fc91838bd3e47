"""What would make a comparison unfair, or a reader believe too much."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from cnnbench.compare.figures import DEFAULT
from cnnbench.compare.records import Record


def notes_on(records: Sequence[Record], twice: int, select: Sequence[str]) -> list[str]:
    """What would make a comparison unfair, or a reader believe too much."""
    notes = []
    if twice:
        notes.append(f"{twice} runs lie in several experiments and count once")
    if select:
        notes.append(f"{', '.join(select)} chosen on val, within each row")
    done = [record for record in records if record.state == "finished"]
    for what, versions in _mixtures(done).items():
        if len(versions) > 1:
            said = ", ".join(f"{name} ({n} runs)" for name, n in versions.most_common())
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
    }
    for record in done:
        versions, device = record.status.get("versions"), record.status.get("device")
        if isinstance(versions, dict):
            found["cnnbench versions"][str(versions.get("cnnbench"))] += 1
            found["torch versions"][str(versions.get("torch"))] += 1
        if isinstance(device, dict):
            threads = device.get("threads")
            name = f"{device.get('accelerator')}"
            found["devices"][name + (f" with {threads} thread{'s' * (threads != 1)}" * (name == "cpu"))] += 1
    return found
