"""The backends that run a model: torch, torch.compile, or a runtime that loads an exported file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.bench.spec import TORCH, Spec
from cnnbench.bench.timing import Call
from cnnbench.errors import InputError
from cnnbench.settings.bench import Bench

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Loaded:
    """A model, ready to compute.

    Attributes:
        prepare: takes a batch size and returns a call that computes one such batch and waits for the device.
        forget: frees gradients and the optimizer's state.
    """

    prepare: Callable[[int], Call]
    forget: Callable[[], None] = lambda: None


PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino", "onnx", "onnxscript"),
}
EXTRAS = {"onnxruntime": "export", "openvino": "openvino"}


def check(settings: Bench, accelerator: str) -> None:
    """Check that a backend is available, before anything is written.

    Args:
        settings: the measurement.
        accelerator: the resolved one, never `auto`.

    Raises:
        InputError: the backend is not installed, or does not run on this device.
    """
    from cnnbench.training.device import check_compiler

    backend = settings.backend
    missing = [name for name in PACKAGES.get(backend, ()) if not find_spec(name)]
    if missing:
        extra = EXTRAS[backend]
        raise InputError(f"backend={backend}: not installed; run `pip install 'cnnbench[{extra}]'`")
    if backend not in TORCH and accelerator != "cpu":
        raise InputError(f"backend={backend}: is measured on the CPU only; allowed with device=cpu")
    if backend == "compile":
        check_compiler("backend=compile", accelerator)


def inference(spec: Spec) -> Loaded:
    """Load the model for forward passes."""
    if spec.settings.backend not in TORCH:
        return _exported(spec)
    import torch

    from cnnbench.training.device import autocast, synchronise

    model = module(spec).eval()

    def prepare(batch: int) -> Call:
        x = images(spec, batch, next(model.parameters()).dtype)

        def call() -> None:
            with torch.inference_mode(), autocast(spec.device):
                model(x)
            synchronise(x.device)

        return call

    return Loaded(prepare)


def training(spec: Spec) -> Loaded:
    """Load the model for training steps: forward pass, loss, backward pass, optimizer step."""
    import torch
    from torch.nn import functional as F

    from cnnbench.settings.instantiate import factory
    from cnnbench.training.device import autocast, synchronise
    from cnnbench.training.evaluation_weights import train_mode

    model = module(spec).train()
    # A learning rate so small that the weights, and with them the arithmetic, do not change.
    optimizer = factory(spec.settings.optimizer.model_copy(update={"lr": 1e-12}), "optimizer")(
        model.parameters()
    )
    train_mode(optimizer)
    scaler = torch.amp.GradScaler("cuda", enabled=spec.device["precision"] == "16-mixed")

    def prepare(batch: int) -> Call:
        x = images(spec, batch, next(model.parameters()).dtype)
        labels = torch.arange(batch, device=x.device) % spec.classes

        def call() -> None:
            optimizer.zero_grad()
            with autocast(spec.device):
                logits, *auxiliary = outputs(model(x))
                loss = F.cross_entropy(logits, labels)
                for aux in auxiliary:
                    loss = loss + float(model.aux_weight) * F.cross_entropy(aux, labels)  # type: ignore[arg-type]
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            synchronise(x.device)

        return call

    def forget() -> None:
        optimizer.zero_grad()
        optimizer.state.clear()

    return Loaded(prepare, forget)


def module(spec: Spec) -> nn.Module:
    """Return the model with its weights, on the device and in the precision and memory format of `spec`."""
    import torch

    from cnnbench.ops.factory import Ops
    from cnnbench.training.device import DEVICE_TYPES, place, quiet_compiler
    from cnnbench.training.model import assemble

    model = assemble(spec.settings.arch, Ops(**spec.settings.resolved_ops()), spec.shape, spec.classes)
    model.load_state_dict(torch.load(spec.weights, weights_only=True))
    if spec.settings.backend == "compile":
        quiet_compiler()
        torch._dynamo.config.recompile_limit = 64  # each batch size is compiled separately
    model = place(model, spec.device | {"compile": False}).to(DEVICE_TYPES[spec.device["accelerator"]])
    if spec.settings.backend == "compile":
        model.compile(dynamic=False)
    return model


def outputs(output: Any) -> tuple[torch.Tensor, ...]:
    """Return the logits as a tuple, followed in training by those of the auxiliary classifiers."""
    return output if isinstance(output, tuple) else (output,)


def images(spec: Spec, batch: int, dtype: torch.dtype) -> torch.Tensor:
    """Return Gaussian noise (N, C, H, W) in place of normalised images."""
    import torch

    from cnnbench.training.device import DEVICE_TYPES

    generator = torch.Generator().manual_seed(spec.settings.seed)
    x = torch.randn(batch, *spec.shape, generator=generator).to(dtype)
    return x.to(DEVICE_TYPES[spec.device["accelerator"]])


def logits(spec: Spec, x: torch.Tensor) -> torch.Tensor:
    """Return the exported model's logits, float64 (N, K), for images (N, C, H, W)."""
    import torch

    with torch.no_grad():
        output = _session(spec)(x.float().numpy())
    return torch.from_numpy(output).double()


def export(model: nn.Module, shape: tuple[int, int, int], target: Path) -> None:
    """Write a model as ONNX, for any batch size.

    Args:
        model: on the CPU; is put in eval mode.
        shape: (C, H, W) of the images.
        target: the file to write.

    Raises:
        InputError: ONNX or torch's exporter lacks one of its operations.
    """
    import torch

    from cnnbench.inference.export.formats import onnx_model, silent

    try:
        with silent():
            proto = onnx_model(model.eval(), torch.zeros(2, *shape), ["logits"])
        target.write_bytes(proto.SerializeToString())
    except Exception as error:  # from any model's code; the exporter's own error says little
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise InputError(
            f"backend: this model cannot be exported to ONNX ({reason}); allowed: eager, compile"
        ) from error


def _exported(spec: Spec) -> Loaded:
    import numpy as np

    run = _session(spec)

    def prepare(batch: int) -> Call:
        rng = np.random.default_rng(spec.settings.seed)
        x = rng.standard_normal((batch, *spec.shape), dtype=np.float32)
        return lambda: run(x)

    return Loaded(prepare)


def _session(spec: Spec) -> Callable[[Any], Any]:
    """Load the exported model as a function from float32 (N, C, H, W) to (N, K)."""
    return _onnxruntime(spec) if spec.settings.backend == "onnxruntime" else _openvino(spec)


def _onnxruntime(spec: Spec) -> Callable[[Any], Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = int(spec.device["threads"])
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(spec.exported), options, providers=["CPUExecutionProvider"])
    (name,) = (node.name for node in session.get_inputs())
    return lambda x: session.run(None, {name: x})[0]


def openvino() -> Any:
    """Import OpenVINO without its telemetry package, which would report each import to a server."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _openvino(spec: Spec) -> Callable[[Any], Any]:
    ov = openvino()
    # By default it computes in bfloat16 wherever the CPU can, unlike the other backends.
    precision = "bf16" if spec.device["precision"] == "bf16-mixed" else "f32"
    options = {"INFERENCE_NUM_THREADS": int(spec.device["threads"]), "INFERENCE_PRECISION_HINT": precision}
    request = ov.Core().compile_model(str(spec.exported), "CPU", options).create_infer_request()

    def call(x: Any) -> Any:
        request.infer({0: x}, share_inputs=True)
        return request.get_output_tensor(0).data.copy()

    return call
