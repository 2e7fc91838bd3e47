"""Command line of `cnnbench predict RUN IMAGE…`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench import console
from cnnbench.commands.parser import Parser
from cnnbench.data.options import DECODE_MIB
from cnnbench.errors import InputError
from cnnbench.inference.predict.files import listed
from cnnbench.processes import signals
from cnnbench.processes.logs import quiet
from cnnbench.run_store.finished import finished, own_files
from cnnbench.run_store.run import Run
from cnnbench.run_store.targets import check_spared, check_targets, writing
from cnnbench.safe_text import print_error

if TYPE_CHECKING:
    from torch import Tensor

    from cnnbench.inference.predict.predictions import Predictions
    from cnnbench.inference.trained_model import Trained

BATCH = 32
"""Batch size; at most two batches of decoded images wait for the model."""


def main(arguments: list[str]) -> int:
    """Predict the class of image files, and return the exit code: 1 if some of them could not be read."""
    args = _parser().parse_intermixed_args(arguments)
    run = finished(Path(args.run))
    if args.top < 1:
        raise InputError(f"--top={args.top}: allowed: 1 or more")
    if args.decode_mib < 1:
        raise InputError(f"--decode-mib={args.decode_mib}: allowed: 1 or more")
    check_targets(json=args.json, csv=args.csv)
    files, faults = listed(args.images)
    check_spared([("--json", args.json), ("--csv", args.csv)], [*own_files(run), *files])
    with quiet():
        return signals.until_interrupted(lambda: _predict(run, args, files, faults))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "cnnbench predict",
        usage="cnnbench predict RUN IMAGE … [--top K] [--json FILE] [--csv FILE] [--device D]",
        description="Classify image files with a finished run: files, folders (with their subfolders), "
        "quoted patterns, or - for paths on standard input, one per line. An image that cannot be read is "
        "reported, and the others are predicted.",
        epilog="example: cnnbench predict outputs/default/basic-digits-s0-… photos 'more/**/*.png' --json -",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, or its best.ckpt")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, patterns, or -")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes per image (default: 5)")
    parser.add_argument("--json", metavar="FILE", help="write JSON; - for standard output")
    parser.add_argument("--csv", metavar="FILE", help="write one row per image; - for standard output")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "gpu", "mps"),
        help="(default: that of the training, if available)",
    )
    parser.add_argument(
        "--decode-mib",
        type=int,
        default=DECODE_MIB,
        metavar="MIB",
        help="most MiB that images take while they are decoded, all together; a larger one cannot be read "
        f"(default: {DECODE_MIB})",
    )
    parser.add_argument(
        "--trust-code", action="store_true", help="run the code of an architecture that is not cnnbench's own"
    )
    return parser


def _predict(run: Run, args: argparse.Namespace, files: list[Path], faults: list[tuple[str, str]]) -> int:
    with console.console.status("starting"):  # torch and Lightning take seconds to import
        from cnnbench.data.image_file import Memory
        from cnnbench.data.prefetch import opened
        from cnnbench.inference import trained_model
        from cnnbench.inference.predict.predictions import Predictions
    requested = args.device and trained_model.on_accelerator(trained_model.settings(run).device, args.device)
    device = trained_model.device_for(run, requested)
    trained = trained_model.load(run, device, trust_code=args.trust_code)
    prepared, memory = trained.preparation, Memory(args.decode_mib, "--decode-mib")
    failed = 0
    with writing(args.json) as as_json, writing(args.csv) as as_csv:
        predictions = Predictions(trained, min(args.top, len(prepared.classes)), as_json, as_csv)
        for word, why in faults:
            failed += _fail(predictions, word, why)
        images = console.progress(opened(prepared, files, 2 * BATCH, memory), "predicting", len(files))
        for batch in _batches(images):
            failed += _predict_batch(trained, predictions, batch)
        predictions.finish()
    return 1 if failed else 0


def _batches(images: Iterable[tuple[Path, Tensor | str]]) -> Iterator[list[tuple[Path, Tensor | str]]]:
    """Yield batches of files, including those that cannot be read."""
    batch: list[tuple[Path, Tensor | str]] = []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _fail(predictions: Predictions, path: str, why: str) -> int:
    """Report a file that could not be read; return 1, the number of failures."""
    print_error(f"{path}: {why}")
    predictions.fail(path, why)
    return 1


def _predict_batch(trained: Trained, predictions: Predictions, batch: list[tuple[Path, Tensor | str]]) -> int:
    """Predict a batch, in the order of its files; return the number of files that cannot be read."""
    import torch

    from cnnbench.inference.predict.predictions import Guess

    names, failed = trained.preparation.classes, 0
    images = [image for _, image in batch if not isinstance(image, str)]
    guesses: Iterator[list[Guess]] = iter(())
    if images:
        shares, order = trained.logits(torch.stack(images)).softmax(1).topk(predictions.top)
        guesses = (
            [Guess(names[k], p) for k, p in zip(indices, probabilities, strict=True)]
            for indices, probabilities in zip(order.tolist(), shares.tolist(), strict=True)
        )
    for path, image in batch:
        if isinstance(image, str):
            failed += _fail(predictions, str(path), image)
        else:
            predictions.add(path, next(guesses))
    return failed
