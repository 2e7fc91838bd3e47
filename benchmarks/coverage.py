"""Coverage of the confidence intervals of `cnnbench compare`, and its rate of false positives.

    cnnbench train -m experiment=seeds
    cnnbench train -m experiment=seeds data=fashion_mnist
    python benchmarks/coverage.py outputs/seeds

Many runs that differ only in the seed stand for the population of all seeds: their mean is the true value,
and samples drawn from them with replacement stand for experiments with n seeds. Normal noise is simulated,
too. Prints Markdown.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from rich.progress import track

from cnnbench.comparison.configurations import Configuration, pooled
from cnnbench.comparison.effects import effects
from cnnbench.comparison.metrics import figure
from cnnbench.comparison.records import Record, read
from cnnbench.comparison.statistics import estimate
from cnnbench.run_store.run import Run

SEEDS = range(2, 11)
CORRELATION = 0.9
"""Correlation of a run's accuracies on val and test, for the baseline that is best on val."""
FAMILIES = ("alexnet", "vgg", "inception", "resnet", "efficientnet", "mobilenet")
VALUES = ("batch", "group", "layer", "instance", "none")

Draw = Callable[[int], list[float]]


def main() -> None:
    """Simulate, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path, help="runs of many seeds")
    parser.add_argument("--trials", type=int, default=20_000, help="samples for each coverage")
    parser.add_argument("--studies", type=int, default=1_000, help="studies for each error rate")
    args = parser.parse_args()
    random.seed(0)
    sources: dict[str, tuple[Draw, float, float]] = {"normal": (_normal, 0.0, 0.0)}
    for configuration in pooled(read(args.paths)):
        values = configuration.values("test/acc")
        if len(values) < 50:
            continue
        name = f"{configuration.settings['arch.name']} on {configuration.settings['data.name']}"
        rounding = 1 / configuration.finished[0].figures["data/test"] / 12**0.5
        sources[name] = (_resampled(values), fmean(values), rounding)
        print(
            f"{name}: {len(values)} seeds, {100 * fmean(values):.2f} ± {100 * stdev(values):.2f} %, "
            f"{100 * min(values):.2f} to {100 * max(values):.2f} %"
        )
    print("\n| 95 % intervals that contain the mean (%) | " + " | ".join(f"n = {n}" for n in SEEDS) + " |")
    print("|---|" + "---|" * len(SEEDS))
    for name, (draw, truth, rounding) in track(sources.items(), "coverage", transient=True):
        shares = [coverage(draw, truth, rounding, n, args.trials) for n in SEEDS]
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in shares) + " |")
    print("\n| studies without an effect that show one (%) | " + " | ".join(f"n = {n}" for n in SEEDS) + " |")
    print("|---|" + "---|" * len(SEEDS))
    for name, (draw, _, rounding) in track(sources.items(), "errors", transient=True):
        rates = [false_findings(draw, rounding, n, args.studies) for n in SEEDS]
        for i, scope in enumerate(("over families", "within families")):
            print(f"| {name}, {scope} | " + " | ".join(f"{100 * rate[i]:.1f}" for rate in rates) + " |")
    for count in (3, 6, 10):
        shares = [false_winners(count, n, args.studies) for n in SEEDS]
        cells = " | ".join(f"{100 * share:.1f}" for share in shares)
        print(f"| normal, {count} architectures against the best on val | {cells} |")


def _normal(n: int) -> list[float]:
    return [random.gauss(0, 0.01) for _ in range(n)]


def _resampled(values: Sequence[float]) -> Draw:
    return lambda n: random.choices(values, k=n)


def coverage(draw: Draw, truth: float, rounding: float, n: int, trials: int) -> float:
    """Return the share of intervals from n seeds that contain the true value."""
    held = 0
    for _ in range(trials):
        interval = estimate([draw(n)], rounding)
        low, high = interval.low, interval.high
        held += low is not None and high is not None and low <= truth <= high
    return held / trials


def false_findings(draw: Draw, rounding: float, n: int, studies: int) -> tuple[float, float]:
    """Simulate studies of 6 families x 5 values x n seeds, all from one distribution.

    Returns:
        The shares of studies that show an effect over families, and one within a family.
    """
    metric = figure("test/acc")
    wrong = [0, 0]
    for _ in range(studies):
        cells = [_cell(family, value, draw(n)) for family in FAMILIES for value in VALUES]
        tested = effects(cells, ["arch.name", "ops.norm"], [], metric, rounding, {}, only=["ops.norm"])
        wrong[0] += any(effect.shown for effect in tested if effect.families > 1)
        wrong[1] += any(effect.shown for effect in tested if effect.families == 1)
    return wrong[0] / studies, wrong[1] / studies


def false_winners(architectures: int, n: int, studies: int) -> float:
    """Return the share of studies of equal architectures in which one differs from the best on val."""
    metric = figure("test/acc")
    wrong = 0
    for _ in range(studies):
        cells = []
        for i in range(architectures):
            test = _normal(n)
            noise = (1 - CORRELATION**2) ** 0.5
            val = [CORRELATION * x + noise * e for x, e in zip(test, _normal(n), strict=True)]
            cells.append(_cell(f"net{i}", "batch", test, val))
        wrong += any(effect.shown for effect in effects(cells, ["arch.name"], [], metric, 0.0, {}))
    return wrong / studies


def _cell(arch: str, norm: str, tests: Sequence[float], vals: Sequence[float] = ()) -> Configuration:
    settings = {"arch.name": arch, "ops.norm": norm}
    pairs = zip(tests, vals or tests, strict=True)
    return Configuration(settings, [_record(settings, str(i), *pair) for i, pair in enumerate(pairs)])


def _record(settings: dict[str, str], seed: str, test: float, val: float) -> Record:
    return Record(
        run=Run(Path()),
        verb="train",
        state="finished",
        experiment="",
        seed=seed,
        settings=settings,
        select=(),
        figures={"test/acc": test, "best/val_acc": val},
        status={},
        command=(),
        split="",
        problems=(),
    )


if __name__ == "__main__":
    main()
