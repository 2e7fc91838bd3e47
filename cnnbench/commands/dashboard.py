"""`cnnbench dashboard [PATH …]`: a saved workspace at W&B, laid out for what was varied in these runs.

Without a server it is written as JSON: the specification that `--save` sends. The file also remembers where a
workspace was saved, so that the same command updates it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench import console
from cnnbench.comparison.comparison import Comparison, compare
from cnnbench.comparison.metrics import DEFAULT, VAL
from cnnbench.comparison.records import read
from cnnbench.errors import InputError, reason
from cnnbench.run_store.files import write_where_asked
from cnnbench.run_store.find import outputs, sorted_words
from cnnbench.tracking import wandb_run

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

COLUMNS = 24
"""Of W&B's grid."""

SHOWN, BARS = 1000, 100
"""Runs and bars of a panel, at the least: a workspace outlives the runs that there are when it is made."""


def main(arguments: list[str]) -> int:
    """Write the specification, and with `--save` save it at W&B; 1 if that cannot be done."""
    parser = argparse.ArgumentParser(
        "cnnbench dashboard",
        usage="cnnbench dashboard [PATH …] [--save] [--project P] [--entity E] [--name N] [--out FILE]",
        description="Lay out a W&B workspace for these runs: accuracy against parameters, bars for each op "
        "that was varied, learning curves, parallel coordinates, differences. Writes its specification; "
        "--save saves it at W&B, once more in the place of the one before.",
        epilog="example: cnnbench dashboard outputs/ablation_norm --save",
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help=f"folders of runs (default: {outputs()})"
    )
    parser.add_argument("--project", metavar="P", default="cnnbench", help="default: cnnbench")
    parser.add_argument("--entity", metavar="E", help="a user or team (default: yours)")
    parser.add_argument("--name", metavar="N", help="of the workspace (default: the experiment's)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: dashboard.json in the first PATH")
    parser.add_argument("--save", action="store_true", help="save it at W&B")
    asked = parser.parse_args(arguments)
    if conditions := sorted_words(map(str, asked.paths))[1]:
        raise InputError(
            f"{conditions[0]}: a workspace shows all runs of an experiment; allowed: folders of runs "
            "(filter them in the workspace, or name a folder with fewer)"
        )
    wandb_run.check_place(asked.project, asked.entity)
    paths: list[Path] = asked.paths or [Path(outputs())]
    out: Path = asked.out or paths[0] / "dashboard.json"
    check_installed()
    if asked.save:
        wandb_run.check_url()
    found = compare(read(paths))
    groups = sorted({record.experiment for record in found.records})
    name = asked.name if asked.name is not None else ", ".join(groups)[:100]
    before = _before(out, asked.out is not None)
    workspace = lay_out(found, groups, name, asked.project, asked.entity or "")
    _write(out, workspace, before)  # before it is saved: what cannot be written would not be known again
    if not asked.save:
        again = f"cnnbench dashboard {' '.join(map(str, paths))} --save"
        console.out.print(f"written: {out}\nto save it at W&B: wandb login, then {again}", highlight=False)
        return 0
    try:
        _check_server()
        url = save(workspace, before)
    except InputError as error:
        console.console.print(
            f"not saved: {error}", style="yellow", highlight=False, markup=False, soft_wrap=True
        )
        console.out.print(f"written: {out}; the same command saves it later", highlight=False, soft_wrap=True)
        return 1
    _write(out, workspace, url)
    console.out.print(f"saved: {url}\nwritten: {out}", highlight=False, soft_wrap=True)
    return 0


def check_installed() -> None:
    """Find out whether wandb-workspaces is there.

    Raises:
        InputError: it is not.
    """
    import importlib.util

    if not importlib.util.find_spec("wandb_workspaces"):
        raise InputError("cnnbench dashboard: not installed; run `pip install 'cnnbench[dashboard]'`")


def lay_out(found: Comparison, groups: Sequence[str], name: str, project: str, entity: str) -> Workspace:
    """The workspace, not yet saved.

    Raises:
        InputError: a name that W&B does not take.
    """
    import wandb_workspaces.workspaces as ws
    from pydantic import ValidationError

    shown = max(SHOWN, len(found.records))
    names = ", ".join(map(_quoted, groups))
    runs = f'Metric("JobType") == "train" and Metric("Group") in [{names}]'
    try:
        return ws.Workspace(
            entity=entity,
            project=project,
            name=name,
            sections=[_accuracy(found), _curves(found), _choices(found)],
            settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=shown),
            runset_settings=ws.RunsetSettings(
                filters=runs,
                order=[ws.Ordering(ws.Summary(VAL), ascending=False)],
                pinned_columns=[f"summary:{key}" for key in dict.fromkeys((found.metric.key, VAL, "params"))],
            ),
        )
    except ValidationError as error:
        raise InputError(f"--name {name}: {reason(error.errors()[0])}") from None


def _quoted(text: str) -> str:
    """A string in the library's language of filters, which changes `=` and quotes also within strings."""
    safe = (c if c.isascii() and (c.isalnum() or c in "._-") else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(safe)}"'


def varied(found: Comparison) -> list[str]:
    """The settings that differ among the runs, with those that were tuned."""
    return list(dict.fromkeys([*found.axes, *(axis for axis in found.columns if axis in found.select)]))


def _accuracy(found: Comparison) -> Section:
    """Accuracy against parameters, and a bar with its deviation for each value of an op that was varied."""
    import wandb_workspaces.reports.v2 as wr

    metric = found.metric
    panels: list[Any] = [
        wr.ScatterPlot(
            title=f"{metric.label} against parameters",
            x=wr.SummaryMetric("params"),
            y=wr.SummaryMetric(metric.key),
            log_x=True,
        )
    ]
    axes = [axis for axis in varied(found) if axis == "arch.name" or axis.startswith("ops.")]
    panels += [
        wr.BarPlot(
            title=f"{metric.label} by {axis.removesuffix('.name')}: mean and standard deviation",
            metrics=[metric.key],
            orientation="v",
            groupby=wr.Config(axis),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            max_runs_to_show=max(SHOWN, len(found.records)),
            max_bars_to_show=BARS,
        )
        for axis in axes
    ]
    return _section("Accuracy", panels, across=2)


def _curves(found: Comparison) -> Section:
    """Learning curves, a line with its deviation for each family of architectures.

    Of one family alone a line for each of its architectures, of one of these for each value that was varied.
    """
    import wandb_workspaces.reports.v2 as wr

    axes = varied(found)
    axis = "arch.name" if "arch.name" in axes or not axes else axes[0]
    if len({one.family for one in found.configurations}) > 1:
        axis = "family"
    panels = [
        wr.LinePlot(
            title=f"{key} by {axis.removesuffix('.name')}: mean and standard deviation",
            x="epoch",
            y=[key],
            groupby=wr.Config(axis),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            max_runs_to_show=max(SHOWN, len(found.records)),
        )
        for key in ("val/acc", "train/acc", "val/loss", "train/loss")
    ]
    return _section("Learning curves", panels, across=2)


def _choices(found: Comparison) -> Section:
    """What was varied against what came out, and the runs side by side."""
    import wandb_workspaces.reports.v2 as wr

    keys = dict.fromkeys((VAL, found.metric.key, DEFAULT))
    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(axis)) for axis in varied(found)]
    columns += [wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(key)) for key in keys]
    panels = [
        wr.ParallelCoordinatesPlot(title="what was varied, and val accuracy", columns=columns),
        wr.RunComparer(diff_only="split"),
    ]
    return _section("Choices", panels, across=1)


def _section(name: str, panels: Sequence[Any], across: int) -> Section:
    """Panels in rows; without a place each they would lie on top of each other."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    width, height = COLUMNS // across, 8
    for i, panel in enumerate(panels):
        panel.layout = wr.Layout(x=i % across * width, y=i // across * height, w=width, h=height)
    rows = -(-len(panels) // across)
    layout = ws.SectionLayoutSettings(columns=across, rows=rows)
    return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)


def _check_server() -> None:
    """Find out whether W&B can be reached and takes the key.

    Raises:
        InputError: it cannot, or does not.
    """
    if reason := wandb_run.unreachable():
        raise InputError(reason)
    wandb_run.check_key("--save", verify=True)  # of a key that it has looked at once W&B believes it is right


def save(workspace: Workspace, before: str) -> str:
    """Save it at W&B, in the place of an earlier one if there is one; its address.

    Raises:
        InputError: W&B does not take it.
    """
    import wandb

    try:
        workspace.entity = workspace.entity or str(wandb.Api().default_entity or "")
        old = _saved(before) if before else None
        if old is not None and (old.entity, old.project) == (workspace.entity, workspace.project):
            old.name, old.sections = workspace.name, workspace.sections
            old.settings, old.runset_settings = workspace.settings, workspace.runset_settings
            return str(old.save().url)
        return str(workspace.save().url)
    except Exception as error:  # of two libraries and any server, which share no class
        raise InputError(f"--save: W&B does not take it: {' '.join(str(error).split())}") from None


def _saved(url: str) -> Workspace | None:
    """The workspace that was saved before; None if it is there no more."""
    import wandb_workspaces.workspaces as ws

    try:
        return ws.Workspace.from_url(url)
    except ValueError:
        return None


def _before(out: Path, asked: bool) -> str:
    """Where the workspace of an earlier call was saved; empty if it was not.

    Raises:
        InputError: the file is not one of ours, or cannot be written.
    """
    option = "--out " if asked else ""
    if not out.absolute().parent.is_dir():
        raise InputError(f"{option}{out}: its folder does not exist")
    try:
        found = json.loads(out.read_text(encoding="utf-8"))
        return str(found["url"] or "") if {"spec", "url"} <= found.keys() else ""
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, AttributeError) as error:
        what = error.strerror if isinstance(error, OSError) else "is no dashboard, and is not overwritten"
        raise InputError(f"{option}{out}: {what}; --out FILE names another") from None


def _write(out: Path, workspace: Workspace, url: str) -> None:
    view = workspace._to_model()  # what `save` sends; the package has no public way to it
    said = {
        "url": url or None,
        "entity": workspace.entity or None,
        "project": workspace.project,
        "name": workspace.name,
        "spec": view.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    try:
        write_where_asked(out, json.dumps(said, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
