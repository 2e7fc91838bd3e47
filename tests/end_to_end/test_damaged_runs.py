"""Searched: every verb that reads runs, with damaged ones: no traceback, and no number but the true ones."""

import json
import re
import shutil
from pathlib import Path

import pytest
from damage import BOMB, ENDLESS, FILES, INSTEAD, accidents, damages, make
from hypothesis import given
from sealing import seal
from search import ALL, examples, sample

from cnnbench.cli import main
from cnnbench.run_store.run import Run

TINY = ["arch.width=0.25", "arch.blocks=2", "data.limit=300", "data.limit_test=60", "device.threads=1"]
TRAIN = ["train", *TINY, "logger=none", "trainer.max_epochs=2", "output_dir=again"]

LONG = pytest.mark.timeout(36_000 if ALL else 1200)

LISTING = {
    "runs": ["runs", "outputs"],
    "runs RUN": ["runs", "RUN"],
    "runs KEY=VALUE": ["runs", "outputs", "arch=basic", "seed=0"],
    "runs state": ["runs", "outputs", "state=damaged"],
    "compare": ["compare", "outputs"],
    "compare RUN": ["compare", "RUN"],
    "compare KEY=VALUE": ["compare", "outputs", "arch=basic", "--csv", "-"],
    "compare --json": ["compare", "outputs", "--json", "-"],
    "compare --html": ["compare", "outputs", "--html", "x.html", "--markdown", "-"],
    "sync": ["sync", "outputs"],
    "verify": ["verify", "outputs"],
}
"""Verbs that go on with all other runs."""

USING = {
    "evaluate": ["evaluate", "RUN"],
    "predict": ["predict", "RUN", "digit.png"],
    "export": ["export", "RUN", "--to", "torch", "--output", "x.pt2"],
    "bench": ["bench", "of=RUN", "batch_sizes=[1]", "rounds=1", "round_s=0.01", "logger=none"],
}
"""Verbs that use one finished run; what is not finished is refused in one line, before torch is imported."""


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """`outputs()`: a finished run, whole again, beside two others; W&B's server is unreachable."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    whole = make(tmp_path / "whole")
    make(tmp_path / "outputs" / "others", "measured")
    make(tmp_path / "outputs" / "others", "trained", 1)

    def again():
        shutil.rmtree(tmp_path / "outputs" / "x", ignore_errors=True)
        return Run(Path(shutil.copytree(whole.path, Path("outputs/x") / whole.path.name, symlinks=True)))

    return again


@pytest.fixture
def said(capfd):
    """`said(words, run)`: the exit code and all that a verb prints, in this process."""

    def call(words, run):
        capfd.readouterr()
        code = main([word.replace("RUN", str(run.path)) for word in words])
        return code, *capfd.readouterr()

    return call


def numbers(text):
    """All percentages and epochs in an output."""
    return set(re.findall(r"\d+\.\d+ %|\d+ of \d+$|nan|inf\b", text, re.MULTILINE))


def listed(said, run, words, true, damage):
    """A verb goes on, names what is damaged, and shows true numbers only."""
    code, out, err = said(words, run)
    assert "Traceback" not in out + err, damage
    if words[0] == "sync":
        assert code == 2, damage  # there is no key
    elif words[0] == "verify":
        assert code in (0, 1), damage
    else:
        assert code in (0, 2), (damage, err)
        assert code == 0 or err.count("\n") == 1, (damage, err)
    if true is not None and "compare" not in words:  # of which statistics depend on how many runs count
        assert numbers(out) <= true, damage
    return code, out


def test_the_search_sees_the_numbers(outputs, said):
    run = outputs()
    assert {"30.00 %", "91.67 %"} <= numbers(said(LISTING["runs RUN"], run)[1])
    for words in LISTING.values():
        code, out, _ = said(words, run)
        assert code in (0, 1, 2)
        assert words[0] == "sync" or out


def everything(outputs, said, count, verbs, happening, *, forged):
    run = outputs()
    true = set().union(*(numbers(said(words, run)[1]) for words in LISTING.values()))

    @examples(count)
    @given(happening)
    def search(damage):
        run = outputs()
        damage.happens(run)
        state = Run(run.path).state
        for name in verbs:
            words = LISTING[name]
            code, out = listed(said, run, words, None if forged else true, damage)
            if name == "runs RUN" and state == "damaged":
                assert "damage" in out, damage
                assert not numbers(out), damage
            if name == "compare --json" and code == 0:
                report = json.loads(out)
                (one,) = [one for one in report["runs"] if one["path"] == str(run.path)] or [None]
                if one is not None:
                    assert one["state"] == state, damage
                    assert not one["figures"] or state != "damaged", damage
            if name == "verify" and state == "damaged":
                assert code == 1, damage

    search()


@LONG
def test_accidents(outputs, said):
    everything(outputs, said, 50, ["runs", "runs RUN", "compare --json", "verify"], accidents(), forged=False)


@LONG
def test_forgeries(outputs, said):
    everything(outputs, said, 50, ["runs", "runs RUN", "runs KEY=VALUE", "compare"], damages(), forged=True)


@pytest.mark.slow
@LONG
@pytest.mark.parametrize("forged", [False, True])
def test_every_verb_that_lists(forged, outputs, said):
    everything(outputs, said, 80, LISTING, damages() if forged else accidents(), forged=forged)


CASES = [(file, what) for file in FILES for what in INSTEAD]


@LONG
def test_what_is_damaged_is_not_used(outputs, said):
    """The line names the file, and comes at once."""
    for file, what in sample(CASES, least=12):
        run = outputs()
        path = run.path / file
        path.unlink()
        INSTEAD[what](path)
        for name, words in USING.items():
            code, out, err = said(words, run)
            assert (code, out, err.count("\n")) == (2, "", 1), (file, what, name, err)
            assert err.startswith("error: "), (file, what, name, err)
            assert file in err or (file, what) == ("status.json", "nothing"), (file, what, name, err)
            assert not Path("x.pt2").exists()


@pytest.mark.parametrize("text", [BOMB, ENDLESS], ids=["bomb", "itself"])
def test_bombs_cost_nothing(text, outputs, said):
    """With forged digests, too; the other runs are listed."""
    run = outputs()
    (run.path / "config.yaml").write_text(text)
    for _ in range(2):
        for words in (LISTING["runs KEY=VALUE"], LISTING["compare"], *USING.values()):
            code, out, err = said(words, run)
            assert "Traceback" not in err
            expected = (2, False) if words[0] in USING else (0, True)
            assert (code, " finished" in out) == expected, (words, out, err)
        seal(run)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_the_same_command_mends_a_damaged_run(file, cli):
    """Whatever is in place of a file of a trained run: trained or evaluated again, with the same results."""
    assert cli(*TRAIN)[0] == 0
    (whole,) = Path("again/default").iterdir()
    keep = shutil.copytree(whole, "keep")
    expected = {key: value for key, value in Run(whole).summary().items() if not key.startswith("time/")}
    for what in sample(sorted(INSTEAD), least=4):
        shutil.rmtree(whole)
        shutil.copytree(keep, whole)
        path = whole / file
        path.unlink()
        INSTEAD[what](path)
        code, _, err = cli(*TRAIN)
        if "link" in what or "device" in what or what == "a folder":
            refused = "is a folder" if what == "a folder" else "is a link"
            assert (code, refused in err, err.count("error: ")) == (2, True, 1), (what, err)
            continue
        assert code == 0, (what, err)
        run = Run(whole)
        assert (run.state, run.damage) == ("finished", []), (what, err)
        found = {key: value for key, value in run.summary().items() if not key.startswith("time/")}
        assert found == expected, (what, err)
