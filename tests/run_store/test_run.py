"""Run folders: identity, rows, attempts, states, and the search for them."""

import json
import multiprocessing
import os
import random
import signal
import string
from contextlib import contextmanager

import pytest

from cnnbench.errors import Busy, Diverged, Interrupted
from cnnbench.run_store import attempt as attempts
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.find import below, find
from cnnbench.run_store.identity import identity
from cnnbench.run_store.run import Run

DEVICE = {"accelerator": "cpu", "threads": 2}
CHOICE = {"arch": {"name": "basic"}, "data": {"name": "digits"}}


@contextmanager
def attempt(run, **options):
    """Make an attempt that ends with a summary unless an error is raised."""
    run = Run(run.path, CHOICE)
    with attempts.attempt(run, json.dumps(CHOICE), DEVICE, **({"afresh": False} | options)) as this:
        run.write_rows([])
        yield this.status
        run.write_summary({"test/acc": 1.0, "best/val_acc": 1.0})


def test_identity_does_not_depend_on_order_or_on_how_a_number_is_written():
    assert identity({"a": 1, "b": {"c": [1, 2.5]}}) == identity({"b": {"c": (1.0, 2.5)}, "a": 1.0})
    assert identity({"a": 0.1}) != identity({"a": 0.1000001})
    assert identity({"a": None}) != identity({"a": 0})
    assert identity({"a": True}) != identity({"a": 1})
    assert identity({"a": "1"}) != identity({"a": 1})


def test_identity_never_changes_between_versions():
    """A change of this value orphans every run of every user: raise the format instead."""
    assert identity({"arch": {"name": "basic", "width": 1.0}, "seed": 0}) == "da4de37996"


def test_rows_read_back_exactly(tmp_path):
    rng = random.Random(0)
    rows = [{"epoch": i, "val/loss": rng.random() * 10 ** rng.randint(-30, 30)} for i in range(100)]
    rows.append({"epoch": 100, "val/loss": float("nan")})
    run = Run(tmp_path)
    run.write_rows(rows)
    assert run.rows()[:-1] == rows[:-1]
    assert run.rows()[-1]["val/loss"] != run.rows()[-1]["val/loss"]


def test_a_reader_never_sees_half_a_file(tmp_path):
    """A process that writes constantly is killed at random moments; the file is always complete."""
    path = tmp_path / "status.json"
    texts = {letter: json.dumps({"text": letter * 200_000}) for letter in string.ascii_letters[:4]}
    write_atomic(path, texts["a"])
    for _ in range(5):
        child = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(path, texts))
        child.start()
        for _ in range(200):
            assert path.read_text() in texts.values()
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert path.read_text() in texts.values()


def _write_for_ever(path, texts):
    while True:
        for text in texts.values():
            write_atomic(path, text)


@pytest.mark.parametrize(
    ("error", "state", "reraised"),
    [
        (None, "finished", False),
        (Diverged(3, "train/loss"), "diverged", False),
        (Interrupted(15), "interrupted", True),
        (KeyboardInterrupt(), "interrupted", True),
        (RuntimeError("boom"), "failed", True),
        (MemoryError(), "failed", True),
    ],
)
def test_how_an_attempt_ends(tmp_path, error, state, reraised):
    run = Run(tmp_path / "x")
    assert run.state == "new"

    def go():
        with attempt(run):
            assert run.state == "running"
            if error:
                raise error

    if reraised:
        with pytest.raises(type(error)):
            go()
    else:
        go()
    assert run.state == state
    assert run.status()["attempts"][0]["state"] == state
    if error:
        assert run.status()["error"]["type"] == type(error).__name__
        assert "Traceback" in run.status()["error"]["traceback"]


def test_the_next_attempt_drops_the_error_and_keeps_the_device(tmp_path):
    run = Run(tmp_path / "x")
    with pytest.raises(RuntimeError), attempt(run):
        raise RuntimeError("boom")
    with attempts.attempt(run, "", {"accelerator": "cpu", "threads": 64}, afresh=False) as this:
        assert this.status["device"] == DEVICE
    assert "error" not in run.status()
    assert [a["state"] for a in run.status()["attempts"]] == ["failed", "finished"]


def test_one_process_at_a_time(tmp_path):
    run = Run(tmp_path / "x")
    with attempt(run), pytest.raises(Busy, match=f"trained by process {os.getpid()}"), attempt(run):
        pass
    assert run.state == "finished"


def test_afresh_keeps_earlier_results(tmp_path):
    run = Run(tmp_path / "x")
    for repeats in range(3):
        with attempt(run, afresh=True) as status:
            assert status["repeats"] == repeats
            run.write_rows([{"epoch": 0, "lr": repeats}])
    assert run.rows() == [{"epoch": 0, "lr": 2}]
    for repeat in range(2):
        old = Run(run.path / "repeats" / str(repeat))
        assert old.rows() == [{"epoch": 0, "lr": repeat}]
        assert old.state == "finished"
    assert find(tmp_path) == [run]


def test_links_to_runs_are_followed_without_loops(tmp_path):
    real, linked = Run(tmp_path / "real" / "x"), Run(tmp_path / "links" / "y")
    with attempt(real):
        pass
    linked.path.parent.mkdir()
    linked.path.symlink_to(real.path)
    (tmp_path / "links" / "loop").symlink_to(tmp_path / "links")
    (tmp_path / "links" / "gone").symlink_to("nowhere")
    (tmp_path / "links" / ".hidden").symlink_to(real.path)
    assert find(tmp_path / "links") == [linked]
    assert find(tmp_path) == [linked, real]
    assert below([tmp_path]) == [real], "by its own name"
    assert below([tmp_path / "links", tmp_path / "real"]) == [real]


def test_damaged_files_are_not_errors(tmp_path):
    (tmp_path / "status.json").write_text('{"state": "fini')
    (tmp_path / "summary.json").write_text("[1, 2]")
    (tmp_path / "config.yaml").write_text("a: [1")
    run = Run(tmp_path)
    assert (run.state, run.summary(), run.config(), run.rows()) == ("damaged", {}, {}, [])
