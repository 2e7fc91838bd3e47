"""Weight files of any origin: the tensors in them that are a model's."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from cnnbench.errors import InputError
from cnnbench.run_store.seal import Damaged
from cnnbench.training.checkpoints import read_checkpoint

AVERAGE = re.compile(r"(^|[._])(ema|EMA)([._]|$)")
"""Marks a set of weights as an average over the training."""

BATCHES = "num_batches_tracked"
"""Batch norm's count of batches, as a step of a name."""

DEPTH = 4
"""Levels of dictionaries in which weights are looked for."""


class Found(NamedTuple):
    """Weights in a file.

    Attributes:
        tensors: by the model's names, or by those in the file if none is the model's.
        taken: what stands in front of these names in the file, such as `state_dict.module`; may be empty.
        others: what stands in front of further sets of weights that fit the model.
        unused: names beside the model's own ones, in the same dictionary of the file, that it does not have.
    """

    tensors: dict[str, Tensor]
    taken: str
    others: list[str]
    unused: list[str]


def read(path: str, names: Collection[str], key: str | None = None) -> Found:
    """Read the weights of a model from a file of torch or a safetensors file.

    Checkpoints nest weights under keys (`state_dict`, `net`), and wrappers of models add prefixes (`module.`,
    `_orig_mod.`, `backbone.`): what stands in front of the most names of the model is taken off. If several
    sets of weights fit equally well, an average over the training (`ema`) is preferred, as in timm, then the
    first. Counts of batches, which many averages lack and nothing depends on, do not make a set fit better.

    Args:
        path: the file.
        names: names of the model's tensors.
        key: what stands in front of the names, or the start of it; None: whatever fits best.

    Raises:
        InputError: it is not a weight file, or `key` is not in it.
    """
    places = {name: (place, tensor) for place, name, tensor in _flat(_content(path))}
    tensors = {name: tensor for name, (_, tensor) in places.items()}
    if not tensors:
        raise InputError(f"arch.weights={path}: holds no weights (a dictionary of tensors)")
    fits = _prefixes(tensors, names)
    if key is not None:
        chosen = {prefix: count for prefix, count in fits.items() if f"{prefix}.".startswith(f"{key}.")}
        if not chosen:
            allowed = ", ".join(filter(None, _sets(fits))) or "null"
            raise InputError(f"arch.weights_key={key}: no weights of the model in {path}; allowed: {allowed}")
        fits = Counter(chosen)
    if not fits:
        return Found(tensors, "", [], [])
    most = max(fits.values())
    best = [prefix for prefix, count in fits.items() if count == most]
    taken = next((prefix for prefix in best if AVERAGE.search(prefix)), best[0])
    start = f"{taken}." if taken else ""
    own = {name.removeprefix(start): name for name in tensors if name.startswith(start)}
    homes = {places[name][0] for short, name in own.items() if short in names}
    unused = [short for short, name in own.items() if short not in names and places[name][0] in homes]
    others = [prefix for prefix in _sets(fits) if prefix != taken]
    return Found({short: tensors[name] for short, name in own.items()}, taken, others, unused)


def _content(path: str) -> Any:
    try:
        if path.endswith(".safetensors") or _is_safetensors(Path(path).expanduser()):
            return _safetensors(path)
        with warnings.catch_warnings(action="ignore"):  # of TorchScript, which is an error here
            return read_checkpoint(Path(path).expanduser())
    except InputError:
        raise
    except Damaged as error:
        raise InputError(f"arch.weights={error}; allowed: the file as it was written") from None
    except Exception as error:  # from unpickling, or weights_only
        raise InputError(
            f"arch.weights={path}: is not a weight file, is truncated, or holds objects other than tensors, "
            "which could run code"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors do, whatever it is called."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # after the length of the header


def _safetensors(path: str) -> Mapping[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise InputError(f"arch.weights={path}: needs the package safetensors") from None
    try:
        return load_file(Path(path).expanduser())
    except (SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"arch.weights={path}: is not a safetensors file, or is truncated ({reason})"
        ) from error


def _flat(content: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, str, Tensor]]:
    """Yield the tensors of nested dictionaries: the keys on the way, these with its own key, the tensor."""
    if not isinstance(content, Mapping) or depth > DEPTH:
        return
    for key, value in content.items():
        name = f"{place}{key}"
        if isinstance(value, Tensor):
            yield place, name, value
        else:
            yield from _flat(value, f"{name}.", depth + 1)


def _prefixes(tensors: Mapping[str, Tensor], names: Collection[str]) -> Counter[str]:
    """Return what stands in front of names of the model, and in front of how many."""
    counts: Counter[str] = Counter()
    for name in tensors:
        steps = name.split(".")
        for i in range(len(steps)):
            if steps[-1] != BATCHES and ".".join(steps[i:]) in names:
                counts[".".join(steps[:i])] += 1
    return counts


def _sets(fits: Mapping[str, int]) -> list[str]:
    """Return what stands in front of sets of weights, and not just of a part of one, best first.

    An average of the parameters alone, which lacks the statistics of batch norm, is a set.
    """
    most = max(fits.values(), default=0)
    return [prefix for prefix, count in sorted(fits.items(), key=lambda item: -item[1]) if 2 * count >= most]
