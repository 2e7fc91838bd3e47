"""The layout of a W&B workspace for the settings that vary in a comparison, see `cnnbench dashboard`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import DEFAULT, VAL
from cnnbench.errors import InputError, reason

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

COLUMNS = 24
"""The width of W&B's grid."""

SHOWN, BARS = 1000, 100
"""The least number of runs and the number of bars of a panel: later runs must fit into it, too."""


def lay_out(comparison: Comparison, groups: Sequence[str], name: str, project: str, entity: str) -> Workspace:
    """Build the workspace, without saving it.

    Args:
        comparison: the comparison of the runs.
        groups: the experiments whose runs it shows.
        name: the workspace's name.
        project: the W&B project.
        entity: the user or team; empty for the default.

    Raises:
        InputError: W&B rejects the name.
    """
    import wandb_workspaces.workspaces as ws
    from pydantic import ValidationError

    shown = max(SHOWN, len(comparison.records))
    names = ", ".join(map(_quoted, groups))
    runs = f'Metric("JobType") == "train" and Metric("Group") in [{names}]'
    pinned = dict.fromkeys((comparison.metric.key, VAL, "params"))
    try:
        return ws.Workspace(
            entity=entity,
            project=project,
            name=name,
            sections=[_accuracy(comparison), _curves(comparison), _choices(comparison)],
            settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=shown),
            runset_settings=ws.RunsetSettings(
                filters=runs,
                order=[ws.Ordering(ws.Summary(VAL), ascending=False)],
                pinned_columns=[f"summary:{key}" for key in pinned],
            ),
        )
    except ValidationError as error:
        raise InputError(f"--name {name}: {reason(error.errors()[0])}") from None


def _quoted(text: str) -> str:
    """Quote a string for the library's filter expressions, which alter `=` and quotes even in strings."""
    safe = (c if c.isascii() and (c.isalnum() or c in "._-") else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(safe)}"'


def varied(comparison: Comparison) -> list[str]:
    """Return the settings that differ between the runs, including tuned ones."""
    tuned = [axis for axis in comparison.columns if axis in comparison.select]
    return list(dict.fromkeys([*comparison.axes, *tuned]))


def _accuracy(comparison: Comparison) -> Section:
    """Build the section of accuracy against parameters, and of bars for each value of the varied ops."""
    import wandb_workspaces.reports.v2 as wr

    metric = comparison.metric
    panels: list[Any] = [
        wr.ScatterPlot(
            title=f"{metric.label} against parameters",
            x=wr.SummaryMetric("params"),
            y=wr.SummaryMetric(metric.key),
            log_x=True,
        )
    ]
    axes = [axis for axis in varied(comparison) if axis == "arch.name" or axis.startswith("ops.")]
    panels += [
        wr.BarPlot(
            title=f"{metric.label} by {axis.removesuffix('.name')}: mean and standard deviation",
            metrics=[metric.key],
            orientation="v",
            groupby=wr.Config(axis),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            max_runs_to_show=max(SHOWN, len(comparison.records)),
            max_bars_to_show=BARS,
        )
        for axis in axes
    ]
    return _section("Accuracy", panels, across=2)


def _curves(comparison: Comparison) -> Section:
    """Build the section of learning curves, with a line and its standard deviation per family.

    A single family has a line per architecture, a single architecture a line per value of the first axis.
    """
    import wandb_workspaces.reports.v2 as wr

    axes = varied(comparison)
    axis = "arch.name" if "arch.name" in axes or not axes else axes[0]
    if len({one.family for one in comparison.configurations}) > 1:
        axis = "family"
    panels = [
        wr.LinePlot(
            title=f"{key} by {axis.removesuffix('.name')}: mean and standard deviation",
            x="epoch",
            y=[key],
            groupby=wr.Config(axis),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            max_runs_to_show=max(SHOWN, len(comparison.records)),
        )
        for key in ("val/acc", "train/acc", "val/loss", "train/loss")
    ]
    return _section("Learning curves", panels, across=2)


def _choices(comparison: Comparison) -> Section:
    """Build the section of parallel coordinates, from settings to accuracies, and of runs side by side."""
    import wandb_workspaces.reports.v2 as wr

    keys = dict.fromkeys((VAL, comparison.metric.key, DEFAULT))
    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(axis)) for axis in varied(comparison)]
    columns += [wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(key)) for key in keys]
    panels = [
        wr.ParallelCoordinatesPlot(title="varied settings and accuracy", columns=columns),
        wr.RunComparer(diff_only="split"),
    ]
    return _section("Choices", panels, across=1)


def _section(name: str, panels: Sequence[Any], across: int) -> Section:
    """Build a section with its panels in rows; without explicit positions they would overlap."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    width, height = COLUMNS // across, 8
    for i, panel in enumerate(panels):
        panel.layout = wr.Layout(x=i % across * width, y=i // across * height, w=width, h=height)
    rows = -(-len(panels) // across)
    layout = ws.SectionLayoutSettings(columns=across, rows=rows)
    return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)
