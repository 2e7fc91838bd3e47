"""Command line of `cnnbench evaluate RUN` and of `cnnbench evaluate arch.weights=FILE …`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cnnbench import console
from cnnbench.commands.parser import Parser
from cnnbench.errors import InputError
from cnnbench.processes import signals
from cnnbench.processes.logs import quiet
from cnnbench.run_store.finished import finished, own_files
from cnnbench.run_store.run import Run
from cnnbench.run_store.targets import check_spared, check_targets, writing
from cnnbench.safe_text import print_error

if TYPE_CHECKING:
    from cnnbench.inference.evaluate.collapsed import Collapsed
    from cnnbench.inference.evaluate.images import Chosen
    from cnnbench.inference.evaluate.metrics import Evaluation
    from cnnbench.inference.network import Network
    from cnnbench.inference.trained_model import Trained
    from cnnbench.settings.run import Settings

SAME, OTHER = 1e-4, 1e-2
"""Largest relative difference from the recorded loss: in the same arithmetic, and in another."""


def main(arguments: list[str]) -> int:
    """Evaluate a run, or a weight file, and return the exit code.

    1: a run's own images give other metrics than recorded.
    """
    args = _parser().parse_intermixed_args(arguments)
    settings: Settings | None = None
    if "=" in args.run and not os.path.lexists(args.run):  # a setting: there is no RUN
        settings = _described([args.run, *args.overrides])
        files = [Path(str(settings.arch.weights)).expanduser()]
    else:
        run = finished(Path(args.run))
        files = own_files(run)
    check_targets(json=args.json, csv=args.csv)
    check_spared([("--json", args.json), ("--csv", args.csv)], files)
    with quiet():
        if settings is not None:
            return signals.until_interrupted(lambda: _evaluate_weights(settings, args))
        return signals.until_interrupted(lambda: _evaluate_run(run, args))


def _described(words: list[str]) -> Settings:
    """Return the settings of an evaluation without a run.

    Raises:
        InputError: they are wrong, or name no weights.
    """
    from cnnbench.settings.described import described  # needs Hydra

    settings = described(words)
    if settings is None or settings.arch.weights is None:
        raise InputError(
            "arch.weights=null: there are no weights to evaluate; allowed: RUN, the folder of a finished "
            "run, or arch.weights=FILE"
        )
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "cnnbench evaluate",
        usage="cnnbench evaluate RUN [--split test|val] [data=… data.SETTING=… device.SETTING=…] [OPTION …]\n"
        "       cnnbench evaluate arch=NAME arch.weights=FILE data=… [SETTING=VALUE …] [OPTION …]",
        description="Evaluate a finished run: accuracy with a confidence interval, loss, metrics of each "
        "class, confusions and calibration, on its own test split or on another data set with the same "
        "classes. Without RUN: the weights of a file, in the network and on the images that the settings "
        "describe, as `cnnbench train` takes them.",
        epilog="example: cnnbench evaluate outputs/default/basic-digits-s0-… --json - ; "
        "cnnbench evaluate RUN data=imagefolder data.root=photos ; "
        "cnnbench evaluate arch=resnet20 arch.weights=FILE data=cifar10",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, or its best.ckpt")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="SETTING=VALUE", help="settings of data and device"
    )
    splits = ("test", "val")
    parser.add_argument("--split", choices=splits, default="test", help="split to evaluate (default: test)")
    # The former name of --split.
    parser.add_argument(
        "--part", dest="split", choices=splits, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser.add_argument("--json", metavar="FILE", help="write all results; - for standard output")
    parser.add_argument(
        "--csv", metavar="FILE", help="write one row per image, with probabilities; - for standard output"
    )
    parser.add_argument(
        "--collapse",
        action="store_true",
        help="evaluate a network without non-linearity also as the one matrix that it is",
    )
    parser.add_argument(
        "--trust-code", action="store_true", help="run the code of an architecture that is not cnnbench's own"
    )
    return parser


def _evaluate_run(run: Run, args: argparse.Namespace) -> int:
    with console.console.status("starting"):  # torch and Lightning take seconds to import
        from cnnbench.inference import trained_model
        from cnnbench.inference.evaluate import images
    changes = images.settings(args.overrides)
    requested = images.device(trained_model.settings(run).device, changes["device"])
    device = trained_model.device_for(run, requested)
    trained = trained_model.load(run, device, trust_code=args.trust_code)
    chosen = images.choose(trained, args.split, changes["data"])
    evaluation = _evaluated(trained, chosen)
    agreement = compare(trained, evaluation, chosen.recorded) if chosen.recorded else None
    matrix = _collapsed(trained, chosen, evaluation) if args.collapse else None
    _present(trained, chosen, evaluation, agreement, matrix, args)
    if agreement is not None and not agreement["same"]:
        return print_error(f"{run.path}: {agreement['said']}", 1)
    return 0


def _evaluate_weights(settings: Settings, args: argparse.Namespace) -> int:
    with console.console.status("starting"):
        from cnnbench.inference import weight_file
        from cnnbench.inference.evaluate import images
        from cnnbench.training.images import training_data
    data = training_data(settings.data, settings.arch, settings.seed)
    loaded = weight_file.load(settings, data)
    chosen = images.described(data, settings.data.name, args.split, loaded.notes)
    evaluation = _evaluated(loaded, chosen)
    matrix = _collapsed(loaded, chosen, evaluation) if args.collapse else None
    _present(loaded, chosen, evaluation, None, matrix, args)
    return 0


def _evaluated(network: Network, chosen: Chosen) -> Evaluation:
    from cnnbench.data.prefetch import labelled
    from cnnbench.inference.evaluate.metrics import evaluate

    count = -(-len(chosen.images.labels) // chosen.batch_size)
    batches: Iterator[Any] = labelled(network.preparation, chosen.images, chosen.batch_size, chosen.memory)
    return evaluate(network, console.progress(batches, "evaluating", count))


def _collapsed(network: Network, chosen: Chosen, evaluation: Evaluation) -> Collapsed:
    from cnnbench.inference.evaluate.collapsed import collapsed

    return collapsed(network, evaluation, lambda matrix: _evaluated(matrix, chosen))


def _present(
    network: Network,
    chosen: Chosen,
    evaluation: Evaluation,
    agreement: dict[str, Any] | None,
    matrix: Collapsed | None,
    args: argparse.Namespace,
) -> None:
    """Write the files that the command line names, and show the result."""
    from cnnbench.inference.evaluate import files, terminal

    for note in chosen.notes:
        console.console.print(note, style="yellow", highlight=False, markup=False, soft_wrap=True)
    with writing(args.json) as file:
        if file is not None:
            report = files.to_json(network, chosen, evaluation, agreement, matrix)
            file.write(report.encode("utf-8", "surrogateescape"))
    with writing(args.csv) as file:
        if file is not None:
            file.write(files.image_table(chosen, evaluation).encode("utf-8", "surrogateescape"))
    if "-" not in (args.json, args.csv):
        text = None if agreement is None else Text(agreement["said"], "green" if agreement["same"] else "red")
        console.out.print(terminal.picture(network, chosen, evaluation, text, matrix), highlight=False)


def compare(trained: Trained, evaluation: Evaluation, keys: tuple[str, ...]) -> dict[str, Any] | None:
    """Compare accuracy and loss with what the training recorded for the same images.

    Args:
        trained: the model.
        evaluation: its result.
        keys: of accuracy and loss in summary.json.

    Returns:
        The recorded `accuracy` and `loss`, whether they are the `same`, and a sentence about it, `said`; None
        if nothing was recorded.
    """
    summary = trained.run.summary()
    if not all(isinstance(summary.get(key), (int, float)) for key in keys):
        return None
    accuracy, loss = (float(summary[key]) for key in keys)
    device = trained.run.status().get("device", {})
    same_device = all(device.get(key) == trained.device[key] for key in ("accelerator", "precision"))
    # Another order of summation changes the last bits, which may flip an image whose top two classes tie.
    tolerance = max(1.5 / len(evaluation.labels), 0.0 if same_device else 2e-3)
    same_loss = abs(loss - evaluation.loss) <= (SAME if same_device else OTHER) * max(1.0, abs(loss))
    same = same_loss and abs(accuracy - evaluation.accuracy) <= tolerance
    metrics = f"accuracy {console.percent(accuracy)}, loss {loss:.4f}"
    if not same:
        text = f"differs from the recorded {metrics}; have images, weights or libraries changed?"
    elif same_device:
        text = f"the same ({metrics})"
    else:
        text = f"the same within the rounding of another device or precision ({metrics})"
    return {"accuracy": accuracy, "loss": loss, "same": same, "said": text}
