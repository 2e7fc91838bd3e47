"""From a composed configuration to checked settings, or to one error that names every wrong one."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from cnnbench.errors import InputError, OpsError, reason, suggest
from cnnbench.settings.base import causes, shown
from cnnbench.settings.measured_model import kind, with_model
from cnnbench.settings.run import Settings


def plain(config: DictConfig) -> Any:
    """Return a composed configuration as plain values, with references resolved.

    Raises:
        InputError: a mandatory value is missing, or a reference cannot be resolved.
    """
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = error.full_key or "configuration"
        if "Missing mandatory value" in str(error):
            raise InputError(f"{key}: has no default and must be given, as {key}=…") from None
        raise InputError(f"{key}: {str(error).splitlines()[0]}") from None


def parse(plain: Any) -> Settings:
    """Check a configuration of plain values, and return it as settings: `Bench` if it has a `backend`.

    Raises:
        InputError: names every wrong setting, its value and what is allowed.
        OpsError: an ablation axis that the architecture does not have.
    """
    try:
        if is_measurement := "backend" in plain:
            plain = with_model(plain)
        settings = (kind(plain) if is_measurement else Settings).model_validate(plain)
    except ValidationError as error:
        raise InputError("; ".join(_sentence(item, plain) for item in causes(error.errors()))) from None
    for axis, value in settings.ops.model_dump().items():
        if value != "native" and axis not in settings.resolved_ops():
            without = "foreign" if settings.arch.native is None else "absent"
            raise OpsError(without, f"ops.{axis}={value} with arch={settings.arch.name}")
    return settings


def _sentence(item: Any, plain: Any) -> str:
    """Return one of pydantic's errors as `setting=value: what is allowed`."""
    path = [str(step) for step in item["loc"]]
    if path[:1] == ["logger"]:
        del path[1:2]  # the kind of logger, which is not a key
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
        return message
    if isinstance(item["input"], dict) and "=" in message.partition(":")[0]:  # names a setting of the section
        return f"{key}.{message}"
    return f"{key}={shown(item['input'])}: {message}"
