"""`cnnbench evaluate RUN`: the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cnnbench import console
from cnnbench.processes import signals
from cnnbench.processes.logs import quiet
from cnnbench.run_store import files as run_store_files
from cnnbench.run_store import finished
from cnnbench.run_store.run import Run

if TYPE_CHECKING:
    from cnnbench.inference.evaluate.metrics import Evaluation
    from cnnbench.inference.trained_model import Trained

SAME, OTHER = 1e-4, 1e-2
"""How far a loss may be from the recorded one, relative: in the same arithmetic, and in another."""


def main(arguments: list[str]) -> int:
    """Evaluate a run; 1 if its own images do not give what its training recorded."""
    asked = _parser().parse_intermixed_args(arguments)
    run = finished.finished(Path(asked.run))
    run_store_files.check_targets(json=asked.json, csv=asked.csv)
    run_store_files.check_spared([("--json", asked.json), ("--csv", asked.csv)], finished.own_files(run))
    with quiet():
        return signals.until_interrupted(lambda: _evaluate(run, asked))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "cnnbench evaluate",
        usage="cnnbench evaluate RUN [--part test|val] [data=… data.SETTING=… device.SETTING=…] [OPTION …]",
        description="How good a finished run is: accuracy with an interval, loss, each class, confusions, "
        "calibration; on its own test set, or on another set of images with the same classes.",
        epilog="example: cnnbench evaluate outputs/default/basic-digits-s0-… --json - ; "
        "cnnbench evaluate RUN data=imagefolder data.root=photos",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run, or its best.ckpt")
    parser.add_argument("words", nargs="*", default=[], metavar="SETTING=VALUE", help="of data and of device")
    parser.add_argument("--part", choices=("test", "val"), default="test", help="(default: test)")
    parser.add_argument("--json", metavar="FILE", help="write everything; - for standard output")
    parser.add_argument("--csv", metavar="FILE", help="write a row an image, with its probabilities; -")
    parser.add_argument(
        "--trust-code", action="store_true", help="call an architecture that is not cnnbench's own"
    )
    return parser


def _evaluate(run: Run, asked: argparse.Namespace) -> int:
    with console.console.status("starting"):  # torch and Lightning take seconds to import
        from cnnbench.data.prefetch import labelled
        from cnnbench.inference import trained_model as using
        from cnnbench.inference.evaluate import files, images, terminal
        from cnnbench.inference.evaluate.metrics import evaluate
    settings = images.settings(asked.words)
    device = images.device(using.settings(run).device, settings["device"])
    trained = using.load(run, using.where(run, device), trust_code=asked.trust_code)
    chosen = images.choose(trained, asked.part, settings["data"])
    count = -(-len(chosen.images.labels) // chosen.batch_size)
    batches: Iterator[Any] = labelled(trained.preparation, chosen.images, chosen.batch_size)
    found = evaluate(trained, console.progress(batches, "evaluating", count))
    for note in chosen.notes:
        console.console.print(note, style="yellow", highlight=False, markup=False, soft_wrap=True)
    agreement = compare(trained, found, chosen.recorded) if chosen.recorded else None
    with run_store_files.writing(asked.json) as file:
        if file is not None:
            file.write(files.to_json(trained, chosen, found, agreement).encode("utf-8", "surrogateescape"))
    with run_store_files.writing(asked.csv) as file:
        if file is not None:
            file.write(files.to_csv(chosen, found).encode("utf-8", "surrogateescape"))
    if "-" not in (asked.json, asked.csv):
        said = None if agreement is None else Text(agreement["said"], "green" if agreement["same"] else "red")
        console.out.print(terminal.picture(trained, chosen, found, said), highlight=False)
    if agreement is not None and not agreement["same"]:
        console.console.print(
            f"error: {run.path}: {agreement['said']}", style="red", markup=False, soft_wrap=True
        )
        return 1
    return 0


def compare(trained: Trained, found: Evaluation, keys: tuple[str, ...]) -> dict[str, Any] | None:
    """Whether accuracy and loss are what the training recorded for the same images.

    Returns:
        `accuracy` and `loss` as recorded, whether they are the `same`, and that in words; None if nothing
        was recorded.
    """
    summary = trained.run.summary()
    if not all(isinstance(summary.get(key), (int, float)) for key in keys):
        return None
    accuracy, loss = (float(summary[key]) for key in keys)
    before = trained.run.status().get("device", {})
    alike = all(before.get(key) == trained.device[key] for key in ("accelerator", "precision"))
    # Sums in another order differ in their last bits, which may turn an image whose two classes tie.
    share = max(1.5 / len(found.labels), 0.0 if alike else 2e-3)
    near = abs(loss - found.loss) <= (SAME if alike else OTHER) * max(1.0, abs(loss))
    same = near and abs(accuracy - found.accuracy) <= share
    figures = f"accuracy {console.percent(accuracy)}, loss {loss:.4f}"
    if not same:
        said = f"not what was recorded: {figures}; are images, weights or libraries others than then?"
    elif alike:
        said = f"the same ({figures})"
    else:
        said = f"the same within the rounding of another device or precision ({figures})"
    return {"accuracy": accuracy, "loss": loss, "same": same, "said": said}
