"""Intervals and p-values agree with scipy.stats where it has them, and have their nominal coverage."""

import random
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest
from made_runs import make_run
from scipy import stats

from cnnbench.comparison.statistics import estimate, holm

VALUES = [0.91, 0.93, 0.9, 0.95, 0.92]


def test_one_stratum_is_students_t():
    found, right = estimate([VALUES]), stats.ttest_1samp(VALUES, 0)
    low, high = right.confidence_interval(0.95)
    assert (found.mean, found.n) == (pytest.approx(fmean(VALUES)), 5)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p == pytest.approx(right.pvalue)


def test_pairs_are_the_paired_t_test():
    other = [0.90, 0.91, 0.91, 0.92, 0.9]
    found = estimate([[a - b for a, b in zip(VALUES, other, strict=True)]])
    assert found.p == pytest.approx(stats.ttest_rel(VALUES, other).pvalue)


def test_two_strata_are_welchs_test():
    """Twice the mean of the strata a and -b is the difference of the means of a and b."""
    a, b = [1.2, 1.9, 1.4], [0.2, 0.9, 0.4, 0.8]
    found, right = estimate([a, [-value for value in b]]), stats.ttest_ind(a, b, equal_var=False)
    low, high = right.confidence_interval(0.95)
    assert found.p == pytest.approx(right.pvalue)
    assert (2 * found.low, 2 * found.high) == (pytest.approx(low), pytest.approx(high))


def test_strata_count_the_same_whatever_their_size():
    assert estimate([[1.0, 1.0, 1.0, 1.2], [3.0, 3.1]]).mean == pytest.approx((1.05 + 3.05) / 2)


def test_a_stratum_of_one_makes_the_strata_the_unit():
    found, right = estimate([[1.0], [2.0, 4.0], [2.0]]), stats.ttest_1samp([1.0, 3.0, 2.0], 0)
    assert (found.n, found.p) == (4, pytest.approx(right.pvalue))


@pytest.mark.parametrize("strata", [[[0.9]], [[0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]])
def test_where_nothing_tells_the_spread_there_is_no_interval(strata):
    found = estimate(strata)
    assert (found.low, found.high, found.p) == (None, None, None)


def test_equal_accuracies_are_no_certainty():
    """Two seeds with 355 of 360 images right each: the next one may well have 354."""
    found = estimate([[355 / 360] * 2], rounding=1 / 360 / 12**0.5)
    assert found.low < 354 / 360
    assert found.high > 356 / 360


def test_the_rounding_is_a_floor_and_not_a_surcharge():
    assert estimate([VALUES], rounding=1e-4) == estimate([VALUES])


def test_holm():
    """p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") of R gives 0.03 0.06 0.06 0.02."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("n", [2, 3, 10])
def test_intervals_hold_the_mean_as_often_as_they_say(n):
    draw = random.Random(n)
    samples = [estimate([[draw.gauss(1, 1) for _ in range(n)]]) for _ in range(4000)]
    held = fmean(found.low <= 1 <= found.high for found in samples)
    assert 0.935 < held < 0.965  # four standard deviations of the count


def test_no_effect_is_shown_in_one_of_twenty_tests():
    """Six strata of three values, with very different variances."""
    draw = random.Random(0)
    wrong = fmean(
        estimate([[draw.gauss(0, 10**-k) for _ in range(3)] for k in range(6)]).p < 0.05 for _ in range(4000)
    )
    assert wrong < 0.065


def test_the_simulation_of_the_docs_runs(tmp_path):
    """`benchmarks/coverage.py` on runs of one network, with a few samples: every row has its nine figures."""
    for seed in range(50):
        make_run(tmp_path / "runs", seed=seed, test=0.9 + seed / 1000, figures={"data/test": 360})
    script = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
    command = [sys.executable, script, tmp_path / "runs", "--trials", "20", "--studies", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert {len(row) for row in rows} == {10}
    names = [row[0].removeprefix("| ") for row in rows]
    assert names[1:3] == ["normal", "vgg11 on digits"]
    assert names[-1] == "normal, 10 architectures against the best on val"
