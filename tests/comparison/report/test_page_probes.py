"""What probes measured on the page: means over the runs of a row, and charts that can be chosen."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from page_support import until
from running import TINY

from cnnbench.cli import main
from cnnbench.comparison.comparison import compare
from cnnbench.comparison.records import read
from cnnbench.comparison.report import probes
from cnnbench.comparison.report.plots import fields
from cnnbench.comparison.report.probes import _field, _series, probed_rows
from cnnbench.run_store.probes import Table

PROBES = ["probes=[activations,landscape,field]", "probes.activations.every=2", "probes.landscape.every=2"]


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """Two norms, two seeds."""
    folder = tmp_path_factory.mktemp("probed")
    for norm in ("batch", "none"):
        for seed in (0, 1):
            words = [f"output_dir={folder}", f"ops.norm={norm}", f"seed={seed}", "trainer.max_epochs=1"]
            assert main(["train", *TINY, *PROBES, *words]) == 0
    return folder


def test_means_over_runs_of_the_same_steps_and_thinned_for_the_page(monkeypatch):
    def table(add, last=20):
        steps = (step for step in range(0, last + 1, 10))
        return Table(
            ["step", "layer", "dead"],
            [[s, layer, s + add + i] for s in steps for i, layer in enumerate("ab")],
        )

    series = _series([table(0), table(4), table(100, last=10)])  # the third was cut short
    assert (series["about"], series["steps"], series["things"]) == ("layer", [0, 10, 20], ["a", "b"])
    assert (series["runs"], series["quantities"]["dead"]) == (2, [[2, 12, 22], [3, 13, 23]])
    monkeypatch.setattr(probes, "MOST_STEPS", 2)
    assert _series([table(0)])["quantities"]["dead"] == [[0, 20], [1, 21]]
    pixels = [[i, j, float(i == j), float(i + j)] for i in range(4) for j in range(4)]
    field = Table(["row", "column", "start", "end"], pixels)
    assert _field([field, field])["start"] == [[100 * (i == j) for j in range(4)] for i in range(4)]
    monkeypatch.setattr(probes, "MOST_PIXELS", 2)
    assert _field([field])["end"] == [[20, 60], [60, 100]]


@pytest.mark.slow
def test_a_plot_of_the_fields_side_by_side(probed):
    comparison = compare(read([probed]))
    ((name, _, draw),) = fields.pictures(comparison)
    axes = Figure().add_subplot()
    draw(axes)
    assert name == "effective-fields"
    expected = [row["field"][when] for row in probed_rows(comparison) for when in ("start", "end")]
    shown = [panel.images[0].get_array() for panel in axes.child_axes]
    assert len(shown) == 4
    assert all(np.array_equal(one, other) for one, other in zip(shown, expected, strict=True))
    sizes = [r.run.summary()["field/start"] for r in comparison.rows[0].records]
    assert axes.child_axes[0].get_xlabel() == f"{sum(sizes) / len(sizes):.1f} px"


@pytest.mark.slow
def test_rows_have_means_over_their_runs(probed):
    comparison = compare(read([probed]))
    found = probed_rows(comparison)
    assert [one["row"] for one in found] == [0, 1]
    for one in found:
        tables = [r.run.content().measured_probes for r in comparison.rows[one["row"]].records]
        series = one["series"]["activations"]
        assert series["runs"] == len(tables) == 2
        mean = np.mean([table["activations"].column("deviation") for table in tables], 0)
        shape = (len(series["steps"]), len(series["things"]))
        assert np.allclose(np.array(series["quantities"]["deviation"]).T, mean.reshape(shape), rtol=1e-3)
        assert np.max(one["field"]["end"]) == 100


@pytest.mark.slow
def test_quantities_are_chosen_on_the_page(show, probed, tmp_path):
    tab = show(Path(shutil.copytree(probed, tmp_path / "runs")))
    assert tab.is_visible("#probes svg[role=img]")
    for choice in ("activations: dead", "landscape: loss", "field: end"):
        tab.select_option("#choose-probe", choice)
        until(tab, "c => document.querySelector('#probes figcaption').innerText.length > 0", choice)
        name = choice.partition(":")[0].replace("field", "receptive field")
        until(tab, "n => document.querySelector('#probes figcaption').innerText.includes(n)", name)
        assert "NaN" not in tab.inner_html("#probes svg[role=img]")
    tab.select_option("#choose-probe", "activations: mean")
    tab.check("#tick-probeMap")
    until(tab, "() => document.querySelector('#probes figcaption').innerText.includes('Dark')")


@pytest.mark.slow
def test_without_probes_there_is_no_such_section(show, runs):
    assert not show(runs).is_visible("#probes")
