"""The two kinds of file: each is made as bytes, and read back as a function to compare with the model."""

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
"""Of ONNX's operators: what torch's exporter writes by itself, read by ONNX Runtime from 1.14 (2023) on."""

FILE = "cnnbench.json"
"""The name of the metadata in an archive of torch.export."""

SHAPES: Any = ({0: torch.export.Dim("batch")},)
"""Any number of images."""

Run = Callable[[Tensor], tuple[Tensor, ...]]
"""Images (N, …) -> logits and probabilities (N, K)."""


class Written(NamedTuple):
    """A file before it is written, and what was read back out of it."""

    data: bytes
    run: Run
    metadata: Mapping[str, str]


def check_onnx() -> None:
    """Whether what `to_onnx` needs is installed.

    Raises:
        InputError: it is not.
    """
    try:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"cnnbench export --to onnx: {error.name} is not installed; run `pip install 'cnnbench[export]'` "
            "(--to torch needs nothing more)"
        ) from None


def to_onnx(module: nn.Module, example: Tensor, metadata: Mapping[str, str]) -> Written:
    """An ONNX model with any batch size, and ONNX Runtime's view of it.

    Args:
        module: images -> logits and probabilities, in eval mode.
        example: images that it takes, two or more.
        metadata: kept in the file.

    Raises:
        Exception: of the exporter, the checker or the runtime, for what they do not know.
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

    def run(images: Tensor) -> tuple[Tensor, ...]:
        found = session.run(list(OUTPUTS), {"images": images.numpy()})
        return tuple(torch.from_numpy(array) for array in found)

    return Written(data, run, session.get_modelmeta().custom_metadata_map)


def onnx_model(module: nn.Module, example: Tensor, outputs: Sequence[str]) -> Any:
    """A module as an `onnx.ModelProto`, for any number of images; see `to_onnx`."""
    program = torch.onnx.export(
        _traced(module, example),
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=["images"],
        output_names=list(outputs),
        dynamic_shapes=SHAPES,  # only for the name
    )
    assert program is not None
    return program.model_proto


@contextmanager
def silent() -> Iterator[None]:
    """What torch's exporter logs and prints, whole graphs at times, is for those who work on it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(before)


def to_torch(module: nn.Module, example: Tensor, metadata: Mapping[str, str]) -> Written:
    """An archive of torch.export with any batch size, and what torch loads from it; see `to_onnx`."""
    program = _traced(module, example)
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={FILE: json.dumps(dict(metadata))})
    extra: dict[str, Any] = {FILE: ""}
    found = torch.export.load(io.BytesIO(file.getvalue()), extra_files=extra).module()
    return Written(file.getvalue(), lambda images: tuple(found(images)), json.loads(extra[FILE]))


def _traced(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """What a module computes, for any number of images; without the paths of this machine's source files."""
    program = torch.export.export(module, (example,), dynamic_shapes=SHAPES)
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program
