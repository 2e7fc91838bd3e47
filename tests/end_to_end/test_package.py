"""The package as `pip install` installs it, with its configuration and away from this checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from running import the_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-q", "-w", folder, ROOT], check=True)
    return next(folder.glob("cnnbench-*.whl"))


@pytest.mark.slow
def test_the_wheel_contains_every_configuration_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"cnnbench/conf/{path.relative_to(ROOT / 'conf')}" in names
    assert not [name for name in names if name.startswith(("tests/", "conf/", "docs/"))]


@pytest.mark.slow
def test_a_family_of_ones_own_is_the_two_files_of_the_docs(tmp_path):
    """The code blocks of docs/, in a copy of this repository: the family trains, and its tests pass."""
    for name in ("cnnbench", "conf", "tests", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    page = (ROOT / "docs" / "how-to" / "own-architecture.md").read_text()
    section = page.split("## An architecture of your own")[1]
    python, yaml, *_ = (block.split("```")[0] for block in section.split("```")[1::2])
    (tmp_path / "cnnbench/models/lenet5.py").write_text(python.removeprefix("python\n"))
    (tmp_path / "conf/arch/lenet5.yaml").write_text(yaml.removeprefix("yaml\n"))
    for command in (
        ["cnnbench", "train", "arch=lenet5", "data=digits", "trainer.max_epochs=1", "logger=none"],
        [
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/models/test_models.py",
            "-m",
            "slow or not slow",
            "-k",
            "lenet5",
        ],
    ):
        result = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
    assert "passed" in result.stdout
    assert len(list((tmp_path / "outputs").rglob("summary.json"))) == 1


@pytest.mark.slow
def test_an_installed_wheel_trains_from_any_folder(wheel, tmp_path):
    """A new environment holds only the wheel; its dependencies come from this one."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])  # its own .pth files stay unread
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", home / "bin" / "python"]
    subprocess.run([*pip, "install", "-q", "--no-deps", wheel], check=True)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    mine = tmp_path / "mine" / "optimizer"
    mine.mkdir(parents=True)
    (mine / "slow.yaml").write_text("name: slow\n_target_: torch.optim.SGD\nlr: 0.01\n")
    arguments = [
        "train",
        "--config-dir",
        tmp_path / "mine",
        "optimizer=slow",
        "trainer.max_epochs=1",
        "data.limit=200",
    ]
    subprocess.run([home / "bin" / "cnnbench", *arguments], cwd=elsewhere, check=True)
    folder = subprocess.run(
        [home / "bin" / "python", "-c", "import cnnbench.settings.compose as c; print(c.CONF)"],
        cwd=elsewhere, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert folder.startswith(str(site))
    assert (the_run(elsewhere) / "summary.json").is_file()
