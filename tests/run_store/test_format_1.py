"""Runs of format 1, made by cnnbench 0.1.0 at commit 2e679d0, are read by every verb and reused by none.

`format_1/` holds one of each kind: trained (logged by W&B offline), interrupted, measured, and a sweep.
"""

import json
import shutil
from pathlib import Path

import pytest

from cnnbench.run_store.find import below
from cnnbench.run_store.run import Run

MADE = Path(__file__).parent / "format_1"

TINY = ["arch.width=0.25", "arch.blocks=2", "data.limit=300", "data.limit_test=60", "device.threads=1"]
"""Overrides that all of them share."""


@pytest.fixture
def runs(tmp_path):
    """Copy all of them to `outputs`; return them by experiment."""
    shutil.copytree(MADE, tmp_path / "outputs")
    return {run.path.parent.name: run for run in below([tmp_path / "outputs"])}


def test_their_states_verbs_and_formats(runs):
    assert {name: (run.state, run.verb, run.format) for name, run in runs.items()} == {
        "interrupted": ("interrupted", "train", 1),
        "measured": ("finished", "bench", 1),
        "swept": ("finished", "train", 1),
        "trained": ("finished", "train", 1),
    }
    assert runs["trained"].choice()["arch"]["_target_"] == "cnnbench:basic"
    assert not any((run.path / "identity.json").exists() for run in runs.values())


def test_runs_lists_and_shows_them(cli, runs):
    code, out, err = cli("runs", "outputs")
    assert (code, err) == (0, "")
    assert "7 runs, 6 finished, 1 interrupted" in out
    code, out, _ = cli("runs", runs["trained"].path)
    assert (code, "10,882" in out) == (0, True)
    code, out, _ = cli("runs", "outputs", "ops.norm=group", "seed=1")
    assert (code, "1 run, 1 finished" in out) == (0, True)


def test_compare_pools_them_without_mentioning_their_format(cli, runs):
    code, out, err = cli("compare", "outputs/swept", "--json", "c.json", "--html", "c.html")
    assert code == 0, err
    assert "format" not in out + err
    report = json.loads(Path("c.json").read_text())
    assert {row["settings"]["ops.norm"]: row["n"] for row in report["rows"]} == {"batch": 2, "group": 2}
    assert report["problems"] == []
    code, out, _ = cli("compare", "outputs")  # with measurements and an interrupted run
    assert code == 0


def test_compare_puts_them_beside_runs_of_this_format(cli, runs):
    """Equal choices form one row, although the formats record them differently."""
    assert cli("train", *TINY, "logger=none", "trainer.max_epochs=1", "name=swept", "seed=2")[0] == 0
    code, out, _ = cli("compare", "outputs/swept", "ops.norm=batch")
    assert code == 0
    assert "3 runs" in out
    assert "1 configuration" in out
    assert "mixed formats of run folders" in out


def test_evaluate_predict_and_export_use_them(cli, runs, tmp_path):
    run = runs["trained"].path
    code, out, err = cli("evaluate", run)
    assert code == 0, err
    assert "test" in out
    from PIL import Image

    Image.new("L", (8, 8), 128).save("digit.png")
    code, out, err = cli("predict", run, "digit.png")
    assert (code, "digit.png" in out) == (0, True), err
    code, out, err = cli("export", run, "--to", "torch", "--output", "digits.pt2")
    assert (code, Path("digits.pt2").is_file()) == (0, True), err


def test_bench_measures_them(cli, runs):
    words = [f"of={runs['trained'].path}", "batch_sizes=[1]", "rounds=1", "round_s=0.01", "logger=none"]
    code, out, err = cli("bench", *words)
    assert (code, "latency" in out) == (0, True), err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dashboard_lays_them_out(cli, runs):
    code, _, err = cli("dashboard", "outputs/swept")
    assert (code, Path("outputs/swept/dashboard.json").is_file()) == (0, True), err


def test_sync_finds_what_they_logged(cli, runs, monkeypatch):
    """Without a key it stops after the search."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    code, _, err = cli("sync", "outputs/trained")
    assert code == 2
    assert "no runs that were logged" not in err


def test_they_are_never_reused_for_training(cli, runs):
    """The same command trains a new run and reports this in one line; the old runs do not change."""
    before = {path: path.read_bytes() for path in sorted(MADE.rglob("*")) if path.is_file()}
    code, _, err = cli("train", *TINY, "logger=none", "trainer.max_epochs=1", "name=swept", "seed=0")
    assert code == 0
    assert [line for line in err.splitlines() if "format 1" in line] == [
        "2 runs of format 1 (of an earlier cnnbench) in outputs/swept are still readable, "
        "but not reused for training"
    ]
    new = [run for run in below([Path("outputs/swept")]) if run.format == 2]
    assert len(new) == 1
    code, _, err = cli("train", "-m", *TINY, "logger=none", "trainer.max_epochs=1", "name=swept", "seed=0,1")
    assert code == 0
    assert "2 runs: 1 done, 1 new" in err
    assert "4 runs of format 1 beside them, which are not reused" in err
    for path, content in before.items():
        assert (Path("outputs") / path.relative_to(MADE)).read_bytes() == content


def test_an_unknown_format_is_read_as_far_as_possible(cli, runs):
    status = runs["trained"].status()
    runs["trained"].write_status(status | {"format": 99})
    assert Run(runs["trained"].path).format == 99
    code, out, err = cli("compare", "outputs/trained")
    assert code == 0
    assert "format 99" in out + err
