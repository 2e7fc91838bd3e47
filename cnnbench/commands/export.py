"""Command line of `cnnbench export RUN`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from cnnbench import console
from cnnbench.commands.parser import Parser
from cnnbench.errors import InputError
from cnnbench.processes import signals
from cnnbench.processes.cores import cpu_cores
from cnnbench.processes.logs import quiet
from cnnbench.run_store.finished import finished, own_files
from cnnbench.run_store.run import Run
from cnnbench.run_store.targets import check_spared, check_target, writing
from cnnbench.safe_text import print_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnnbench.inference.export.verify import Difference, Sample

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


def main(arguments: list[str]) -> int:
    """Export a run for other programs, and return the exit code: 1 if the file differs from the model."""
    args = _parser().parse_args(arguments)
    run = finished(Path(args.run))
    target = args.output if args.output is not None else f"{run.path.name}{SUFFIXES[args.to]}"
    suffix = Path(target).suffix
    if suffix in SUFFIXES.values() and suffix != SUFFIXES[args.to]:
        raise InputError(
            f"--output {target}: has the suffix of another format; allowed with --to {args.to}: "
            f"{SUFFIXES[args.to]}"
        )
    check_target("--output", target, stream=False)
    check_spared([("--output", target)], own_files(run))
    with quiet():
        return signals.until_interrupted(lambda: _export(run, args, target))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "cnnbench export",
        usage="cnnbench export RUN [--to onnx|torch] [--input pixels|normalised] [--output FILE]",
        description="Export a finished run as an ONNX model or a torch.export archive, for any batch size, "
        "with class names and preprocessing in its metadata. The result is compared with the checkpoint on "
        "test images first, and not written if it differs.",
        epilog="example: cnnbench export outputs/default/basic-digits-s0-… --output digits.onnx",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, or its best.ckpt")
    parser.add_argument("--to", choices=tuple(SUFFIXES), default="onnx", help="format (default: onnx)")
    parser.add_argument(
        "--input",
        choices=("pixels", "normalised"),
        default="pixels",
        help="input of the exported model: uint8 pixels, which it normalises (default), or normalised floats",
    )
    parser.add_argument("--output", metavar="FILE", help="(default: the run's name, in this folder)")
    parser.add_argument(
        "--trust-code", action="store_true", help="run the code of an architecture that is not cnnbench's own"
    )
    return parser


def _export(run: Run, args: argparse.Namespace, target: str) -> int:
    with console.console.status("starting"):  # torch and Lightning take seconds to import
        from cnnbench.inference import trained_model
        from cnnbench.inference.export import formats, graph, verify
    if args.to == "onnx":
        formats.check_onnx()
    cpu = trained_model.CPU | {"threads": cpu_cores()}
    trained = trained_model.load(run, cpu, trust_code=args.trust_code)
    sample = verify.sample(trained)
    make = formats.to_onnx if args.to == "onnx" else formats.to_torch
    metadata = graph.metadata(trained, args.input)
    subject = f"{run.path}: {trained.settings.arch.name} --to {args.to}"
    with console.console.status("exporting and comparing"), formats.silent():
        try:
            module = graph.Deployed(trained, args.input).eval()
            written = make(module, graph.fed(trained, args.input, sample.pixels[:2]), metadata)
            differences = verify.differences(trained, written.forward, args.input, sample.pixels)
        except Exception as error:  # from exporters and runtimes, for operations that they do not support
            reason = " ".join(str(error).split())[:400] or type(error).__name__
            raise InputError(f"{subject}: cannot be exported ({type(error).__name__}: {reason})") from error
    if bad := [difference for difference in differences if not difference.fine]:
        message = f"{subject}: the exported model differs: {_text(bad[0])}; nothing is written"
        return print_error(message, 1)
    assert dict(written.metadata) == dict(metadata), "the file has the metadata that it was given"
    with writing(target) as file:
        assert file is not None
        file.write(written.data)
    console.out.print(_table(target, len(written.data), metadata, sample, differences), highlight=False)
    return 0


def _text(difference: Difference) -> str:
    return (
        f"batch {difference.batch}: logits differ by {difference.logits:.1e} at most, probabilities by "
        f"{difference.probabilities:.1e} (allowed: {difference.allowed:.1e} and 1e-04)"
    )


def _table(
    target: str, size: int, metadata: Mapping[str, str], sample: Sample, differences: list[Difference]
) -> Table:
    """Build the table of the written file and of its comparison with the model."""
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
        "preprocessing": metadata["resize"],
        "outputs": "logits (N,K), probabilities (N,K)",
        "metadata": ", ".join(metadata),
        "compared on": sample.title,
    }
    for key, text in rows.items():
        table.add_row(key, Text(text, "yellow" if "RANDOM" in text else ""))
    for difference in differences:
        table.add_row("", Text(_text(difference)))
    return table
