"""The comparison as one W&B run: its tables, charts that W&B draws from them, figures and the page."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from cnnbench import ui, wandb_run
from cnnbench.compare.comparison import Comparison
from cnnbench.compare.figures import figure
from cnnbench.compare.plain import plain, table
from cnnbench.compare.records import Record
from cnnbench.compare.rows import Row
from cnnbench.errors import InputError, suggest

GROUP_LENGTH = 100
LINES = 20
"""Curves of a chart, at most: the best ones."""


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
    if mode == "online":
        wandb_run.check_key("--mode online")
    return Target(**given)


def log(
    found: Comparison,
    where: Target,
    images: Mapping[str, Path] | None = None,
    page: Path | None = None,
) -> None:
    """Log a comparison as one run of job type `compare`, in the place of an earlier one of these experiments.

    Args:
        images: figures (PNG) by name.
        page: the comparison as HTML.

    Raises:
        InputError: nothing can be written beside the runs, or W&B does not take what it is given.
    """
    import wandb

    folder, group = home(found), group_name(found)
    try:
        (folder / "wandb").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"--wandb: {folder / 'wandb'}: cannot be written ({error.strerror})") from None
    if not os.access(folder / "wandb", os.W_OK):  # W&B would write to /tmp instead
        raise InputError(f"--wandb: {folder / 'wandb'}: cannot be written")
    try:
        run = wandb_run.start(
            folder,
            where.mode,
            where.init_timeout_s,
            where.finish_timeout_s,
            id=identity(found),
            name=f"compare {group}",
            group=group,
            job_type="compare",
            project=where.project,
            entity=where.entity,
            notes="\n".join(found.notes),
            config=_config(found),
        )
    except (wandb.Error, ValueError) as error:
        raise InputError(f"--wandb: {' '.join(str(error).split())}") from None
    exit_code = 1
    try:
        run.summary.update(_summary(found))
        run.log(_media(images or {}, page) | _tables(found) | _charts(found))
        exit_code = 0
    finally:
        offline, url = run.offline, None if run.offline else run.url
        wandb_run.finish(run, folder, exit_code)
    near = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    shown = f"{near / 'wandb'}; cnnbench sync {near} uploads it" if offline else url
    ui.console.print(f"logged: {shown}", highlight=False, markup=False, soft_wrap=True)


def experiments(found: Comparison) -> list[str]:
    """The names of the experiments that are compared."""
    return sorted({record.experiment for record in found.records})


def identity(found: Comparison) -> str:
    """Follows from the experiments alone: a comparison takes the place of the one before."""
    return wandb_run.COMPARE + hashlib.sha256("/".join(experiments(found)).encode()).hexdigest()[:16]


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
    return min(r.run.path.resolve().parent for r in found.records if r.experiment == first)


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


def label(row: Row) -> str:
    """A row in a chart: `resnet18 batch`."""
    return " ".join(row.settings.values())


def _tables(found: Comparison) -> dict[str, Any]:
    """Raw values: shares between 0 and 1, what is missing is None."""
    import wandb

    said = plain(found)
    headers, rows = table(found)
    effects = [
        [
            *(effect[key] for key in ("axis", "value", "baseline", "family")),
            *((effect["size"] or {}).get(key) for key in ("mean", "low", "high")),
            *(effect[key] for key in ("p", "pairs", "words")),
        ]
        for effect in said["effects"]
    ]
    figures = list(said["figures"])
    runs = [
        [
            *(run[key] for key in ("name", "experiment", "state", "seed")),
            *run["settings"].values(),
            *(run["figures"].get(key) for key in figures),
            *(run[key] for key in ("error", "url")),
        ]
        for run in said["runs"]
    ]
    of_effects = ["axis", "value", "baseline", "family", "difference", "low", "high", "p", "pairs", "words"]
    of_runs = ["name", "experiment", "state", "seed", *found.columns, *figures, "error", "url"]
    return {
        f"compare/{name}": wandb.Table(columns=columns, data=data)
        for name, columns, data in (
            ("configurations", headers, rows),
            ("effects", of_effects, effects),
            ("runs", of_runs, runs),
        )
    }


def _charts(found: Comparison) -> dict[str, Any]:
    """What W&B draws by itself; columns of their own, as Vega takes a dot in a name for a path."""
    import wandb

    metric, charts = found.metric, {}
    shown = " ".join(filter(None, (metric.label, metric.unit)))
    scored = [(row, row.score.mean * metric.scale) for row in found.rows if row.score is not None]
    if scored:
        bars = wandb.Table(["configuration", "value"], [[label(row), value] for row, value in scored])
        charts["charts/by_configuration"] = wandb.plot.bar(bars, "configuration", "value", title=shown)
    points = [
        [label(row), row.members[0].family, params, value]
        for row, value in scored
        if (params := row.mean("params")) is not None
    ]
    if points:
        charts["charts/against_params"] = wandb.plot.scatter(
            wandb.Table(["configuration", "family", "parameters", "value"], points),
            "parameters",
            "value",
            title=f"{shown} against parameters",
        )
    kind, curves = _curves(found)
    if curves:
        charts["charts/learning_curves"] = wandb.plot.line_series(
            [list(range(len(values))) for values in curves.values()],
            list(curves.values()),
            keys=list(curves),
            title=f"val acc %, mean by {kind}",
            xname="epoch",
        )
    return charts


def _curves(found: Comparison) -> tuple[str, dict[str, list[float]]]:
    """Learning curves on val in percent, mean by family; by configuration where there is one family alone."""
    families: dict[str, list[Record]] = {}
    for row in found.rows:
        for member in row.members:
            families.setdefault(member.family, []).extend(member.finished)
    kind, groups = "family", families
    if len(families) < 2:
        rows = found.rows[:LINES]
        kind, groups = (
            "configuration",
            {label(row): [r for m in row.members for r in m.finished] for row in rows},
        )
    curves = {name: mean_curve(records) for name, records in groups.items()}
    return kind, {name: curve for name, curve in curves.items() if curve}


def mean_curve(records: Sequence[Record]) -> list[float]:
    """Mean val accuracy of each epoch in percent, up to the last that all of the runs have."""
    curves = [[100 * row["val/acc"] for row in r.run.rows() if "val/acc" in row] for r in records]
    return [fmean(values) for values in zip(*filter(None, curves), strict=False)]


def _media(images: Mapping[str, Path], page: Path | None) -> dict[str, Any]:
    import wandb

    media: dict[str, Any] = {f"figures/{name}": wandb.Image(str(path)) for name, path in images.items()}
    if page is not None:
        media["page"] = wandb.Html(page.read_text(encoding="utf-8"), inject=False, data_is_not_path=True)
    return media
