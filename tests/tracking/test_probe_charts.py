"""What probes measured, as loggers get it."""

import numpy as np
import wandb

from cnnbench.run_store.probes import Table
from cnnbench.tracking.probe_charts import by_step, heat_map, probe_charts

nan, inf = float("nan"), float("inf")
ACTIVATIONS = Table(
    ["step", "layer", "mean", "dead"],
    [[0, "a", 1.0, nan], [0, "b", 2.0, 0.5], [10, "a", 3.0, nan], [10, "b", inf, 0.25]],
)
FIELD = Table(["row", "column", "start", "end"], [[0, 0, 0.0, 0.1], [0, 1, 1.0, 0.9]])
TRANSLATION = Table(["pixels", "acc", "consistency"], [[0, 0.9, 1.0], [1, 0.8, 0.7]])


def test_scalars_of_each_step_without_what_is_no_number():
    assert list(by_step({"activations": ACTIVATIONS, "field": FIELD})) == [
        (
            0,
            {
                "probes/activations/mean/a": 1.0,
                "probes/activations/mean/b": 2.0,
                "probes/activations/dead/b": 0.5,
            },
        ),
        (10, {"probes/activations/mean/a": 3.0, "probes/activations/dead/b": 0.25}),
    ]


def test_charts_for_wandb():
    charts = probe_charts({"activations": ACTIVATIONS, "field": FIELD, "translation": TRANSLATION})
    assert {key.removeprefix("probes/") for key in charts} == {
        "activations/mean", "activations/mean (map)", "activations/dead", "activations/dead (map)",
        "field/start", "field/end", "translation/acc", "translation/consistency",
    }  # fmt: skip
    assert "layers from the top: b" in charts["probes/activations/dead (map)"]._caption
    rows = charts["probes/activations/mean"].table.data
    assert [10, "a", 3.0] in [list(row) for row in rows]
    assert isinstance(charts["probes/field/end"], wandb.Image)


def test_a_heat_map_goes_from_dark_to_light_and_is_grey_without_a_number():
    image = heat_map(np.array([[0.0, 1.0], [nan, 0.5]]))
    dark, light, none, middle = (image[y, x].astype(int) for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1)))
    assert dark.sum() < middle.sum() < light.sum()
    assert none.tolist() == [128, 128, 128]
    assert heat_map(np.full((1, 3), nan)).shape[2] == 3
