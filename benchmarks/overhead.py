"""Training throughput of cnnbench against a plain PyTorch loop with the same model, data and augmentation.

    python benchmarks/overhead.py [images] [repeats]

Prints images/s of both and their ratio, pair by pair, since a shared machine's speed drifts. The plain loop
has no metrics, checkpoints, log or seeds per step: it is an upper bound, not an alternative.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from cnnbench import cli
from cnnbench.ops.factory import Ops
from cnnbench.run_store.run import Run
from cnnbench.settings.compose import CONF
from cnnbench.settings.parse import parse, plain
from cnnbench.training.images import make_data
from cnnbench.training.model import assemble

BATCH = 128
CHOICES = ["data=synthetic", "data.limit_test=20", "data.augment.crop=4", "data.augment.flip=true"]


def plain_loop(images: int) -> float:
    """Train two epochs in a plain loop; return images/s of the second one."""
    with initialize_config_dir(CONF, version_base="1.3"):
        settings = parse(plain(compose("train", [*CHOICES, f"data.limit={images}"])))
    data = make_data(settings.data, settings.arch, settings.seed)
    shape = (data.channels, data.size, data.size)
    model = assemble(settings.arch, Ops(**settings.resolved_ops()), shape, data.num_classes)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    pixels, labels = data.train.pixels, torch.from_numpy(data.train.labels)
    assert isinstance(pixels, torch.Tensor)
    for epoch in range(2):
        start = time.perf_counter()
        order = torch.randperm(len(labels))
        for batch in range(len(labels) // BATCH):
            indices = order[batch * BATCH : (batch + 1) * BATCH]
            optimizer.zero_grad()
            F.cross_entropy(model(data.transform(pixels[indices], epoch)), labels[indices]).backward()
            optimizer.step()
    return len(labels) // BATCH * BATCH / (time.perf_counter() - start)


def ours(images: int) -> float:
    """Train two epochs with `cnnbench train`; return images/s of the second one, from its metrics.csv."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [*CHOICES, f"data.limit={images}", f"data.batch_size={BATCH}", "trainer.max_epochs=2"]
        assert cli.main(["train", f"output_dir={folder}", "logger=none", *overrides]) == 0
        (status,) = Path(folder).rglob("status.json")
        row = Run(status.parent).rows()[-1]
        return row["time/images"] / row["time/train_s"]


def main() -> None:
    """Interleave the two, and print each pair and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", nargs="?", type=int, default=4000, help="of train and val, 300 or more")
    parser.add_argument("repeats", nargs="?", type=int, default=5, help="pairs of measurements")
    args = parser.parse_args()
    pairs = [(plain_loop(args.images), ours(args.images)) for _ in range(args.repeats)]
    for a, b in pairs:
        print(f"plain {a:7.0f} images/s   cnnbench {b:7.0f} images/s   ratio {b / a:.2f}")
    print(f"median ratio {statistics.median(b / a for a, b in pairs):.2f} over {args.repeats} pairs")


if __name__ == "__main__":
    main()
