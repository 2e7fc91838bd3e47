"""Model and images of a measurement that takes them from a trained run or from a folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from cnnbench.errors import InputError
from cnnbench.run_store.run import Run
from cnnbench.settings.base import is_place
from cnnbench.settings.model import Ops


def with_model(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a measurement with what `of` or an image folder say of model and images.

    Raises:
        InputError: `of` is no finished training run, or the folder holds no images.
    """
    if is_place(plain.get("of")):
        return _with_model_of(plain)
    return _with_classes(plain)


def _with_model_of(plain: dict[str, Any]) -> dict[str, Any]:
    """A measurement of a trained run: the model and the images are that run's."""
    run = Run(Path(plain["of"]).expanduser())
    config = run.config()
    if run.state != "finished" or run.verb != "train" or not config:
        said = {"new": "no run", "finished": "no training run"}.get(run.state, run.state)
        raise InputError(f"of={plain['of']}: {said}; allowed: the folder of a finished training run")
    ops, data = config["ops"], config["data"]
    if data["name"] == "imagefolder":  # whose files need not be here
        data = data | {"num_classes": run.summary().get("data/classes")}
    images = {key: data[key] for key in ("name", "size", "num_classes", "root") if key in data}
    return plain | {
        "arch": config["arch"] | ({"native": ops} if ops else {}),
        "ops": dict.fromkeys(Ops.model_fields, "native") | ops,
        "data": {k: v for k, v in plain["data"].items() if k != "num_classes"} | images,
    }


def _with_classes(plain: dict[str, Any]) -> dict[str, Any]:
    """A measurement on an image folder: of that the number of classes counts, and nothing else."""
    data = plain["data"]
    if data.get("name") != "imagefolder" or not is_place(data.get("root")) or data.get("num_classes"):
        return plain
    root = Path(data["root"]).expanduser()
    changed = tuple(folder.stat().st_mtime_ns for folder in (root, root / "train") if folder.is_dir())
    return plain | {"data": data | {"num_classes": _count_classes(root, Path.cwd(), changed)}}


@cache
def _count_classes(root: Path, here: Path, changed: tuple[int, ...]) -> int:
    """Every file is looked at: once for all runs of a sweep, and again where a class was added."""
    from cnnbench.data.image_folder import scan

    return len(next(iter(scan(root).values())).classes)
