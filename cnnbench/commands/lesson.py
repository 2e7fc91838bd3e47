"""Command line of `cnnbench lesson RUN`: a trained network to be taken apart in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnbench import console
from cnnbench.commands.parser import Parser
from cnnbench.errors import InputError
from cnnbench.processes import signals
from cnnbench.processes.logs import quiet
from cnnbench.run_store import targets
from cnnbench.run_store.finished import finished, own_files
from cnnbench.run_store.run import Run


def main(arguments: list[str]) -> int:
    """Write the page of a run, and return the exit code."""
    args = _parser().parse_intermixed_args(arguments)
    run = finished(Path(args.run))
    target = args.output
    if target is None:
        target = str(run.path / "lesson.html")
        if Path(target).is_symlink():
            raise InputError(f"{target}: is a link, and would be followed; allowed: --output FILE")
    targets.check_targets(output=target)
    images = [Path(name) for name in args.image or []]
    targets.check_spared([("--output", target)], [*own_files(run), *images])
    with quiet():
        return signals.until_interrupted(lambda: _teach(run, target, images, args))


def _teach(run: Run, target: str, images: list[Path], args: argparse.Namespace) -> int:
    with console.console.status("starting"):  # torch and Lightning take seconds to import
        from cnnbench.inference.explain import explained
        from cnnbench.inference.lesson.page import SIZES, page
    loaded, examples = explained.with_examples(
        run, images, args.overrides, most=SIZES[0][0], trust_code=args.trust_code
    )
    with console.console.status("drawing"):
        arch, accuracy = loaded.settings.arch.name, run.summary().get("test/acc")
        facts = [
            f"{arch} on {loaded.settings.data.name}, test accuracy {console.percent(accuracy)}",
            f"weights: {loaded.weights}",
        ]
        text = page(loaded, examples, f"Inside {loaded.name}", facts)
    with targets.writing(target) as file:
        assert file is not None
        file.write(text.encode("utf-8", "surrogateescape"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "cnnbench lesson",
        usage="cnnbench lesson RUN [--output FILE] [--image FILE …] [SETTING=VALUE …]",
        description="Write one offline page on which a trained network is taken apart: each layer can be "
        "chosen, and shows its input, its kernel, what it sees of the image, its output, the matrix that it "
        "is, and the idea that it stands for, with the numbers of this run.",
        epilog="example: cnnbench lesson outputs/default/basic-digits-s0-… --output lesson.html",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, or its best.ckpt")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="SETTING=VALUE",
        help="data.SETTING=… and device.SETTING=… as in `cnnbench evaluate`",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the page (default: lesson.html in the run's folder); - for standard output",
    )
    parser.add_argument(
        "--image",
        action="append",
        metavar="FILE",
        help="show this image (default: test images of four classes)",
    )
    parser.add_argument(
        "--trust-code", action="store_true", help="run the code of an architecture that is not cnnbench's own"
    )
    return parser
