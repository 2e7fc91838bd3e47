"""What runs a model: torch, torch.compile, or a runtime that takes it from a file."""

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
        prepare: makes a call that computes a batch of so many images, and waits until it is done.
        forget: lets go of what calls leave behind, gradients and the optimizer's state.
    """

    prepare: Callable[[int], Call]
    forget: Callable[[], None] = lambda: None


PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino", "onnx", "onnxscript"),
}
EXTRAS = {"onnxruntime": "export", "openvino": "openvino"}


def check(settings: Bench, accelerator: str) -> None:
    """Find out before anything is written whether a backend can be had.

    Raises:
        InputError: it is not installed, or does not compute on this device.
    """
    from cnnbench.training.device import check_compiler

    backend = settings.backend
    missing = [name for name in PACKAGES.get(backend, ()) if not find_spec(name)]
    if missing:
        extra = EXTRAS[backend]
        raise InputError(f"backend={backend}: not installed; run `pip install 'cnnbench[{extra}]'`")
    if backend not in TORCH and accelerator != "cpu":
        raise InputError(f"backend={backend}: measured on the CPU alone; allowed with device=cpu")
    if backend == "compile":
        check_compiler("backend=compile", accelerator)


def inference(spec: Spec) -> Loaded:
    """Load the model, ready to compute logits."""
    if spec.settings.backend not in TORCH:
        return _exported(spec)
    import torch

    from cnnbench.training.device import autocast, synchronise

    model = module(spec).eval()

    def prepare(batch: int) -> Call:
        some = images(spec, batch, next(model.parameters()).dtype)

        def call() -> None:
            with torch.inference_mode(), autocast(spec.device):
                model(some)
            synchronise(some.device)

        return call

    return Loaded(prepare)


def training(spec: Spec) -> Loaded:
    """Load the model, ready for training steps: forwards, loss, backwards, optimizer."""
    import torch
    from torch.nn import functional as F

    from cnnbench.settings.instantiate import factory
    from cnnbench.training.device import autocast, synchronise

    model = module(spec).train()
    # So small a rate that the weights, and with them the arithmetic, stay what they are.
    optimizer = factory(spec.settings.optimizer.model_copy(update={"lr": 1e-12}), "optimizer")(
        model.parameters()
    )
    scaler = torch.amp.GradScaler("cuda", enabled=spec.device["precision"] == "16-mixed")

    def prepare(batch: int) -> Call:
        some = images(spec, batch, next(model.parameters()).dtype)
        labels = torch.arange(batch, device=some.device) % spec.classes

        def call() -> None:
            optimizer.zero_grad()
            with autocast(spec.device):
                logits, *auxiliary = outputs(model(some))
                loss = F.cross_entropy(logits, labels)
                for other in auxiliary:
                    loss = loss + float(model.aux_weight) * F.cross_entropy(other, labels)  # type: ignore[arg-type]
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            synchronise(some.device)

        return call

    def forget() -> None:
        optimizer.zero_grad()
        optimizer.state.clear()

    return Loaded(prepare, forget)


def module(spec: Spec) -> nn.Module:
    """The model with its weights, where and how it is to compute."""
    import torch

    from cnnbench.ops.factory import Ops
    from cnnbench.training import model as training_model
    from cnnbench.training.device import DEVICE_TYPES, place, quiet_compiler

    model = training_model.assemble(
        spec.settings.arch, Ops(**spec.settings.resolved_ops()), spec.shape, spec.classes
    )
    model.load_state_dict(torch.load(spec.weights, weights_only=True))
    if spec.settings.backend == "compile":
        quiet_compiler()
        torch._dynamo.config.recompile_limit = 64  # each batch size has code of its own
    model = place(model, spec.device | {"compile": False}).to(DEVICE_TYPES[spec.device["accelerator"]])
    if spec.settings.backend == "compile":
        model.compile(dynamic=False)
    return model


def outputs(output: Any) -> tuple[torch.Tensor, ...]:
    """The logits, and in training those of auxiliary classifiers."""
    return output if isinstance(output, tuple) else (output,)


def images(spec: Spec, batch: int, dtype: torch.dtype) -> torch.Tensor:
    """Noise, as normalised images would be: (N, C, H, W)."""
    import torch

    from cnnbench.training.device import DEVICE_TYPES

    generator = torch.Generator().manual_seed(spec.settings.seed)
    some = torch.randn(batch, *spec.shape, generator=generator).to(dtype)
    return some.to(DEVICE_TYPES[spec.device["accelerator"]])


def logits(spec: Spec, some: torch.Tensor) -> torch.Tensor:
    """What an exported model makes of images (N, C, H, W): float64 (N, K)."""
    import torch

    with torch.no_grad():
        found = _session(spec)(some.float().numpy())
    return torch.from_numpy(found).double()


def export(model: nn.Module, shape: tuple[int, int, int], target: Path) -> None:
    """Write a model as ONNX, for any number of images.

    Raises:
        InputError: it has an operation that ONNX, or torch's exporter, has not.
    """
    import torch

    from cnnbench.inference.export.formats import onnx_model, silent

    try:
        with silent():
            found = onnx_model(model.eval(), torch.zeros(2, *shape), ["logits"])
        target.write_bytes(found.SerializeToString())
    except Exception as error:  # of any model's code: the exporter's own error says little
        said = " ".join(str(error.__cause__ or error).split())[:300]
        raise InputError(
            f"backend: this model cannot be exported to ONNX ({said}); allowed: eager, compile"
        ) from error


def _exported(spec: Spec) -> Loaded:
    import numpy as np

    run = _session(spec)

    def prepare(batch: int) -> Call:
        rng = np.random.default_rng(spec.settings.seed)
        some = rng.standard_normal((batch, *spec.shape), dtype=np.float32)
        return lambda: run(some)

    return Loaded(prepare)


def _session(spec: Spec) -> Callable[[Any], Any]:
    """The exported model, as a call from float32 (N, C, H, W) to (N, K)."""
    return _onnxruntime(spec) if spec.settings.backend == "onnxruntime" else _openvino(spec)


def _onnxruntime(spec: Spec) -> Callable[[Any], Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = int(spec.device["threads"])
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(spec.exported), options, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())
    return lambda some: session.run(None, {name: some})[0]


def openvino() -> Any:
    """OpenVINO, without the package through which it would tell a server of each import."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _openvino(spec: Spec) -> Callable[[Any], Any]:
    ov = openvino()
    # It would compute in bfloat16 wherever the CPU can, and so not what the other backends compute.
    precision = "bf16" if spec.device["precision"] == "bf16-mixed" else "f32"
    options = {"INFERENCE_NUM_THREADS": int(spec.device["threads"]), "INFERENCE_PRECISION_HINT": precision}
    request = ov.Core().compile_model(str(spec.exported), "CPU", options).create_infer_request()

    def call(some: Any) -> Any:
        request.infer({0: some}, share_inputs=True)
        return request.get_output_tensor(0).data.copy()

    return call
