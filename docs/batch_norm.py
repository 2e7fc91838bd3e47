"""The pictures of docs/explanation/batch-norm.md, and what they say, from `experiment=batchnorm_study`.

    python docs/batch_norm.py outputs/batchnorm_study

Writes pictures/batch-norm-*.png and prints a Markdown table: each claim of the two papers, what was measured
for each seed, and whether that agrees. A claim agrees if all seeds do, and disagrees if none does.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent / "pictures"
NETWORKS = {"vgg11": ("without norm", "#d55e00"), "vgg11_bn": ("batch norm", "#0072b2")}
RATE, LARGE = 0.01, 0.1
"""The learning rate at which both networks are compared, and one that is too large without a norm."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Probed:
    """One run of the study."""

    run: Run
    arch: str
    rate: float
    seed: int

    def series(self, probe: str, quantity: str) -> tuple[list[int], list[str], Values]:
        """Return steps, things, and values (steps, things) without things that have none."""
        table = self.run.content().measured_probes[probe]
        steps = list(dict.fromkeys(int(step) for step in table.column("step")))
        things = list(dict.fromkeys(str(thing) for thing in table.column(table.columns[1])))
        values = np.array(table.column(quantity), dtype=float).reshape(len(steps), len(things))
        has = ~np.isnan(values).all(0)
        return steps, [thing for thing, one in zip(things, has, strict=True) if one], values[:, has]


def read(folder: Path) -> list[Probed]:
    """Return the runs that finished, or diverged."""
    runs = []
    for run in find(folder):
        choice = run.choice()
        runs.append(Probed(run, choice["arch"]["name"], choice["optimizer"]["lr"], choice["seed"]))
    return runs


def some(runs: Sequence[Probed], arch: str, rate: float) -> list[Probed]:
    """Return the runs of a network at a rate, by seed."""
    return sorted((r for r in runs if (r.arch, r.rate) == (arch, rate)), key=lambda r: r.seed)


# --- pictures -------------------------------------------------------------------------------------------


def picture(name: str, columns: int, draw: Callable[..., None]) -> None:
    """Draw a row of panels, and write them."""
    figure, axes = plt.subplots(1, columns, figsize=(3.3 * columns, 2.7), layout="constrained")
    draw(*np.atleast_1d(axes))
    for one in np.atleast_1d(axes):
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=8)
    figure.savefig(HERE / f"batch-norm-{name}.png", dpi=130)
    plt.close(figure)
    print(f"written: {HERE / f'batch-norm-{name}.png'}")


def band(axes: Any, x: Sequence[float], lines: Sequence[Values], colour: str, label: str) -> None:
    """Draw the mean over the seeds, and a band from the lowest to the highest."""
    values = np.stack(lines)
    axes.plot(x, values.mean(0), color=colour, lw=1.4, label=label)
    axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)


def training(runs: Sequence[Probed]) -> None:
    """Val accuracy at both rates (arXiv:1502.03167, figure 1a; arXiv:1805.11604, figure 1)."""

    def draw(*panels: Any) -> None:
        for axes, rate in zip(panels, (RATE, LARGE), strict=True):
            for arch, (label, colour) in NETWORKS.items():
                curves = [
                    np.array([100 * row["val/acc"] for row in r.run.rows()]) for r in some(runs, arch, rate)
                ]
                band(axes, range(1, len(curves[0]) + 1), curves, colour, label)
            axes.set(title=f"learning rate {rate}", xlabel="epoch", ylabel="val accuracy %", ylim=(0, 100))
            axes.legend(frameon=False, fontsize=8)

    picture("training", 2, draw)


def distributions(runs: Sequence[Probed]) -> None:
    """Percentiles of what one unit of the last convolution gets (arXiv:1502.03167, figure 1b and c)."""

    def draw(*panels: Any) -> None:
        for axes, (arch, (label, colour)) in zip(panels, NETWORKS.items(), strict=True):
            run = some(runs, arch, RATE)[0]
            for quantity in ("p15", "p50", "p85"):
                steps, things, values = run.series("shift", quantity)
                last = things.index([t for t in things if t.startswith("features")][-1])
                axes.plot(steps, values[:, last], color=colour, lw=1.4)
            axes.set(title=label, xlabel="step", ylabel="15, 50, 85th percentile")

    picture("distributions", 2, draw)


def gradients(runs: Sequence[Probed]) -> None:
    """Change of gradients by the layers before (arXiv:1805.11604, figure 2), means over the chosen layers."""

    def draw(*panels: Any) -> None:
        labels = {
            "moved": "moved by a step",
            "gradient_change": "|G' - G| / |G|",
            "cosine": "cosine of G, G'",
        }
        for axes, (quantity, label) in zip(panels, labels.items(), strict=True):
            for arch, (name, colour) in NETWORKS.items():
                series = [r.series("shift", quantity) for r in some(runs, arch, RATE)]
                band(axes, series[0][0], [values.mean(1) for _, _, values in series], colour, name)
            axes.set(xlabel="step", ylabel=label)
            axes.set_yscale("linear" if quantity == "cosine" else "log")
        panels[0].legend(frameon=False, fontsize=8)

    picture("shift", 3, draw)


def landscape(runs: Sequence[Probed]) -> None:
    """Ranges along the gradient (arXiv:1805.11604, figure 4)."""

    def draw(*panels: Any) -> None:
        for axes, quantity in zip(panels, ("loss", "gradient_change", "smoothness"), strict=True):
            for arch, (label, colour) in NETWORKS.items():
                for r in some(runs, arch, RATE)[:1]:
                    steps, _, values = r.series("landscape", quantity)
                    values = (
                        values if quantity == "loss" else values[:, 1:] if values.shape[1] > 4 else values
                    )
                    if quantity == "smoothness":
                        axes.plot(steps, values.max(1), color=colour, lw=1.4, label=label)
                    else:
                        axes.fill_between(
                            steps, values.min(1), values.max(1), color=colour, alpha=0.5, label=label
                        )
            names = {"loss": "loss along the gradient", "gradient_change": "change of the gradient"}
            axes.set(xlabel="step", ylabel=names.get(quantity, "effective β"), yscale="log")
        panels[0].legend(frameon=False, fontsize=8)

    picture("landscape", 3, draw)


# --- claims ---------------------------------------------------------------------------------------------


def typical(probe: str, quantity: str, reduce: Callable[[Values], Values]) -> Callable[[Probed], float]:
    """Return a function of a run: the median, over the steps after the first, of what `reduce` leaves."""
    return lambda r: float(median(reduce(r.series(probe, quantity)[2][1:]).tolist()))


def drift(r: Probed) -> float:
    """Return how far the median of a unit wanders, in widths from p15 to p85: the mean of all layers."""
    p15, p50, p85 = (r.series("shift", quantity)[2] for quantity in ("p15", "p50", "p85"))
    return float((p50.std(0) / (p85 - p15).mean(0)).mean())


def length(r: Probed) -> float:
    """Return the median, over the steps after the first, of |G' - G|: the mean over layers."""
    size, change = (r.series("shift", quantity)[2] for quantity in ("gradient", "gradient_change"))
    return float(median((size * change)[1:].mean(1).tolist()))


def mean(values: Values) -> Values:
    """Return the mean over layers."""
    return np.asarray(values.mean(1))


def most(values: Values) -> Values:
    """Return the largest value over distances."""
    return np.asarray(np.nanmax(values, 1))


IOFFE, SANTURKAR = "1502.03167", "1805.11604"

CLAIMS: tuple[tuple[str, str, Callable[[Probed], float], str], ...] = (
    (IOFFE, "a step moves distributions less", typical("shift", "moved", mean), "less"),
    (IOFFE, "a unit's median wanders less over the training", drift, "less"),
    (SANTURKAR, "the layers before change a gradient at least as much: length of G' - G", length, "more"),
    (
        SANTURKAR,
        "also relative to the length of G",
        typical("shift", "gradient_change", mean),
        "more",
    ),
    (
        SANTURKAR,
        "and turn it at least as far: 1 - cosine",
        typical("shift", "cosine", lambda values: 1 - mean(values)),
        "more",
    ),
    (
        SANTURKAR,
        "the loss varies less along the gradient",
        typical("landscape", "loss", lambda values: np.asarray(values.max(1) - values.min(1))),
        "less",
    ),
    (SANTURKAR, "the gradient changes less along it", typical("landscape", "gradient_change", most), "less"),
    (SANTURKAR, "effective beta is smaller", typical("landscape", "smoothness", most), "less"),
)
"""Paper, claim, what is measured of a run, and whether batch norm should have less of it or more."""


def accuracies(runs: Sequence[Probed], arch: str, rate: float) -> list[float]:
    """Return test accuracies in percent; of a run that diverged nan."""
    return [100 * r.run.summary().get("test/acc", math.nan) for r in some(runs, arch, rate)]


def claims(runs: Sequence[Probed]) -> None:
    """Print each claim with what was measured."""
    print("| paper | claim on batch norm | without norm | batch norm | ratio by seed | |")
    print("|---|---|---|---|---|---|")
    for rate in (RATE, LARGE):
        without, normed = (accuracies(runs, arch, rate) for arch in NETWORKS)
        shown = " | ".join(", ".join(f"{a:.1f}" for a in one) + " %" for one in (without, normed))
        print(f"| both | test accuracy at the rate {rate} | {shown} | | |")
    for paper, claim, measure, wanted in CLAIMS:
        without, normed = ([measure(r) for r in some(runs, arch, RATE)] for arch in NETWORKS)
        ratios = [b / a for a, b in zip(without, normed, strict=True)]
        holds = [ratio < 1 if wanted == "less" else ratio >= 1 for ratio in ratios]
        verdict = "agrees" if all(holds) else "disagrees" if not any(holds) else "undecided"
        by_seed = ", ".join(f"{ratio:.2g}" for ratio in ratios)
        print(f"| {paper} | {claim} | {fmean(without):.3g} | {fmean(normed):.3g} | {by_seed} | {verdict} |")


def main() -> None:
    """Read the runs, and write everything."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    runs = read(parser.parse_args().folder)
    for draw in (training, distributions, gradients, landscape):
        draw(runs)
    claims(runs)


if __name__ == "__main__":
    main()
