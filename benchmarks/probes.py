"""Cost of each probe at its default interval, as a share of the training's own time.

    python benchmarks/probes.py [OVERRIDE …]       # such as arch=resnet20 data.batch_size=128

All probes measure in the same run, in turn, and the time of each is taken apart; the training's own time is
the rest. A probe of the training costs (time of a measurement) / (interval x time of a step); a probe of the
finished network is compared with the run's whole training. Measurements are more frequent here than by
default, so that a short run has several.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cnnbench import cli
from cnnbench.run_store.run import Run
from cnnbench.settings.compose import section
from cnnbench.training.probes import probing
from cnnbench.training.probes.series import Series

NAMES = ("activations", "gradients", "shift", "landscape", "field", "translation")
EVERY = {"activations": 10, "gradients": 10, "shift": 40, "landscape": 40}
CHOICES = ["data=synthetic", "data.limit=7200", "data.limit_test=1000", "trainer.max_epochs=2", "logger=none"]
HOOKS = (
    "on_train_batch_start",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_test_start",
    "on_test_batch_end",
)


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """Return a function that adds the seconds of each call to a list."""

    def call(*arguments: Any) -> Any:
        wait()
        start = time.perf_counter()
        result = function(*arguments)
        wait()
        spent.append(time.perf_counter() - start)
        return result

    return call


def wait() -> None:
    """Wait for the device, so that the time of a call is that of its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(overrides: list[str]) -> None:
    """Train once with all probes, and print what each costs."""
    spent: dict[str, list[float]] = defaultdict(list)
    made: list[Any] = []
    build = probing.build_probes

    def build_timed(settings: Any, built: Any) -> Any:
        probes = build(settings, built)
        for probe in probes:
            for hook in HOOKS:
                setattr(probe, hook, timed(getattr(probe, hook), spent[probe.name]))
        made.extend(probes)
        return probes

    probing.build_probes = build_timed
    every = [f"probes.{name}.every={steps}" for name, steps in EVERY.items()]
    with tempfile.TemporaryDirectory() as folder:
        words = [f"probes=[{','.join(NAMES)}]", *every, f"output_dir={folder}", *CHOICES, *overrides]
        assert cli.main(["train", *words]) == 0
        (status,) = Path(folder).rglob("status.json")
        rows = Run(status.parent).rows()
    probing.build_probes = build
    counts = {probe.name: len(probe.steps) for probe in made if isinstance(probe, Series)}
    whole = sum(row["time/train_s"] for row in rows)
    own = whole - sum(sum(spent[name]) for name in counts)
    step_s = own / rows[-1]["step"]
    print(f"a step takes {1000 * step_s:.0f} ms without probes ({rows[-1]['step']:.0f} steps)")
    for name in NAMES:
        if name in counts:
            once = sum(spent[name]) / counts[name]
            usual = section("probes", name)[name]["every"]
            print(
                f"{name:12} {once / step_s:6.2f} steps a measurement, every {usual}: "
                f"{100 * once / step_s / usual:5.2f} % of the training"
            )
        else:
            print(f"{name:12} {100 * sum(spent[name]) / own:6.2f} % of a training of {len(rows)} epochs")


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("overrides", nargs="*", help="settings of `cnnbench train`")
    measure(parser.parse_args().overrides)


if __name__ == "__main__":
    main()
