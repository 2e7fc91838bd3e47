"""`cnnbench sync`: the real `wandb sync` against a local server, and failures that it does not report."""

import io
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb
import wandb_server
from wandb_logged import EPOCHS, TINY, folder_of, runs
from wandb_server import KEY

from cnnbench.comparison.records import record
from cnnbench.comparison.report.plain import url
from cnnbench.run_store import lease
from cnnbench.run_store.find import find
from cnnbench.wandb_sync import cli_process, upload

pytest_plugins = ["wandb_fixtures"]
pytestmark = pytest.mark.usefixtures("nobody")


def damaged(run, change):
    """Return a copy of a run with another name and W&B id, and a changed file."""
    copy = run.path.with_name(f"{run.path.name}-copy")
    shutil.copytree(run.path, copy, symlinks=True)
    folder = folder_of(copy)
    other = folder.with_name(folder.name[:-1] + ("0" if folder.name[-1] != "0" else "1"))
    folder.rename(other)
    (file,) = other.glob("*.wandb")
    file = file.rename(other / f"run-{other.name.rpartition('-')[2]}.wandb")
    file.write_bytes(change(file.read_bytes()))
    return copy


def epochs(run):
    return [row["epoch"] for row in run.history if "val/acc" in row]


def test_all_runs_are_uploaded_once(outputs, server, cli):
    code, out, _ = cli("sync")
    assert code == 0
    assert out.splitlines() == ["5 uploaded", f"{server.url}/me/cnnbench"]
    assert len(server.runs) == 5
    for run in server.runs.values():
        assert epochs(run) == list(range(EPOCHS))
        assert (run.told["groupName"], run.exit_code) == ("abl", 0)
    urls = {url(record(run)) for run in runs()}
    assert urls == {f"{server.url}/me/cnnbench/runs/{name}" for name in server.runs}
    assert not Path("wandb").exists(), "`wandb sync` leaves no logs in the working folder"
    server.requests.clear()
    assert cli("sync")[:2] == (0, "0 uploaded, 5 already uploaded\n")
    assert server.requests == [], "no request without a run to upload"
    assert cli("sync", "--force", "--project", "other", "--entity", "them")[0] == 0
    assert {run.told["project"] for run in server.runs.values()} == {"other"}
    assert not list(Path("outputs").rglob(".sync"))


def test_a_single_run_and_two_paths_of_the_same(outputs, server, cli):
    run = runs()[0]
    assert cli("sync", run.path)[1].startswith("1 uploaded\n")
    assert len(server.runs) == 1
    assert cli("sync", "outputs/abl", "outputs", run.path)[1].startswith("4 uploaded, 1 already uploaded\n")


def test_failures_are_named_and_the_rest_is_uploaded(outputs, server, cli):
    first, second, third = runs()[:3]
    garbage = damaged(first, lambda _: b"garbage")
    empty = damaged(second, lambda _: b"")
    cut = damaged(third, lambda data: data[:-3])
    code, out, err = cli("sync")
    assert code == 1
    assert out.startswith("5 uploaded, 3 failed\n")
    lines = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 3
    for path, reason in ((garbage, "bad header"), (empty, "EOF"), (cut, "incomplete record")):
        (line,) = [line for line in lines if line.startswith(f"failed: {path}: ")]
        assert reason in line
    assert len([run for run in runs() if url(record(run))]) == 5
    assert cli("sync")[1].startswith("0 uploaded, 5 already uploaded, 3 failed\n"), "no mark after a failure"


def test_a_damaged_record_is_detected(outputs, server, cli):
    def flipped(data):
        data = bytearray(data)
        data[len(data) // 2] ^= 0xFF
        return bytes(data)

    copy = damaged(runs()[0], flipped)
    code, out, err = cli("sync")
    assert (code, out.splitlines()[0]) == (1, "5 uploaded, 1 failed")
    assert f"failed: {copy}: " in err
    assert "checksum" in err


def test_rejected_rows_are_a_failure(outputs, server, cli, monkeypatch):
    """`wandb sync` marks such a run as synced and exits with 0."""
    rejected = next(iter(upload.wandb_logs(runs()[0].path))).id
    real = wandb_server.Handler.file_stream

    def reject(self, run, message):
        return (400, {"error": "no"}) if run.name == rejected else real(self, run, message)

    monkeypatch.setattr(wandb_server.Handler, "file_stream", reject)
    code, out, err = cli("sync")
    assert (code, out.splitlines()[0]) == (1, "4 uploaded, 1 failed")
    assert f"failed: {runs()[0].path}: Fatal error while uploading data" in err
    monkeypatch.setattr(wandb_server.Handler, "file_stream", real)
    assert cli("sync")[1].startswith("1 uploaded, 4 already uploaded\n")
    assert epochs(server.runs[rejected]) == list(range(EPOCHS))


def test_a_rejection_of_all_runs_is_not_retried_run_by_run(outputs, server, cli, monkeypatch):
    def graphql(self, message):
        if "UpsertBucket" in message["query"]:
            self.server.requests.append("UpsertBucket")
            return 403, {"errors": [{"message": "permission denied"}]}
        return real(self, message)

    real = wandb_server.Handler.graphql
    monkeypatch.setattr(wandb_server.Handler, "graphql", graphql)
    code, out, err = cli("sync")
    assert (code, out) == (1, "0 uploaded, 5 failed\n")
    assert err.count("permission denied") == 5
    assert server.requests.count("UpsertBucket") <= 6


def test_batches(outputs, server, cli, monkeypatch):
    monkeypatch.setattr(upload, "BATCH", 2)
    assert cli("sync")[1].startswith("5 uploaded\n")


def test_a_run_that_is_being_trained_is_skipped(outputs, server, cli):
    run = runs()[0]
    status = run.status()
    run.write_status(status | {"state": "running"})
    with lease.of(run.path):
        code, out, err = cli("sync")
    assert (code, out.splitlines()[0]) == (0, "4 uploaded, 1 being trained")
    assert f"skipped: {run.path} is still being trained" in err
    run.write_status(status)
    assert cli("sync")[1].startswith("1 uploaded, 4 already uploaded\n")


def test_only_the_latest_log_is_uploaded(outputs, server, cli):
    """A killed attempt's folder stays beside that of the attempt that resumed it."""
    run = runs()[0]
    folder = folder_of(run.path)
    shutil.copytree(folder, folder.with_name(folder.name.replace("run-2", "run-1", 1)))
    assert cli("sync")[1].startswith("5 uploaded\n")
    assert {epochs == list(range(EPOCHS)) for epochs in map(epochs, server.runs.values())} == {True}


def test_foreign_folders_are_ignored(outputs, server, cli):
    foreign = Path("outputs/abl/wandb/offline-run-20260101_000000-foreign/files")
    foreign.mkdir(parents=True)
    (foreign.parent / "run-foreign.wandb").write_bytes(b"foreign")
    (foreign / "status.json").write_text(json.dumps({"state": "finished", "attempts": [], "device": {}}))
    half = runs()[0].path / "wandb"
    (half / "offline-run-20990101_000000-half").mkdir()
    (half / "run-notes").write_text("")
    assert len(runs()) == 5
    assert cli("sync")[1].startswith("5 uploaded\n")
    assert cli("runs")[1].splitlines()[-1] == "5 runs, 5 finished"


@pytest.mark.parametrize("key", [None, "too-short", "f" * 40])
def test_missing_or_wrong_key(outputs, server, cli, monkeypatch, key):
    monkeypatch.delenv("WANDB_API_KEY")
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no interactive session
    code, out, err = cli("sync")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: cnnbench sync: ")
    assert not server.runs


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_the_mode_of_training_is_ignored(outputs, server, cli, monkeypatch, mode):
    """WANDB_MODE=offline in the environment is meant for training."""
    monkeypatch.setenv("WANDB_MODE", mode)
    assert cli("sync", runs()[0].path)[1].startswith("1 uploaded\n")
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    wandb.teardown()
    assert "no API key" in cli("sync")[2]


def test_the_error_of_wandb_sync_is_the_reason(outputs, server, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    attempt = upload.Upload(None, None)
    attempt.send([log for run in runs()[:2] for log in upload.wandb_logs(run.path)])
    assert list(attempt.failed.values()) == ["No API key configured. Use `wandb login` to log in."] * 2


def test_an_unreachable_server_ends_it_at_once(outputs, cli, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    start = time.monotonic()
    code, _, err = cli("sync")
    assert time.monotonic() - start < 20
    assert code == 2
    assert "cannot be reached" in err.splitlines()[-1]


@pytest.mark.slow
def test_a_server_that_goes_away_costs_only_the_rest(outputs, server, cli, monkeypatch):
    """The upload gives up long before W&B's own client would."""
    monkeypatch.setattr(upload, "BATCH", 2)
    for name in cli_process.RETRIES:
        monkeypatch.setenv(name, "1")
    real = upload.Upload._send

    def send(self, batch):
        if self.done:
            server.stop()
        return real(self, batch)

    monkeypatch.setattr(upload.Upload, "_send", send)
    start = time.monotonic()
    code, out, err = cli("sync")
    assert time.monotonic() - start < 60
    assert (code, out.splitlines()[0]) == (1, "2 uploaded, 3 failed")
    lines = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 3
    assert all("cannot be reached" in line or "connection refused" in line for line in lines)


@pytest.mark.slow
def test_killed_and_run_again(outputs, server, monkeypatch):
    """After SIGKILL and a second upload, every run is complete."""
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "3")
    command = [sys.executable, "-m", "cnnbench", "sync"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not server.runs:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "5 uploaded" in done.stdout or "already uploaded" in done.stdout
    assert len(server.runs) == 5
    assert all(epochs(run) == list(range(EPOCHS)) for run in server.runs.values())


@pytest.mark.parametrize("path", ["empty", "missing"])
def test_nothing_to_sync(cli, path):
    Path("empty").mkdir()
    code, _, err = cli("sync", path)
    assert code == 2
    assert err.splitlines()[-1].startswith(f"error: {path}: ")


def test_an_online_run_writes_its_page_and_is_not_uploaded_again(server, cli):
    assert cli("train", *TINY, "arch=mlp", "arch.hidden=[16]", "logger.mode=online")[0] == 0
    (run,) = find(Path("outputs"))
    (name,) = server.runs
    assert url(record(run)) == f"{server.url}/me/cnnbench/runs/{name}"
    assert cli("sync")[:2] == (0, "0 uploaded, 1 already uploaded\n")


def test_an_online_run_that_was_cut_off_is_completed(server, cli, monkeypatch):
    """Data that the server did not receive in time is reported, and uploaded later."""
    real = wandb_server.Handler.file_stream
    monkeypatch.setattr(wandb_server.Handler, "file_stream", lambda *_: time.sleep(0.1) or (503, {}))
    code, _, err = cli(
        "train", *TINY, "arch=mlp", "arch.hidden=[16]", "logger.mode=online", "logger.finish_timeout_s=2"
    )
    assert code == 0
    assert "upload them later: cnnbench sync outputs/default/mlp-" in err
    monkeypatch.setattr(wandb_server.Handler, "file_stream", real)
    assert cli("sync")[1].startswith("1 uploaded\n")
    (run,) = server.runs.values()
    assert epochs(run) == list(range(EPOCHS))
    assert run.exit_code == 0


def test_no_module_of_the_working_folder_is_imported(outputs, server, cli, monkeypatch):
    """The working folder may be a run of somebody else's."""
    folder = runs()[0].path
    monkeypatch.chdir(folder)
    for name in ("json", "click", "wandb", "sitecustomize"):
        Path(f"{name}.py").write_text(f"open({str(folder / 'ran')!r}, 'a').write({name!r})")
    assert cli("sync", ".")[1].startswith("1 uploaded\n")
    assert not Path("ran").exists()


def test_no_server_of_the_working_folder_receives_the_key(outputs, server, cli, monkeypatch):
    """W&B takes settings from `wandb/settings` of the working folder, which a run may bring along."""
    run = runs()[0].path
    monkeypatch.chdir(run)
    monkeypatch.delenv("WANDB_BASE_URL")
    for text in (f"base_url = {server.url}", "insecure_disable_ssl = true", "[default"):
        Path("wandb", "settings").write_text(f"[default]\nentity = them\n{text}\n")
        wandb.teardown()
        for arguments in (["sync", "."], ["compare", ".", "--wandb", "--mode", "online"]):
            code, _, err = cli(*arguments)
            assert (code, err.count("\n")) == (2, 1), err
            assert err.startswith("error: wandb/settings: "), err
    assert server.requests == []


def test_what_wandb_itself_writes_to_the_working_folder_is_allowed(outputs, server, cli):
    Path("wandb").mkdir()
    Path("wandb", "settings").write_text("[default]\nentity = them\nproject = theirs\nmode = online\n")
    wandb.teardown()
    assert cli("sync", runs()[0].path)[1].startswith("1 uploaded\n")
