"""Every family with every part of a recipe, interrupted at random steps and resumed: equal bit for bit.

Pairs of values are covered in CI, triples with CNNBENCH_SEARCH=all; the quick tests draw a few of the pairs.
"""

import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from covering import covering
from PIL import Image
from resuming import assert_same
from running import the_run
from search import ALL, SEED, sample

from cnnbench.cli import main
from cnnbench.errors import Interrupted
from cnnbench.run_store.run import Run
from cnnbench.settings.compose import CONF
from cnnbench.training import fit
from cnnbench.training.recorder import Recorder

TINY = [
    *("data=imagefolder", "data.root=images", "data.size=32", "data.batch_size=6", "data.limit=30"),
    *("data.limit_test=8", "trainer.max_epochs=3", "logger=none", "optimizer.lr=0.01", "arch.width=0.125"),
]
IN_FILES = "data.in_memory=false"
POLICY = "data.augment.policy"
ARCHS = {  # the smallest of each family, with its own settings
    arch: yaml.safe_load(Path(CONF, "arch", f"{arch}.yaml").read_text())
    for arch in (
        *(
            "alexnet",
            "basic",
            "efficientnet_b0",
            "googlenet",
            "inception_v3",
            "locally_connected",
            "mlp",
            "mobilenet_v2",
            "plain20",
        ),
        *("resnet18", "resnet20", "vgg11"),
    )
}
FACTORS = {
    "arch": {arch: [f"arch={arch}"] for arch in ARCHS},
    "workers": {
        "none": [],
        "none, files": [IN_FILES],
        "2": ["data.num_workers=2", f"{POLICY}=randaugment"],
        "2, files": [IN_FILES, "data.num_workers=2"],
    },
    "augment": {
        "none": [],
        "crop and flip": ["data.augment.crop=4", "data.augment.flip=true"],
        "resized crop and cutout": ["data.augment.resized_crop=[0.5,1]", "data.augment.cutout=8"],
    },
    "mixing": {
        "none": [],
        "mixup": ["trainer.mixup=0.4"],
        "cutmix": ["trainer.cutmix=1.0"],
        "both": ["trainer.mixup=0.4", "trainer.cutmix=1.0"],
    },
    "scheduler": {
        "constant": ["scheduler=constant", "scheduler.warmup_epochs=1.5"],
        "cosine": ["scheduler=cosine", "scheduler.warmup_epochs=0.5"],
        "onecycle": ["scheduler=onecycle"],
        "plateau": ["scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=0.5"],
        "step": ["scheduler=step"],
    },
    "optimizer": {name: [f"optimizer={name}"] for name in ("sgd", "adam", "adamw", "rmsprop")},
    "precision": {name: [f"device.precision={name}"] for name in ("fp32", "bf16", "fp64")},
    "average": {"none": [], "0.9": ["trainer.ema_decay=0.9"]},
    "dropout": {"none": ["arch.dropout=0.0"], "0.3": ["arch.dropout=0.3"]},
    "depth": {"none": ["arch.stochastic_depth=0.0"], "0.5": ["arch.stochastic_depth=0.5"]},
    "aux": {"none": ["arch.aux=false"], "true": ["arch.aux=true"]},
    "clip": {"none": [], "0.5": ["trainer.clip_norm=0.5"]},
    "accumulate": {"1": [], "2": ["trainer.accumulate=2"]},
    "layout": {name: [f"device.memory_format={name}"] for name in ("contiguous", "channels_last")},
    "threads": {"1": ["device.threads=1"], "2": ["device.threads=2"]},
    "checkpoints": {name: [f"trainer.checkpoint_every_n_steps={name}"] for name in ("null", "1", "3")},
}
ARGUMENTS = {"dropout": "dropout", "depth": "stochastic_depth", "aux": "aux"}


def allowed(case):
    """Return whether an architecture, the one of the case if it has one, has all that is asked for."""
    asked = [argument for name, argument in ARGUMENTS.items() if case.get(name, "none") != "none"]
    archs = [case["arch"]] if "arch" in case else ARCHS
    return any(all(argument in ARCHS[arch] for argument in asked) for arch in archs)


def overrides(case):
    """Return the command's overrides; what the architecture lacks is left out."""
    arch = ARCHS[case["arch"]]
    return TINY + [
        text
        for name, value in case.items()
        if name not in ARGUMENTS or ARGUMENTS[name] in arch
        for text in FACTORS[name][value]
    ]


CASES = covering({name: list(values) for name, values in FACTORS.items()}, allowed, 3 if ALL else 2, SEED)
FAST = [case for case in CASES if case["arch"] in ("basic", "mlp") and case["precision"] == "fp32"]
QUICK = sample(FAST, 0, 2)


def test_every_family_is_tried():
    files = [yaml.safe_load(path.read_text()) for path in Path(CONF, "arch").glob("*.yaml")]
    assert {arch["_target_"] for arch in ARCHS.values()} == {
        arch["_target_"] for arch in files if "native" in arch
    }


def name_of(case):
    return "-".join(value for value in case.values() if value != "none").replace(" ", "_")


@pytest.fixture
def images():
    """Write three class folders of small PNG files."""
    draw = np.random.default_rng(0)
    for i in range(80):
        folder = Path("images", str(i % 3))
        pixels = draw.integers(0, 120, (32, 32, 3)) + 30 * np.array([i % 3, i % 2, 0])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")


class Interruption:
    """Callback that ends a training after so many batches, and keeps its outputs for the test images."""

    def __init__(self, monkeypatch):
        self.left, self.batches = None, 0
        self.outputs = []
        ended, made = Recorder.on_train_batch_end, fit.test_result

        def on_train_batch_end(recorder, *arguments):
            ended(recorder, *arguments)
            self.batches += 1
            if self.batches == self.left:
                raise Interrupted(signal.SIGTERM)

        def test_result(data, outputs):
            self.outputs.append([torch.cat(column) for column in zip(*outputs, strict=True)])
            return made(data, outputs)

        monkeypatch.setattr(Recorder, "on_train_batch_end", on_train_batch_end)
        monkeypatch.setattr(fit, "test_result", test_result)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=name_of(c), marks=() if c in QUICK else pytest.mark.slow) for c in CASES],
)
def test_an_interrupted_run_equals_an_undisturbed_one(case, monkeypatch, images):
    training = Interruption(monkeypatch)
    arguments = overrides(case)
    assert main(["train", "output_dir=undisturbed", *arguments]) == 0
    draw, batches, interruptions = random.Random(f"{case} {SEED}"), training.batches, 0
    for _ in range(2):
        training.batches, training.left = 0, draw.randint(1, batches - 1)
        code = main(["train", "output_dir=broken", *arguments])
        interruptions += code == 128 + signal.SIGTERM
        assert code == 0 or training.batches == training.left
    training.left = None
    assert main(["train", "output_dir=broken", *arguments]) == 0
    assert len(Run(the_run("broken")).status()["attempts"]) == interruptions + 1 >= 2
    assert_same(the_run("undisturbed"), the_run("broken"))
    assert len(training.outputs) == 2
    assert all(torch.equal(a, b) for a, b in zip(*training.outputs, strict=True))
