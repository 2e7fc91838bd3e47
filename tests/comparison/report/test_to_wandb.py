"""`cnnbench compare --wandb`: tables and charts by the real client, offline and against a server."""

import json
import shutil
import socket
import time
from pathlib import Path
from statistics import fmean

import pytest
import wandb
import wandb_file
from made_runs import edit, make_run
from wandb_logged import folder_of, runs, table
from wandb_server import KEY

from cnnbench.comparison.comparison import Options, compare
from cnnbench.comparison.records import read, record
from cnnbench.comparison.report import to_wandb
from cnnbench.comparison.report.wandb_charts import charts
from cnnbench.run_store.run import Run
from cnnbench.tracking.wandb_report import Target

pytest_plugins = ["wandb_fixtures"]
pytestmark = pytest.mark.usefixtures("nobody")

HOME = Path("outputs/abl")
TABLES = {"compare/configurations", "compare/effects", "compare/runs"}
CHARTS = {"charts/by_configuration", "charts/against_params", "charts/learning_curves"}


def logged():
    return wandb_file.read(folder_of(HOME))


def test_one_run_of_the_group_with_tables_and_charts(outputs, cli):
    code, out, err = cli("compare", "--wandb")
    assert code == 0
    assert "3 configurations" in out
    assert err.splitlines()[-1] == "logged: outputs/abl/wandb; cnnbench sync outputs/abl uploads it"
    run = logged()
    assert (run.group, run.job_type, run.exit_code) == ("abl", "compare", 0)
    assert run.config["axes"] == ["arch.name", "ops.norm"]
    assert len(run.history) == 1
    assert {*TABLES, *(f"{chart}_table" for chart in CHARTS), "page"} <= run.summary.keys()
    assert {"figures/effect-ops-norm", "figures/test-acc-params"} <= run.summary.keys()
    assert run.config["_wandb"]["visualize"].keys() == CHARTS


def test_tables_hold_raw_values(outputs, cli):
    cli("compare", "--wandb")
    found = compare(read([HOME]))
    columns, rows = table(folder_of(HOME), "compare/configurations")
    assert columns[:5] == ["arch.name", "ops.norm", "n", "runs", "diverged"]
    by = {(row[0], row[1]): dict(zip(columns, row, strict=True)) for row in rows}
    accuracies = [run.summary()["test/acc"] for run in runs() if run.config()["ops"].get("norm") == "none"]
    assert by["basic", "none"]["n"] == 2
    assert by["basic", "none"]["test/acc"] == pytest.approx(fmean(accuracies))
    columns, rows = table(folder_of(HOME), "compare/effects")
    assert columns == [
        "axis",
        "value",
        "baseline",
        "family",
        "difference",
        "low",
        "high",
        "p",
        "pairs",
        "words",
    ]
    assert len(rows) == len(found.effects) > 0
    effect = next(e for e in found.effects if (e.axis, e.value) == ("ops.norm", "none"))
    (row,) = [row for row in rows if row[:2] == ["ops.norm", "none"]]
    assert row[2:4] == ["batch", "basic"]
    assert row[4:8] == pytest.approx([effect.size.mean, effect.size.low, effect.size.high, effect.p])
    assert row[8] == 2
    columns, rows = table(folder_of(HOME), "compare/runs")
    assert {row[0] for row in rows} == {run.path.name for run in runs()}
    assert all(row[columns.index("state")] == "finished" for row in rows)


def test_charts_are_drawn_from_the_figures(outputs, cli):
    cli("compare", "--wandb")
    folder = folder_of(HOME)
    columns, rows = table(folder, "charts/against_params_table")
    params = {run.summary()["params"] for run in runs()}
    assert {row[columns.index("parameters")] for row in rows} == params
    assert not any("." in column for column in columns), "a path, for Vega"
    columns, rows = table(folder, "charts/learning_curves_table")
    mlp = next(run for run in runs() if run.config()["arch"]["name"] == "mlp")
    key, value = columns.index("lineKey"), columns.index("lineVal")
    assert {row[key] for row in rows} == {"basic", "mlp"}
    expected = [100 * row["val/acc"] for row in mlp.rows()]
    assert [row[value] for row in rows if row[key] == "mlp"] == pytest.approx(expected)


def test_summary_is_the_best_configuration_on_val(outputs, cli):
    cli("compare", "--wandb", "--sort", "params")
    found = compare(read([HOME]))
    best = max(found.rows, key=lambda row: row.val)
    summary = logged().summary
    assert summary["best"] == " ".join(best.settings.values())
    assert summary["best/val_acc"] == pytest.approx(best.val)
    assert summary["test/acc"] == pytest.approx(best.score.mean)
    assert summary["best/arch.name"] == best.settings["arch.name"]
    assert (summary["runs"], summary["runs/finished"], summary["configurations"]) == (5, 5, 3)


def test_curves_of_one_family_are_by_configuration(outputs, cli):
    cli("compare", "arch=basic", "--wandb")
    columns, rows = table(folder_of(HOME), "charts/learning_curves_table")
    assert {row[columns.index("lineKey")] for row in rows} == {"batch", "none"}


def test_a_repeated_comparison_takes_the_place_of_the_earlier(outputs, server, cli):
    cli("compare", "--wandb")
    first = folder_of(HOME)
    time.sleep(1.1)  # W&B names its folders by the second
    shutil.rmtree(runs()[-1].path)
    cli("compare", "--wandb")
    second = folder_of(HOME)
    assert second != first
    assert wandb_file.read(second).summary["runs"] == 4
    assert cli("sync")[1].startswith("5 uploaded\n")
    (run,) = [run for run in server.runs.values() if run.told["jobType"] == "compare"]
    assert (run.told["groupName"], run.exit_code) == ("abl", 0)
    assert run.summary["runs"] == 4
    path = run.summary["compare/runs"]["path"]
    assert len(json.loads(run.files[path])["data"]) == 4
    page = (HOME / "wandb/url.txt").read_text().strip()
    assert page == f"{server.url}/me/cnnbench/runs/{run.name}"
    time.sleep(1.1)
    cli("compare", "--wandb")
    assert cli("sync")[1].startswith("1 uploaded, 4 already uploaded\n")
    assert run.summary["runs"] == 4, "the same run at W&B"
    (again,) = [run for run in server.runs.values() if run.told["jobType"] == "compare"]
    assert again is run


def test_only_the_comparison_of_what_was_asked_for_is_uploaded(outputs, server, cli):
    cli("compare", "--wandb")
    assert cli("sync", runs()[0].path)[1].startswith("1 uploaded\n")
    assert {run.told["jobType"] for run in server.runs.values()} == {"train"}


def test_online(outputs, server, cli):
    code, _, err = cli("compare", "--wandb", "--mode", "online", "--project", "p", "--entity", "me")
    assert code == 0
    (run,) = server.runs.values()
    assert (run.told["project"], run.told["groupName"], run.told["jobType"]) == ("p", "abl", "compare")
    assert run.exit_code == 0
    assert err.splitlines()[-1] == f"logged: {server.url}/me/p/runs/{run.name}"
    shown = {run.summary[key]["path"] for key in TABLES}
    assert shown <= set(run.files)
    assert len(run.history) == 1
    time.sleep(1.1)
    assert cli("compare", "--wandb", "--mode", "online", "--project", "p")[0] == 0
    assert list(server.runs.values()) == [run]
    steps = [row["_step"] for row in run.history]
    assert len({*steps}) == len(steps) == 2
    assert cli("sync", "--force")[0] == 0
    assert [row["_step"] for row in run.history] == steps
    assert cli("runs")[1].splitlines()[-1] == "5 runs, 5 finished"


def test_each_comparison_has_a_step_of_its_own(outputs, server, cli):
    """Logged and uploaded twice, W&B shows the second one last."""
    for runs_left in (5, 4):
        cli("compare", "--wandb")
        assert cli("sync", HOME / "wandb")[1].startswith("1 uploaded\n"), "the path that was printed"
        (run,) = server.runs.values()
        assert run.summary["runs"] == runs_left
        shutil.rmtree(runs()[-1].path)
        time.sleep(1.1)
    steps = [row["_step"] for row in run.history]
    assert len(steps) == 2
    assert steps[0] < steps[1]
    assert cli("sync", "--force", HOME / "wandb")[0] == 0
    assert [row["_step"] for row in run.history] == steps


@pytest.mark.parametrize(
    ("asked", "name", "only"),
    [
        (["ops.norm=batch"], "compare abl ops.norm=batch", ["ops.norm=batch"]),
        (["arch=basic", "seed=0"], "compare abl arch=basic seed=0", ["arch=basic", "seed=0"]),
        (["--by", "arch"], "compare abl --by arch", []),
        (["--baseline", "ops.norm=none"], "compare abl --baseline ops.norm=none", []),
    ],
)
def test_another_question_is_another_run(outputs, server, cli, asked, name, only):
    assert cli("compare", "--wandb", HOME)[0] == 0
    assert cli("compare", "--wandb", HOME, *asked)[0] == 0
    assert cli("compare", "--wandb", HOME, *reversed(asked) if only else asked)[0] == 0
    assert cli("sync", HOME / "wandb")[1].startswith("2 uploaded\n")
    told = {run.told["displayName"]: run for run in server.runs.values()}
    assert told.keys() == {"compare abl", name}
    assert told[name].config["only"]["value"] == only
    assert told["compare abl"].summary["runs"] == 5


def test_picked_runs_are_another_run(outputs, cli):
    picked = sorted(run.path.name for run in runs()[:2])
    assert cli("compare", "--wandb", *(HOME / name for name in picked))[0] == 0
    assert logged().config["only"] == picked


def test_a_server_out_of_reach_is_no_reason_to_lose_it(outputs, cli, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    start = time.monotonic()
    to_wandb.log(compare(read([HOME])), Target("online", init_timeout_s=1))
    assert time.monotonic() - start < 30
    assert folder_of(HOME).name.startswith("offline-run-")
    assert logged().exit_code == 0


def test_figures_and_page(outputs, tmp_path):
    import numpy as np
    from PIL import Image

    picture, page = tmp_path / "effects.png", tmp_path / "page.html"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    page.write_text("<!doctype html><p>ä</p>", encoding="utf-8")
    to_wandb.log(compare(read([HOME])), Target(), {"effects": picture}, page)
    summary, files = logged().summary, folder_of(HOME) / "files"
    assert (files / summary["figures/effects"]["path"]).read_bytes() == picture.read_bytes()
    assert (files / summary["page"]["path"]).read_text(encoding="utf-8") == page.read_text(encoding="utf-8")


def test_several_experiments(outputs, cli):
    shutil.copytree(HOME, "outputs/zoo", symlinks=True)
    for run in (Run(path.parent) for path in Path("outputs/zoo").glob("*/config.yaml")):
        edit(run, {"name": "zoo", "trainer.max_epochs": 3})
    cli("compare", "outputs", "--wandb")
    both = logged()
    assert both.group == "abl+zoo"
    cli("compare", "outputs/abl", "--wandb")
    wandb.teardown()  # see `folder_of`
    folders = list((HOME / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    assert {wandb_file.read(folder).group for folder in folders} == {"abl", "abl+zoo"}


def test_hostile_names_and_missing_figures(outputs):
    """Texts in a run's files are shown as text, whatever they contain."""
    nasty = 'a"b\\c|d\n<script>alert(1)</script>😀' + "x" * 300
    records = read([HOME])
    (first, *_) = runs()
    edit(first, {"name": nasty, "arch.name": nasty})
    (runs()[1].path / "summary.json").unlink()
    (runs()[2].path / "metrics.csv").write_text("epoch\nnonsense")
    found = compare(read([HOME]), Options())
    assert len(found.records) == len(records)
    to_wandb.log(found, Target())
    columns, rows = table(folder_of(found_home := to_wandb.home(found)), "compare/runs")
    assert found_home == HOME.resolve()
    assert nasty in {row[columns.index("arch.name")] for row in rows}


def test_nothing_finished(outputs, cli):
    for run in runs():
        run.write_status(run.status() | {"state": "failed"})
        (run.path / "summary.json").unlink()
    assert cli("compare", "--wandb")[0] == 0
    run = logged()
    assert run.summary["runs/failed"] == 5
    assert run.summary.keys() >= TABLES


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--wandb", "--mode", "onlin"], "error: --mode onlin: no such mode; did you mean online?"),
        (["--mode", "online"], "error: --mode: allowed with --wandb only"),
        (["--wandb", "--project", "a/b"], "error: --project a/b: allowed: 1 to 128 characters"),
        (["--wandb", "--entity", ""], "error: --entity : allowed: 1 to 128 characters"),
        (["--wandb", "--mode", "online"], "error: --mode online: no API key; run `wandb login`"),
    ],
)
def test_bad_input(outputs, cli, options, said):
    code, out, err = cli("compare", *options)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(said)
    assert not (HOME / "wandb").exists()


def test_a_folder_that_cannot_be_written(outputs, cli):
    (HOME / "wandb").write_text("in the way")
    code, _, err = cli("compare", "--wandb")
    assert code == 2
    assert err.splitlines()[-1] == f"error: --wandb: {HOME / 'wandb'}: cannot be written (File exists)"


def test_the_curve_over_a_setting_is_logarithmic_where_it_is_wide(tmp_path):
    runs = [make_run(tmp_path, lr=lr, val=0.5 + lr / 10) for lr in (0.001, 0.01, 0.1, 1.0)]
    found = charts(compare([record(run) for run in runs]))["charts/over_optimizer.lr"]
    assert [row[0] for row in found.table.data] == pytest.approx([-3, -2, -1, 0])
    assert [row[2] for row in found.table.data] == pytest.approx([50.01, 50.1, 51, 60])
    assert found.spec.string_fields["xname"] == "log10 optimizer.lr"
