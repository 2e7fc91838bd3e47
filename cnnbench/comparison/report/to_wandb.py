"""The comparison as one W&B run: tables, charts that W&B draws from them, plots and the page."""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import figure
from cnnbench.comparison.report.wandb_charts import charts, label, media, tables
from cnnbench.errors import InputError, suggest
from cnnbench.tracking import wandb_end, wandb_run

GROUP_LENGTH, NAME_LENGTH = 100, 128
"""The largest numbers of characters of a group and of a run's name."""


@dataclass(frozen=True)
class Target:
    """The project, the mode and the timeouts with which a comparison is logged."""

    mode: wandb_run.Mode = "offline"
    project: str = "cnnbench"
    entity: str | None = None
    init_timeout_s: float = wandb_run.INIT_TIMEOUT_S
    finish_timeout_s: float = wandb_run.FINISH_TIMEOUT_S


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `--wandb` and the options that belong to it."""
    parser.add_argument("--wandb", action="store_true", help="log tables, charts and the page as a W&B run")
    parser.add_argument("--mode", metavar="MODE", help="with --wandb: offline (default) or online")
    parser.add_argument("--project", metavar="P", help="with --wandb: the project (default: cnnbench)")
    parser.add_argument("--entity", metavar="E", help="with --wandb: the user or team (default: yours)")


def target(args: argparse.Namespace) -> Target | None:
    """Return the target that the options describe; None without `--wandb`.

    Raises:
        InputError: an unknown mode, options without `--wandb`, or no API key for the online mode.
    """
    given = {key: value for key in ("mode", "project", "entity") if (value := getattr(args, key)) is not None}
    if not args.wandb:
        if given:
            raise InputError(f"--{next(iter(given))}: allowed with --wandb only")
        return None
    modes = get_args(wandb_run.Mode)
    if (mode := given.get("mode", "offline")) not in modes:
        raise InputError(f"--mode {mode}: no such mode; {suggest(mode, modes)}")
    wandb_run.check_place(given.get("project"), given.get("entity"))
    if mode == "online":
        wandb_run.check_key("--mode online")
    return Target(**given)


def log(
    comparison: Comparison,
    destination: Target,
    images: Mapping[str, Path] | None = None,
    page: Path | None = None,
    only: Sequence[str] = (),
) -> None:
    """Log a comparison as one run of job type `compare`; it replaces an earlier one with the same arguments.

    Args:
        comparison: the comparison.
        destination: where it is logged.
        images: plots (PNG) by name.
        page: the comparison as HTML.
        only: the conditions on its runs, as `ops.norm=batch`, and the names of runs given as paths.

    Raises:
        InputError: the experiment's folder cannot be written, or W&B rejects the run.
    """
    folder, group, words = home(comparison), group_name(comparison), arguments(comparison, only)
    try:
        (folder / "wandb").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--wandb: {wandb_run.near(folder / 'wandb')}: cannot be written ({error.strerror})"
        ) from None
    if not os.access(folder / "wandb", os.W_OK):  # W&B would write to /tmp instead
        raise InputError(f"--wandb: {wandb_run.near(folder / 'wandb')}: cannot be written")
    options = {
        "id": identity(comparison, words),
        "name": " ".join(["compare", group, *words])[:NAME_LENGTH],
        "group": group,
        "job_type": "compare",
        "project": destination.project,
        "entity": destination.entity,
        "notes": "\n".join(comparison.notes),
        "config": _config(comparison) | {"only": sorted(only)},
    }

    def send(run: Any) -> None:
        run.summary.update(_summary(comparison))
        # A step that no earlier comparison had: of two rows with the same step, W&B may show the older one.
        step = int(time.time())
        run.log(media(images or {}, page) | tables(comparison) | charts(comparison), step=step)

    complete, url = _send(folder, destination, send, options)
    if not complete:  # the server, or W&B's own process, was gone
        _send(folder, replace(destination, mode="offline"), send, options)
    near = wandb_run.near(folder)
    shown = url if complete and url else f"{near / 'wandb'}; cnnbench sync {near} uploads it"
    console.console.print(f"logged: {shown}", highlight=False, markup=False, soft_wrap=True)


def _send(
    folder: Path, destination: Target, send: Callable[[Any], None], options: Mapping[str, Any]
) -> tuple[bool, str]:
    """Start a W&B run, log to it and finish it; return whether that is complete, and its address.

    Raises:
        InputError: W&B rejects the run.
    """
    import wandb

    timeouts = destination.init_timeout_s, destination.finish_timeout_s
    try:
        run = wandb_run.start(folder, destination.mode, *timeouts, **options)
    except (wandb.Error, ValueError) as error:
        raise InputError(f"--wandb: {' '.join(str(error).split())}") from None
    complete = sound = False
    offline, url = run.offline, "" if run.offline else str(run.url)
    try:
        send(run)
        complete = True
    except Exception:
        if offline:
            raise
    finally:
        sound = wandb_end.finish(run, folder, 0 if complete else 1, complete=complete)
    return complete and sound, url


def experiments(comparison: Comparison) -> list[str]:
    """Return the names of the experiments that are compared."""
    return sorted({record.experiment for record in (*comparison.records, *comparison.beside)})


def arguments(comparison: Comparison, only: Sequence[str]) -> list[str]:
    """Return the conditions and options that tell it from other comparisons of the same experiments."""
    options = comparison.options
    given = {"by": options.by, "select": options.select, "metric": options.metric}
    words = [
        f"--{key} {value if isinstance(value, str) else ','.join(value)}"
        for key, value in given.items()
        if value or (key == "select" and value is not None)
    ]
    return [*sorted(only), *words, *(f"--baseline {k}={v}" for k, v in sorted(options.baselines.items()))]


def identity(comparison: Comparison, words: Sequence[str] = ()) -> str:
    """Return the W&B run's id, a hash of experiments and arguments: the same comparison replaces it."""
    text = "\n".join(["/".join(experiments(comparison)), *words])
    return wandb_run.COMPARE + hashlib.sha256(text.encode()).hexdigest()[:16]


def group_name(comparison: Comparison) -> str:
    """Return the names of the experiments: `rates+widths`, cut to `rates and 3 more` if too long."""
    names = experiments(comparison)
    shown = len(names)
    while shown > 1 and len("+".join(names[:shown])) > GROUP_LENGTH:
        shown -= 1
    rest = f" and {len(names) - shown} more" if shown < len(names) else ""
    return "+".join(names[:shown])[:GROUP_LENGTH] + rest


def home(comparison: Comparison) -> Path:
    """Return the folder of the experiment; of several, that of the first by name."""
    first = experiments(comparison)[0]
    records = [r for r in (*comparison.records, *comparison.beside) if r.experiment == first]
    return min(record.run.path.resolve().parent for record in records)


def _config(comparison: Comparison) -> dict[str, Any]:
    return {
        "experiments": experiments(comparison),
        "metric": comparison.metric.key,
        "axes": list(comparison.axes),
        "by": list(comparison.options.by),
        "select": list(comparison.select),
        "baselines": {effect.axis: effect.baseline for effect in comparison.effects},
        "constant": dict(comparison.constant),
    }


def _summary(comparison: Comparison) -> dict[str, Any]:
    """Return the metrics of the best row (on val, or by latency) and the number of runs in each state."""
    summary: dict[str, Any] = {"runs": len(comparison.records), "configurations": len(comparison.rows)}
    summary |= {f"runs/{state}": count for state, count in comparison.states.items()}
    rows = [row for row in comparison.rows if row.val is not None]
    if not rows:
        return summary
    order = figure(comparison.kind.order)
    best = (max if order.higher else min)(rows, key=lambda row: row.val or 0.0)
    summary |= {"best": label(best), "best/n": best.scored, order.key: best.val}
    summary |= {f"best/{axis}": value for axis, value in best.settings.items()}
    if best.score is not None:
        key = comparison.metric.key
        summary |= {key: best.score.mean, f"{key}/low": best.score.low, f"{key}/high": best.score.high}
    keys = comparison.columns_of_figures
    return summary | {key: mean for key in keys if (mean := best.mean(key)) is not None}
