"""`cnnbench sync` of runs that W&B has completely or partly, and of logs with missing files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import wandb_server
from filelock import SoftFileLease
from wandb_logged import EPOCHS, TINY, folder_of, runs
from wandb_server import Handler

from cnnbench.commands import sync
from cnnbench.run_store import lease
from cnnbench.run_store.find import find
from cnnbench.wandb_sync import offline_file, upload
from cnnbench.wandb_sync.cli_process import one_line

pytest_plugins = ["wandb_fixtures"]
pytestmark = pytest.mark.usefixtures("nobody")

MLP = ["train", *TINY, "arch=mlp", "arch.hidden=[16]"]


def steps(run):
    return [row["_step"] for row in run.history]


def test_forced_uploads_never_duplicate_rows(outputs, server, cli):
    assert cli("sync", runs()[0].path)[0] == 0
    (run,) = server.runs.values()
    first = run.history
    tags, events = run.told["tags"], len(run.lines[wandb_server.EVENTS])
    for _ in range(2):
        run.files.clear()
        assert cli("sync", "--force", runs()[0].path)[1].startswith("1 uploaded\n")
        assert run.history == first
        assert (run.told["tags"], run.told["groupName"], run.exit_code) == (tags, "abl", 0)
        assert len(run.lines[wandb_server.EVENTS]) == events
        assert any(name.startswith("media/images/") for name in run.files), "files are uploaded again"


def test_a_failed_run_is_synced_resumed_and_synced(server, cli, monkeypatch):
    """W&B has each epoch once, and what the second attempt adds."""
    with monkeypatch.context() as patch:
        patch.delattr("lightning.pytorch.Trainer.test")
        assert cli(*MLP)[0] == 1
    assert cli("sync")[1].startswith("1 uploaded\n")
    (run,) = server.runs.values()
    assert steps(run) == list(range(EPOCHS))
    assert cli(*MLP)[0] == 0
    assert cli("sync")[1].startswith("1 uploaded\n")
    assert list(server.runs.values()) == [run]
    assert steps(run) == list(range(EPOCHS + 1)), "the last row has the images of the test split"
    assert "test/worst_mistakes" in run.history[-1]
    assert run.exit_code == 0
    assert run.summary["test/acc"] == find(Path("outputs"))[0].summary()["test/acc"]


def test_rows_of_a_killed_upload_are_not_uploaded_again(outputs, server, cli):
    """The server has the first row, and no local mark says so."""
    run = runs()[0].path
    assert cli("sync", run)[0] == 0
    (uploaded,) = server.runs.values()
    complete = uploaded.history
    del uploaded.lines[wandb_server.HISTORY][1:]
    for mark in run.glob("wandb/*/*.synced"):
        mark.unlink()
    assert cli("sync", run)[0] == 0
    assert uploaded.history == complete


def test_a_copy_of_a_run_is_the_same_run(outputs, server, cli):
    shutil.copytree("outputs/abl", "outputs/copy", symlinks=True)
    assert cli("sync")[1].startswith("10 uploaded\n")
    assert len(server.runs) == 5
    assert {tuple(steps(run)) for run in server.runs.values()} == {tuple(range(EPOCHS + 1))}


def test_two_attempts_within_one_second(outputs, server, cli):
    """W&B appends `-1` to the name of the later one's folder."""
    folder = folder_of(runs()[0].path)
    folder.rename(folder.with_name(f"{folder.name}-1"))
    assert cli("sync", runs()[0].path)[1].startswith("1 uploaded\n")
    assert list(server.runs) == [folder.name.rpartition("-")[2]]


def test_another_project_has_no_rows_yet(outputs, server, cli):
    run = runs()[0].path
    assert cli("sync", run)[0] == 0
    server.runs.clear()
    assert cli("sync", "--force", "--project", "other", run)[0] == 0
    (uploaded,) = server.runs.values()
    assert (uploaded.told["project"], steps(uploaded)) == ("other", list(range(EPOCHS + 1)))


def test_a_copy_of_a_file_is_identical(outputs, tmp_path):
    """Includes records longer than a block, which are split into chunks."""
    from wandb.proto.wandb_internal_pb2 import Record

    (log,) = upload.wandb_logs(runs()[0].path)
    offline_file.write_rest(log.file, tmp_path / "same", -1)
    assert (tmp_path / "same").read_bytes() == log.file.read_bytes()
    offline_file.write_rest(log.file, tmp_path / "rest", 0)
    assert offline_file.read(tmp_path / "rest").steps == list(range(1, EPOCHS + 1))
    for size in (10, 32_740, 32_747, 32_748, 32_754, 32_755, 65_530, 200_000):
        data = offline_file.FILE_HEADER
        for step in range(4):
            record = Record()
            record.history.step.num = step
            item = record.history.item.add()
            item.key, item.value_json = "text", json.dumps("x" * (size + step))
            data += offline_file.encode_record(record.SerializeToString(), len(data))
        (tmp_path / "big").write_bytes(data)
        assert offline_file.read(tmp_path / "big").steps == [0, 1, 2, 3]


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [403, 500, None])
def test_rejected_files_are_a_failure(outputs, server, cli, monkeypatch, answer):
    """`wandb sync` prints nothing about them; it retries after 500 and a dropped connection."""
    real = wandb_server.Handler.do_PUT

    def reject(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if answer:
            self.answer(answer, {})

    monkeypatch.setenv("WANDB_X_FILE_TRANSFER_RETRY_MAX", "1")
    monkeypatch.setattr(wandb_server.Handler, "do_PUT", reject)
    paths = [run.path for run in runs()[:2]]
    code, out, err = cli("sync", *paths)
    assert (code, out) == (1, "0 uploaded, 2 failed\n")
    lines = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 2
    for line, path in zip(sorted(lines), sorted(paths), strict=True):
        assert line.startswith(f"failed: {path}: ")
        assert (str(answer) if answer else "giving up after 2 attempt(s)") in line
        assert "/tmp" not in line
    assert not list(Path("outputs").rglob("*.synced"))
    monkeypatch.setattr(wandb_server.Handler, "do_PUT", real)
    assert cli("sync", *paths)[1].startswith("2 uploaded\n")
    for run in server.runs.values():
        assert steps(run) == list(range(EPOCHS + 1)), "its rows were not duplicated"
        assert any(name.startswith("media/images/") for name in run.files)


def test_missing_files_are_reported(outputs, server, cli):
    files = folder_of(runs()[0].path) / "files"
    shutil.rmtree(files)
    code, out, err = cli("sync", runs()[0].path)
    assert (code, out.splitlines()[0]) == (0, "1 uploaded")
    assert f"uploaded incompletely: {runs()[0].path}: 2 of 2 logged files are missing from {files}" in err
    assert not files.exists()


# --- simultaneous and interrupted uploads --------------------------------------------------------


def test_two_uploads_at_once_do_not_send_the_same_runs(outputs, server, cli):
    with SoftFileLease(
        "outputs/abl/" + sync.LOCK,
        lease_duration=lease.LEASE_S,
        heartbeat_interval=lease.LEASE_S / 6,
        timeout=0,
    ):
        code, out, err = cli("sync")
        assert (code, out) == (0, "0 uploaded, 5 being uploaded\n")
        assert "skipped: another `cnnbench sync` is uploading outputs/abl" in err
    assert not server.runs
    assert cli("sync")[1].startswith("5 uploaded\n")


@pytest.mark.slow
def test_two_processes_at_once(outputs, server):
    command = [sys.executable, "-m", "cnnbench", "sync"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    summaries = sorted(process.communicate(timeout=120)[0].splitlines()[0] for process in both)
    assert summaries[0] in ("0 uploaded, 5 being uploaded", "0 uploaded, 5 already uploaded")
    assert summaries[1] == "5 uploaded"
    assert {tuple(steps(run)) for run in server.runs.values()} == {tuple(range(EPOCHS + 1))}


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_upload_reports_its_progress(outputs, server, monkeypatch, signum):
    real, released = Handler.file_stream, threading.Event()
    monkeypatch.setattr(Handler, "file_stream", lambda *args: (released.wait(60), real(*args))[1])
    command = [sys.executable, "-m", "cnnbench", "sync"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not server.runs:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signum)
    out, err = process.communicate(timeout=30)
    released.set()
    assert process.returncode == 128 + signum
    assert "not attempted" in out
    assert err.splitlines()[-1] == "interrupted; run the same command again to resume"
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "uploaded" in done.stdout
    assert {tuple(steps(run)) for run in server.runs.values()} == {tuple(range(EPOCHS + 1))}


# --- paths and filters; missing logs --------------------------------------------------------------


def test_filters(outputs, server, cli):
    assert cli("sync", "arch=mlp")[1].startswith("1 uploaded\n")
    assert cli("sync", "outputs/abl", "ops.norm=none", "seed=0,1")[1].startswith("2 uploaded\n")
    code, _, err = cli("sync", "ops.nrm=none")
    assert code == 2
    assert err.startswith("error: ops.nrm=none: none of these runs has this setting; did you mean ops.norm?")


def test_a_wandb_folder_stands_for_its_logs(outputs, server, cli):
    assert cli("sync", runs()[0].path / "wandb")[1].startswith("1 uploaded\n")
    assert cli("sync", folder_of(runs()[1].path))[1].startswith("1 uploaded\n")
    assert len(server.runs) == 2


def test_runs_with_nothing_to_upload_are_named(outputs, server, cli):
    first, second, third = runs()[:3]
    shutil.rmtree(first.path / "wandb")
    next(second.path.glob("wandb/*/*.wandb")).unlink()
    (third.path / "status.json").unlink()
    assert cli(*MLP, "seed=7", "name=abl", "logger=none")[0] == 0
    code, out, err = cli("sync")
    assert code == 0
    assert out.splitlines()[0] == "2 uploaded, 3 with nothing to upload, 1 not logged with W&B"
    for path, reason in (
        (first.path, "its W&B log is missing"),
        (second.path, "its W&B log is missing"),
        (third.path, "has a W&B log but no status.json"),
    ):
        assert f"nothing to upload: {path}: {reason}\n" in err


def test_nothing_left_to_upload(outputs, server, cli):
    for run in runs():
        shutil.rmtree(run.path / "wandb")
    assert cli("sync")[:2] == (0, "0 uploaded, 5 with nothing to upload\n")
    assert server.requests == []


def test_a_server_that_does_not_list_its_runs(outputs, server, cli, monkeypatch):
    """Without knowing which rows it has, nothing is uploaded rather than duplicated."""
    monkeypatch.delattr("wandb_server.WandbServer.list_runs")
    code, out, err = cli("sync")
    assert (code, out) == (1, "0 uploaded, 5 failed\n")
    assert err.count("unknown operation") == 5
    assert not server.runs


@pytest.mark.parametrize("option", ["--project", "--entity"])
@pytest.mark.parametrize("value", ["a/b", "", " a", "x" * 129])
def test_names_that_wandb_would_reject(outputs, server, cli, option, value):
    code, out, err = cli("sync", option, value)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {option} {value}: allowed: 1 to 128 characters")
    assert server.requests == []


@pytest.mark.parametrize("url", ["localhost:18765", "", "ftp:/x"])
def test_an_invalid_address(outputs, cli, monkeypatch, url):
    monkeypatch.setenv("WANDB_BASE_URL", url)
    code, out, err = cli("sync")
    assert (code, out) == (2, "")
    assert err == (
        f"error: WANDB_BASE_URL={url}: not the address of a server; "
        "allowed: http://… or https://…, or unset for W&B's own server\n"
    )


def test_no_output_of_wandb_itself(outputs, server, cli):
    """W&B would report at each step where it read the key."""
    assert cli("sync")[2] == ""
    _, _, err = cli("compare", "--wandb", "--mode", "online")
    assert "Loaded credentials" not in err


def test_advice_by_wandb_is_removed():
    error = (
        "Fatal error while uploading data. Some run data will not be synced, but it will still be written."
    )
    assert one_line([f"{error} Use `wandb sync` at the end of the run to try uploading."]) == error
    advice = "Use `wandb sync` to try again."
    assert one_line([advice]) == advice, "kept if there is nothing else"
