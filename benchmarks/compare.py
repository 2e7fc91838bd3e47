"""Duration of `cnnbench compare` and of loading its page in a browser, for 300 and 1,000 runs of 50 epochs.

    python benchmarks/compare.py [browser] [--runs 300 1000] [--repeats 3]

Trains one small run and derives the others from it, with other settings and metrics. The browser (default:
/usr/bin/chromium) is driven by playwright; without it only the size of the page is measured.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml

from cnnbench.run_store.run import Run

ARCHS = ("alexnet", "vgg11", "googlenet", "resnet18", "efficientnet_b0", "mobilenet_v2", "resnet50", "basic")
NORMS = ("batch", "group", "layer", "instance", "none")
EPOCHS, SEEDS = 50, 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("browser", nargs="?", default="/usr/bin/chromium", help="(default: %(default)s)")
    parser.add_argument("--runs", nargs="+", type=int, default=[300, 1000], help="numbers of runs")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of which the median is printed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "train", "arch=mlp", f"trainer.max_epochs={EPOCHS}", "logger=none", "output_dir=one")
        (trained,) = (folder / "one" / "default").iterdir()
        for count in args.runs:
            multiply(trained, folder / str(count), count)
            page = f"{count}.html"
            table_s = median(run(folder, "compare", str(count)) for _ in range(args.repeats))
            page_s = median(run(folder, "compare", str(count), "--html", page) for _ in range(args.repeats))
            size = (folder / page).stat().st_size / 1e6
            print(
                f"{count} runs: table {table_s:.2f} s, with page {page_s:.2f} s; page of {size:.2f} MB"
                f"{ready(args.browser, folder / page, args.repeats)}"
            )


def run(folder: Path, *arguments: str) -> float:
    """Run a cnnbench command; return its seconds, including the start of Python."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "cnnbench", *arguments], cwd=folder, check=True, capture_output=True
    )
    return time.perf_counter() - start


def multiply(trained: Path, folder: Path, count: int) -> None:
    """Write copies of a run that differ in architecture, norm, learning rate and seed."""
    original = Run(trained)
    config, summary, choice = original.config(), original.summary(), original.choice()
    for i in range(count):
        rest, seed = divmod(i, SEEDS)
        rest, norm = divmod(rest, len(NORMS))
        rate, arch = divmod(rest, len(ARCHS))
        copy = Run(folder / str(i), choice)
        copy.path.mkdir(parents=True)
        shutil.copy(trained / "metrics.csv", copy.path)
        for settings in (config, choice):
            settings["arch"]["name"], settings["seed"] = ARCHS[arch], seed
            settings["ops"]["norm"], settings["optimizer"]["lr"] = NORMS[norm], 0.1 / 2**rate
        (copy.path / "config.yaml").write_text(yaml.safe_dump(config))
        copy.write_identity()
        metrics = {"best/val_acc": random.uniform(0.8, 0.9), "test/acc": random.uniform(0.8, 0.9)}
        copy.write_summary(summary | metrics)
        copy.write_status(original.status())


def ready(browser: str, page: Path, repeats: int) -> str:
    """Measure the seconds from opening the page until it is drawn and takes input; return them as text."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return ""
    if not Path(browser).exists():
        return ""
    seconds = []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser)
        for _ in range(repeats):
            tab = started.new_page()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]", state="attached")
            seconds.append(tab.evaluate("performance.now()") / 1000)
            tab.close()
        started.close()
    return f", ready after {median(seconds):.2f} s in {Path(browser).name}"


if __name__ == "__main__":
    main()
