"""A folder of class folders: what lies in it, whether every file is an image, what its content is.

Needs no torch: a finished run on an image folder is answered from disk after a look at the files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cnnbench.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass(frozen=True)
class Files:
    """Image files with their labels, indices into `classes`."""

    paths: list[Path]
    labels: list[int]
    classes: list[str]


def scan(root: Path) -> dict[str, Files]:
    """The parts of an image folder: `all`, or `train` and `test`, and `val` if there are all three.

    With `train` and `val` alone, as ImageNet is laid out, `val` is what results are quoted on: the
    test set.

    Raises:
        InputError: no folder, no images, a single class, or classes that training never sees.
    """
    if not root.is_dir():
        raise InputError(f"data.root={root}: no such folder; expected {root}/<class>/<image>")
    if not (root / "train").is_dir():
        return {"all": _class_folders(root, None)}
    train = _class_folders(root / "train", None)
    held_out = {part: root / part for part in ("val", "test") if (root / part).is_dir()}
    if not held_out:
        return {"all": train}
    if "test" not in held_out:
        held_out = {"test": held_out["val"]}
    return {"train": train} | {part: _class_folders(path, train.classes) for part, path in held_out.items()}


def _class_folders(root: Path, classes: list[str] | None) -> Files:
    """Every image below `root/<class>/`, in the order of the names."""
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    files = {name: sorted(_images(root / name)) for name in folders}
    found = [name for name in folders if files[name]]
    if not found:
        raise InputError(
            f"data.root={root}: no images; expected {root}/<class>/<image>, "
            f"an image ending in {' '.join(sorted(SUFFIXES))}"
        )
    if classes is None:
        if len(found) == 1:
            raise InputError(
                f"data.root={root}: one class only ({found[0]}); expected two or more class folders"
            )
        classes = found
    elif unknown := [name for name in found if name not in classes]:
        raise InputError(
            f"data.root={root}: classes that the training folder does not have: {', '.join(unknown)}"
        )
    labelled = [(path, classes.index(name)) for name in found for path in files[name]]
    return Files([path for path, _ in labelled], [label for _, label in labelled], classes)


def _images(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (
            Path(where, name) for name in names if Path(name).suffix.lower() in SUFFIXES and name[0] != "."
        )


def fingerprint(root: Path) -> str:
    """A digest of the names and contents of all images below `root`, wherever `root` lies.

    Reading everything costs about a second per gigabyte; the result is kept beside a digest of
    names, sizes and times of change, so that it is read again only when one of these has changed.
    """
    memory = _Memory(root)
    if "content" not in memory.facts:
        paths = [path for files in scan(root).values() for path in files.paths]
        with ThreadPoolExecutor() as pool:
            digests = pool.map(
                lambda path: hashlib.blake2b(path.read_bytes(), digest_size=16).digest(), paths
            )
            lines = [
                str(path.relative_to(root)).encode() + b"\0" + d
                for path, d in zip(paths, digests, strict=True)
            ]
        memory.remember("content", hashlib.blake2b(b"\n".join(lines), digest_size=16).hexdigest())
    return memory.facts["content"]


def check_images(root: Path, paths: list[Path]) -> None:
    """Decode every file once, with a progress bar; remembered until a file changes.

    Raises:
        InputError: naming the files that are not readable images, and how many they are.
    """
    memory = _Memory(root)
    if memory.facts.get("checked") == "yes":
        return
    from rich.progress import track

    from cnnbench.ui import console

    with ThreadPoolExecutor() as pool:
        faults = [
            f"{path.relative_to(root)} ({fault})"
            for path, fault in zip(
                paths,
                track(
                    pool.map(_fault, paths), "checking images", len(paths), console=console, transient=True
                ),
                strict=True,
            )
            if fault
        ]
    if faults:
        more = f", and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise InputError(
            f"data.root={root}: {len(faults)} of {len(paths)} files cannot be read as images: "
            + ", ".join(faults[:8])
            + more
        )
    memory.remember("checked", "yes")


def _fault(path: Path) -> str:
    """What is wrong with an image file; empty if nothing is."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.draft("RGB", (8, 8))  # JPEG: all of the file is read, little of it computed
            image.load()
    except UnidentifiedImageError:
        return "empty file" if path.stat().st_size == 0 else "not an image"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error)
    return ""


class _Memory:
    """What is known of a folder, valid while names, sizes and times of change stay the same."""

    def __init__(self, root: Path) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnbench" / "folders"
        self.file = cache / (hashlib.blake2b(bytes(root.resolve()), digest_size=12).hexdigest() + ".json")
        self.stamp = self._stamp(root)
        try:
            facts = json.loads(self.file.read_text())
        except (OSError, ValueError):
            facts = {}
        self.facts: dict[str, str] = facts if facts.get("stamp") == self.stamp else {"stamp": self.stamp}

    @staticmethod
    def _stamp(root: Path) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for where, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                stat = Path(where, name).stat()
                digest.update(f"{where}/{name}/{stat.st_size}/{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def remember(self, key: str, value: str) -> None:
        self.facts[key] = value
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial = self.file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(self.facts))
            partial.replace(self.file)
        except OSError:
            pass  # a home that cannot be written to: looked at anew next time
