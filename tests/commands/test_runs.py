"""`cnnbench runs`: list runs by state and setting, newest first, and remove failed ones."""

import json
import re
import socket
import subprocess
from pathlib import Path

import pytest
import yaml
from disks import read_only
from running import command

from cnnbench.run_store import lease
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


def leftover(name=".removed-r0"):
    """Make what the removal of a run leaves if it is killed half-way."""
    rest = Path("outputs/x", name, "checkpoints")
    rest.mkdir(parents=True)
    (rest / "last.ckpt").touch()


@pytest.mark.parametrize("name", [".removed-r0", ".removed-r0-123", ".removed-gone"])
def test_clean_completes_an_interrupted_removal(cli, run, name):
    run("r0", state="failed")
    run("r1")
    leftover(name)
    code, out, err = cli("runs", "--clean", "--yes")
    assert (code, err) == (0, f"outputs/x/{name}: was left by an interrupted removal; removed\n")
    assert "1 run removed" in out
    assert remaining() == ["r1"]
    leftover(name)
    assert "nothing to remove" in cli("runs", "--clean", "--yes")[1]
    assert remaining() == ["r1"]


def test_clean_follows_no_link_of_a_leftover(cli, run):
    run("r0", state="failed")
    Path("mine").mkdir()
    Path("mine/file").touch()
    Path("outputs/x/.removed-r0").symlink_to(Path("mine").resolve())
    leftover(".removed-r1")
    Path("outputs/x/.removed-r1/mine").symlink_to(Path("mine").resolve())
    assert cli("runs", "--clean", "--yes")[0] == 0
    assert remaining() == [".removed-r0"]
    assert Path("mine/file").exists()


def test_clean_spares_a_run_that_is_being_trained(cli, run):
    """Its status may still say that the last attempt failed."""
    path = run("r0", state="failed").path
    with lease.of(path):
        code, out, err = cli("runs", "--clean", "--yes")
        assert (code, err) == (0, "outputs/x/r0: is failed now; kept\n")
        assert "0 runs removed" in out
    assert remaining() == ["r0"]


def test_clean_of_a_disk_that_is_read_only(cli, run):
    run("r0", state="failed")
    leftover()
    with read_only("outputs"):
        code, out, err = cli("runs", "--clean", "--yes")
        assert code == 1
        assert "0 runs removed" in out
        assert err.splitlines() == [
            "error: outputs/x/.removed-r0: Read-only file system; make it writable",
            "error: outputs/x/r0: Read-only file system; make it writable; kept",
        ]
    assert "1 run removed" in cli("runs", "--clean", "--yes")[1]


def test_clean_at_the_same_time(run):
    """Each run is removed by one of several, and none of them makes a folder anew."""
    for i in range(40):
        run(f"r{i}", state="failed")
    processes = [
        subprocess.Popen(
            command("runs", "--clean", "--yes"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    output = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], output
    assert "rror" not in "".join(err for _, err in output)
    removed = [int(re.search(r"(\d+) runs? removed|nothing (to remove)", out)[1] or 0) for out, _ in output]
    assert sum(removed) == 40
    assert not Path("outputs/x").exists() or remaining() == []
