"""The house: imports go down its floors, files and folders stay small enough to be read."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cnnbench"


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_imports_go_down_the_floors():
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_newcomer_sees_few_files_and_rooms():
    assert len(list(PACKAGE.glob("*.py"))) <= 8
    rooms = {path.parent for path in PACKAGE.rglob("*.py")}
    assert len(rooms) <= 28
    assert not [room for room in rooms if room.name in ("utils", "helpers", "misc", "common")]


@pytest.mark.parametrize(
    ("folder", "pattern", "most"),
    [("cnnbench", "*.py", 300), ("hydra_plugins", "*.py", 300), ("cnnbench/pages", "*.js", 300),
     ("cnnbench/pages", "*.css", 300), ("tests", "*.py", 500)],
)  # fmt: skip
def test_a_file_reads_in_one_sitting(folder, pattern, most):
    files = [path for path in (ROOT / folder).rglob(pattern) if "vendor" not in path.parts]
    assert files
    assert {str(path): lines(path) for path in files if lines(path) > most} == {}


def test_one_training_is_read_in_six_files():
    names = [
        "cli",
        "commands/train",
        "settings/parse",
        "training/fit",
        "training/build",
        "training/classifier",
    ]
    assert sum(lines(PACKAGE / f"{name}.py") for name in names) <= 700


def test_package_inits_hold_no_code():
    """Importing a room costs what its modules cost, not its `__init__`."""
    for path in PACKAGE.rglob("__init__.py"):
        assert lines(path) <= 60, path
