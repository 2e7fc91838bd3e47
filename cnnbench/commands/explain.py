"""Command line of `cnnbench explain RUN …`: what trained runs have learned, in pictures."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench import console
from cnnbench.commands.parser import Parser
from cnnbench.errors import InputError, suggest
from cnnbench.processes import signals
from cnnbench.processes.logs import quiet
from cnnbench.run_store import targets
from cnnbench.run_store.files import replacing
from cnnbench.run_store.find import below
from cnnbench.run_store.finished import finished, own_files
from cnnbench.run_store.run import Run
from cnnbench.run_store.select import parse_condition, select_runs, states_of
from cnnbench.tracking import wandb_report

if TYPE_CHECKING:
    from cnnbench.inference.explain.tiles import Picture

KINDS = ("filters", "maps", "gradcam", "top", "mistakes")
OF_ONE = ("top", "mistakes")
"""Kinds of pictures, and those of a single run."""

MOST = 24
"""Most runs side by side."""


def main(arguments: list[str]) -> int:
    """Write the pictures of one run or several, and return the exit code."""
    args = _parser().parse_intermixed_args(arguments)
    settings = [word for word in args.words if _is_setting(word)]
    runs = _runs([word for word in args.words if word not in settings])
    kinds = _kinds(args.only, single=len(runs) == 1)
    if args.layer is not None and len(runs) > 1:
        raise InputError(f"--layer {args.layer}: allowed with one run")
    filters = _filters(args.filters)
    folder = _folder(args.output, runs)
    targets.check_targets(html=args.html)
    images = [Path(name) for name in args.image or []]
    targets.check_spared([("--html", args.html)], [*(f for run in runs for f in own_files(run)), *images])
    wandb_target = wandb_report.target(args)

    def explain() -> int:
        with console.console.status("starting"):  # torch and Lightning take seconds to import
            from cnnbench.inference.explain import explained

            request = explained.Request(
                kinds=kinds,
                images=images,
                split=args.split,
                layer=args.layer,
                filters=filters,
                settings=settings,
                trust_code=args.trust_code,
            )
            explained.check(request)
        found = explained.of_one(runs[0], request) if len(runs) == 1 else explained.of_several(runs, request)
        _write(runs, found, folder, args.html, wandb_target)
        return 0

    with quiet():
        return signals.until_interrupted(explain)


def _is_setting(word: str) -> bool:
    return "=" in word and word.startswith(("data", "device")) and not os.path.lexists(word)


def _runs(words: Sequence[str]) -> list[Run]:
    """Return the finished runs that the words name: runs, folders of several, and conditions on those.

    Raises:
        InputError: there are none, a named one is not finished, or there are too many.
    """
    conditions = [parse_condition(word) for word in words if "=" in word and not os.path.lexists(word)]
    paths = [Path(word) for word in words if "=" not in word or os.path.lexists(word)]
    if not paths:
        raise InputError("explain: no run named; allowed: RUN, the folder of a finished run")
    runs: list[Run] = []
    for path in paths:
        inside = below([path]) if path.is_dir() else []
        if len(inside) < 2:
            runs.append(finished(path))
            continue
        states = states_of(inside)
        selected, _ = select_runs(inside, states, conditions)
        done = [run for run in selected if states[run] == "finished" and run.verb == "train"]
        if left := len(selected) - len(done):
            text = f"{path}: {left} of {len(selected)} runs are left out, which are not finished trainings"
            console.console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)
        if not done:
            raise InputError(f"{path}: no finished run here; allowed: a finished run")
        runs += done
    runs = list({run.path.resolve(): run for run in runs}.values())
    if len(runs) > MOST:
        raise InputError(
            f"{' '.join(words)}: {len(runs)} runs; allowed: {MOST} side by side (KEY=VALUE selects some)"
        )
    return runs


def _kinds(only: str | None, *, single: bool) -> tuple[str, ...]:
    allowed = tuple(kind for kind in KINDS if single or kind not in OF_ONE)
    if only is None:
        return allowed
    for kind in only.split(","):
        if kind not in allowed:
            several = "; of one run alone" if kind in KINDS else ""
            raise InputError(f"--only {kind}: no such kind of picture{several}; {suggest(kind, allowed)}")
    return tuple(kind for kind in allowed if kind in only.split(","))


def _filters(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(int(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 0:
        raise InputError(f"--filters {text}: allowed: numbers from 0, separated by commas")
    return numbers


def _folder(given: str | None, runs: Sequence[Run]) -> Path:
    """Return the folder for the pictures: as given, or `explain` in the run or in the folder of the runs.

    Raises:
        InputError: it cannot be written, or is a link that a run brought along.
    """
    if given is not None:
        if not given:
            raise InputError("--output: the name is empty; allowed: a folder")
        targets.check_folder("--output", given)
        return Path(given)
    homes = [run.path for run in runs] if len(runs) == 1 else [run.path.absolute().parent for run in runs]
    folder = Path(os.path.commonpath(homes)) / "explain"
    if folder.is_symlink():
        raise InputError(f"{folder}: is a link, and would be followed; allowed: --output FOLDER")
    targets.check_folder("--output", str(folder))
    return folder


def _write(
    runs: Sequence[Run],
    found: tuple[str, list[str], list[Picture]],
    folder: Path,
    html: str | None,
    wandb_target: wandb_report.Target | None,
) -> None:
    """Write the pictures and the page, and log them."""
    from cnnbench.inference.explain import to_wandb
    from cnnbench.inference.explain.page import page
    from cnnbench.inference.explain.tiles import png

    title, facts, pictures = found
    files: dict[str, Path] = {}
    drawn = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in console.progress(pictures, "drawing", len(pictures)):
            drawn.append((picture, png(picture)))
            files[picture.name] = folder / f"{picture.name}.png"
            with replacing(files[picture.name]) as file:
                file.write(drawn[-1][1])
    except OSError as error:
        raise InputError(f"--output {folder}: cannot be written ({error.strerror})") from None
    text = page(title, facts, drawn)
    with targets.writing(html) as target:
        if target is not None:
            target.write(text.encode("utf-8", "surrogateescape"))
    if html != "-":
        for picture, _ in drawn:
            console.out.print(f"{files[picture.name]}  {picture.title}", highlight=False, soft_wrap=True)
    if wandb_target is not None:
        to_wandb.log(runs, wandb_target, files, text)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "cnnbench explain",
        usage="cnnbench explain RUN [RUN …] [--image FILE …] [--only KIND,…] [OPTION …] [SETTING=VALUE …]",
        description="Show what a finished run has learned, as PNG files: the filters of its first layer, the "
        "activation maps of images, Grad-CAM, the images of its test set that excite each filter most with "
        "the part that the filter sees, and its worst mistakes. Several runs, or a folder of them: the same "
        "pictures side by side, a row for each run, so that the values of an ablation can be compared.",
        epilog="example: cnnbench explain outputs/default/basic-digits-s0-… --html digits.html ; "
        "cnnbench explain RUN --image photo.jpg --only gradcam,maps ; "
        "cnnbench explain outputs/ablation_norm seed=0",
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RUN",
        help="folders of finished runs, or folders above them; KEY=VALUE selects runs in those, as in "
        "`cnnbench runs`; data.SETTING=… and device.SETTING=… as in `cnnbench evaluate`",
    )
    options = {
        "--only KIND,…": f"pictures to make: {', '.join(KINDS)} (default: all)",
        "--layer NAME": "layer for maps, Grad-CAM and top images (default: the end of each stage; for "
        "Grad-CAM the last maps before pooling)",
        "--filters K,…": "filters whose top images are shown (default: the first eight)",
        "--output DIR": "folder for the PNG files (default: explain, in the run's folder; of several runs, "
        "in the folder that they share)",
        "--html FILE": "write one offline page with all pictures; - for standard output",
    }
    parser.add_argument(
        "--image",
        action="append",
        metavar="FILE",
        help="explain this image (default: one test image of each class)",
    )
    for text, meaning in options.items():
        option, _, metavar = text.partition(" ")
        parser.add_argument(option, metavar=metavar, help=meaning)
    parser.add_argument(
        "--split", choices=("test", "val"), default="test", help="split of the images (default: test)"
    )
    parser.add_argument(
        "--trust-code", action="store_true", help="run the code of an architecture that is not cnnbench's own"
    )
    wandb_report.add_options(parser, "pictures and page")
    return parser
