"""Whether a model computes the same on each device, in each precision and by each backend.

The reference is float64 on the CPU. What is compared are relative norms, |x - reference| / |reference|: of
the logits, of the loss, and of the gradient of all parameters together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from cnnbench.bench import backends
from cnnbench.bench.spec import TORCH, Spec
from cnnbench.errors import Finding, InputError
from cnnbench.ops.pooling import Stochastic
from cnnbench.training.device import DEVICE_TYPES, PRECISIONS, autocast, available, check_compiler, resolve

IMAGES = 8
REFERENCE = {"accelerator": "cpu", "precision": "64-true", "memory_format": "contiguous"}

TOLERANCES = {
    "64-true": (1e-9, 1e-9, 1e-7),
    "32-true": (1e-4, 1e-4, 1e-2),
    "tf32": (1e-2, 1e-2, 0.1),
    "16-mixed": (2e-2, 1e-2, 0.6),
    "bf16-mixed": (0.1, 5e-2, 1.2),
}
"""Relative norms that pass, of logits, loss and gradient.

A gradient's error is larger by far than that of the logits: where a ReLU's input lies within rounding of zero
its sign decides, and all that comes through it with it. Vectors that have nothing to do with each other are
1.4 apart, and one of zeros is 1 from any other: see `ALONG`.
"""

ALONG = 0.3
"""The least cosine of a gradient and the reference, which for unrelated ones is about 0."""

QUANTITIES = ("logits", "loss", "gradient")


class NotTheSame(Finding):
    """A device, a precision or a backend computes something else."""


@dataclass(frozen=True)
class Condition:
    """How the model is computed: `cpu eager bf16-mixed channels_last`."""

    backend: str
    device: dict[str, Any]

    @property
    def name(self) -> str:
        """In words."""
        d = self.device
        layout = [d["memory_format"]] if self.backend in TORCH else []
        return " ".join([d["accelerator"], self.backend, d["precision"], *layout])


def parity(
    spec: Spec, said: Callable[[str], None]
) -> tuple[dict[str, Any], list[dict[str, Any]], Exception | None]:
    """Compare all that this machine has with the reference.

    Returns:
        The summary, no rows, and an error if something is beyond its tolerance.
    """
    said("float64 on the CPU")
    on_cpu = replace(spec, device=spec.device | REFERENCE)
    batch = backends.images(on_cpu, IMAGES, torch.float64)
    labels = torch.arange(IMAGES) % spec.classes
    reference = _computed(spec, Condition("eager", on_cpu.device), batch, labels)
    summary: dict[str, Any] = {}
    beyond, worst = [], 0.0
    for condition in conditions(spec):
        said(condition.name)
        found = _computed(spec, condition, batch, labels)
        for quantity, value, expected, most in zip(
            QUANTITIES, found, reference, TOLERANCES[condition.device["precision"]], strict=True
        ):
            if value is None or expected is None:
                continue  # a backend that does not train
            error = distance(value, expected)
            summary[f"parity/{condition.name}/{quantity}"] = error
            worst = max(worst, error / most)
            if not error <= most:
                beyond.append(f"{condition.name}: {quantity} {error:.1e}, allowed {most:.0e}")
            elif quantity == "gradient" and not (along := cosine(value, expected)) >= ALONG:
                beyond.append(f"{condition.name}: gradient points elsewhere (cosine {along:.2f})")
    summary["parity/worst"] = worst
    problem = NotTheSame(f"beyond tolerance: {'; '.join(beyond)}") if beyond else None
    return summary, [], problem


def conditions(spec: Spec) -> Iterator[Condition]:
    """What this machine has: each device in each precision, both memory formats, each backend."""
    for accelerator in available():
        for precision in PRECISIONS[accelerator]:
            asked = spec.settings.device.model_copy(
                update={"accelerator": accelerator, "precision": precision, "memory_format": "auto"}
            )
            try:
                device = resolve(asked)
            except InputError:
                continue  # a GPU without tf32
            both = ("contiguous", "channels_last") if accelerator != "mps" else ("contiguous",)
            for layout in both if precision == "32-true" else (device["memory_format"],):
                yield Condition("eager", device | {"memory_format": layout})
    device = spec.device | {"accelerator": "cpu", "precision": "32-true"}
    try:
        check_compiler("compile", "cpu")
    except InputError:
        pass
    else:
        yield Condition("compile", device)
    if spec.exported is not None:
        for backend, precisions in {
            "onnxruntime": ["32-true"],
            "openvino": ["32-true", "bf16-mixed"],
        }.items():
            if find_spec(backend):
                for precision in precisions:
                    yield Condition(backend, device | {"precision": precision})


def distance(value: Tensor, expected: Tensor) -> float:
    """|value - expected| / |expected|; infinite where something is not finite."""
    error = float((value.cpu().double() - expected).norm() / expected.norm())
    return error if error == error else float("inf")


def cosine(value: Tensor, expected: Tensor) -> float:
    """Of the angle between two vectors; 0 where one of them is zero."""
    return float(F.cosine_similarity(value.cpu().double().flatten(), expected.flatten(), dim=0))


def _computed(
    spec: Spec, condition: Condition, batch: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Logits (N, K) in eval mode; loss () and gradient (P,) in train mode, where the backend can train."""
    one = replace(
        spec,
        settings=spec.settings.model_copy(update={"backend": condition.backend}),
        device=condition.device,
        memory_bytes=0,
    )
    if condition.backend not in TORCH:
        return backends.logits(one, batch), None, None
    model = backends.module(one)
    parameters = list(model.parameters())
    where = torch.device(DEVICE_TYPES[condition.device["accelerator"]])
    batch, labels = batch.to(where, parameters[0].dtype), labels.to(where)
    with torch.no_grad(), autocast(condition.device):
        logits = model.eval()(batch).cpu().double()
    with autocast(condition.device):
        some, *auxiliary = backends.outputs(_drawing_nothing(model)(batch))
        loss = F.cross_entropy(some.float() if some.dtype.itemsize < 4 else some, labels)
        for other in auxiliary:
            loss = loss + float(model.aux_weight) * F.cross_entropy(other, labels)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    flat = [
        (torch.zeros_like(p) if g is None else g).cpu().double().flatten()
        for p, g in zip(parameters, gradients, strict=True)
    ]
    return logits, loss.detach().cpu().double()[None], torch.cat(flat)


def _drawing_nothing(model: nn.Module) -> nn.Module:
    """Train mode, with batch statistics, but no draws: they would differ between devices."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd | StochasticDepth | Stochastic) or (
            type(module).__name__ == "DropPath"  # timm's
        ):
            module.eval()
    return model
