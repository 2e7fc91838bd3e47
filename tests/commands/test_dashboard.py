"""`cnnbench dashboard`: the specification that the real library writes to disk and saves on a server."""

import importlib.util
import json
import socket
import time
from itertools import combinations
from pathlib import Path

import pytest
import wandb_server
from made_runs import edit
from wandb_logged import runs
from wandb_server import KEY

from cnnbench.comparison.comparison import compare
from cnnbench.comparison.records import read
from cnnbench.comparison.report import wandb_workspace

pytest_plugins = ["wandb_fixtures"]
pytestmark = [
    pytest.mark.usefixtures("nobody"),
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20"),  # wandb-workspaces'
]

FILE = Path("outputs/dashboard.json")


def written(file=FILE):
    return json.loads(file.read_text())


def panels(spec, kind=None):
    found = [p for s in spec["section"]["panelBankConfig"]["sections"] for p in s["panels"]]
    return [panel for panel in found if kind in (None, panel["viewType"])]


def test_offline_it_is_written_and_says_how_to_save_it(outputs, cli):
    code, out, _ = cli("dashboard")
    assert code == 0
    assert out.splitlines() == [
        f"written: {FILE}",
        "to save it at W&B: wandb login, then cnnbench dashboard outputs --save",
    ]
    said = written()
    assert (said["url"], said["entity"], said["project"], said["name"]) == (None, None, "cnnbench", "abl")


def test_panels_are_of_what_was_varied(outputs, cli):
    cli("dashboard")
    spec = written()["spec"]
    (scatter,) = panels(spec, "Scatter Plot")
    assert (scatter["config"]["xAxis"], scatter["config"]["yAxis"]) == ("summary:params", "summary:test/acc")
    bars = [bar["config"] for bar in panels(spec, "Bar Chart")]
    assert [bar["groupBy"] for bar in bars] == ["arch.value.name", "ops.value.norm"]
    assert all((bar["groupAgg"], bar["groupArea"]) == ("mean", "stddev") for bar in bars)
    lines = [line["config"] for line in panels(spec, "Run History Line Plot")]
    assert [line["metrics"] for line in lines] == [["val/acc"], ["train/acc"], ["val/loss"], ["train/loss"]]
    assert {(line["groupBy"], line["xAxis"], line["limit"]) for line in lines} == {
        ("family.value", "epoch", wandb_workspace.SHOWN)
    }
    assert all(
        (bar["limit"], bar["barLimit"]) == (wandb_workspace.SHOWN, wandb_workspace.BARS) for bar in bars
    )
    (parallel,) = panels(spec, "Parallel Coordinates Plot")
    columns = [column["accessor"] for column in parallel["config"]["columns"]]
    assert columns == [
        "config:arch.value.name",
        "config:ops.value.norm",
        "summary:best/val_acc",
        "summary:test/acc",
    ]
    assert len(panels(spec, "Run Comparer")) == 1


def test_panels_read_keys_that_runs_have(outputs, cli):
    """The paths in the specification exist in what was really logged."""
    import wandb_file
    from wandb_logged import folder_of

    cli("dashboard")
    spec = written()["spec"]
    told = [wandb_file.read(folder_of(run.path)) for run in runs()]
    (parallel,) = panels(spec, "Parallel Coordinates Plot")
    for column in parallel["config"]["columns"]:
        kind, _, key = column["accessor"].partition(":")
        for run in told:
            found = run.summary if kind == "summary" else run.config
            steps = [key] if kind == "summary" else key.replace(".value", "").split(".")
            for step in steps:
                found = found.get(step, {})
            assert found != {} or run.config["arch"]["name"] == "mlp", column
    for line in panels(spec, "Run History Line Plot"):
        assert all(line["config"]["metrics"][0] in run.history[0] for run in told)
        assert all(line["config"]["xAxis"] in run.history[0] for run in told)
        key = line["config"]["groupBy"].removesuffix(".value")
        assert {run.config[key] for run in told} == {"basic", "mlp"}


def test_no_panel_lies_on_another(outputs, cli):
    cli("dashboard")
    for section in written()["spec"]["section"]["panelBankConfig"]["sections"]:
        places = [panel["layout"] for panel in section["panels"]]
        for one, other in combinations(places, 2):
            apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert apart_x or apart_y, section["name"]
        assert all(place["x"] + place["w"] <= wandb_workspace.COLUMNS for place in places)


def filters(spec):
    return {f["key"]["name"]: f["value"] for f in spec["section"]["runSets"][0]["filters"]["filters"]}


def test_the_run_set_is_the_experiment(outputs, cli):
    cli("dashboard")
    assert filters(written()["spec"]) == {"jobType": "train", "group": ["abl"]}
    sort = written()["spec"]["section"]["runSets"][0]["sort"]["keys"]
    assert sort == [{"key": {"section": "summary", "name": "best/val_acc"}, "ascending": False}]


def test_one_architecture_is_drawn_by_what_was_varied(outputs, cli):
    for run in runs():
        if run.config()["arch"]["name"] == "mlp":
            run.path.rename(run.path.with_name(f".{run.path.name}"))
    cli("dashboard")
    spec = written()["spec"]
    assert {line["config"]["groupBy"] for line in panels(spec, "Run History Line Plot")} == {"ops.value.norm"}
    assert [bar["config"]["groupBy"] for bar in panels(spec, "Bar Chart")] == ["ops.value.norm"]


@pytest.mark.parametrize("name", ["it's", 'a"b', "back\\slash", "a=b and c", "x) or (True"])
def test_hostile_names_of_experiments(outputs, name):
    (first, *_) = runs()
    edit(first, {"name": name})
    found = compare(read([outputs]))
    workspace = wandb_workspace.lay_out(found, [name, "abl"], "n", "p", "e")
    spec = workspace._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert filters(spec) == {"jobType": "train", "group": [name, "abl"]}


def test_saved_and_saved_again_in_its_place(outputs, server, cli):
    code, out, _ = cli("dashboard", "--save", "--name", "first")
    assert code == 0
    (view,) = server.views.values()
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("me", "cnnbench", "first")
    assert view["type"] == "project-view"
    url = written()["url"]
    assert out.splitlines() == [f"saved: {url}", f"written: {FILE}"]
    assert url.startswith(f"{server.url}/me/cnnbench?nw=")

    def plain(spec):
        for panel in panels(spec):
            del panel["__id__"]  # drawn by lot
        return spec

    assert plain(json.loads(view["spec"])) == plain(written()["spec"])
    (first, *_) = runs()
    edit(first, {"name": "other"})
    assert cli("dashboard")[0] == 0
    assert written()["url"] == url, "written anew, it still knows where it was saved"
    assert cli("dashboard", "--save")[0] == 0
    (view,) = server.views.values()
    assert view["displayName"] == "abl, other"
    assert filters(json.loads(view["spec"])) == {"jobType": "train", "group": ["abl", "other"]}
    assert written()["url"] == url
    server.views.clear()  # somebody has deleted it
    assert cli("dashboard", "--save")[0] == 0
    assert len(server.views) == 1
    assert written()["url"] != url


def test_another_project_is_another_workspace(outputs, server, cli):
    cli("dashboard", "--save")
    assert cli("dashboard", "--save", "--project", "p", "--entity", "team")[0] == 0
    places = [(view["entityName"], view["projectName"]) for view in server.views.values()]
    assert places == [("me", "cnnbench"), ("team", "p")]


def test_without_a_key_it_is_written(outputs, server, cli, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    code, out, err = cli("dashboard", "--save")
    assert code == 1
    assert "not saved: --save: no API key; run `wandb login`, or set WANDB_API_KEY" in err
    assert out == f"written: {FILE}; the same command saves it later\n"
    assert written()["url"] is None
    assert not server.views


def test_a_server_out_of_reach(outputs, cli, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    start = time.monotonic()
    code, _, err = cli("dashboard", "--save")
    assert time.monotonic() - start < 20
    assert code == 1
    assert "cannot be reached" in err
    assert FILE.exists()


def refused(cli):
    """It is not saved, and the file is there."""
    code, out, err = cli("dashboard", "--save")
    assert (code, out) == (1, f"written: {FILE}; the same command saves it later\n")
    assert written()["url"] is None
    assert "Traceback" not in err
    return next(line for line in err.splitlines() if line.startswith("not saved: "))


def test_a_server_that_refuses(outputs, server, cli, monkeypatch):
    monkeypatch.delattr("wandb_server.WandbServer.upsert_view2")
    assert "--save: W&B rejects it: " in refused(cli)


def test_a_wrong_key(outputs, server, cli, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    assert refused(cli).startswith("not saved: --save: ")
    assert not server.views


def test_a_server_that_drops_connections(outputs, server, cli, monkeypatch):
    """The first request, by `unreachable`, is answered; later ones are not."""
    monkeypatch.setattr(wandb_server.Handler, "do_POST", lambda self: None)
    monkeypatch.setenv("WANDB_X_GRAPHQL_RETRY_MAX", "1")
    start = time.monotonic()
    refused(cli)
    assert time.monotonic() - start < 60


def test_a_place_that_cannot_be_written_is_found_before_it_is_saved(outputs, server, cli):
    """A read-only folder; for root, /proc is one."""
    code, _, err = cli("dashboard", "--save", "--out", "/proc/self/dashboard.json")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: /proc/self/dashboard.json: cannot be written (")
    assert not server.views


def test_without_the_package(outputs, cli, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "wandb_workspaces" else real(name, *rest),
    )
    code, _, err = cli("dashboard")
    assert code == 2
    assert err == "error: cnnbench dashboard: not installed; run `pip install 'cnnbench[dashboard]'`\n"
    assert not FILE.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "a 😀"], "error: --name a 😀: Emojis are not allowed"),
        (["--out", "nowhere/d.json"], "error: --out nowhere/d.json: its folder does not exist"),
        (["--out", "outputs"], "error: --out outputs: not a dashboard, and not overwritten (is not a file)"),
        (["--out", "mine.json"], "error: --out mine.json: not a dashboard, and not overwritten"),
        (["missing"], "error: missing: no such folder"),
        (["--project", "x/y"], "error: --project x/y: allowed: 1 to 128 characters, none of /"),
        (["--project", ""], "error: --project : allowed: 1 to 128"),
        (["--entity", "x/y", "--save"], "error: --entity x/y: allowed: 1 to 128"),
        (["outputs", "arch=basic"], "error: arch=basic: a workspace shows all runs of an experiment"),
    ],
)
def test_bad_input(outputs, cli, arguments, said):
    Path("mine.json").write_text("[1, 2]")
    code, out, err = cli("dashboard", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(said)
    assert Path("mine.json").read_text() == "[1, 2]"


@pytest.mark.parametrize("url", ["localhost:18765", "", "ftp:/x"])
def test_an_address_that_is_none(outputs, cli, monkeypatch, url):
    monkeypatch.setenv("WANDB_BASE_URL", url)
    code, out, err = cli("dashboard", "--save")
    assert (code, out) == (2, "")
    assert err == (
        f"error: WANDB_BASE_URL={url}: not the address of a server; "
        "allowed: http://… or https://…, or unset for W&B's own server\n"
    )
    assert cli("dashboard")[0] == 0, "nobody is asked"
