"""The comparison as one W&B run: its tables, charts that W&B draws from them, figures and the page."""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import figure
from cnnbench.comparison.report.wandb_charts import charts, label, media, tables
from cnnbench.errors import InputError, suggest
from cnnbench.tracking import wandb_run

GROUP_LENGTH, NAME_LENGTH = 100, 128


@dataclass(frozen=True)
class Target:
    """Where a comparison is logged."""

    mode: wandb_run.Mode = "offline"
    project: str = "cnnbench"
    entity: str | None = None
    init_timeout_s: float = wandb_run.INIT_TIMEOUT_S
    finish_timeout_s: float = wandb_run.FINISH_TIMEOUT_S


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--wandb` and what goes with it."""
    parser.add_argument("--wandb", action="store_true", help="log tables and charts as a W&B run")
    parser.add_argument("--mode", metavar="MODE", help="with --wandb: offline (default) or online")
    parser.add_argument("--project", metavar="P", help="with --wandb: the project (default: cnnbench)")
    parser.add_argument("--entity", metavar="E", help="with --wandb: a user or team (default: yours)")


def target(asked: argparse.Namespace) -> Target | None:
    """What the options ask for; None without `--wandb`.

    Raises:
        InputError: a mode that there is not, options without `--wandb`, or no API key for the online mode.
    """
    given = {
        key: value for key in ("mode", "project", "entity") if (value := getattr(asked, key)) is not None
    }
    if not asked.wandb:
        if given:
            raise InputError(f"--{next(iter(given))}: allowed with --wandb alone")
        return None
    modes = get_args(wandb_run.Mode)
    if (mode := given.get("mode", "offline")) not in modes:
        raise InputError(f"--mode {mode}: no such mode; {suggest(mode, modes)}")
    wandb_run.check_place(given.get("project"), given.get("entity"))
    if mode == "online":
        wandb_run.check_key("--mode online")
    return Target(**given)


def log(
    found: Comparison,
    where: Target,
    images: Mapping[str, Path] | None = None,
    page: Path | None = None,
    only: Sequence[str] = (),
) -> None:
    """Log a comparison as one run of job type `compare`, in the place of an earlier one that asked the same.

    Args:
        found: the comparison.
        where: it goes.
        images: figures (PNG) by name.
        page: the comparison as HTML.
        only: the conditions on its runs, as `ops.norm=batch`, and the names of runs that were picked.

    Raises:
        InputError: nothing can be written beside the runs, or W&B does not take what it is given.
    """
    import wandb

    folder, group, words = home(found), group_name(found), asked(found, only)
    try:
        (folder / "wandb").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--wandb: {wandb_run.near(folder / 'wandb')}: cannot be written ({error.strerror})"
        ) from None
    if not os.access(folder / "wandb", os.W_OK):  # W&B would write to /tmp instead
        raise InputError(f"--wandb: {wandb_run.near(folder / 'wandb')}: cannot be written")
    try:
        run = wandb_run.start(
            folder,
            where.mode,
            where.init_timeout_s,
            where.finish_timeout_s,
            id=identity(found, words),
            name=" ".join(["compare", group, *words])[:NAME_LENGTH],
            group=group,
            job_type="compare",
            project=where.project,
            entity=where.entity,
            notes="\n".join(found.notes),
            config=_config(found) | {"only": sorted(only)},
        )
    except (wandb.Error, ValueError) as error:
        raise InputError(f"--wandb: {' '.join(str(error).split())}") from None
    exit_code = 1
    try:
        run.summary.update(_summary(found))
        # A step that no comparison before had: of two rows with one step W&B may show the older.
        run.log(media(images or {}, page) | tables(found) | charts(found), step=int(time.time()))
        exit_code = 0
    finally:
        offline, url = run.offline, None if run.offline else run.url
        wandb_run.finish(run, folder, exit_code)
    near = wandb_run.near(folder)
    shown = f"{near / 'wandb'}; cnnbench sync {near} uploads it" if offline else url
    console.console.print(f"logged: {shown}", highlight=False, markup=False, soft_wrap=True)


def experiments(found: Comparison) -> list[str]:
    """The names of the experiments that are compared."""
    return sorted({record.experiment for record in (*found.records, *found.beside)})


def asked(found: Comparison, only: Sequence[str]) -> list[str]:
    """What was asked for that makes it another comparison of the same experiments."""
    options = found.options
    given = {"by": options.by, "select": options.select, "metric": options.metric}
    words = [
        f"--{key} {value if isinstance(value, str) else ','.join(value)}"
        for key, value in given.items()
        if value or (key == "select" and value is not None)
    ]
    return [*sorted(only), *words, *(f"--baseline {k}={v}" for k, v in sorted(options.baselines.items()))]


def identity(found: Comparison, words: Sequence[str] = ()) -> str:
    """Follows from the experiments and from what was asked: it takes the place of the one before."""
    text = "\n".join(["/".join(experiments(found)), *words])
    return wandb_run.COMPARE + hashlib.sha256(text.encode()).hexdigest()[:16]


def group_name(found: Comparison) -> str:
    """The experiment; several as `rates+widths`, or as many as fit `and 3 more`."""
    names = experiments(found)
    shown = len(names)
    while shown > 1 and len("+".join(names[:shown])) > GROUP_LENGTH:
        shown -= 1
    rest = f" and {len(names) - shown} more" if shown < len(names) else ""
    return "+".join(names[:shown])[:GROUP_LENGTH] + rest


def home(found: Comparison) -> Path:
    """The folder of the experiment; of several, the first one's."""
    first = experiments(found)[0]
    of_it = [r for r in (*found.records, *found.beside) if r.experiment == first]
    return min(record.run.path.resolve().parent for record in of_it)


def _config(found: Comparison) -> dict[str, Any]:
    return {
        "experiments": experiments(found),
        "metric": found.metric.key,
        "axes": list(found.axes),
        "by": list(found.options.by),
        "select": list(found.select),
        "baselines": {effect.axis: effect.baseline for effect in found.effects},
        "constant": dict(found.constant),
    }


def _summary(found: Comparison) -> dict[str, Any]:
    """The figures of the best configuration (on val, whatever the rows are sorted by), and how many runs."""
    summary: dict[str, Any] = {"runs": len(found.records), "configurations": len(found.rows)}
    summary |= {f"runs/{state}": count for state, count in found.states.items()}
    rows = [row for row in found.rows if row.val is not None]
    if not rows:
        return summary
    order = figure(found.kind.order)
    best = (max if order.higher else min)(rows, key=lambda row: row.val or 0.0)
    summary |= {"best": label(best), "best/n": best.scored, order.key: best.val}
    summary |= {f"best/{axis}": value for axis, value in best.settings.items()}
    if best.score is not None:
        key = found.metric.key
        summary |= {key: best.score.mean, f"{key}/low": best.score.low, f"{key}/high": best.score.high}
    return summary | {key: mean for key in found.columns_of_figures if (mean := best.mean(key)) is not None}
