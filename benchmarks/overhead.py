"""What cnnbench costs on top of a plain PyTorch loop: the same model, data and augmentation, side by side.

    python benchmarks/overhead.py [images] [repeats]

Prints images/s of both and their ratio, pair by pair, since a shared machine's speed drifts. The plain
loop has no metrics, no checkpoints, no log and no seeds per step: it is the ceiling, not an alternative.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from cnnbench import cli
from cnnbench.data.datamodule import ImageData
from cnnbench.data.options import Augmentation, Batching, ModelInput, Sharding, Source, Splitting
from cnnbench.models.basic import basic
from cnnbench.ops import Ops
from cnnbench.run_store.run import Run

BATCH = 128


def plain(images: int) -> float:
    """Images/s of one epoch after a short warm-up."""
    data = ImageData(
        Source(name="synthetic", root=".", size=32, num_classes=10),
        Splitting(val_fraction=0.1, split_seed=0, limit=images, limit_test=20),
        Batching(batch_size=BATCH, seed=0),
        Augmentation(crop=4, flip=True),
        ModelInput(),
        Sharding(),
    )
    shape = {"in_channels": 3, "num_classes": 10, "image_size": 32}
    model = basic(ops=Ops(), **shape, blocks=3, width=1.0, kernel=3, head="flatten", hidden=128, dropout=0.0)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    pixels, labels = data.train.pixels, torch.from_numpy(data.train.labels)
    assert isinstance(pixels, torch.Tensor)
    for epoch in range(2):
        start = time.perf_counter()
        order = torch.randperm(len(labels))
        for batch in range(len(labels) // BATCH):
            chosen = order[batch * BATCH : (batch + 1) * BATCH]
            optimizer.zero_grad()
            F.cross_entropy(model(data.transform(pixels[chosen], epoch)), labels[chosen]).backward()
            optimizer.step()
    return len(labels) // BATCH * BATCH / (time.perf_counter() - start)


def ours(images: int) -> float:
    """Images/s of the second epoch of `cnnbench train`, as its metrics.csv says."""
    with tempfile.TemporaryDirectory() as folder:
        asked = ["data=synthetic", f"data.limit={images}", "data.limit_test=20", f"data.batch_size={BATCH}"]
        asked += ["data.augment.crop=4", "data.augment.flip=true", "trainer.max_epochs=2", "logger=none"]
        assert cli.main(["train", f"output_dir={folder}", *asked]) == 0
        (status,) = Path(folder).rglob("status.json")
        row = Run(status.parent).rows()[-1]
        return row["time/images"] / row["time/train_s"]


def main() -> None:
    """Interleave the two and print medians."""
    images, repeats = (int(word) for word in (sys.argv[1:] + ["4000", "5"][len(sys.argv) - 1 :]))
    pairs = [(plain(images), ours(images)) for _ in range(repeats)]
    for a, b in pairs:
        print(f"plain {a:7.0f} images/s   cnnbench {b:7.0f} images/s   ratio {b / a:.2f}")
    print(f"median ratio {statistics.median(b / a for a, b in pairs):.2f} over {repeats} pairs")


if __name__ == "__main__":
    main()
