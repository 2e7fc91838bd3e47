"""Model and images of a measurement, taken from a trained run or from an image folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cnnbench.errors import InputError
from cnnbench.run_store.run import Run
from cnnbench.settings.base import is_path
from cnnbench.settings.bench import Bench, UntrustedBench
from cnnbench.settings.model import Ops


def with_model(plain: dict[str, Any]) -> dict[str, Any]:
    """Complete the config of a measurement: `of` defines model and images, an image folder its classes.

    Raises:
        InputError: `of` is not a finished training run, or the folder holds no images.
    """
    if is_path(plain.get("of")):
        return _with_model_of(plain)
    return _with_classes(plain)


def kind(plain: Mapping[str, Any]) -> type[Bench]:
    """Return the schema of a measurement's config: a trained run is not trusted unless the user says so."""
    return UntrustedBench if plain.get("of") is not None and plain.get("trust_code") is not True else Bench


def _with_model_of(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the config with the model and the images of the trained run that `of` names."""
    run = Run(Path(plain["of"]).expanduser())
    content = run.content()
    config, state = content.config, content.state
    if state != "finished" or content.verb != "train" or not config:
        reason = {"new": "not a run", "finished": "not a training run"}.get(state, state)
        if state == "interrupted" and content.status.get("state") == "finished":
            reason = "its summary.json is missing"
        damage = "".join(f" ({problem})" for problem in [*content.damage, *content.unusable][:1])
        raise InputError(
            f"of={plain['of']}: {reason}{damage}; allowed: the folder of a finished training run"
        )
    arch, ops, data = config["arch"], config.get("ops", {}), config["data"]
    if data["name"] == "imagefolder":  # its files need not exist here
        data = data | {"num_classes": content.summary.get("data/classes")}
    images = {key: data[key] for key in ("name", "size", "num_classes", "root") if key in data}
    return plain | {
        "arch": arch | ({"native": ops} if ops else {}),
        "ops": dict.fromkeys(Ops.model_fields, "native") | ops,
        "data": {k: v for k, v in plain["data"].items() if k != "num_classes"} | images,
    }


def _with_classes(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the config with the number of classes of an image folder, all that a measurement needs of it."""
    data = plain["data"]
    if data.get("name") != "imagefolder" or not is_path(data.get("root")) or data.get("num_classes"):
        return plain
    root = Path(data["root"]).expanduser()
    changed = tuple(folder.stat().st_mtime_ns for folder in (root, root / "train") if folder.is_dir())
    return plain | {"data": data | {"num_classes": _count_classes(root, Path.cwd(), changed)}}


@cache
def _count_classes(root: Path, here: Path, changed: tuple[int, ...]) -> int:
    """Count the classes of an image folder, once for all runs of a sweep unless `changed` differs."""
    from cnnbench.data.folder_scan import scan

    return len(next(iter(scan(root).values())).classes)
