"""The scripts in `benchmarks/`: a test cannot judge their times, but it notices when they no longer run."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_prints_its_usage(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(script))["main"]()
    assert capsys.readouterr().out.startswith(f"usage: {script.name}")


def test_training_is_compared_with_a_plain_loop(monkeypatch, capsys):
    script = next(path for path in SCRIPTS if path.stem == "overhead")
    monkeypatch.setattr(sys, "argv", [str(script), "300", "1"])
    runpy.run_path(str(script))["main"]()
    assert "median ratio" in capsys.readouterr().out


@pytest.mark.slow
def test_a_short_soak():
    """Nothing is lost or trained twice while processes of a sweep are killed and stopped."""
    script = next(path for path in SCRIPTS if path.stem == "soak")
    line = [sys.executable, script, "--runs", "8", "--every", "2"]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "wrong                   nothing" in result.stdout
