"""Batch norm in several processes of a real gloo group, each with its shard of the same batch."""

import copy
import io
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import distributed, nn

from cnnbench.processes.forked import Child
from cnnbench.training.sync_batch_norm import SyncBatchNorm

STEPS = 2


@dataclass(frozen=True)
class Case:
    """A layer and its batches.

    Attributes:
        layer: its class.
        image: shape of one image, (C, …).
        images: number of images of each process.
        options: further arguments of the layer.
        dtype, layout: of the images.
        offset: mean of the images.
    """

    layer: type[nn.Module]
    image: tuple[int, ...]
    images: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float64
    layout: torch.memory_format = torch.contiguous_format
    offset: float = 3.0

    def made(self) -> nn.Module:
        """Return the layer, with random weights instead of its initial ones."""
        layer = self.layer(self.image[0], **self.options)
        generator = torch.Generator().manual_seed(1)
        for parameter in layer.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        return layer.to(torch.float64 if self.dtype == torch.float64 else torch.float32)

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images of all processes, and the gradient of the loss at the layer's output."""
        generator = torch.Generator().manual_seed(2 + step)
        shape = (sum(self.images), *self.image)
        x = torch.randn(shape, generator=generator, dtype=torch.float64) * (1 + step) + self.offset
        gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        return self._converted(x), self._converted(gradient)

    def _converted(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(
            self.dtype, memory_format=self.layout if tensor.ndim == 4 else torch.contiguous_format
        )


CASES = {
    "equal": Case(nn.BatchNorm2d, (5, 4, 3), (4, 4, 4)),
    "unequal": Case(nn.BatchNorm2d, (5, 4, 3), (5, 2, 7)),
    "channels_last": Case(nn.BatchNorm2d, (5, 4, 3), (5, 2, 3), layout=torch.channels_last),
    "one image": Case(nn.BatchNorm2d, (5, 1, 1), (1, 1, 1)),
    "no space": Case(nn.BatchNorm1d, (5,), (3, 1, 4)),
    "one dimension": Case(nn.BatchNorm1d, (5, 6), (3, 1, 4)),
    "three dimensions": Case(nn.BatchNorm3d, (2, 3, 2, 2), (3, 1, 4)),
    "cumulative": Case(nn.BatchNorm2d, (5, 2, 2), (3, 1, 4), {"momentum": None}),
    "not tracked": Case(nn.BatchNorm2d, (5, 2, 2), (3, 1, 4), {"track_running_stats": False}),
    "not affine": Case(nn.BatchNorm2d, (5, 2, 2), (3, 1, 4), {"affine": False}),
    "timm": Case(BatchNormAct2d, (5, 4, 3), (5, 2, 3)),
    "float32": Case(nn.BatchNorm2d, (5, 8, 8), (5, 2, 3), dtype=torch.float32),
    "float32, far from zero": Case(nn.BatchNorm2d, (5, 8, 8), (5, 2, 3), dtype=torch.float32, offset=1000.0),
    "bfloat16": Case(nn.BatchNorm2d, (5, 8, 8), (5, 2, 3), dtype=torch.bfloat16),
    "bfloat16, not affine": Case(nn.BatchNorm2d, (5, 8, 8), (5, 2, 3), {"affine": False}, torch.bfloat16),
}


def trained(case: Case, layer: nn.Module, rows: slice) -> dict[str, torch.Tensor]:
    """Train for a few steps with `rows` of each batch; return outputs, gradients and state."""
    results = {}
    for step in range(STEPS):
        x, gradient = case.batch(step)
        x = x[rows].clone(memory_format=torch.preserve_format).requires_grad_()
        y = layer(x)
        y.backward(gradient[rows])
        results |= {f"{step}/y": y.detach(), f"{step}/dx": x.grad}
    results |= {f"gradient/{name}": p.grad for name, p in layer.named_parameters()}
    return results | {f"state/{name}": tensor for name, tensor in layer.state_dict().items()}


def shard(rank: int, world: int, port: int) -> bytes:
    """Run all cases as one of the processes, in eval mode only as the first; return the results as a file."""
    torch.set_num_threads(1)
    store = distributed.TCPStore("127.0.0.1", port, world, is_master=False)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    results: dict[str, Any] = {}
    for name, case in CASES.items():
        model = nn.Sequential(case.made())
        before, layer = list(model.state_dict()), model[0]
        sync = SyncBatchNorm()
        assert sync.apply(model) is model
        assert model[0] is layer
        assert list(model.state_dict()) == before
        first = sum(case.images[:rank])
        results[name] = trained(case, layer, slice(first, first + case.images[rank]))
        if rank == 0:
            layer.eval()
            results[name]["eval/y"] = layer(case.batch(0)[0]).detach()
            layer.train()
        copied = copy.deepcopy(model)  # as callbacks do
        copied(case.batch(0)[0])
        sync.revert(model)
        assert "forward" not in vars(layer)
    distributed.barrier()
    distributed.destroy_process_group()
    file = io.BytesIO()
    torch.save(results, file)
    return file.getvalue()


def shards(world: int) -> list[dict[str, Any]]:
    """Run all cases in `world` processes; return the results of each."""
    store = distributed.TCPStore("127.0.0.1", 0, world, is_master=True, wait_for_workers=False)
    processes = [
        Child("batch_shards:shard", rank, world, store.port, captured=False) for rank in range(world)
    ]
    return [torch.load(io.BytesIO(process.answer())) for process in processes]
