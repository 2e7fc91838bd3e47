"""Duration and memory of rerunning a large finished sweep.

    python benchmarks/planning.py [--runs 5000]

Writes the folders of its runs with the metrics of finished ones, then launches the sweep as usual.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from cnnbench.run_store.identity import FORMAT
from cnnbench.settings.compose import CONF
from cnnbench.settings.identity import locate
from cnnbench.settings.parse import parse, plain
from cnnbench.settings.run import Settings

ARCHS = ("basic", "mlp", "vgg11", "resnet18", "mobilenet_v2")
RATES = ("0.01", "0.02", "0.05", "0.1")
SUMMARY = {"best/val_acc": 0.9, "test/acc": 0.9, "params": 1000, "macs": 1000, "epochs": 20}


def main() -> None:
    """Write the folders, launch the sweep, and print time and memory."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5000, help="20 or more (default: 5000)")
    seeds = parser.parse_args().runs // (len(ARCHS) * len(RATES))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CNNBENCH_OUTPUTS"] = folder
        for arch in ARCHS:
            with initialize_config_dir(CONF, version_base="1.3"):
                config = compose("train", [f"arch={arch}"])
            for rate in RATES:
                for seed in range(seeds):
                    with open_dict(config):
                        config.seed, config.optimizer.lr = seed, float(rate)
                    finish(parse(plain(config)))
        overrides = ["arch=" + ",".join(ARCHS), "optimizer.lr=" + ",".join(RATES), f"seed=range({seeds})"]
        start = time.perf_counter()
        command = [sys.executable, "-m", "cnnbench", "train", "-m", *overrides]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(done.stderr.strip())
    print(f"{seconds:.1f} s, {memory:.0f} MiB at most")


def finish(settings: Settings) -> None:
    """Write the files of a finished run that a sweep reads."""
    run = locate(settings)
    run.path.mkdir(parents=True)
    (run.path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(settings.config())))
    run.write_identity()
    run.write_rows([])
    run.write_summary(SUMMARY)
    run.write_status({"format": FORMAT, "state": "finished", "attempts": [{}], "device": {}, "versions": {}})


if __name__ == "__main__":
    assert Path(CONF).is_dir()
    main()
