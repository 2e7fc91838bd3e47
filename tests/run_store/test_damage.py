"""Searched: whatever happens to the small files of a run, no damaged byte becomes a number."""

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest
from damage import BOMB, ENDLESS, FILES, accidents, damages, make
from hypothesis import given
from sealing import seal
from search import ALL, examples

from cnnbench.comparison.records import record
from cnnbench.errors import InputError
from cnnbench.run_store import plain_yaml
from cnnbench.run_store.finished import finished
from cnnbench.run_store.reading import LARGEST, Unfit
from cnnbench.run_store.run import Run
from cnnbench.run_store.table import run_table, runs_table

LONG = pytest.mark.timeout(36_000 if ALL else 300)

KINDS = [("trained", 2), ("measured", 2), ("interrupted", 2), ("trained", 1), ("measured", 1)]


@pytest.fixture(params=KINDS, ids=[f"{name} {number}" for name, number in KINDS])
def fresh(request, tmp_path):
    """`fresh()`: the same run again, undamaged."""
    whole = make(tmp_path / "whole", *request.param)

    def again():
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        return Run(Path(shutil.copytree(whole.path, tmp_path / "x" / whole.path.name, symlinks=True)))

    return again


def shown(run):
    """Everything that verbs read of a run; nothing of it may raise an error."""
    content = run.content()
    one = record(run)
    runs_table([run])
    run_table(run)
    with suppress(InputError):
        finished(run.path)
    assert one.state == content.state
    assert [problem for problem in content.damage if "\n" in problem or len(problem) > 600] == []
    assert (content.state == "damaged") <= bool(content.damage), "with a reason"
    assert (content.state == "damaged") <= (not one.figures)
    rows = repr(one.rows()) if one.rows() else ""  # as a text, in which nan is equal to nan
    return content.state, one.figures, rows, one.settings, one.seed


def test_undamaged_runs_are_whole(fresh):
    run = fresh()
    assert run.damage == []
    assert run.state in ("finished", "interrupted")
    assert run.summary()
    assert run.rows()
    assert run.config()
    assert run.choice()


@LONG
def test_what_happens_by_accident_changes_no_number(fresh):
    """A sealed run is damaged, or reads as before; without its summary or its status it is no result."""
    whole = fresh()
    if whole.format == 1:
        return  # its files have no digests; the next test is about those
    state, *everything = shown(whole)

    @examples(60)
    @given(accidents())
    def search(damage):
        run = fresh()
        damage.happens(run)
        now, *rest = shown(run)
        assert now in (state, "damaged", "interrupted", "new"), damage
        if now == state and (run.path / "summary.json").exists():
            assert rest == everything, damage
        for before, after in zip(everything[:2], rest[:2], strict=True):
            assert not after or after == before, damage
        assert not run.summary() or run.summary() == whole_summary, damage
        assert not run.rows() or not run.status() or repr(run.rows()) == whole_rows, damage

    whole_summary, whole_rows = whole.summary(), repr(whole.rows())
    search()


@LONG
def test_what_nobody_can_notice_is_in_range_at_least(fresh):
    """Files without digests, and forged digests."""
    files = [name for name in FILES if (fresh().path / name).exists()]

    @examples(60)
    @given(damages(files))
    def search(damage):
        run = fresh()
        damage.happens(run)
        shown(run)
        summary, rows = run.summary(), run.rows()
        for key, value in [*summary.items(), *(item for row in rows for item in row.items())]:
            if key.endswith(("acc", "top5")):
                assert 0 <= value <= 1 + 1e-6, damage
            if key.startswith("time/") and not key.endswith("x"):  # of which nothing is known
                assert 0 <= value < 1e300, damage
        if {"best/epoch", "epochs"} <= summary.keys():
            assert summary["best/epoch"] < summary["epochs"], damage
        if run.verb == "train":
            assert [row["epoch"] for row in rows] == list(range(len(rows))), damage

    search()


# --- what is recorded -------------------------------------------------------------------------------------


def test_the_end_of_a_run_seals_its_files(tmp_path):
    run = make(tmp_path)
    status = json.loads((run.path / "status.json").read_text())
    assert status["files"].keys() == {*FILES} - {"status.json"}
    for state, has in (("running", False), ("failed", True)):
        run.write_status(status | {"state": state})
        assert ("files" in run.status()) == has
    (run.path / "metrics.csv").unlink()
    assert run.damage == [f"{run.path / 'metrics.csv'}: is missing"]
    run.write_status(run.status())
    assert run.status()["files"]["metrics.csv"] is None
    assert run.state == "failed"
    (run.path / "metrics.csv").write_text("epoch\n0\n")
    assert "metrics.csv: was changed since the run ended" in run.damage[0]


def test_a_run_of_a_version_without_digests_is_read_as_before(tmp_path):
    run = make(tmp_path)
    status = {key: value for key, value in run.status().items() if key not in ("files", "checksum")}
    (run.path / "status.json").write_text(json.dumps(status))
    assert (run.state, run.damage) == ("finished", [])


def test_keys_of_a_later_version_are_allowed(tmp_path):
    run = make(tmp_path)
    run.write_summary(
        run.summary() | {"energy/j": 5.5, "energy/how": "rapl", "energy/ok": True, "energy/x": None}
    )
    seal(run, later={"a": [1, {"b": None}]})
    assert (run.state, run.damage) == ("finished", [])
    assert record(run).figures["energy/j"] == 5.5
    run.write_summary(run.summary() | {"energy/j": [1]})
    seal(run)
    assert run.damage == [
        f"{run.path / 'summary.json'}: energy/j is a list; allowed: a text, a number, true, false or null"
    ]


def test_a_folder_may_be_renamed_but_not_hold_another_run(tmp_path):
    run, other = make(tmp_path), make(tmp_path / "2", "measured")
    for name in ("kept", f"mine-{run.path.name.rpartition('-')[2]}", f"{run.path.name}-copy"):
        run = Run(run.path.rename(run.path.with_name(name)))
        assert run.damage == []
    run = Run(run.path.rename(run.path.with_name(other.path.name)))
    assert run.damage == [
        f"{run.path / 'identity.json'}: is that of another run: the hash in the folder's name is not its"
    ]


def test_a_reader_waits_for_a_process_that_moves_the_files(tmp_path, monkeypatch):
    """It reads a status of before with a summary of after: it reads both once more."""
    run = make(tmp_path)
    after, read = run.summary() | {"time/wall_s": 7.0}, plain_yaml.parse
    from cnnbench.run_store import content

    real, seen = content.read, []

    def slow(path, *limits):
        data = real(path, *limits)
        if path.name == "status.json" and not seen:
            seen.append(path)
            run.write_summary(after)
            run.write_status(json.loads(data))
        return data

    monkeypatch.setattr(content, "read", slow)
    assert (run.content().state, run.content().summary) == ("finished", after)
    assert read is plain_yaml.parse


# --- YAML -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [BOMB, ENDLESS, "a: &x 1", "*x : 1", "a: [*x]", "&a a: 1"])
def test_aliases_and_anchors_are_refused(text):
    with pytest.raises(Unfit, match=r"has aliases or anchors|is not YAML"):
        plain_yaml.parse(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/name:os.system",
        "a: !x 1",
        "a: 1\na: 2",
        "a: 1\n---\nb: 2",
        "? [a]\n: 1",
        "- a",
        "",
        "a: 2020-13-45",
    ],
)
def test_what_cnnbench_never_writes_is_refused(text):
    with pytest.raises(Unfit):
        plain_yaml.parse(text.encode())


def test_configs_are_read_as_by_safe_loader(tmp_path):
    import yaml

    texts = [path.read_text() for path in Path(__file__).parent.glob("format_1/*/*/config.yaml")]
    texts += [
        "a: [1, 1.0, 1e3, 1.0e+3, .inf, ~, null, yes, 'no', 0o7, 0x1f, 1_000, 2020-01-02]",
        "a: |\n x\n y\n",
    ]
    texts += ["a: {b: [], c: {}, d: '', e: \"\\u00e4\"}", "3: 2\ntrue: x\nnull: y"]
    assert len(texts) >= 10
    for text in texts:
        assert plain_yaml.parse(text.encode()) == yaml.safe_load(text)


@pytest.mark.parametrize(
    "unit",
    [
        "a: 1\n",
        "- ",
        "[",
        "{a: ",
        "? ",
        "a: [b, c]\n",
        "'x' ",
        "&a ",
        "*a ",
        "x: |\n  y\n",
        "\n",
        "#\n",
        "- - a\n",
    ],
)
def test_the_time_for_yaml_grows_with_its_size_only(unit):
    def seconds(size):
        data = (unit * (size // len(unit))).encode()
        start = time.process_time()
        with suppress(Unfit):
            plain_yaml.parse(data)
        return time.process_time() - start

    assert seconds(200_000) < 40 * max(0.01, seconds(20_000))
    assert LARGEST / 200_000 * seconds(200_000) < 60
