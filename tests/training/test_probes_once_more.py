"""A finished run that lacks a probe is trained once more, and must end as it did."""

import hashlib

import pytest
from resuming import assert_same, interrupted_after
from running import TINY, the_run

from cnnbench.run_store.run import Run
from cnnbench.training.classifier import Classifier

RECIPE = [*TINY, "data.limit=200", "data.batch_size=32", "ops.norm=batch", "trainer.max_epochs=1"]
SERIES = ["probes=[activations,translation]", "probes.activations.every=2"]


def contents(run):
    files = (path for path in run.rglob("*") if path.is_file() and path.name != "lease")
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def same_tables(a, b):
    names = [path.name for path in (a / "probes").iterdir()]
    assert names
    assert all((a / "probes" / name).read_text() == (b / "probes" / name).read_text() for name in names)


@pytest.mark.parametrize(
    "probes",
    [SERIES, pytest.param(["probes=[field,translation]"], marks=pytest.mark.slow)],
    ids=["trained", "tested"],
)
def test_what_is_lacking_is_measured_aside(cli, probes):
    assert cli("train", "output_dir=at_once", *RECIPE, *probes)[0] == 0
    assert cli("train", "output_dir=later", *RECIPE)[0] == 0
    at_once, later = the_run("at_once"), the_run("later")
    before = contents(later)
    code, _, err = cli("train", "output_dir=later", *RECIPE, *probes)
    assert code == 0, err
    assert ("tested once more" if "field" in probes[0] else "trained once more") in err
    assert_same(at_once, later)
    same_tables(at_once, later)
    after = contents(later)
    assert {name for name in before if before[name] != after[name]} == {
        "summary.json",
        "status.json",
        "config.yaml",
    }
    assert {name for name in after if name not in before} == {
        f"probes/{p.name}" for p in (later / "probes").iterdir()
    }
    assert Run(later).config()["probes"] == Run(at_once).config()["probes"]
    assert cli("verify", later)[0] == 0
    code, _, err = cli("train", "output_dir=later", *RECIPE, *probes)
    assert (code, "showing the stored result" in err) == (0, True)
    assert contents(later) == after


def test_a_run_that_ends_otherwise_is_left_as_it_was(cli, monkeypatch):
    assert cli("train", *RECIPE)[0] == 0
    before = contents(the_run())
    step = Classifier.training_step
    monkeypatch.setattr(Classifier, "training_step", lambda *of: 1.001 * step(*of))
    code, _, err = cli("train", *RECIPE, *SERIES)
    assert code == 1
    assert "does not end as before" in err
    assert "nothing is written" in err
    assert "Traceback" not in err
    assert contents(the_run()) == before


@pytest.mark.slow
def test_a_probe_that_came_late_is_measured_at_the_end(cli, monkeypatch):
    assert cli("train", "output_dir=at_once", *RECIPE, "trainer.max_epochs=2", *SERIES)[0] == 0
    interrupted_after(1, monkeypatch, ["output_dir=broken", *RECIPE, "trainer.max_epochs=2"])
    code, _, err = cli("train", "output_dir=broken", *RECIPE, "trainer.max_epochs=2", *SERIES)
    assert code == 0
    assert "began without" in err
    same_tables(the_run("at_once"), the_run("broken"))


@pytest.mark.slow
def test_a_damaged_file_is_measured_again(cli):
    assert cli("train", *RECIPE, "probes=translation")[0] == 0
    path = the_run() / "probes" / "translation.csv"
    whole = path.read_text()
    path.write_text(whole.replace("0.", "1.", 1))
    code, out, err = cli("verify", the_run())
    assert code == 1
    assert "translation.csv: was changed since the run ended" in out + err
    assert cli("train", *RECIPE, "probes=translation")[0] == 0
    assert path.read_text() == whole
    assert cli("verify", the_run())[0] == 0
