"""`cnnbench runs`: list runs by state and setting, newest first, and remove failed ones."""

import json
import socket
import subprocess
from pathlib import Path

import pytest
import yaml
from running import command

from cnnbench.run_store.run import Run


def remaining():
    return sorted(path.name for path in Path("outputs/x").iterdir())


@pytest.fixture
def run():
    """`run("name", state=…, arch=…, norm=…, at=<day>)`: make a run's folder below outputs/x."""

    def make(name, state="finished", arch="resnet18", norm="batch", lr=0.1, at=1, **more):
        path = Path("outputs/x") / name
        path.mkdir(parents=True)
        config = {
            "arch": {"name": arch},
            "data": {"name": "digits"},
            "ops": {"norm": norm},
            "optimizer": {"lr": lr, "nesterov": True},
            "seed": 0,
        }
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        started = f"2026-01-{at:02}T00:00:00+00:00"
        status = {"state": state, "attempts": [{"started": started}], "device": {}}
        (path / "status.json").write_text(json.dumps(status | {"host": socket.gethostname()}))
        (path / "summary.json").write_text(json.dumps({"best/val_acc": 0.5, "test/acc": 0.5}))
        (path / "metrics.csv").write_text("epoch,val/acc\n0,0.5\n")
        return Run(path)

    return make


def names(out):
    return [
        line.split()[0]
        for line in out.splitlines()
        if line.startswith("  r") and not line.startswith("  run ")
    ]


def test_the_newest_first(cli, run):
    for i in (2, 0, 1):
        run(f"r{i}", at=i + 1)
    assert names(cli("runs")[1]) == ["r2", "r1", "r0"]
    out = cli("runs", "--limit", "1")[1]
    assert cli("runs", "outputs", "--limit", "1", "state=finished")[1] == out, "in any order"
    for wrong in ("0", "-3"):
        code, _, err = cli("runs", "--limit", wrong)
        assert (code, err) == (2, f"error: --limit={wrong}: allowed: 1 or more\n")
    assert names(out) == ["r2"]
    assert "3 runs, 3 finished; showing the newest 1 (--limit 3 shows all)" in out


def test_filters(cli, run):
    run("r0", arch="vgg11", norm="none")
    run("r1", norm="none", lr=0.001)
    run("r2", state="failed")
    run("r3", state="diverged", norm="group")
    for conditions, expected in (
        (["arch=vgg11"], ["r0"]),
        (["arch.name=vgg11"], ["r0"]),
        (["ops.norm=none"], ["r0", "r1"]),
        (["ops.norm=none", "arch=resnet18"], ["r1"]),
        (["ops.norm=none,group"], ["r0", "r1", "r3"]),
        (["state=failed,diverged"], ["r2", "r3"]),
        (["optimizer.lr=1e-3"], ["r1"]),
        (["optimizer.nesterov=true", "arch=vgg11"], ["r0"]),
        (["outputs/x", "arch=vgg11"], ["r0"]),
        (["arch=vgg11", "ops.norm=group"], []),
    ):
        code, out, _ = cli("runs", *conditions)
        assert (code, sorted(names(out))) == (0, expected), conditions


def test_wrong_conditions(cli, run):
    run("r0")
    assert "allowed: running, finished" in cli("runs", "state=lost")[2]
    assert "did you mean optimizer.lr?" in cli("runs", "optimiser.lr=0.1")[2]
    assert cli("runs", "nowhere")[0] == 2


def test_clean_removes_failed_runs_only(cli, run, monkeypatch):
    for state in ("finished", "failed", "diverged", "interrupted"):
        run(f"r-{state}", state=state)
    questions = []

    def answer(question):
        questions.append(question)
        return answers.pop(0)

    monkeypatch.setattr("builtins.input", answer)
    answers = ["n", "y"]
    assert "nothing removed" in cli("runs", "--clean")[1]
    assert len(list(Path("outputs/x").iterdir())) == 4
    out = cli("runs", "--clean")[1]
    assert names(out) == ["r-failed"]
    assert "1 run removed" in out
    assert questions == ["remove 1 run permanently? [y/N] "] * 2
    assert remaining() == [
        "r-diverged",
        "r-finished",
        "r-interrupted",
    ]
    assert "nothing to remove" in cli("runs", "--clean")[1]
    assert "1 run removed" in cli("runs", "--clean", "--yes", "state=interrupted")[1]
    code, _, err = cli("runs", "--clean", "--yes", "state=finished")
    assert code == 2
    assert "allowed: failed, interrupted, diverged, pruned, damaged" in err
    assert remaining() == ["r-diverged", "r-finished"]


def test_clean_without_standard_input(run):
    run("r0", state="failed")
    done = subprocess.run(
        command("runs", "--clean"), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert Path("outputs/x/r0").exists()


def test_a_run_whose_process_is_gone_is_interrupted(cli, run):
    run("r0", state="running")
    assert "interrupted" in cli("runs")[1]


def test_a_closed_pipe_is_not_an_error(run):
    """`cnnbench runs | head -1`."""
    run("r1", at=1)
    for verb in ("runs", "compare"):
        process = subprocess.Popen(command(verb), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        messages = process.stderr.read()
        process.stderr.close()
        assert (process.wait(), messages) == (141, b"")


def test_clean_leaves_links_alone(cli, run):
    failed = run("r0", state="failed").path.resolve()
    Path("links").mkdir()
    Path("links/r0").symlink_to(failed)
    code, out, err = cli("runs", "links", "--clean", "--yes")
    assert (code, err) == (0, "links/r0: is a link to a run elsewhere; kept\n")
    assert "0 runs removed" in out
    assert "1 run removed" in cli("runs", "links", "outputs", "--clean", "--yes")[1]
    assert not failed.exists()
