"""Numerical parity of a model across devices, precisions and backends.

The reference is float64 on the CPU. The error is a relative norm, |x - reference| / |reference|, of the
logits, of the loss and of the gradient with respect to all parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.bench import backends
from cnnbench.bench.spec import TORCH, Spec
from cnnbench.errors import Finding, InputError
from cnnbench.ops.pooling import Stochastic
from cnnbench.ops.residual import is_stochastic_depth
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
"""Largest accepted relative errors of logits, loss and gradient.

The gradient's error is far larger than that of the logits: where a ReLU's input is within rounding of zero,
its sign decides whether any gradient passes. The relative error of unrelated vectors is about 1.4, that of a
zero vector is 1; `ALONG` excludes these.
"""

ALONG = 0.3
"""Smallest accepted cosine between a gradient and the reference; about 0 for unrelated ones."""

QUANTITIES = ("logits", "loss", "gradient")


class NotTheSame(Finding):
    """A device, precision or backend deviates from the reference by more than its tolerance."""


@dataclass(frozen=True)
class Condition:
    """A device, backend and precision to compare, as in `cpu eager bf16-mixed channels_last`."""

    backend: str
    device: dict[str, Any]

    @property
    def name(self) -> str:
        """The name in tables and in summary.json."""
        d = self.device
        layout = [d["memory_format"]] if self.backend in TORCH else []
        return " ".join([d["accelerator"], self.backend, d["precision"], *layout])


def parity(
    spec: Spec, report: Callable[[str], None]
) -> tuple[dict[str, Any], list[dict[str, Any]], Exception | None]:
    """Compare every condition that this machine supports with the reference.

    Args:
        spec: the model.
        report: is called with the name of each condition.

    Returns:
        The summary, no rows, and an error if a tolerance is exceeded.
    """
    report("float64 on the CPU")
    on_cpu = replace(spec, device=spec.device | REFERENCE)
    batch = backends.images(on_cpu, IMAGES, torch.float64)
    labels = torch.arange(IMAGES) % spec.classes
    reference = _computed(spec, Condition("eager", on_cpu.device), batch, labels)
    summary: dict[str, Any] = {}
    beyond, worst = [], 0.0
    for condition in conditions(spec):
        report(condition.name)
        values = _computed(spec, condition, batch, labels)
        for quantity, value, expected, tolerance in zip(
            QUANTITIES, values, reference, TOLERANCES[condition.device["precision"]], strict=True
        ):
            if value is None or expected is None:
                continue  # a backend that does not train
            error = distance(value, expected)
            summary[f"parity/{condition.name}/{quantity}"] = error
            worst = max(worst, error / tolerance)
            if not error <= tolerance:
                beyond.append(f"{condition.name}: {quantity} {error:.1e}, allowed {tolerance:.0e}")
            elif quantity == "gradient" and not (along := cosine(value, expected)) >= ALONG:
                beyond.append(f"{condition.name}: gradient has another direction (cosine {along:.2f})")
    summary["parity/worst"] = worst
    problem = NotTheSame(f"beyond tolerance: {'; '.join(beyond)}") if beyond else None
    return summary, [], problem


def conditions(spec: Spec) -> Iterator[Condition]:
    """Yield what this machine supports: devices, their precisions, memory formats and backends."""
    for accelerator in available():
        for precision in PRECISIONS[accelerator]:
            requested = spec.settings.device.model_copy(
                update={"accelerator": accelerator, "precision": precision, "memory_format": "auto"}
            )
            try:
                device = resolve(requested)
            except InputError:
                continue  # a GPU without tf32
            layouts = ("contiguous", "channels_last") if accelerator != "mps" else ("contiguous",)
            for layout in layouts if precision == "32-true" else (device["memory_format"],):
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
    """Return |value - expected| / |expected|, infinite where a value is not finite."""
    error = float((value.cpu().double() - expected).norm() / expected.norm())
    return error if error == error else float("inf")


def cosine(value: Tensor, expected: Tensor) -> float:
    """Return the cosine between two tensors as flat vectors, 0 where one of them is zero."""
    return float(F.cosine_similarity(value.cpu().double().flatten(), expected.flatten(), dim=0))


def _computed(
    spec: Spec, condition: Condition, batch: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return logits (N, K) in eval mode; loss (1,) and gradient (P,) in train mode if the backend trains."""
    spec = replace(
        spec,
        settings=spec.settings.model_copy(update={"backend": condition.backend}),
        device=condition.device,
        memory_bytes=0,
    )
    if condition.backend not in TORCH:
        return backends.logits(spec, batch), None, None
    model = backends.module(spec)
    parameters = list(model.parameters())
    target = torch.device(DEVICE_TYPES[condition.device["accelerator"]])
    batch, labels = batch.to(target, parameters[0].dtype), labels.to(target)
    with torch.no_grad(), autocast(condition.device):
        logits = model.eval()(batch).cpu().double()
    with autocast(condition.device):
        outputs, *auxiliary = backends.outputs(_without_randomness(model)(batch))
        loss = F.cross_entropy(outputs.float() if outputs.dtype.itemsize < 4 else outputs, labels)
        for aux in auxiliary:
            loss = loss + float(model.aux_weight) * F.cross_entropy(aux, labels)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    flat = [
        (torch.zeros_like(p) if g is None else g).cpu().double().flatten()
        for p, g in zip(parameters, gradients, strict=True)
    ]
    return logits, loss.detach().cpu().double()[None], torch.cat(flat)


def _without_randomness(model: nn.Module) -> nn.Module:
    """Set train mode, with batch statistics but without dropout, which would differ between devices."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd | Stochastic) or is_stochastic_depth(module):
            module.eval()
    return model
