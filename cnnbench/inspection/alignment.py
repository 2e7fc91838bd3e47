"""Two models layer by layer: which layers correspond, and in what they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Layer = Mapping[str, Any]

COMPARED = ("kind", "output", "receptive_field", "params", "macs", "window")
"""Keys of a layer whose values are compared."""

TOTALS = ("layers", "params", "macs", "activation_bytes")


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the difference of two models as plain values.

    Args:
        first, second: as `describe` returns them.

    Returns:
        `layers`: pairs of the names of layers that correspond, None where there is none, and the keys in
        which they differ. `totals`: of both, the second less the first, and their ratio (None: first is 0).
    """
    pairs = []
    for one, other in align(first["layers"], second["layers"]):
        differing = [] if one is None or other is None else [k for k in COMPARED if one[k] != other[k]]
        names = {"first": one and one["name"], "second": other and other["name"]}
        pairs.append({**names, "differs": differing})
    totals = {}
    for key in TOTALS:
        a, b = _total(first, key), _total(second, key)
        totals[key] = {"first": a, "second": b, "difference": b - a, "ratio": b / a if a else None}
    return {"layers": pairs, "totals": totals}


def _total(model: Mapping[str, Any], key: str) -> int:
    layers = model["layers"]
    return len(layers) if key == "layers" else sum(layer[key] for layer in layers)


def align(first: Sequence[Layer], second: Sequence[Layer]) -> list[tuple[Layer | None, Layer | None]]:
    """Return the layers of two models side by side, in the order of both, as similar as possible.

    It is the alignment of greatest total similarity (Needleman & Wunsch, 1970); a layer without a counterpart
    stands alone.
    """
    start = 0
    while start < min(len(first), len(second)) and _same(first[start], second[start]):
        start += 1
    one, other = first[start:], second[start:]
    best = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]  # of what follows, by places in both
    for i in range(len(one) - 1, -1, -1):
        for j in range(len(other) - 1, -1, -1):
            alone = max(best[i + 1][j], best[i][j + 1])
            alike = similarity(one[i], other[j])
            best[i][j] = max(alone, alike + best[i + 1][j + 1]) if alike else alone
    pairs: list[tuple[Layer | None, Layer | None]] = list(zip(first[:start], second[:start], strict=True))
    i = j = 0
    while i < len(one) and j < len(other):
        alike = similarity(one[i], other[j])
        if alike and best[i][j] == alike + best[i + 1][j + 1]:
            pairs.append((one[i], other[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            pairs.append((one[i], None))
            i += 1
        else:
            pairs.append((None, other[j]))
            j += 1
    return [*pairs, *((layer, None) for layer in one[i:]), *((None, layer) for layer in other[j:])]


def _same(one: Layer, other: Layer) -> bool:
    return bool(one["name"] == other["name"] and one["kind"] == other["kind"])


def similarity(one: Layer, other: Layer) -> int:
    """Return how alike two layers are; 0: they do not correspond, having neither kind nor name in common."""
    kind, name = (bool(one[key] == other[key]) for key in ("kind", "name"))
    if not kind and not name:
        return 0
    details = [one[key] == other[key] for key in ("output", "window", "params")]
    return 4 * kind + 3 * name + details.count(True)
