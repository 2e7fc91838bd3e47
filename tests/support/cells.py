"""Every family with every value of every axis: which cells train, and why others are refused.

`python tests/support/cells.py` prints the table of docs/appendix/ops-table.md, whose rows
test_models.py reproduces.
"""

import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from cnnbench.errors import OpsError
from cnnbench.models.efficientnet import SqueezeExcitation
from cnnbench.ops.layers import ThresholdedLinear
from cnnbench.ops.values import AXES
from cnnbench.seeds import seed_all
from cnnbench.settings.compose import CONF
from cnnbench.settings.parse import parse
from cnnbench.training import model as training_model

VALUES = [(axis, value) for axis, values in AXES.items() for value in values]
SIZES = (8, 28, 32, 64, 224)
ARCHS = sorted(path.stem for path in Path(CONF, "arch").glob("*.yaml"))
WIDTH = 0.125


@cache
def composed(arch):
    """Return the configuration of `cnnbench train arch=…` as plain values."""
    GlobalHydra.instance().clear()
    name = ["arch.name=resnet18"] if arch in ("torchvision", "timm") else []
    with initialize_config_dir(CONF, version_base="1.3"):
        return OmegaConf.to_container(compose("train", [f"arch={arch}", *name]), resolve=True)


def asked(arch, ops=None, **changed):
    """Return the settings of `arch` with changes to its section and to `ops`."""
    plain = composed(arch)
    changes = {"arch": plain["arch"] | changed, "ops": plain["ops"] | (ops or {})}
    return parse(plain | changes)


def make(arch, channels=3, classes=10, size=32, batch=4, ops=None, **changed):
    """Build the model, and return it with its facts, as training does."""
    seed_all("test")
    return training_model.make(asked(arch, ops, **changed), (channels, size, size), classes, batch)


@cache
def families():
    """Return one architecture of each of cnnbench's families: of the shortest names the smallest one."""
    members = defaultdict(list)
    for arch in ARCHS:
        if composed(arch)["arch"].get("native"):
            members[composed(arch)["arch"]["_target_"]].append(arch)
    with torch.device("meta"):
        return sorted(min(archs, key=lambda a: (len(a), make(a)[1]["params"])) for archs in members.values())


def step(model, size, batch=4, steps=1):
    """Return the loss of a training step; check that every gradient is finite and not zero in all `steps`.

    A gradient of zero is accepted in two cases: for the slope of a PReLU and the threshold of a TLU, none of
    whose negative inputs reaches the loss (max pooling), and for a squeeze-and-excitation whose few squeezed
    units are all off.
    """
    excused = set()

    def watch(prefix, module):
        def below_zero(module, inputs, output):
            negative = inputs[0] < 0
            (name,) = (name for name, _ in module.named_parameters())
            output.register_hook(
                lambda grad: None if (grad * negative).any() else excused.add(f"{prefix}.{name}")
            )

        def squeeze(_, inputs, output):
            if not output.any():
                excused.update(f"{prefix}.{name}" for name in ("fc1.weight", "fc1.bias", "fc2.weight"))

        if isinstance(module, torch.nn.PReLU | ThresholdedLinear):
            module.register_forward_hook(below_zero)
        elif isinstance(module, SqueezeExcitation):
            module.act.register_forward_hook(squeeze)

    for name, module in model.named_modules():
        watch(name, module)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    moved = set()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model.train()(images), torch.arange(batch))
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            if parameter.grad.any():
                moved.add(name)
        optimizer.step()
    assert {name for name, _ in model.named_parameters()} <= moved | excused
    return loss.item()


def row(family, size, values=VALUES):
    """Return a row of the table: the number of values that train, and those that are refused."""
    refused, trained = defaultdict(list), 0
    still = {
        k: 0.0 for k in ("stochastic_depth",) if k in composed(family)["arch"]
    }  # may drop all four images
    for axis, value in values:
        alone = {"norm": "none"} if axis == "init" and family != "mlp" else {}  # what its values are for
        try:
            model, _ = make(family, size=size, ops=alone | {axis: value}, width=WIDTH, **still)
        except OpsError as error:
            refused[error.reason].append(f"{axis}={value}")
            continue
        # The layers before one that starts at zero have no gradient until that one has moved.
        loss = step(model, size, steps=3 if axis == "init" else 1)
        assert torch.isfinite(torch.tensor(loss)), (family, size, axis, value)
        trained += 1
    for axis in ("norm", "pool", "padding", "init"):
        whole = [f"{name}={value}" for name, value in values if name == axis]
        if whole and set(whole) <= set(refused["absent"]):
            refused["absent"] = [cell for cell in refused["absent"] if cell not in whole] + [axis]
    reasons = "; ".join(f"{reason}: {', '.join(cells)}" for reason, cells in sorted(refused.items()) if cells)
    return f"| {family} | {size} | {trained} | {len(values) - trained} | {reasons or '-'} |"


def documented_values(text):
    """Return the values that the table counts; one that was added since need not be among them."""
    (line,) = (line for line in text.splitlines() if line.startswith("Values: "))
    axes = (part.split(":", 1) for part in line.removeprefix("Values: ").rstrip(".").split(";"))
    return [(axis.strip(" `"), value) for axis, values in axes for value in re.findall(r"`(\w+)`", values)]


if __name__ == "__main__":
    for side in map(int, sys.argv[1:]) if sys.argv[1:] else SIZES:
        for name in families():
            print(row(name, side), flush=True)
