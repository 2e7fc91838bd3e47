"""Loss before the first training step, with batch norm and without a norm, for each value of `ops.init`.

    python benchmarks/initial_loss.py [ARCH …] [--width 1.0] [--size 32] [--seeds 3] [--images 128]

The images are the digits, resized. Prints a Markdown table with the median over the
seeds; the loss of equal probabilities for ten classes is 2.303.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from cnnbench.ops.factory import Ops
from cnnbench.seeds import seed_all
from cnnbench.settings.compose import CONF
from cnnbench.settings.parse import parse, plain
from cnnbench.training.images import make_data
from cnnbench.training.model import assemble

ARCHS = ("resnet20", "resnet56", "resnet18", "mobilenet_v2", "efficientnet_b0")
CELLS = (("batch", "native"), ("none", "native"), ("none", "zero"), ("none", "skipinit"), ("none", "fixup"))


def loss(choices: list[str], seed: int, images: int) -> float:
    """Return the mean cross-entropy of the first training images, in training mode."""
    with initialize_config_dir(CONF, version_base="1.3"):
        settings = parse(plain(compose("train", [*choices, f"seed={seed}"])))
    data = make_data(settings.data, settings.arch, settings.seed)
    seed_all("init", seed)
    shape = (data.channels, data.size, data.size)
    model = assemble(settings.arch, Ops(**settings.resolved_ops()), shape, data.num_classes)
    pixels, labels = data.train.pixels, torch.from_numpy(data.train.labels)
    assert isinstance(pixels, torch.Tensor)
    with torch.no_grad():
        return F.cross_entropy(model(data.transform(pixels[:images], 0)), labels[:images]).item()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archs", nargs="*", metavar="ARCH", default=ARCHS, help="that add shortcuts")
    parser.add_argument("--width", type=float, default=1.0, help="factor of the channels")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--seeds", type=int, default=3, help="initialisations of each network")
    parser.add_argument("--images", type=int, default=128, help="images of the loss")
    args = parser.parse_args()
    print("| arch | " + " | ".join(f"{norm}, {init}" for norm, init in CELLS) + " |")
    print("|---|" + "---|" * len(CELLS))
    common = [f"arch.width={args.width}", f"data.size={args.size}"]
    for arch in args.archs:
        cells = []
        for norm, init in CELLS:
            choices = [f"arch={arch}", f"ops.norm={norm}", f"ops.init={init}", *common]
            losses = [loss(choices, seed, args.images) for seed in range(args.seeds)]
            cells.append(f"{statistics.median(losses):,.3f}")
        print(f"| {arch} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
