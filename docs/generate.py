"""Write the generated pages of docs/reference: verbs, settings, and the choices of each group.

Settings come from the schema in `cnnbench/settings` (type and range) and from the files in `conf/` (default
and meaning, from the comment beside each); verbs come from their own `--help`. tests/docs/test_docs.py
fails when a committed page says anything that the code no longer says, and the site is built from pages
generated anew.

    python docs/generate.py
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cnnbench import cli
from cnnbench.ops.values import AXES
from cnnbench.settings.bench import Bench
from cnnbench.settings.compose import CONF
from cnnbench.settings.logger import WandbLogger
from cnnbench.settings.run import Settings
from cnnbench.sweeps.optuna_search import OptunaOptions
from cnnbench.sweeps.ray import RayOptions
from cnnbench.sweeps.slurm import SlurmOptions

HERE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py; change conf/, cnnbench/settings or the verb instead. -->\n\n"
WIDTH = "100"
"""Columns of the help texts."""


@dataclass
class Entry:
    """One key of a file in conf/: where it is, its value as written, and the comment about it."""

    key: str
    value: str | None
    comment: str


VERBS_PAGE = """\
# Verbs

What `cnnbench VERB --help` prints. `cnnbench --help` lists the verbs; `python -m cnnbench` is the same
command. Verbs that build something (`train`, `inspect`, `bench`) take groups and settings; verbs that read
runs take folders. [Exit codes](files.md#exit-codes) are the same for all.
"""
SETTINGS = """\
# Settings

Every setting of `cnnbench train` and `cnnbench bench`, given as `SETTING=VALUE` on the command line.
`cnnbench train --cfg job` shows the values that a command would use, without running it. An unknown
setting, or a value that is not allowed, ends the command with one line and exit code 2 before anything is
written. Settings that only some choices have (`arch.depth`, `scheduler.floor`, …) are on the pages of
[architectures](architectures.md), [data sets](data-sets.md) and [other choices](choices.md).

"""
CHOICES = """\
# Other choices

The choices of each group beside [architectures](architectures.md), [data sets](data-sets.md) and
[experiments](experiments.md), with the header of the file in `conf/` and the settings that it brings. A
folder of your own with the same groups adds choices: `--config-dir mine`.
"""
ARCHITECTURES = """\
# Architectures

The choices of `arch`: the header of each file in `conf/arch`, and its settings beside
[those that every architecture has](settings.md#arch). `cnnbench inspect arch=NAME` lists the layers.
"""
DATA_SETS = """\
# Data sets

The choices of `data`: the header of each file in `conf/data`, and where its settings differ from
[the common ones](settings.md#data).
"""
EXPERIMENTS = """\
# Experiments

The choices of `experiment`: sweeps ready to launch with `cnnbench train -m experiment=NAME` (`devices`:
`cnnbench bench -m`). Each states its question, its cost and what the literature leads one to expect;
[Results](../appendix/results.md) has what they gave.
"""

HIDDEN = ("name", "_target_", "native", "library")
"""Keys of a choice that are no settings: what it is and how it is built."""


def entries(text: str) -> tuple[str, list[Entry]]:
    """Read a file of conf/.

    Returns:
        The comment at its head, and its keys in order; a section has the value None.
    """
    header: list[str] = []
    pending: list[str] = []
    found: list[Entry] = []
    stack: list[tuple[int, str]] = []
    for line in text.splitlines():
        if comment := re.match(r"(\s*)#\s?(.*)", line):
            if not found and not pending and header != [""]:
                header.append(comment[2])
            elif len(comment[1]) >= 8 and found:  # goes on beside the value above
                found[-1].comment += f" {comment[2].strip()}"
            else:
                pending.append(comment[2])
        elif key := re.match(r"(\s*)([\w-]+):(?:\s+(.*?))?(?:\s+#\s?(.*))?$", line):
            stack = [item for item in stack if item[0] < len(key[1])]
            path = ".".join([*(name for _, name in stack), key[2]])
            stack.append((len(key[1]), key[2]))
            found.append(Entry(path, key[3] or None, key[4] or " ".join(pending)))
            pending = []
        else:
            pending = []
    return "\n".join(header), found


def conf(path: str) -> tuple[str, list[Entry]]:
    """Read a file of conf/ by its path there."""
    return entries(Path(CONF, path).read_text(encoding="utf-8"))


def kinds(model: Any) -> dict[str, str]:
    """Describe in words which values each setting of a section of the schema may have, by dotted key."""
    schema = model.model_json_schema()

    def walk(properties: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
        for name, one in properties.items():
            if "$ref" in one:
                section = schema["$defs"][one["$ref"].rpartition("/")[2]]
                yield from walk(section.get("properties", {}), f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", words(one, schema)

    return dict(walk(schema["properties"], ""))


def words(kind: dict[str, Any], schema: dict[str, Any]) -> str:
    """Describe one JSON schema: `whole number, 1 or more`."""
    if "$ref" in kind:
        return "section"
    if "anyOf" in kind:
        return ", or ".join(words(item, schema) for item in kind["anyOf"])
    if "enum" in kind or "const" in kind:
        return ", ".join(f"`{value}`" for value in kind.get("enum", [kind.get("const")]))
    match kind.get("type"):
        case "null":
            return "`null`"
        case "boolean":
            return "`true`, `false`"
        case "array" if "prefixItems" in kind:
            return f"list of {len(kind['prefixItems'])} numbers"
        case "array":
            return f"list of {words(kind['items'], schema)}"
        case "object":
            return "section of names and values"
        case "string":
            return "name" if "pattern" in kind else "text"
        case "integer" | "number" as name:
            return name + bounds(kind)
    return "see meaning"


def bounds(kind: dict[str, Any]) -> str:
    """Describe the range of a number: ` ≥ 1`, `, 0 < x < 1`."""
    low, above = kind.get("minimum"), kind.get("exclusiveMinimum")
    high, below = kind.get("maximum"), kind.get("exclusiveMaximum")
    left = "" if low is above is None else f"{low} ≤" if low is not None else f"{above} <"
    right = "" if high is below is None else f"≤ {high}" if high is not None else f"< {below}"
    if left and right:
        return f", {left} x {right.replace('4294967296', '2³²')}"
    return (
        f" {'≥' if low is not None else '>'} {low if low is not None else above}"
        if left
        else f" {right}".rstrip()
    )


def table(rows: list[Entry], prefix: str, allowed: dict[str, str] | None = None) -> str:
    """Write settings as a Markdown table; without `allowed` that column is left out."""
    head = ["setting", "default", *(["allowed"] if allowed is not None else []), "meaning"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [f"`{prefix}{row.key}`", default(row.value)]
        if allowed is not None:
            cells.append(allowed.get(row.key, ""))
        repeated = allowed is not None and set(row.comment.split(" | ")) == set(
            re.findall(r"`(.+?)`", cells[-1])
        )
        lines.append("| " + " | ".join([*cells, "" if repeated else clean(row.comment)]) + " |")
    return "\n".join(lines) + "\n"


def default(value: str | None) -> str:
    """Write a value of conf/ for people."""
    if value is None:
        return ""
    if variable := re.match(r"\$\{oc\.env:(\w+),'?(.*?)'?\}$", value):
        return f"`{variable[2]}`, or the environment variable `{variable[1]}`"
    if selected := re.match(r"\$\{oc\.select:([\w.]+),(.*?)\}$", value):
        return f"`{selected[1]}` if there is one, else `{selected[2]}`"
    return "must be given" if value == "???" else f"`{value}`"


def clean(text: str) -> str:
    """Escape what Markdown would take for its own."""
    return re.sub(r"(?<!\\)([|<>*_])", r"\\\1", text)


def part(rows: list[Entry], section: str) -> list[Entry]:
    """Return the settings of one section, with keys relative to it."""
    return [
        Entry(row.key[len(section) + 1 :], row.value, row.comment)
        for row in rows
        if row.key.startswith(f"{section}.") and row.value is not None
    ]


def intro(rows: list[Entry], section: str) -> str:
    """Return the comment above a section."""
    return next((clean(row.comment) for row in rows if row.key == section), "")


def below(allowed: dict[str, str], section: str) -> dict[str, str]:
    """Return the allowed values of one section, with keys relative to it."""
    return {key[len(section) + 1 :]: text for key, text in allowed.items() if key.startswith(f"{section}.")}


def settings_page() -> str:
    """Every setting with its default, what it may be, and what it means."""
    allowed = kinds(Bench) | kinds(Settings)
    for axis in AXES:
        allowed[f"ops.{axis}"] = "`native`, or a value below"
    _, common = conf("settings.yaml")
    top = [row for row in common if "." not in row.key and row.value is not None]
    text = NOTE + SETTINGS
    text += "## General\n\n" + table(top, "", allowed)
    for section in ("arch", "ops", "data", "sweep"):
        text += f"\n## {section}\n\n{intro(common, section)}\n\n"
        text += table(part(common, section), f"{section}.", below(allowed, section))
        if section == "ops":
            text += "\n" + op_values()
    for title, path, model, section in (
        ("trainer", "trainer/default.yaml", Settings, "trainer"),
        ("device", "device/auto.yaml", Settings, "device"),
        ("logger (W&B)", "logger/wandb.yaml", WandbLogger, ""),
    ):
        header, rows = conf(path)
        kind = below(allowed, section) if section else kinds(model)
        rows = [row for row in rows if row.value is not None and row.key not in ("name", "_target_")]
        text += f"\n## {title}\n\n{clean(' '.join(header.split()))}\n\n"
        text += table(rows, f"{section or 'logger'}.", kind)
    header, rows = conf("bench.yaml")
    rows = [row for row in rows if row.key in Bench.model_fields and row.value and row.key != "name"]
    text += (
        "\n## bench\n\nOnly `cnnbench bench` has these; there the default of `name` is `bench`, and that of "
    )
    text += "`sweep.jobs` is 1.\n\n"
    text += table(rows, "", allowed)
    for choice, model in (
        ("launcher/slurm", SlurmOptions),
        ("launcher/ray", RayOptions),
        ("sweeper/optuna", OptunaOptions),
    ):
        header, rows = conf(f"hydra/{choice}.yaml")
        rows = [row for row in rows if row.key != "_target_"]
        group = choice.partition("/")[0]
        text += f"\n## hydra/{choice.replace('/', '=')}\n\n```text\n{header}\n```\n\n"
        text += table(rows, f"hydra.{group}.", kinds(model))
    return text


def op_values() -> str:
    """Write the values of the ablation axes as a Markdown table."""
    lines = ["| value | what it does |", "|---|---|"]
    for axis, values in AXES.items():
        lines += [f"| `ops.{axis}={name}` | {clean(value.about)} |" for name, value in values.items()]
    return "\n".join(lines) + "\n\n[The ablation axes](../explanation/ops.md) explains them.\n"


def choices(group: str, prefix: str, level: str = "##") -> str:
    """Each choice of a group: the header of its file and its settings."""
    text = ""
    for path in sorted(Path(CONF, group).glob("*.yaml"), key=natural):
        header, rows = entries(path.read_text(encoding="utf-8"))
        header = header.replace("@package _global_\n", "").strip()
        text += f"\n{level} {path.stem}\n\n```text\n{header}\n```\n"
        own = [row for row in rows if row.value is not None and row.key not in HIDDEN]
        if prefix and own:
            text += "\n" + table(own, prefix)
    return text


def natural(path: Path) -> list[Any]:
    """Sort resnet18 before resnet101."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", path.stem)]


BRINGING_SETTINGS = ("optimizer", "scheduler", "logger", "probes")
"""Groups whose choices differ in the settings that they have."""


def choices_page() -> str:
    """The groups that are not on a page of their own."""
    text = NOTE + CHOICES
    for group in (*BRINGING_SETTINGS, "device", "trainer", "budget", "hydra/launcher", "hydra/sweeper"):
        prefix = f"{group}." if group in BRINGING_SETTINGS else ""
        text += f"\n## {group}\n" + choices(group, prefix, "###")
    return text


def verbs_page() -> str:
    """Every verb with its own help."""
    text = NOTE + VERBS_PAGE
    for name, what, example in re.findall(r"^  (\w+) +(.+)\n +\$ (.+)$", cli.help_text(), re.MULTILINE):
        text += f"\n## {name}\n\n{what[0].upper()}{what[1:]}.\n\n```console\n$ {example}\n```\n"
        if shown := help_of(name):
            text += f"\n```text\n{shown}\n```\n"
    return text


def help_of(name: str) -> str:
    """Return what `cnnbench VERB --help` prints; of Hydra's verbs the usage and the flags."""
    if name in ("train", "bench"):
        settings = yaml.safe_load(Path(CONF, "settings.yaml").read_text(encoding="utf-8"))
        template = str(settings["hydra"]["help"]["template"]).strip()
        first, *rest = template.replace("${hydra.help.app_name}", f"usage: cnnbench {name}").splitlines()
        flags = rest[next(i for i, line in enumerate(rest) if line.startswith("Useful flags")) :]
        return "\n".join([first, "", *flags])
    return printed(name, "--help")


def printed(*arguments: str) -> str:
    """Return what a command prints on standard output."""
    output, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    try:
        with redirect_stdout(output), redirect_stderr(io.StringIO()), suppress(SystemExit):
            cli.main(list(arguments))
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return output.getvalue().rstrip()


PAGES = {
    "verbs.md": verbs_page,
    "settings.md": settings_page,
    "architectures.md": lambda: NOTE + ARCHITECTURES + choices("arch", "arch."),
    "data-sets.md": lambda: NOTE + DATA_SETS + choices("data", "data."),
    "experiments.md": lambda: NOTE + EXPERIMENTS + choices("experiment", ""),
    "choices.md": choices_page,
}


def main() -> None:
    """Write the pages that have changed."""
    for name, make in PAGES.items():
        text, target = make(), HERE / name
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
            print(f"written: {target}")


if __name__ == "__main__":
    main()
