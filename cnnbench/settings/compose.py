"""Hydra: where the configuration lies, and errors that say what would have been right."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.errors import InputError, suggest

_here = Path(__file__).parent.parent
CONF = str(_here / "conf" if (_here / "conf").is_dir() else _here.parent / "conf")
"""Inside the package in a wheel, beside it in a checkout."""

MULTIRUN = ("-m", "--multirun")
VALUED = {
    "--config-dir",
    "-cd",
    "--config-name",
    "-cn",
    "--config-path",
    "-cp",
    "--cfg",
    "-c",
    "--package",
    "-p",
}


OPTIONS = {"--help", "--hydra-help", "--version", "--resolve", "--run", "--shell-completion", "--info"} | {
    "--experimental-rerun",
    *MULTIRUN,
    *VALUED,
}
"""Hydra's, which would answer one that it does not know with all of them."""


def run(task: Callable[[DictConfig], Any], config_name: str, arguments: list[str]) -> None:
    """Compose the configuration that `arguments` ask for and call `task` with it, or sweep with -m.

    Raises:
        InputError: for arguments that Hydra cannot make a configuration of.
        BaseException: what `task` raises; it must let no `Exception` out.
    """
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [f"cnnbench {config_name}", *_flags_last(arguments)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, instead of being printed on the way
    try:
        hydra.main(config_path=CONF, config_name=config_name, version_base="1.3")(task)()
    except InputError:
        raise
    except Exception as error:  # Hydra, OmegaConf and YAML raise many kinds for what was typed
        if before[1] == "1":
            traceback.print_exc()
        raise InputError(explain(error, config_name, arguments)) from error
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]


def section(group: str, choice: str) -> dict[str, Any]:
    """A group's section of the configuration with one of its choices, and nothing else asked for.

    Raises:
        InputError: there is no such choice.
    """
    asked = [f"{group}={choice}"]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(CONF, version_base="1.3"):
            found = OmegaConf.to_container(compose("train", asked)[group], resolve=True)
    except Exception as error:  # as in `run`
        raise InputError(explain(error, "train", asked)) from error
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def command(overrides: Sequence[str], hydra_config: Any) -> tuple[str, ...]:
    """What `cnnbench train` has to be told to make this run again, whatever it was launched by."""
    how = ("force=", "sweep.", "hydra.", "hydra/", "output_dir=")
    words = [text for text in overrides if not text.lstrip("+~").startswith(how)]
    for source in hydra_config.runtime.config_sources:
        if source.provider == "command-line":
            words += ["--config-dir", str(source.path)]
    return tuple(words)


def _flags_last(arguments: list[str]) -> list[str]:
    """Settings, then flags with their values: Hydra wants the settings to stand together.

    Raises:
        InputError: a flag that Hydra does not have.
    """
    settings: list[str] = []
    flags: list[str] = []
    words = iter(arguments)
    for word in words:
        given = word.partition("=")[0]
        if given.startswith("--") and not any(option.startswith(given) for option in OPTIONS):
            long = sorted(option for option in OPTIONS if option.startswith("--"))
            raise InputError(f"{word}: no such option; settings are KEY=VALUE; {suggest(given, long)}")
        (flags if word.startswith("-") else settings).append(word)
        if word in VALUED:
            flags.extend(islice(words, 1))
    return [*settings, *flags]


def explain(error: Exception, config_name: str, arguments: list[str]) -> str:
    """One line that names what was wrong and what is allowed."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={choice}: no such choice; {suggest(choice, error.options)}"
    found = re.match(
        r"Could not (?:override|append to config\. An item is already at) '(?P<key>[^']*)'", str(error)
    )
    if isinstance(error, ConfigCompositionException) and found:
        return _explain_key(found["key"].partition("@")[0], config_name, arguments)
    if ambiguous := re.match(r"Ambiguous value for argument '(?P<setting>[^']*)'", str(error)):
        return f"{ambiguous['setting']}: several values; add -m to sweep over them"
    if isinstance(error, OverrideParseException):
        said = error.message.splitlines()[0]
        if said.startswith("LexerNoViableAlt"):
            said = "cannot be read; put the value in quotes of its own, as in 'data.root=\"~/images\"'"
        elif "=" not in error.override:
            measured = f"; of={error.override} measures a run" * (config_name == "bench")
            said = f"no setting; allowed: KEY=VALUE{measured}"
        return f"{error.override}: {said}"
    text = " ".join(f"{error or type(error).__name__} {error.__cause__ or ''}".split())
    return f"{text.removesuffix(' full_key:').strip()} (asked for: {' '.join(arguments)})"


def _explain_key(key: str, config_name: str, arguments: list[str]) -> str:
    """`key` is no setting: which ones there are beside it."""
    groups = [
        word
        for word in arguments
        if re.fullmatch(r"[a-z_/]+=[\w-]+", word) and not word.startswith(f"{key}=")
    ]
    config = _default(config_name, groups)
    section, _, name = key.rpartition(".")
    there: Any = OmegaConf.select(config, section) if section else config
    if isinstance(there, DictConfig):
        return (
            f"{key}: no such setting{f' in {section}' if section else ''}; {suggest(name, map(str, there))}"
        )
    return f"{key}: no such setting; {suggest(key, [str(name) for name in config if name != 'hydra'])[:400]}"


def _default(config_name: str, groups: list[str]) -> DictConfig:
    """The configuration without the settings that were asked for, but with the group choices."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(CONF, version_base="1.3"):
        for chosen in (groups, []):
            try:
                return compose(config_name, chosen, return_hydra_config=True)
            except (HydraException, OmegaConfBaseException):
                continue
    return OmegaConf.create()
