"""W&B servers that hang, drip, send garbage or refuse: a run is trained, kept, and complete after `sync`."""

import gc
import json
import re
import time
import warnings
from pathlib import Path

import pytest
import wandb
from bad_server import UPLOADS, WAYS
from search import sample
from tracking_support import EPOCHS, ONLINE, Troublesome, epochs, logged, the_run
from wandb_server import KEY

from cnnbench.cli import main
from cnnbench.tracking import track

INIT_S, HTTP_S, FINISH_S = 3, 2, 3
SLACK_S = 10
"""For W&B's own process and a busy machine."""

PHASES = ("start", "rows", "end", "uploads")
CASES = [(way, phase) for phase in PHASES for way in WAYS]
QUICK = [("page", "uploads"), ("null", "rows")]


@pytest.fixture(autouse=True)
def _collected():
    """Collect the process of W&B, not waited for if it has crashed, where its warning disturbs no test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def spent(monkeypatch):
    """Return the seconds that training has waited for W&B, by what it called."""
    seconds = {}

    def timed(owner, name, key):
        function = getattr(owner, name)

        def call(*args):
            start = time.monotonic()
            try:
                return function(*args)
            finally:
                seconds[key(*args)] = seconds.get(key(*args), 0) + time.monotonic() - start

        monkeypatch.setattr(owner, name, call)

    import cnnbench.tracking.wandb_tracker  # noqa: F401 - its import is no delay of the server's

    timed(track, "_open", lambda *_: "start")
    timed(track._GuardedTracker, "_try", lambda _, method, *__: method)
    return seconds


def train(arguments, server, monkeypatch, way, phase, times=None):
    """Train a run whose server fails from a phase on; return the exit code."""
    only = UPLOADS if phase == "uploads" else None
    begins = {"rows": 1, "end": EPOCHS - 1}.get(phase)
    if begins is None:
        server.be(way, only, times)

    def trouble(epoch):
        if epoch == begins and server.way == "well":
            server.be(way, only, times)

    monkeypatch.setattr(Troublesome, "trouble", staticmethod(trouble))
    monkeypatch.setattr(wandb.Api, "_HTTP_TIMEOUT", HTTP_S)
    limits = [f"logger.init_timeout_s={INIT_S}", f"logger.finish_timeout_s={FINISH_S}"]
    return main([*arguments, ONLINE, *limits])


def uploaded(server):
    """Check that a server has all of the only run, each epoch once, and its media."""
    (run,) = server.runs.values()
    assert epochs(run.history) == list(range(EPOCHS))
    assert (run.summary["state"], run.exit_code) == ("finished", 0)
    media = [*run.summary["test/worst_mistakes"]["filenames"], run.summary["test/confusion_table"]["path"]]
    assert set(media) <= set(run.files)


def secrets_in(folder):
    """Return the files below a folder that hold the API key."""
    return [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def check(server, spent, monkeypatch, capfd, arguments, way, phase):
    assert train(arguments, server, monkeypatch, way, phase) == 0
    out, err = capfd.readouterr()
    assert server.failed, "the server met no request that it could have failed"
    assert the_run().state == "finished"
    assert "Traceback" not in out + err
    assert KEY not in out + err
    assert not secrets_in(Path("outputs"))
    assert spent["start"] < INIT_S + SLACK_S
    assert spent["log"] < 1 + SLACK_S
    assert spent["finish"] + spent["close"] < HTTP_S + 2 * FINISH_S + SLACK_S
    assert epochs(logged(the_run()).history) == list(range(EPOCHS)), "the log on this machine has all"
    kept = [
        line for line in err.splitlines() if re.search("logging offline|did not receive everything", line)
    ]
    print(json.dumps({"way": way, "phase": phase} | {key: round(s, 1) for key, s in spent.items()}))
    server.be("well")
    wandb.teardown()
    assert main(["sync"]) == 0
    uploaded(server)
    assert len(kept) <= 1
    assert kept or "0 uploaded, 1 already uploaded" in capfd.readouterr().out, "it did not matter"


@pytest.mark.parametrize(("way", "phase"), QUICK)
def test_servers_that_bring_the_client_down(troublesome, server, spent, monkeypatch, capfd, way, phase):
    """In one case W&B's own process crashes, in the other it is silent about what was lost."""
    check(server, spent, monkeypatch, capfd, troublesome, way, phase)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "phase"), sample([case for case in CASES if case not in QUICK], 0.3))
def test_bad_servers(troublesome, server, spent, monkeypatch, capfd, way, phase):
    check(server, spent, monkeypatch, capfd, troublesome, way, phase)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["500", "closes", "page"])
def test_a_server_that_recovers(troublesome, server, monkeypatch, capfd, way):
    """Its first answers are errors."""
    assert train(troublesome, server, monkeypatch, way, "rows", times=2) == 0
    assert "Traceback" not in capfd.readouterr().err
    server.be("well")
    wandb.teardown()
    assert main(["sync"]) == 0
    uploaded(server)
