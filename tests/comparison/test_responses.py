"""Responses: which settings have curves, over which axis, and what the curves say."""

import json

import pytest

from cnnbench.comparison.comparison import Options, compare
from cnnbench.comparison.records import read, record
from cnnbench.comparison.report import files
from cnnbench.comparison.report.terminal import picture

RATES = (0.001, 0.01, 0.1, 1.0)
VAL = dict(zip(RATES, (0.7, 0.9, 0.895, 0.5), strict=True))


@pytest.fixture
def rates(run):
    """`rates(…)`: four learning rates and three seeds each; all diverge at 1, and one of three at 0.1."""

    def made(**more):
        return [
            run(
                lr=lr, seed=seed, val=VAL[lr] + seed / 100, select=("optimizer.lr",),
                state="diverged" if lr == 1 or (lr == 0.1 and seed == 2) else "finished", **more,
            )
            for lr in RATES for seed in range(3)
        ]  # fmt: skip

    return made


def found(runs, **options):
    return compare([record(run) for run in runs], Options(**options))


def test_a_tuned_setting_has_all_its_values_and_the_runs_that_diverged(rates):
    (response,) = found(rates()).responses
    (curve,) = response.curves
    assert (response.axis, response.metric.key, curve.name) == ("optimizer.lr", "best/val_acc", "")
    assert [point.value for point in curve.points] == list(RATES)
    assert [point.diverged for point in curve.points] == [0, 0, 1, 3]
    assert curve.points[0].values("best/val_acc") == pytest.approx([0.7, 0.71, 0.72])
    assert curve.points[3].values("best/val_acc") == []
    assert response.logarithmic


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        ((0.25, 0.5, 1, 2), False),
        ((0.01, 0.03, 0.1, 0.3), True),
        ((0, 0.001, 0.01, 0.1), False),
        ((16, 64, 256, 1024), True),
    ],
)
def test_the_axis_is_logarithmic_over_a_wide_range_of_positive_values(run, values, logarithmic):
    (response,) = found([run(width=value) for value in values]).responses
    assert response.axis == "arch.width"
    assert response.values == list(values)
    assert response.logarithmic is logarithmic


def test_few_values_and_words_have_no_curve(run):
    runs = [run(lr=lr, norm=norm) for lr in RATES[:3] for norm in ("batch", "group", "layer", "none")]
    assert found(runs).responses == []


def test_values_that_are_no_numbers_are_left_out_and_named(run):
    runs = [run(clip=value) for value in (None, 0.1, 0.5, 1.0, 5.0)]
    (response,) = found(runs).responses
    assert response.left == ["null"]
    assert response.values == [0.1, 0.5, 1.0, 5.0]


def test_each_choice_of_the_other_settings_is_a_curve_the_best_first(run, rates):
    runs = rates(arch="resnet18")
    runs += [run(arch="vgg11", lr=lr, seed=seed, val=0.92) for lr in RATES for seed in range(3)]
    (response,) = found(runs, select=("optimizer.lr",)).responses
    assert [curve.name for curve in response.curves] == ["vgg11", "resnet18"]
    assert response.joined


def test_points_that_differ_in_more_than_the_setting_are_not_joined(run):
    """As in a search over several settings."""
    runs = [run(lr=lr, width=lr * 3 + i / 7) for i, lr in enumerate(RATES)]
    for response in found(runs).responses:
        assert not response.joined
        (curve,) = response.curves
        assert len(curve.points) == 4
    assert found(runs, select=("optimizer.lr", "arch.width")).findings == []


def test_a_metric_that_was_asked_for_is_the_one_of_the_curve(rates):
    runs = rates()
    assert found(runs, metric="test/acc").responses[0].metric.key == "test/acc"
    assert found(runs, metric="test/acc").findings == [], "a rate is chosen on val"


class TestFindings:
    def test_the_best_on_val_its_noise_and_how_to_use_it(self, run):
        runs = [
            run(lr=lr, seed=seed, val=val + seed / 100, test=1 - val, select=("optimizer.lr",))
            for lr, val in zip(RATES, (0.5, 0.9, 0.895, 0.6), strict=True)
            for seed in range(3)
        ]
        (text,) = found(runs).findings
        assert text == (
            "optimizer.lr: best at 0.01 (val acc 91.00 %); within noise of it: 0.01 to 0.1 "
            "(by the spread of its 3 seeds); to use it: optimizer.lr=0.01"
        )

    def test_a_value_with_diverged_runs_is_never_within_noise(self, rates):
        (text,) = found(rates()).findings
        assert "best at 0.01 " in text
        assert "within noise of it: no other value tried" in text
        assert "diverged: runs at 0.1, 1.0" in text

    def test_a_value_that_collapses_with_some_seeds_is_not_within_noise(self, run):
        vals = {0.01: (0.9, 0.905), 0.1: (0.9, 0.905), 1.0: (0.9, 0.1), 10.0: (0.9, 0.1)}
        runs = [
            run(lr=lr, seed=seed, val=val, select=("optimizer.lr",))
            for lr, pair in vals.items()
            for seed, val in enumerate(pair)
        ]
        (text,) = found(runs).findings
        assert "0.01 to 0.1 " in text

    @pytest.mark.parametrize(("better", "words"), [(0.001, "smallest"), (1.0, "largest")])
    def test_a_best_value_at_the_end_of_the_grid(self, run, better, words):
        vals = [0.9 - abs(i - RATES.index(better)) / 10 for i in range(len(RATES))]
        runs = [
            run(lr=lr, seed=seed, val=val + seed / 100, select=("optimizer.lr",))
            for lr, val in zip(RATES, vals, strict=True)
            for seed in (0, 1)
        ]
        (text,) = found(runs).findings
        assert f"it is the {words} value tried, so try" in text

    def test_one_seed_says_nothing_about_noise(self, run):
        runs = [run(lr=lr, val=VAL[lr], select=("optimizer.lr",)) for lr in RATES]
        (text,) = found(runs).findings
        assert "without several seeds that differ its noise is not known" in text

    def test_runs_that_all_diverged_have_none(self, run):
        runs = [run(lr=lr, state="diverged", select=("optimizer.lr",)) for lr in RATES]
        comparison = found(runs)
        assert len(comparison.responses) == 1
        assert comparison.findings == []

    def test_terminal_and_files_have_them(self, rates, tmp_path):
        rates()
        comparison = compare(read([tmp_path]))
        (text,) = comparison.findings
        assert any(text in str(part) for part in picture(comparison).renderables)
        assert json.loads(files.to_json(comparison))["findings"] == [text]
        assert "best at 0.01" in files.to_markdown(comparison)


def test_the_data_of_the_page(rates, tmp_path):
    rates()
    data = json.loads(files.to_json(compare(read([tmp_path]))))
    (response,) = data["responses"]
    (curve,) = response["curves"]
    assert (curve["best"], curve["within_noise"]) == (0.01, [0.01, 0.01])
    counts = {run["path"]: run["counts"] for run in data["runs"]}
    assert [sum(counts[path] for path in point["runs"]) for point in curve["points"]] == [3, 3, 2, 0]
