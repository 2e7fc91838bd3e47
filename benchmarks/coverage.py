"""How often the intervals of `cnnbench compare` hold the truth, and how often it sees what is not there.

    cnnbench train -m experiment=seeds
    cnnbench train -m experiment=seeds data=fashion_mnist
    python benchmarks/coverage.py outputs/seeds

Many runs that differ in nothing but the seed stand for all seeds: their mean is the truth, and samples drawn
from them (with replacement) are what someone sees who runs n seeds. Beside them, normal noise. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from rich.progress import track

from cnnbench.compare.configurations import Configuration, pooled
from cnnbench.compare.effects import effects
from cnnbench.compare.figures import figure
from cnnbench.compare.records import Record, read
from cnnbench.compare.statistics import estimate
from cnnbench.runs import Run

SEEDS = range(2, 11)
TRIALS = 20_000
STUDIES = 1_000
FAMILIES = ("alexnet", "vgg", "inception", "resnet", "efficientnet", "mobilenet")
VALUES = ("batch", "group", "layer", "instance", "none")

Draw = Callable[[int], list[float]]


def main() -> None:
    """Simulate, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path, help="runs of many seeds")
    random.seed(0)
    sources: dict[str, tuple[Draw, float, float]] = {"normal": (_normal, 0.0, 0.0)}
    for one in pooled(read(parser.parse_args().paths)):
        values = one.values("test/acc")
        if len(values) < 50:
            continue
        name = f"{one.settings['arch.name']} on {one.settings['data.name']}"
        rounding = 1 / one.finished[0].figures["data/test"] / 12**0.5
        sources[name] = (_resampled(values), fmean(values), rounding)
        print(
            f"{name}: {len(values)} seeds, {100 * fmean(values):.2f} ± {100 * stdev(values):.2f} %, "
            f"{100 * min(values):.2f} to {100 * max(values):.2f} %"
        )
    print("\n| 95 % intervals that hold the mean | " + " | ".join(f"n = {n}" for n in SEEDS) + " |")
    print("|---|" + "---|" * len(SEEDS))
    for name, (draw, truth, rounding) in track(sources.items(), "coverage", transient=True):
        shares = [coverage(draw, truth, rounding, n) for n in SEEDS]
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in shares) + " |")
    print("\n| no effect, and one or more is shown | " + " | ".join(f"n = {n}" for n in SEEDS) + " |")
    print("|---|" + "---|" * len(SEEDS))
    for name, (draw, _, rounding) in track(sources.items(), "errors", transient=True):
        rates = [false_findings(draw, rounding, n) for n in SEEDS]
        for i, what in enumerate(("over families", "within families")):
            print(f"| {name}, {what} | " + " | ".join(f"{100 * rate[i]:.1f}" for rate in rates) + " |")


def _normal(n: int) -> list[float]:
    return [random.gauss(0, 0.01) for _ in range(n)]


def _resampled(values: Sequence[float]) -> Draw:
    return lambda n: random.choices(values, k=n)


def coverage(draw: Draw, truth: float, rounding: float, n: int) -> float:
    """The share of intervals from n seeds that hold the truth."""
    held = 0
    for _ in range(TRIALS):
        found = estimate([draw(n)], rounding)
        held += found.low is not None and found.high is not None and found.low <= truth <= found.high
    return held / TRIALS


def false_findings(draw: Draw, rounding: float, n: int) -> tuple[float, float]:
    """The share of studies of 6 families x 5 values x n seeds, all of one distribution, that show an effect.

    Returns:
        Over families, and within them.
    """
    metric = figure("test/acc")
    wrong = [0, 0]
    for _ in range(STUDIES):
        cells = [_cell(family, value, draw(n)) for family in FAMILIES for value in VALUES]
        found = effects(cells, ["arch.name", "ops.norm"], [], metric, rounding, {}, only=["ops.norm"])
        wrong[0] += any(effect.shown for effect in found if effect.families > 1)
        wrong[1] += any(effect.shown for effect in found if effect.families == 1)
    return wrong[0] / STUDIES, wrong[1] / STUDIES


def _cell(family: str, value: str, accuracies: Sequence[float]) -> Configuration:
    settings = {"arch.name": family, "ops.norm": value}
    return Configuration(settings, [_record(settings, str(i), one) for i, one in enumerate(accuracies)])


def _record(settings: dict[str, str], seed: str, accuracy: float) -> Record:
    return Record(Run(Path()), "finished", "", seed, settings, (), {"test/acc": accuracy}, {}, (), "", ())


if __name__ == "__main__":
    main()
