"""`cnnbench inspect arch=… data=…`: show models layer by layer, without training or images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench import console
from cnnbench.commands.parser import Parser
from cnnbench.errors import InputError
from cnnbench.inspection.subjects import Subject, is_run, merged, subjects
from cnnbench.run_store.targets import check_target, writing
from cnnbench.settings import compose


def main(arguments: list[str]) -> int:
    """Show the models that the words describe: in the terminal, as JSON, as a page and as a plot."""
    args, words = _parser().parse_known_args(arguments)
    if any(word in (*compose.MULTIRUN, "hydra.mode=MULTIRUN") for word in (*words, *(args.vs or []))):
        raise InputError(
            "-m: sweeps belong to `cnnbench train`; allowed: lists without it, as in arch=vgg16,resnet50"
        )
    if args.html is not None:
        check_target("--html", args.html, stream=False)
    if args.plot is not None:
        from cnnbench.inspection import plot

        plot.check(args.plot)
    chosen = _chosen(words, args)
    if not chosen:
        return 0
    if args.linear is not None:
        from cnnbench.commands import linear

        if len(chosen) > 1 or args.html is not None:
            what = f"--html {args.html}" if args.html is not None else "several models"
            raise InputError(
                f"--linear {args.linear}: not with {what}; allowed: one model, --json and --plot"
            )
        return linear.show(chosen[0].settings, args.linear, as_json=args.json, plot=args.plot)
    with console.console.status("building the models"):
        from cnnbench.inspection.description import describe

        models = [describe(subject.settings, subject.label, subject.run) for subject in chosen]
    difference = None
    if args.vs:
        from cnnbench.inspection.alignment import compare

        difference = compare(*models)
    if args.json:
        json.dump(_document(models, difference), sys.stdout, indent=1)
        print()
    else:
        _show(models, difference)
    _write(models, difference, args)
    return 0


def _chosen(words: Sequence[str], args: argparse.Namespace) -> list[Subject]:
    """Return the models of the words, and with --vs the one that they are compared with."""
    chosen = subjects(words, trust_code=args.trust_code)
    if not args.vs or not chosen:
        return chosen
    both = not is_run(args.vs[0]) and not is_run(next(iter(words), ""))
    other = subjects(merged(words, args.vs) if both else args.vs, trust_code=args.trust_code)
    for given, found in ((words, chosen), (args.vs, other)):
        if len(found) != 1:
            named = " ".join(given)
            raise InputError(f"--vs: compares two models; allowed: one each (here {named}: {len(found)})")
    labels = _labels(words, merged(words, args.vs)) if both else [s[0].label for s in (chosen, other)]
    return [Subject(label, s.settings, s.run) for label, s in zip(labels, [*chosen, *other], strict=True)]


def _labels(words: Sequence[str], other: Sequence[str]) -> list[str]:
    """Return what tells two models apart: the settings of each that the other has not."""
    return [
        " ".join(word for word in mine if word not in theirs and not word.startswith("-")) or "as it is"
        for mine, theirs in ((words, other), (other, words))
    ]


def _document(models: Sequence[Mapping[str, Any]], difference: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return what --json prints: the model, or `models`, and with --vs what `compare` returns."""
    if len(models) == 1:
        return models[0]
    return {"models": models, **(difference or {})}


def _show(models: Sequence[Mapping[str, Any]], difference: Mapping[str, Any] | None) -> None:
    from cnnbench.inspection import terminal

    if difference is not None:
        console.out.print(terminal.comparison_table(models[0], models[1], difference))
        console.out.print(terminal.totals_table(difference))
    elif len(models) > 1:
        console.out.print(terminal.models_table(models))
    for model in models:
        if len(models) == 1:
            console.out.print(terminal.model_table(model))
        lines = terminal.remarks(model)
        for line in lines if len(models) == 1 else [f"{model['label']}: {line}" for line in lines]:
            console.out.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)


def _write(
    models: Sequence[Mapping[str, Any]], difference: Mapping[str, Any] | None, args: argparse.Namespace
) -> None:
    """Write the files that the command line names."""
    if args.html is not None:
        from cnnbench.inspection.page import page

        with writing(args.html) as file:
            assert file is not None
            file.write(page(models, difference).encode("utf-8", "surrogateescape"))
    if args.plot is not None:
        from cnnbench.inspection import plot

        with writing(args.plot) as file:
            assert file is not None
            file.write(plot.draw(models, Path(args.plot).suffix))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "cnnbench inspect",
        allow_abbrev=False,
        usage="cnnbench inspect [GROUP=CHOICE …] [SETTING=VALUE …] [--vs SETTING=VALUE …] [OPTION …]\n"
        "       cnnbench inspect RUN [--vs RUN] [OPTION …]",
        description="Show the model that `cnnbench train` would train with the same groups and settings, or "
        "that of a finished run, layer by layer: output shape, receptive field, parameters, "
        "multiply-accumulates (MACs) per image, window (kernel/stride, padding), share of the image that the "
        "unit in the middle sees, memory of the output per image; and the totals. The field is the side in "
        "pixels of what a unit depends on: by the largest path, in brackets by the smallest where they "
        "differ; `all`: it grows with the image. A list, as in arch=vgg16,resnet50, stands for several "
        "models. Nothing is trained, read or downloaded, not even arch.weights. `cnnbench train --help` "
        "lists groups, choices and settings.",
        epilog="example: cnnbench inspect arch=resnet18 data=cifar10 --vs ops.pool=max_blur ; "
        "cnnbench inspect arch=alexnet,vgg16,resnet50 data=imagenette data.size=224 --plot fields.png",
    )
    parser.add_argument(
        "--vs",
        nargs="+",
        metavar="SETTING=VALUE",
        help="compare with a second model, layer by layer: these settings in place of those of the first "
        "model (a group that is chosen anew takes none of its former settings), or another RUN",
    )
    parser.add_argument("--json", action="store_true", help="print JSON on standard output instead of tables")
    parser.add_argument(
        "--html", metavar="FILE", help="write a page with all tables and charts, as a single file"
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw field and size of the maps over depth: a .png, .svg or .pdf file"
    )
    parser.add_argument(
        "--linear",
        metavar="LAYER",
        help="show instead a convolution, fully connected layer or linear pooling as the matrix that it is: "
        "how many weights a fully connected layer would have, how many are not fixed at zero, how many are "
        "free; and a block of it, if it is small; --plot draws it, with a colour for each weight",
    )
    parser.add_argument(
        "--trust-code", action="store_true", help="run the code of an architecture that is not cnnbench's own"
    )
    return parser
