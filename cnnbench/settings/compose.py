"""Composition of the configuration by Hydra, and error messages that suggest what is allowed."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.errors import InputError, of_system, suggest
from cnnbench.safe_text import print_traceback

_here = Path(__file__).parent.parent
CONF = str(_here / "conf" if (_here / "conf").is_dir() else _here.parent / "conf")
"""Folder of the configuration: inside the package in a wheel, beside it in a checkout."""

MULTIRUN = ("-m", "--multirun")
"""Flags that start a sweep."""

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
"""Hydra's flags that take a value as the next word."""

OPTIONS = {"--help", "--hydra-help", "--version", "--resolve", "--run", "--shell-completion", "--info"} | {
    *MULTIRUN,
    *VALUED,
}
"""Flags of Hydra, whose own message for an unknown flag would be its entire help.

`--experimental-rerun` is not one of them: it unpickles a file, which runs whatever code that names.
"""


def multiples(value: float, *factors: float) -> str:
    """Return a list for a sweep, `0.01,0.03,0.1`: a value times each factor, to three digits.

    In a config: `${multiples:${optimizer.lr},0.1,0.3,1}`, around the default of the chosen optimizer.
    """
    return ",".join(f"{value * factor:.3g}" for factor in factors)


OmegaConf.register_new_resolver("multiples", multiples, replace=True)


def run(task: Callable[[DictConfig], Any], config_name: str, arguments: list[str]) -> None:
    """Compose the configuration that `arguments` describe and call `task` with it, or sweep with -m.

    Args:
        task: called with the configuration; it may raise a `BaseException`, but no `Exception`.
        config_name: `train` or `bench`.
        arguments: the words of the command line.

    Raises:
        InputError: Hydra cannot compose a configuration from the arguments.
    """
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [f"cnnbench {config_name}", *_flags_last(arguments)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing them
    try:
        hydra.main(config_path=CONF, config_name=config_name, version_base="1.3")(task)()
    except Exception as error:  # Hydra, OmegaConf and YAML raise many kinds
        of_disk = of_system(error) and not _is_too_long(error)
        if isinstance(error, InputError | BrokenPipeError) or of_disk:  # `… --help | head`
            raise
        if before[1] == "1":
            print_traceback(error)
        raise InputError(explain(error, config_name, arguments)) from error
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]


def section(group: str, choice: str) -> dict[str, Any]:
    """Return a group's section of the configuration for one of its choices, with defaults for all else.

    Raises:
        InputError: there is no such choice.
    """
    overrides = [f"{group}={choice}"]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(CONF, version_base="1.3"):
            values = OmegaConf.to_container(compose("train", overrides)[group], resolve=True)
    except Exception as error:  # as in `run`
        raise InputError(explain(error, "train", overrides)) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def command(overrides: Sequence[str], hydra_config: Any) -> tuple[str, ...]:
    """Return the arguments with which `cnnbench train` reproduces a run, whatever launched it."""
    launching = ("force=", "sweep.", "hydra.", "hydra/", "output_dir=")
    words = [text for text in overrides if not text.lstrip("+~").startswith(launching)]
    for source in hydra_config.runtime.config_sources:
        if source.provider == "command-line":
            words += ["--config-dir", str(source.path)]
    return tuple(words)


def _flags_last(arguments: list[str]) -> list[str]:
    """Return the settings first, then flags with their values: Hydra requires the settings to be adjacent.

    Raises:
        InputError: an unknown flag, or one without the value that it needs.
    """
    settings: list[str] = []
    flags: list[str] = []
    words = iter(arguments)
    for word in words:
        flag = word.partition("=")[0]
        if flag.startswith("--") and not any(option.startswith(flag) for option in OPTIONS):
            long = sorted(option for option in OPTIONS if option.startswith("--"))
            raise InputError(f"{word}: no such option; settings are KEY=VALUE; {suggest(flag, long)}")
        (flags if word.startswith("-") else settings).append(word)
        if word in VALUED:
            flags.extend(islice(words, 1))

    def refuse(message: str) -> NoReturn:
        raise InputError(f"{' '.join(flags)}: {message[:200]}; see `cnnbench VERB --help`")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign] # argparse would print Hydra's entire usage
    parser.parse_args([*settings, *flags])
    return [*settings, *flags]


def _is_too_long(error: Exception) -> TypeGuard[OSError]:
    """Return whether a choice has too long a name for the file that Hydra looks for."""
    return isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG


def explain(error: Exception, config_name: str, arguments: list[str]) -> str:
    """Return one line that names what was wrong and what is allowed."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={choice}: no such choice; {suggest(choice, error.options)}"
    if missing := re.match(r"In '.*': Could not load '(?P<group>[\w/]+)/(?P<choice>[^/']+)'", str(error)):
        group, choice = missing["group"], missing["choice"]  # one of several in a list
        known = sorted(path.stem for path in Path(CONF, group).glob("*.yaml"))
        return f"{group}={choice}: no such choice; {suggest(choice, known)}"
    if _is_too_long(error):
        return f"{Path(str(error.filename)).stem[:50]}…: no such choice; its name is too long for a file"
    refused = re.match(
        r"Could not (?:override|append to config\. An item is already at) '(?P<key>[^']*)'", str(error)
    )
    if isinstance(error, ConfigCompositionException) and refused:
        return _explain_key(refused["key"].partition("@")[0], config_name, arguments)
    if ambiguous := re.match(r"Ambiguous value for argument '(?P<setting>[^']*)'", str(error)):
        return f"{ambiguous['setting']}: several values; add -m to sweep over them"
    if isinstance(error, OverrideParseException):
        message = error.message.splitlines()[0]
        if message.startswith("LexerNoViableAlt"):
            message = "cannot be parsed; put quotes around the value itself, as in 'data.root=\"~/images\"'"
        elif unquoted := re.fullmatch(r"(?P<key>[^=]+)=(?P<value>[^\[{(\"'][^\"]*)", error.override):
            quoted = f'{unquoted["key"]}="{unquoted["value"]}"'
            message = f"cannot be parsed; put quotes around the value itself, as in '{quoted}'"
        elif "=" not in error.override:
            hint = f"; of={error.override} measures a run" * (config_name == "bench")
            message = f"not a setting; allowed: KEY=VALUE{hint}"
        return f"{error.override}: {message}"
    text = " ".join(f"{error or type(error).__name__} {error.__cause__ or ''}".split())
    return f"{text.removesuffix(' full_key:').strip()} (arguments: {' '.join(arguments)})"


def _explain_key(key: str, config_name: str, arguments: list[str]) -> str:
    """Return the message for an unknown setting, with the settings of its section."""
    groups = [
        word
        for word in arguments
        if re.fullmatch(r"[a-z_/]+=(?:[\w-]+|\[[\w,-]+\])", word) and not word.startswith(f"{key}=")
    ]
    config = _default(config_name, groups)
    section, _, name = key.rpartition(".")
    known: Any = OmegaConf.select(config, section) if section else config
    group, choice = key.split(".")[0], ".".join(key.split(".")[1:2])
    if known is None and Path(CONF, group, f"{choice}.yaml").is_file() and config.get(group) == {}:
        return f"{key}: {choice} is not chosen; allowed with {group}={choice}"
    if isinstance(known, DictConfig) and isinstance(inner := known.get(name), DictConfig):  # given as {…}
        allowed = ", ".join(map(str, inner)) or "SETTING=VALUE,VALUE with -m"  # hydra.sweeper.params is empty
        return f"{key}: was given a setting that it does not have; allowed: {allowed}"
    if isinstance(known, DictConfig):
        return (
            f"{key}: no such setting{f' in {section}' if section else ''}; {suggest(name, map(str, known))}"
        )
    return f"{key}: no such setting; {suggest(key, [str(name) for name in config if name != 'hydra'])[:400]}"


def _default(config_name: str, groups: list[str]) -> DictConfig:
    """Compose the configuration with the given group choices, but no other settings."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(CONF, version_base="1.3"):
        for overrides in (groups, []):
            try:
                return compose(config_name, overrides, return_hydra_config=True)
            except (HydraException, OmegaConfBaseException):
                continue
    return OmegaConf.create()
