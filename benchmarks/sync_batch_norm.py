"""Cost of synchronised batch norm in a training step: the same processes and batches, with it and without.

    python benchmarks/sync_batch_norm.py [processes] [repeats]

The variants take turns, since a shared machine's speed drifts, and are compared round by round. `per process`
is batch norm without synchronisation. `autograd` has no backward pass of its own: it adds up sums and sums of
squares with torch.distributed.nn.functional.all_reduce, which autograd differentiates.
"""

import argparse
import statistics
import time
import warnings

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional as together
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from cnnbench.models.basic import basic
from cnnbench.models.resnet_cifar import cifar_resnet
from cnnbench.ops.factory import Ops
from cnnbench.processes.forked import Child
from cnnbench.training import sync_batch_norm

STEPS = 10
IMAGES = (64, 8)
"""Batch sizes, over all processes."""

NAMES = ("per process", "synchronised", "autograd")


def by_autograd(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Apply training batch norm to (N, C, H, W), without updating running statistics."""
    count = x.new_full((1,), x.numel() // x.shape[1])
    sums = together.all_reduce(torch.cat([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), count]))
    mean, square = (sums[:-1] / sums[-1]).chunk(2)
    scale = weight * torch.rsqrt(square - mean.square() + eps)
    return x * scale[:, None, None] + (bias - mean * scale)[:, None, None]


def measure(rank: int, world: int, port: int, repeats: int) -> dict[tuple[str, int], list[list[float]]]:
    """Measure seconds of a step, [round][variant], for each model and batch size, in one of the processes."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # from torch.distributed.nn
    torch.set_num_threads(1)
    store = distributed.TCPStore("127.0.0.1", port, world, is_master=False)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    results = {}
    own, shape = sync_batch_norm.batch_norm, {"in_channels": 1, "num_classes": 10}
    for name, model in {
        "basic": basic(
            ops=Ops(),
            **shape,
            image_size=28,
            blocks=3,
            width=0.25,
            kernel=3,
            head="flatten",
            hidden=128,
            dropout=0.0,
        ),
        "resnet20": cifar_resnet(ops=Ops(pool="stride"), **shape, depth=20, width=0.25),
    }.items():
        model.to(memory_format=torch.channels_last)
        parallel, plugin = (
            DistributedDataParallel(model, gradient_as_bucket_view=True),
            sync_batch_norm.SyncBatchNorm(),
        )
        for images in IMAGES:
            rounds = []
            for _ in range(repeats + 1):  # the first one is a warm-up
                times = []
                for variant in NAMES:
                    sync_batch_norm.batch_norm = by_autograd if variant == "autograd" else own
                    if variant != NAMES[0]:
                        plugin.apply(model)
                    times.append(step_s(parallel, images // world))
                    if variant != NAMES[0]:
                        plugin.revert(model)
                rounds.append(times)
            results[name, images] = rounds[1:]
    distributed.destroy_process_group()
    return results


def step_s(model: nn.Module, images: int) -> float:
    """Return the mean seconds of several training steps."""
    x = torch.rand(images, 1, 28, 28).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (images,))
    distributed.barrier()
    start = time.perf_counter()
    for _ in range(STEPS):
        F.cross_entropy(model(x), labels).backward()
    distributed.barrier()
    return (time.perf_counter() - start) / STEPS


def main() -> None:
    """Start the processes, and print medians over the rounds of the first one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("processes", nargs="?", type=int, default=2, help="(default: 2)")
    parser.add_argument("repeats", nargs="?", type=int, default=15, help="rounds (default: 15)")
    args = parser.parse_args()
    world, repeats = args.processes, args.repeats
    store = distributed.TCPStore("127.0.0.1", 0, world, is_master=True, wait_for_workers=False)
    children = [
        Child("sync_batch_norm:measure", rank, world, store.port, repeats, captured=False)
        for rank in range(world)
    ]
    print(f"{world} processes of one thread, gloo; medians of {repeats} rounds and interquartile ranges")
    results = [child.answer() for child in children]
    for (name, images), rounds in results[0].items():
        print(f"{name}, batch {images}:")
        for i, variant in enumerate(NAMES):
            ms = statistics.median(1000 * times[i] for times in rounds)
            ratios = sorted(times[i] / times[0] for times in rounds)
            spread = f"{ratios[len(ratios) // 4]:.2f} to {ratios[-1 - len(ratios) // 4]:.2f}"
            print(f"  {variant:12} {ms:7.1f} ms a step   {statistics.median(ratios):5.2f} ({spread})")


if __name__ == "__main__":
    main()
