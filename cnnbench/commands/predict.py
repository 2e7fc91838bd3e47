"""`cnnbench predict RUN IMAGE…`: the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench import console
from cnnbench.errors import InputError
from cnnbench.inference.predict.files import listed
from cnnbench.processes import signals
from cnnbench.processes.logs import quiet
from cnnbench.run_store import files as run_store_files
from cnnbench.run_store import finished
from cnnbench.run_store.run import Run

if TYPE_CHECKING:
    from torch import Tensor

    from cnnbench.inference.predict.predictions import Answers
    from cnnbench.inference.trained_model import Trained

BATCH = 32
"""Images that the model sees at a time, and that wait for it at most twice over."""


def main(arguments: list[str]) -> int:
    """Predict the class of image files; 1 if some of them could not be looked at."""
    asked = _parser().parse_intermixed_args(arguments)
    run = finished.finished(Path(asked.run))
    if asked.top < 1:
        raise InputError(f"--top={asked.top}: allowed: 1 or more")
    run_store_files.check_targets(json=asked.json, csv=asked.csv)
    files, faults = listed(asked.images)
    run_store_files.check_spared(
        [("--json", asked.json), ("--csv", asked.csv)], [*finished.own_files(run), *files]
    )
    with quiet():
        return signals.until_interrupted(lambda: _predict(run, asked, files, faults))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "cnnbench predict",
        usage="cnnbench predict RUN IMAGE … [--top K] [--json FILE] [--csv FILE] [--device D]",
        description="What a finished run takes images for: files, folders (with those below), quoted "
        "patterns, or - for paths on standard input, one a line. An image that cannot be read is named, and "
        "the others are predicted.",
        epilog="example: cnnbench predict outputs/default/basic-digits-s0-… photos 'more/**/*.png' --json -",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run, or its best.ckpt")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, patterns, or -")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes an image (default: 5)")
    parser.add_argument("--json", metavar="FILE", help="write JSON; - for standard output")
    parser.add_argument("--csv", metavar="FILE", help="write a row an image; -")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "gpu", "mps"),
        help="(default: what the run was trained on, if it is here)",
    )
    parser.add_argument(
        "--trust-code", action="store_true", help="call an architecture that is not cnnbench's own"
    )
    return parser


def _predict(run: Run, asked: argparse.Namespace, files: list[Path], faults: list[tuple[str, str]]) -> int:
    with console.console.status("starting"):  # torch and Lightning take seconds to import
        from cnnbench.data.prefetch import opened
        from cnnbench.inference import trained_model as using
        from cnnbench.inference.predict.predictions import Answers
    device = asked.device and using.moved(using.settings(run).device, asked.device)
    trained = using.load(run, using.where(run, device), trust_code=asked.trust_code)
    prepared = trained.preparation
    failed = 0
    with run_store_files.writing(asked.json) as as_json, run_store_files.writing(asked.csv) as as_csv:
        answers = Answers(trained, min(asked.top, len(prepared.classes)), as_json, as_csv)
        for word, why in faults:
            failed += _fail(answers, word, why)
        looked_at = console.progress(opened(prepared, files, 2 * BATCH), "predicting", len(files))
        for batch in _batches(looked_at):
            failed += _answer(trained, answers, batch)
        answers.finish()
    return 1 if failed else 0


def _batches(looked_at: Iterable[tuple[Path, Tensor | str]]) -> Iterator[list[tuple[Path, Tensor | str]]]:
    """So many files at a time, those that cannot be read among them."""
    batch: list[tuple[Path, Tensor | str]] = []
    for one in looked_at:
        batch.append(one)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _fail(answers: Answers, path: str, why: str) -> int:
    """Name a file that could not be looked at."""
    console.console.print(
        f"error: {console.legible(path, 1000)}: {console.legible(why, 300)}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    answers.fail(path, why)
    return 1


def _answer(trained: Trained, answers: Answers, batch: list[tuple[Path, Tensor | str]]) -> int:
    """Predict images of one size together, and answer in the order of the files; how many cannot be read."""
    import torch

    from cnnbench.inference.predict.predictions import Guess

    names, failed = trained.preparation.classes, 0
    images = [found for _, found in batch if not isinstance(found, str)]
    guesses: Iterator[list[Guess]] = iter(())
    if images:
        shares, order = trained.logits(torch.stack(images)).softmax(1).topk(answers.top)
        guesses = (
            [Guess(names[k], p) for k, p in zip(indices, some, strict=True)]
            for indices, some in zip(order.tolist(), shares.tolist(), strict=True)
        )
    for path, found in batch:
        if isinstance(found, str):
            failed += _fail(answers, str(path), found)
        else:
            answers.add(path, next(guesses))
    return failed
