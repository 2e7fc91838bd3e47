"""How long `cnnbench compare` takes, and its page in a browser: 300 runs, and 1,000, of 50 epochs.

    python benchmarks/compare.py [browser]

Trains one small run and makes the others of it, with other settings and figures. The browser (default:
/usr/bin/chromium) is driven by playwright; without it the page is only measured.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml

ARCHS = ("alexnet", "vgg11", "googlenet", "resnet18", "efficientnet_b0", "mobilenet_v2", "resnet50", "basic")
NORMS = ("batch", "group", "layer", "instance", "none")
EPOCHS, SEEDS, REPEATS = 50, 5, 3


def main() -> None:
    """Measure and print."""
    browser = sys.argv[1] if len(sys.argv) > 1 else "/usr/bin/chromium"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "train", "arch=mlp", f"trainer.max_epochs={EPOCHS}", "logger=none", "output_dir=one")
        (made,) = (folder / "one" / "default").iterdir()
        for count in (300, 1000):
            multiply(made, folder / str(count), count)
            shown = median(run(folder, "compare", str(count)) for _ in range(REPEATS))
            page = f"{count}.html"
            written = median(run(folder, "compare", str(count), "--html", page) for _ in range(REPEATS))
            size = (folder / page).stat().st_size / 1e6
            print(
                f"{count} runs: table {shown:.2f} s, with page {written:.2f} s; page of {size:.2f} MB"
                f"{ready(browser, folder / page)}"
            )


def run(folder: Path, *arguments: str) -> float:
    """Seconds of a command, its start included."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "cnnbench", *arguments], cwd=folder, check=True, capture_output=True
    )
    return time.perf_counter() - start


def multiply(made: Path, folder: Path, count: int) -> None:
    """Copies of one run that differ in architecture, norm, rate and seed."""
    config = yaml.safe_load((made / "config.yaml").read_text())
    summary = json.loads((made / "summary.json").read_text())
    for i in range(count):
        rest, seed = divmod(i, SEEDS)
        rest, norm = divmod(rest, len(NORMS))
        rate, arch = divmod(rest, len(ARCHS))
        copy = folder / str(i)
        copy.mkdir(parents=True)
        shutil.copy(made / "status.json", copy)
        shutil.copy(made / "metrics.csv", copy)
        config["arch"]["name"], config["seed"] = ARCHS[arch], seed
        config["ops"]["norm"], config["optimizer"]["lr"] = NORMS[norm], 0.1 / 2**rate
        (copy / "config.yaml").write_text(yaml.safe_dump(config))
        figures = {"best/val_acc": random.uniform(0.8, 0.9), "test/acc": random.uniform(0.8, 0.9)}
        (copy / "summary.json").write_text(json.dumps(summary | figures))


def ready(browser: str, page: Path) -> str:
    """How long after it was opened the page is drawn and takes input."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return ""
    if not Path(browser).exists():
        return ""
    seconds = []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser)
        for _ in range(REPEATS):
            tab = started.new_page()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]", state="attached")
            seconds.append(tab.evaluate("performance.now()") / 1000)
            tab.close()
        started.close()
    return f", ready after {median(seconds):.2f} s in {Path(browser).name}"


if __name__ == "__main__":
    main()
