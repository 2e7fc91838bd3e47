"""`cnnbench export RUN`: the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from cnnbench import console
from cnnbench.errors import InputError
from cnnbench.processes import signals
from cnnbench.processes.cores import cpu_cores
from cnnbench.processes.logs import quiet
from cnnbench.run_store import files, finished
from cnnbench.run_store.run import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnnbench.inference.export.verify import Difference, Sample

ENDINGS = {"onnx": ".onnx", "torch": ".pt2"}


def main(arguments: list[str]) -> int:
    """Write a run as a file for other programs, if that file computes what the run's model does."""
    asked = _parser().parse_args(arguments)
    run = finished.finished(Path(asked.run))
    target = asked.output if asked.output is not None else f"{run.path.name}{ENDINGS[asked.to]}"
    ending = Path(target).suffix
    if ending in ENDINGS.values() and ending != ENDINGS[asked.to]:
        raise InputError(
            f"--output {target}: another format's ending; allowed with --to {asked.to}: {ENDINGS[asked.to]}"
        )
    files.check_target("--output", target, stream=False)
    files.check_spared([("--output", target)], finished.own_files(run))
    with quiet():
        return signals.until_interrupted(lambda: _export(run, asked, target))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "cnnbench export",
        usage="cnnbench export RUN [--to onnx|torch] [--input pixels|normalised] [--output FILE]",
        description="Write a finished run as an ONNX model or as an archive of torch.export, with class "
        "names and all that its input needs inside, for any batch size. The file is compared with the "
        "checkpoint on test images first, and not written if it computes something else.",
        epilog="example: cnnbench export outputs/default/basic-digits-s0-… --output digits.onnx",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run, or its best.ckpt")
    parser.add_argument("--to", choices=tuple(ENDINGS), default="onnx", help="(default: onnx)")
    parser.add_argument(
        "--input",
        choices=("pixels", "normalised"),
        default="pixels",
        help="what the file takes: uint8 pixels, which it normalises itself (default), or normalised floats",
    )
    parser.add_argument("--output", metavar="FILE", help="(default: the run's name in this folder)")
    parser.add_argument(
        "--trust-code", action="store_true", help="call an architecture that is not cnnbench's own"
    )
    return parser


def _export(run: Run, asked: argparse.Namespace, target: str) -> int:
    with console.console.status("starting"):  # torch and Lightning take seconds to import
        from cnnbench.inference import trained_model as using
        from cnnbench.inference.export import formats, graph, verify
    if asked.to == "onnx":
        formats.check_onnx()
    cpu = using.CPU | {"threads": cpu_cores()}
    trained = using.load(run, cpu, trust_code=asked.trust_code)
    sample = verify.sample(trained)
    make = formats.to_onnx if asked.to == "onnx" else formats.to_torch
    metadata = graph.metadata(trained, asked.input)
    what = f"{run.path}: {trained.asked.arch.name} --to {asked.to}"
    with console.console.status("exporting and comparing"), formats.silent():
        try:
            module = graph.Deployed(trained, asked.input).eval()
            written = make(module, graph.fed(trained, asked.input, sample.pixels[:2]), metadata)
            found = verify.differences(trained, written.run, asked.input, sample.pixels)
        except Exception as error:  # of exporters and runtimes, for operations that they do not know
            said = " ".join(str(error).split())[:400] or type(error).__name__
            raise InputError(f"{what}: cannot be exported ({type(error).__name__}: {said})") from error
    if bad := [one for one in found if not one.fine]:
        said = f"{what}: the file computes something else: {_said(bad[0])}; nothing is written"
        console.console.print(f"error: {said}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    assert dict(written.metadata) == dict(metadata), "what is in the file is what was put there"
    with files.writing(target) as file:
        assert file is not None
        file.write(written.data)
    console.out.print(_table(target, len(written.data), metadata, sample, found), highlight=False)
    return 0


def _said(one: Difference) -> str:
    return (
        f"batch {one.batch}: logits differ by {one.logits:.1e} at most, probabilities by "
        f"{one.probabilities:.1e} (allowed: {one.allowed:.1e} and 1e-04)"
    )


def _table(
    target: str, size: int, metadata: Mapping[str, str], sample: Sample, found: list[Difference]
) -> Table:
    """What was written, and how it was compared."""
    table = Table(
        title=Text(console.legible(target, 200), "bold"),
        show_header=False,
        title_justify="left",
        min_width=60,
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = {
        "size": f"{console.count(size)}B",
        "input": f"images ({metadata['input_shape']}), {metadata['colours']}; {metadata['input_values']}",
        "an image": metadata["resize"],
        "outputs": "logits (N,K), probabilities (N,K)",
        "metadata": ", ".join(metadata),
        "compared on": sample.title,
    }
    for key, text in rows.items():
        table.add_row(key, Text(text, "yellow" if "RANDOM" in text else ""))
    for one in found:
        table.add_row("", Text(_said(one)))
    return table
