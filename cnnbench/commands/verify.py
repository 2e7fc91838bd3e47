"""`cnnbench verify [PATH …]`: check that the files of runs are as they were written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.progress import Progress

from cnnbench import console
from cnnbench.commands.parser import Parser
from cnnbench.errors import InputError
from cnnbench.processes.cores import cpu_cores
from cnnbench.run_store.find import below, outputs, without_status
from cnnbench.run_store.verify import verification


def main(arguments: list[str]) -> int:
    """Print a line for each damaged file below the given paths; return 1 if there is any."""
    parser = Parser(
        "cnnbench verify",
        usage="cnnbench verify [PATH …]",
        description="Check that the files of runs are as they were written: checkpoints by their checksums, "
        "metrics, settings and states by form, checksum and agreement with each other.",
        epilog="exit code: 0 if everything is as it was written, 1 if anything is damaged",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        default=[outputs()],
        metavar="PATH",
        help=f"folders of runs (default: {outputs()})",
    )
    args = parser.parse_args(arguments)
    unread: list[str] = []
    runs = below(map(Path, args.paths), unread.append)
    lost = [run for path in args.paths for run in without_status(Path(path))]
    unread += [
        f"{run}/status.json: is missing; the command that made this run makes it again" for run in lost
    ]
    if not runs and not unread:
        raise InputError(f"{', '.join(args.paths)}: no run here (a folder with a status.json)")
    damaged = len(unread)
    checkpoints = unchecked = 0
    for line in unread:
        _say(line)
    with (
        ThreadPoolExecutor(cpu_cores()) as pool,
        Progress(
            console=console.console, transient=True, disable=not console.console.is_terminal
        ) as progress,
    ):
        for result in progress.track(pool.map(verification, runs), total=len(runs), description="verifying"):
            for line in result.problems:
                _say(line)
            damaged += bool(result.problems)
            checkpoints += result.checkpoints
            unchecked += len(result.unchecked)
    text = f"{len(runs)} run{'s' * (len(runs) != 1)} with {checkpoints} checkpoints verified: "
    text += f"{damaged} damaged" if damaged else "all as they were written"
    if unchecked:
        text += f"; {unchecked} checkpoints have neither checksum nor CRC"
    console.out.print(text, highlight=False)
    return 1 if damaged else 0


def _say(line: str) -> None:
    console.out.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
