"""The images of a folder that a run uses, by class and part; files that are left out, and equal images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnbench.data.folder_scan import some
from cnnbench.data.images import Images, Splits
from cnnbench.safe_text import clean

EXAMPLES = 3
"""Equal images that a line names."""


@dataclass(frozen=True)
class Taken:
    """Lines of text that say which images of a folder a run uses.

    Attributes:
        counts: for each class, the number of its images in each part.
        left_out: what else is in the folder, with its number.
        doubled: equal images that should not be there.
    """

    counts: list[str]
    left_out: list[str]
    doubled: list[str]

    def facts(self) -> dict[str, str]:
        """Return what is recorded with a run."""
        return {
            "data/images": clean("; ".join(self.counts)),
            "data/left_out": clean("; ".join(self.left_out)),
            "data/doubled": clean("; ".join(self.doubled)),
        }


def taken(root: Path, equal: list[list[Path]], splits: Splits, parts: Splits) -> Taken:
    """Return what a run takes of an image folder.

    Args:
        root: the folder.
        equal: groups of equal images in it.
        splits: as it was scanned.
        parts: train, val and test, as they are used; files.
    """
    total: Counter[str] = sum((Counter(images.left_out) for images in splits.values()), Counter())
    left_out = [f"{what}: {count}" for what, count in total.items()]
    return Taken(list(_counts(parts)), left_out, list(_doubled(root, equal, parts)))


def _counts(parts: Mapping[str, Images]) -> Iterator[str]:
    classes = next(iter(parts.values())).classes
    found = {part: Counter(images.labels.tolist()) for part, images in parts.items()}
    for label, name in enumerate(classes):
        yield f"{name} " + " + ".join(f"{counts[label]} {part}" for part, counts in found.items())


def _doubled(root: Path, equal: list[list[Path]], parts: Mapping[str, Images]) -> Iterator[str]:
    """Yield a line for equal images in several classes, and for those of train in val and in test."""
    where = {
        path: (part, label)
        for part, images in parts.items()
        if isinstance(images.pixels, list)
        for path, label in zip(images.pixels, images.labels.tolist(), strict=True)
    }
    groups = [[path for path in group if path in where] for group in equal]
    mixed = [group for group in groups if len({where[path][1] for path in group}) > 1]
    if mixed:
        yield f"equal images in several classes: {len(mixed)}, such as {_named(root, mixed)}"
    shared: dict[str, list[list[Path]]] = defaultdict(list)
    for group in groups:
        found = {where[path][0] for path in group}
        for part in found - {"train"} if "train" in found else ():
            shared[part].append(group)
    for part, doubles in sorted(shared.items()):
        count = sum(where[path][0] == part for group in doubles for path in group)
        yield f"images of {part} that stand in train, too: {count}, such as {_named(root, doubles)}"


def _named(root: Path, groups: list[list[Path]]) -> str:
    pairs = [" = ".join(str(path.relative_to(root)) for path in group[:2]) for group in groups]
    return some(pairs, EXAMPLES)
