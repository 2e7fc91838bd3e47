"""`cnnbench sync`, `compare --wandb` and `dashboard --save` with servers that hang, drip or send garbage."""

import json
import time
from pathlib import Path

import pytest
import wandb
from bad_server import WAYS
from search import sample
from wandb_logged import EPOCHS, runs
from wandb_server import KEY

pytest_plugins = ["wandb_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")  # wandb-workspaces'

VERBS = {
    "sync": ["sync"],
    "compare": ["compare", "outputs/abl", "--wandb", "--mode", "online"],
    "dashboard": ["dashboard", "outputs/abl", "--save"],
}
PHASES = ("begin", "middle")
"""From the first request on, or after five that were answered."""

CASES = [(verb, way, phase) for verb in VERBS for way in WAYS for phase in PHASES]
QUICK = [("sync", "page", "begin")]
BOUND_S = 90
"""Longest time that a verb may take, with one retry of each request."""


def check(verb, way, phase, outputs, server, cli, monkeypatch):
    for kind in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):
        monkeypatch.setenv(f"WANDB_X_{kind}_RETRY_MAX", "1")
    monkeypatch.setattr(wandb.Api, "_HTTP_TIMEOUT", 2)
    server.be(way, after=5 * (phase == "middle"))
    start = time.monotonic()
    code, out, err = cli(*VERBS[verb])
    seconds = time.monotonic() - start
    figures = {"verb": verb, "way": way, "phase": phase, "code": code, "seconds": round(seconds, 1)}
    assert "Traceback" not in out + err
    assert KEY not in out + err
    assert not [p for p in Path().rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]
    assert seconds < BOUND_S
    assert code in (0, 1, 2)
    if code == 2:
        assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    server.be("well")
    wandb.teardown()
    code, out, err = cli(*VERBS[verb])
    assert code == 0, err
    if verb == "sync":
        histories = [[row["_step"] for row in run.history] for run in server.runs.values()]
        assert histories == [list(range(EPOCHS + 1))] * len(runs())
    elif verb == "dashboard":
        assert server.views
    print(json.dumps(figures))


@pytest.mark.parametrize(("verb", "way", "phase"), QUICK)
def test_a_page_instead_of_an_answer(verb, way, phase, outputs, server, cli, monkeypatch):
    check(verb, way, phase, outputs, server, cli, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "way", "phase"), sample([case for case in CASES if case not in QUICK], 0.2))
def test_bad_servers(verb, way, phase, outputs, server, cli, monkeypatch):
    check(verb, way, phase, outputs, server, cli, monkeypatch)
