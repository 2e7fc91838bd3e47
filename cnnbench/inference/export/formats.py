"""The two file formats: each is created as bytes, and loaded again to compare it with the model."""

from __future__ import annotations

import importlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnnbench.errors import InputError
from cnnbench.inference.export.graph import OUTPUTS
from cnnbench.processes.cores import cpu_cores

OPSET = 18
"""Version of ONNX's operators: the default of torch's exporter, in ONNX Runtime since 1.14 (2023)."""

FILE = "cnnbench.json"
"""Name of the metadata in a torch.export archive."""

SHAPES: Any = ({0: torch.export.Dim("batch")},)
"""Dynamic shapes: any batch size."""

Forward = Callable[[Tensor], tuple[Tensor, ...]]
"""Images (N, …) -> logits and probabilities (N, K)."""


class Written(NamedTuple):
    """The content of a file, and the forward pass and metadata as loaded from it."""

    data: bytes
    forward: Forward
    metadata: Mapping[str, str]


def check_onnx() -> None:
    """Check that the packages for `to_onnx` are installed.

    Raises:
        InputError: one of them is not.
    """
    try:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"cnnbench export --to onnx: {error.name} is not installed; run `pip install 'cnnbench[export]'` "
            "(--to torch needs no extra packages)"
        ) from None


def to_onnx(module: nn.Module, example: Tensor, metadata: Mapping[str, str]) -> Written:
    """Export to ONNX for any batch size, and load the result in ONNX Runtime.

    Args:
        module: images -> logits and probabilities, in eval mode.
        example: two or more input images.
        metadata: stored in the file.

    Raises:
        Exception: the exporter, the checker or the runtime does not support an operation.
    """
    import onnx
    import onnxruntime

    proto = onnx_model(module, example, OUTPUTS)
    proto.doc_string = f"{metadata['arch']} trained on {metadata['data']} by cnnbench {metadata['cnnbench']}"
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    data = proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = cpu_cores()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def forward(images: Tensor) -> tuple[Tensor, ...]:
        arrays = session.run(list(OUTPUTS), {"images": images.numpy()})
        return tuple(torch.from_numpy(array) for array in arrays)

    return Written(data, forward, session.get_modelmeta().custom_metadata_map)


def onnx_model(module: nn.Module, example: Tensor, outputs: Sequence[str]) -> Any:
    """Convert a module to an `onnx.ModelProto` for any batch size; see `to_onnx`."""
    program = torch.onnx.export(
        _traced(module, example),
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=["images"],
        output_names=list(outputs),
        dynamic_shapes=SHAPES,  # names the dimension
    )
    assert program is not None
    return program.model_proto


@contextmanager
def silent() -> Iterator[None]:
    """Suppress what torch's exporter logs and prints for its own developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(before)


def to_torch(module: nn.Module, example: Tensor, metadata: Mapping[str, str]) -> Written:
    """Export to a torch.export archive for any batch size, and load it again; see `to_onnx`."""
    program = _traced(module, example)
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={FILE: json.dumps(dict(metadata))})
    extra: dict[str, Any] = {FILE: ""}
    loaded = torch.export.load(io.BytesIO(file.getvalue()), extra_files=extra).module()
    return Written(file.getvalue(), lambda images: tuple(loaded(images)), json.loads(extra[FILE]))


def _traced(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """Trace a module for any batch size, and remove the paths of this machine's source files."""
    program = torch.export.export(module, (example,), dynamic_shapes=SHAPES)
    for submodule in program.graph_module.modules():
        for node in submodule.graph.nodes if isinstance(submodule, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program
