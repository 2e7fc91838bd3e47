"""`cnnbench dashboard [PATH …]`: a W&B workspace laid out for the settings that vary in these runs.

The specification is written as JSON, which needs no server; `--save` sends it to W&B. The file also stores
where the workspace was saved, so that the same command updates it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench import console
from cnnbench.commands.parser import Parser
from cnnbench.comparison.comparison import compare
from cnnbench.comparison.records import read
from cnnbench.comparison.report.wandb_workspace import lay_out
from cnnbench.errors import InputError
from cnnbench.run_store import reading
from cnnbench.run_store.find import outputs, split_words
from cnnbench.run_store.targets import write_target
from cnnbench.tracking import wandb_run

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace


def main(arguments: list[str]) -> int:
    """Write the workspace's specification and, with `--save`, save it at W&B.

    Returns:
        0, or 1 if it was not saved.
    """
    parser = Parser(
        "cnnbench dashboard",
        usage="cnnbench dashboard [PATH …] [--save] [--project P] [--entity E] [--name N] [--out FILE]",
        description="Lay out a W&B workspace for these runs: accuracy against parameters, bars for the "
        "architecture and each op that varies, learning curves, parallel coordinates, and runs side by side. "
        "The specification is written to a file; --save also saves the workspace at W&B or updates it there.",
        epilog="example: cnnbench dashboard outputs/ablation_norm --save",
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help=f"folders of runs (default: {outputs()})"
    )
    parser.add_argument("--project", metavar="P", default="cnnbench", help="default: cnnbench")
    parser.add_argument("--entity", metavar="E", help="the user or team (default: yours)")
    parser.add_argument("--name", metavar="N", help="the workspace's name (default: the experiment's)")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="the file (default: dashboard.json in the first PATH)"
    )
    parser.add_argument("--save", action="store_true", help="save the workspace at W&B")
    args = parser.parse_args(arguments)
    if conditions := split_words(map(str, args.paths))[1]:
        raise InputError(
            f"{conditions[0]}: a workspace shows all runs of an experiment; allowed: folders of runs "
            "(filter them in the workspace, or name a folder with fewer)"
        )
    wandb_run.check_place(args.project, args.entity)
    paths: list[Path] = args.paths or [Path(outputs())]
    out: Path = args.out or paths[0] / "dashboard.json"
    check_installed()
    if args.save:
        wandb_run.check_url()
    comparison = compare(read(paths))
    groups = sorted({record.experiment for record in comparison.records})
    name = args.name if args.name is not None else ", ".join(groups)[:100]
    saved_url = _saved_url(out, args.out is not None)
    workspace = lay_out(comparison, groups, name, args.project, args.entity or "")
    _write(out, workspace, saved_url)  # before saving: without the file it could not be updated later
    if not args.save:
        command = f"cnnbench dashboard {' '.join(map(str, paths))} --save"
        hint = f"to save it at W&B: wandb login, then {command}"
        console.out.print(f"written: {out}", hint, sep="\n", highlight=False)
        return 0
    try:
        _check_server()
        url = save(workspace, saved_url)
    except InputError as error:
        console.console.print(
            f"not saved: {error}", style="yellow", highlight=False, markup=False, soft_wrap=True
        )
        console.out.print(f"written: {out}; the same command saves it later", highlight=False, soft_wrap=True)
        return 1
    _write(out, workspace, url)
    console.out.print(f"saved: {url}", f"written: {out}", sep="\n", highlight=False, soft_wrap=True)
    return 0


def check_installed() -> None:
    """Check that wandb-workspaces is installed.

    Raises:
        InputError: it is not.
    """
    import importlib.util

    if not importlib.util.find_spec("wandb_workspaces"):
        raise InputError("cnnbench dashboard: not installed; run `pip install 'cnnbench[dashboard]'`")


def _check_server() -> None:
    """Check that W&B can be reached and accepts the API key.

    Raises:
        InputError: it cannot be reached, or rejects the key.
    """
    if reason := wandb_run.unreachable():
        raise InputError(reason)
    wandb_run.check_key("--save", verify=True)  # W&B's client takes a key for valid once it has seen it


def save(workspace: Workspace, saved_url: str) -> str:
    """Save the workspace at W&B, replacing the one at `saved_url` if it exists and is of the same project.

    Returns:
        The workspace's address.

    Raises:
        InputError: W&B rejects it.
    """
    import wandb

    try:
        workspace.entity = workspace.entity or str(wandb.Api().default_entity or "")
        old = _saved(saved_url) if saved_url else None
        if old is not None and (old.entity, old.project) == (workspace.entity, workspace.project):
            old.name, old.sections = workspace.name, workspace.sections
            old.settings, old.runset_settings = workspace.settings, workspace.runset_settings
            return str(old.save().url)
        return str(workspace.save().url)
    except Exception as error:  # two libraries and any server raise them, without a common class
        raise InputError(f"--save: W&B rejects it: {' '.join(str(error).split())}") from None


def _saved(url: str) -> Workspace | None:
    """Return the workspace that was saved before; None if it was deleted."""
    import wandb_workspaces.workspaces as ws

    try:
        return ws.Workspace.from_url(url)
    except ValueError:
        return None


def _saved_url(out: Path, named: bool) -> str:
    """Return where an earlier call saved the workspace, from its file; empty if it was not saved.

    Args:
        out: the file.
        named: whether the user named it.

    Raises:
        InputError: the file is not a dashboard, cannot be read, or its folder does not exist.
    """
    option = "--out " if named else ""
    if not out.absolute().parent.is_dir():
        raise InputError(f"{option}{out}: its folder does not exist")
    try:
        content = reading.parse_json(reading.read(out))
        return str(content["url"] or "") if {"spec", "url"} <= content.keys() else ""
    except FileNotFoundError:
        return ""
    except reading.Unfit as error:
        reason = f"not a dashboard, and not overwritten ({error})"
        raise InputError(f"{option}{out}: {reason}; --out FILE names another") from None


def _write(out: Path, workspace: Workspace, url: str) -> None:
    view = workspace._to_model()  # as `save` sends it; the package has no public function for it
    content = {
        "url": url or None,
        "entity": workspace.entity or None,
        "project": workspace.project,
        "name": workspace.name,
        "spec": view.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    try:
        write_target(out, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
