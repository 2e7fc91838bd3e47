"""From a composed configuration to settings, or one error that names what is wrong."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from cnnbench.errors import InputError, OpsError, suggest
from cnnbench.run_store.run import Run
from cnnbench.settings.base import is_place, reason, shown
from cnnbench.settings.bench import Bench
from cnnbench.settings.model import Ops
from cnnbench.settings.run import Settings


def plain(config: DictConfig) -> Any:
    """A composed configuration as plain values.

    Raises:
        InputError: a value that must be given is not, or one that refers to another cannot be found.
    """
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = error.full_key or "configuration"
        if "Missing mandatory value" in str(error):
            raise InputError(f"{key}: has no default and must be given, as {key}=…") from None
        raise InputError(f"{key}: {str(error).splitlines()[0]}") from None


def parse(plain: Any) -> Settings:
    """Check a configuration of plain values.

    Raises:
        InputError: naming every wrong setting, its value and what is allowed.
        OpsError: an ablation axis that the architecture does not have.
    """
    try:
        if is_place(plain.get("of")):
            plain = _with_model_of(plain)
        elif "backend" in plain:
            plain = _with_classes(plain)
        settings = (Bench if "backend" in plain else Settings).model_validate(plain)
    except ValidationError as error:
        raise InputError("; ".join(_sentence(item, plain) for item in error.errors())) from None
    for axis, value in settings.ops.model_dump().items():
        if value != "native" and axis not in settings.resolved_ops():
            without = "foreign" if settings.arch.native is None else "absent"
            raise OpsError(without, f"ops.{axis}={value} with arch={settings.arch.name}")
    return settings


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


def _sentence(item: Any, plain: Any) -> str:
    """One pydantic error as `setting=value: what is allowed`."""
    path = [str(step) for step in item["loc"]]
    if path[:1] == ["logger"]:
        del path[1:2]  # pydantic names the kind of logger here
    key = ".".join(path)
    if item["type"] == "extra_forbidden":
        for step in path[:-1]:
            plain = plain[step]
        known = [name for name in plain if name != path[-1]]
        return f"{key}: no such setting; {suggest(path[-1], known)}"
    if item["type"] == "missing":
        return f"{key}: is missing from the configuration"
    message = reason(item)
    if item["type"] == "string_pattern_mismatch":
        message = "allowed: letters, digits, '.', '_' and '-', a letter or digit first, 100 at most"
    elif item["type"] == "string_too_short":
        message = "is empty; allowed: a file or a folder"
    elif item["type"] == "model_type":
        message = f"is a section; allowed: {key}.SETTING=VALUE"
    if not key:
        return str(message)
    if isinstance(item["input"], dict):
        return f"{key}.{message}"
    return f"{key}={shown(item['input'])}: {message}"
