"""Comparison of `cnnbench bench` with other tools: the same models, in turn, in one process.

    python benchmarks/devices.py [batch] [rounds]

Three ways to time a forward pass: cnnbench's, `torch.utils.benchmark` (blocked_autorange), and that of timm's
benchmark.py (10 calls to warm up, then the mean of 40). The models are one of each family and two of timm's.
A second table has their multiply-accumulates from cnnbench, torch's counter and fvcore. Prints Markdown; a
ratio of 1.00 is agreement. Needs `pip install fvcore timm`.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median

import torch
from rich.progress import track
from torch import nn
from torch.utils.benchmark import Timer

from cnnbench.bench.timing import in_turn
from cnnbench.inference.trained_model import CPU
from cnnbench.models import complexity
from cnnbench.ops.factory import Ops
from cnnbench.settings.parse import parse, plain
from cnnbench.training.device import place
from cnnbench.training.model import assemble

FAMILIES = ("alexnet", "vgg11", "googlenet", "resnet18", "efficientnet_b0", "mobilenet_v2")
TIMM = ("resnet18", "mobilenetv2_100")
SIZE, CLASSES = 32, 10
WARM_UP, ITERATIONS = 10, 40


def main() -> None:
    """Time all models in each of three ways, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("batch", nargs="?", type=int, default=16, help="batch size (default: 16)")
    parser.add_argument("rounds", nargs="?", type=int, default=5, help="(default: 5)")
    args = parser.parse_args()
    if missing := [name for name in ("fvcore", "timm") if not find_spec(name)]:
        parser.error(f"not installed: {', '.join(missing)}; run `pip install fvcore timm`")
    threads = torch.get_num_threads()
    images = torch.randn(args.batch, 3, SIZE, SIZE)
    models = _models()
    print(f"batch {args.batch}, {SIZE} px, {threads} threads, medians of {args.rounds} rounds, ms\n")
    print("| model | cnnbench | torch.utils.benchmark | ratio | timm's method | ratio |")
    print("|---|---|---|---|---|---|")
    for name, model in track(list(models.items()), transient=True):
        _row(name, _call(model, images), args.rounds, threads)
    print("\n| model | parameters | MACs, cnnbench | torch's FLOP counter / 2 | fvcore |")
    print("|---|---|---|---|---|")
    for name, model in models.items():
        _cost(name, model)


def _models() -> dict[str, nn.Module]:
    """Build the models by name, with initial weights."""
    import timm
    from hydra import compose, initialize_config_dir

    from cnnbench.settings.compose import CONF

    models: dict[str, nn.Module] = {}
    device = CPU | {"threads": torch.get_num_threads(), "memory_format": "channels_last"}
    with initialize_config_dir(CONF, version_base="1.3"):
        for name in FAMILIES:
            settings = parse(plain(compose("train", [f"arch={name}", "data=cifar10"])))
            ops = Ops(**settings.resolved_ops())
            models[name] = assemble(settings.arch, ops, (3, SIZE, SIZE), CLASSES)
    for name in TIMM:
        models[f"timm {name}"] = timm.create_model(name, num_classes=CLASSES)
    return {name: place(model.eval(), device) for name, model in models.items()}


def _call(model: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    @torch.inference_mode()
    def call() -> object:
        return model(images)

    return call


def _row(name: str, call: Callable[[], object], rounds: int, threads: int) -> None:
    """Time a model in each way in turn, so that a machine that slows down affects all of them alike."""
    ours, theirs, timms = [], [], []
    for _ in range(rounds):
        ours.append(1e3 * in_turn({"it": call}, 1, 0.3)["it"].typical)
        timer = Timer("call()", globals={"call": call}, num_threads=threads)
        theirs.append(1e3 * timer.blocked_autorange(min_run_time=0.3).median)
        timms.append(1e3 * _as_timm(call))
    a, b, c = median(ours), median(theirs), median(timms)
    print(
        f"| {name} | {a:.2f} | {b:.2f} | {_ratio(ours, theirs)} | {c:.2f} | {_ratio(ours, timms)} |",
        flush=True,
    )


def _ratio(ours: list[float], others: list[float]) -> str:
    """Return the median of the rounds' ratios, and their range."""
    ratios = sorted(a / b for a, b in zip(ours, others, strict=True))
    return f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def _as_timm(call: Callable[[], object]) -> float:
    for _ in range(WARM_UP):
        call()
    total = 0.0
    for _ in range(ITERATIONS):
        begin = time.perf_counter()
        call()
        total += time.perf_counter() - begin
    return total / ITERATIONS


def _cost(name: str, model: nn.Module) -> None:
    from fvcore.nn import FlopCountAnalysis
    from torch.utils.flop_counter import FlopCounterMode

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    shape = (3, SIZE, SIZE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *shape))
    count = FlopCountAnalysis(model, torch.zeros(1, *shape)).unsupported_ops_warnings(False)
    products = sum(n for op, n in count.by_operator().items() if op in ("conv", "linear", "matmul", "addmm"))
    parameters = sum(p.numel() for p in model.parameters())
    ours = complexity.macs(model, shape, CLASSES)
    print(f"| {name} | {parameters:,} | {ours:,} | {counter.get_total_flops() // 2:,} | {products:,} |")


if __name__ == "__main__":
    main()
