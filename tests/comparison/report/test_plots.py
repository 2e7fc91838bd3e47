"""Plots of measurements show the measured numbers."""

import itertools

import pytest
from made_runs import make_measurement, make_run

from cnnbench.comparison.comparison import Options, compare
from cnnbench.comparison.records import record
from cnnbench.comparison.report.plots import measured, responses, trained
from cnnbench.comparison.report.plots.draw import write
from cnnbench.pages.plot_style import logarithmic

pytest.importorskip("matplotlib")

PEAK, COPIED = 1e11, 1e10
LATENCY = {"vgg11": 4.0, "resnet18": 10.0}


@pytest.fixture
def measure(tmp_path):
    """A measurement as `cnnbench bench` leaves it."""

    def made(arch, backend, threads, seed):
        ms = LATENCY[arch] / threads * (0.5 if backend == "compile" else 1.0) * (1 + 0.01 * seed)
        figures = {"roofline/flop_per_byte": 3.0 if arch == "vgg11" else 50.0, "time/flops": 1e11 / ms}
        figures |= {"time/ceiling_flops": PEAK * threads, "time/ceiling_bytes_per_s": COPIED * threads}
        return make_measurement(
            tmp_path, arch=arch, backend=backend, threads=threads, seed=seed, ms=ms, figures=figures
        )

    return made


@pytest.fixture
def cells(measure):
    return [
        measure(arch, backend, threads, seed)
        for arch in LATENCY
        for backend in ("eager", "compile")
        for threads in (1, 2)
        for seed in (0, 1)
    ]


def drawn(pictures):
    from matplotlib.figure import Figure

    found = {}
    for name, size, draw in pictures:
        axes = Figure(figsize=size).add_subplot()
        draw(axes)
        found[name] = axes
    return found


def test_each_model_is_a_line_and_each_way_a_marker(cells):
    found = drawn(measured.pictures(compare(cells)))
    assert set(found) == {"latency-p50-ms", "inference-images-s", "roofline"}
    axes = found["latency-p50-ms"]
    models = [label.get_text() for label in axes.get_yticklabels()]
    assert models == ["vgg11", "resnet18"], "the fastest first"
    _, ways = axes.get_legend_handles_labels()
    assert ways == [f"{backend}, threads={threads}" for backend in ("compile", "eager") for threads in (1, 2)]
    eager = axes.containers[2].lines[0]
    assert list(eager.get_xdata()) == pytest.approx([4.02, 10.05]), "means of the repeats"
    assert [round(y) for y in eager.get_ydata()] == [0, 1]
    low, high = axes.containers[2].lines[2][0].get_segments()[0][:, 0]
    assert low < 4.0 < 4.04 < high, "95 % of two repeats reach beyond them"


def test_the_roofline_is_what_the_device_allows(cells):
    axes = drawn(measured.pictures(compare(cells)))["roofline"]
    roofs = {line.get_label(): line for line in axes.lines if str(line.get_label()).startswith("roofline")}
    assert set(roofs) == {"roofline (threads=1)", "roofline (threads=2)"}
    for threads in (1, 2):
        x, y = roofs[f"roofline (threads={threads})"].get_data()
        assert x[1] == pytest.approx(PEAK / COPIED)
        assert list(y) == pytest.approx([min(PEAK * threads, at * COPIED * threads) for at in x])
    points = [tuple(line.get_data()) for line in axes.lines if len(line.get_xdata()) == 1]
    assert len(points) == 8, "a configuration each"
    assert {x[0] for x, _ in points} == {3.0, 50.0}


@pytest.mark.parametrize("by", ["backend", "arch.name"])
def test_pooled_rows(cells, by, tmp_path):
    found = compare(cells, Options(by=(by,)))
    axes = drawn(measured.pictures(found))["latency-p50-ms"]
    models = [label.get_text() for label in axes.get_yticklabels()]
    assert models == (["all models"] if by == "backend" else ["vgg11", "resnet18"])
    row = next(row for row in found.rows if "eager" in row.settings.values() or by != "backend")
    drawn_at = {round(line.get_xdata()[0], 6) for line in (c.lines[0] for c in axes.containers)}
    assert round(row.score.mean, 6) in drawn_at, "the same mean as in the table"
    assert any(path.name == "roofline.png" for path in write(found, tmp_path / "plots"))


def test_one_way_of_one_model(measure, tmp_path):
    """A single measurement, without any axis, has a plot without a legend."""
    written = write(compare([measure("vgg11", "eager", 1, 0)]), tmp_path / "plots")
    assert [path.stem for path in written] == ["latency-p50-ms", "inference-images-s", "roofline"]
    assert ">vgg11<" in (tmp_path / "plots" / "latency-p50-ms.svg").read_text()


def test_accuracy_over_each_latency(measure, tmp_path):
    """A trained run has the latencies of its model; see `cnnbench.comparison.measured`."""
    cells = [measure(arch, "eager", threads, 0) for arch in LATENCY for threads in (1, 2)]
    runs = [record(make_run(tmp_path / "trained", arch=arch)) for arch in LATENCY]
    found = drawn(trained.pictures(compare([*runs, *cells])))
    axes = found["test-acc-latency-p50-ms--threads-1-"]
    assert sorted(container.lines[0].get_xdata()[0] for container in axes.containers) == [4.0, 10.0]
    assert "test-acc-latency-p50-ms--threads-2-" in found
    assert "learning-curves" in found


@pytest.mark.parametrize("most", [4.1, 8.0, 70.0, 3000.0, 3e7, 3e12])
def test_labels_of_a_logarithmic_axis_have_room(most):
    from matplotlib.figure import Figure

    axes = Figure(figsize=(5, 3)).add_subplot()
    logarithmic(axes, "x")
    axes.set_xlim(3.2, most)
    axes.figure.canvas.draw()
    labels = [label for label in axes.get_xticklabels() if 3.2 <= label.get_position()[0] <= most]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) >= 3
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_curves_over_a_setting(tmp_path):
    """A marker for each mean, the best named, and a cross at the bottom where runs diverged."""
    rates = (0.001, 0.01, 0.1, 1.0)
    runs = [
        make_run(tmp_path, arch=arch, lr=lr, seed=seed, val=0.9 - (lr - best) ** 2 + seed / 100,
                 state="diverged" if lr == 1 else "finished")
        for arch, best in (("vgg11", 0.01), ("resnet18", 0.1)) for lr in rates for seed in (0, 1)
    ]  # fmt: skip
    comparison = compare([record(run) for run in runs], Options(select=("optimizer.lr",)))
    axes = drawn(responses.pictures(comparison))["over-optimizer-lr"]
    assert axes.get_xscale() == "log"
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["vgg11"].get_xdata()) == [0.001, 0.01, 0.1]
    assert list(lines["vgg11"].get_ydata())[1] == pytest.approx(90.5)
    assert {text.get_text() for text in axes.texts} == {"best: 0.01", "best: 0.1"}
    crosses = [line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [float(line.get_xdata()[0]) for line in crosses] == [1.0, 1.0]
    heights = sorted(float(line.get_ydata()[0]) for line in crosses)
    assert heights[0] < heights[1] < 0.15, "of two curves above each other, at the bottom"
