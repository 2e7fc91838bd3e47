"""Filters of runs: KEY=VALUE is read, and its errors are worded, in one way for all verbs."""

import json

import pytest
from made_runs import make_run

from cnnbench import cli
from cnnbench.errors import InputError
from cnnbench.run_store.select import natural_order, parse_condition, select, select_runs

RUNS = [
    {"arch.name": "vgg11", "seed": "0", "state": "finished", "lr": "0.1"},
    {"arch.name": "vgg11", "seed": "1", "state": "failed", "lr": "0.01"},
    {"arch.name": "mlp", "seed": "0", "state": "finished", "batch_sizes": "[1, 8]"},
]


def chosen(*words, runs=RUNS, **options):
    selected, reason = select(runs, [parse_condition(word) for word in words], lambda run: run, **options)
    return [RUNS.index(run) for run in selected], reason


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [0, 1, 2]),
        (["arch=vgg11"], [0, 1]),
        (["arch.name=vgg11", "seed=0"], [0]),
        (["seed=0,1"], [0, 1, 2]),
        (["state=failed,finished", "arch=mlp"], [2]),
        (["lr=1e-1"], [0]),
        (["batch_sizes=auto,[1,8]"], [2]),
    ],
)
def test_conditions(words, expected):
    assert chosen(*words) == (expected, "")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["arch=vgg1"], "no run with arch=vgg1; did you mean vgg11? allowed: mlp, vgg11"),
        (
            ["seed=1", "state=finished"],
            "no run with seed=1 state=finished; did you mean failed? allowed: failed",
        ),
        (["arch=mlp", "lr=0.1"], "no run with arch=mlp lr=0.1; none of the remaining runs has lr"),
        (["seed=0", "seed=1"], "no run with seed=0 seed=1; allowed: 0"),
    ],
)
def test_a_condition_that_no_run_meets(words, reason):
    assert chosen(*words) == ([], reason)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["arc.name=9"], "arc.name=9: none of these runs has this setting; did you mean arch.name?"),
        (["zz=1"], "zz=1: none of these runs has this setting; those that differ here: arch, batch_sizes"),
        (["state=lost"], "state=lost: no such state; allowed: running, finished"),
        (["arch=nothing", "zzz=1"], "zzz=1: none of these runs has this setting"),
        (["=1"], "=1: allowed: KEY=VALUE"),
    ],
)
def test_a_wrong_condition_is_an_error_whatever_the_others_leave(words, error):
    with pytest.raises(InputError) as caught:
        chosen(*words)
    assert str(caught.value).startswith(error)
    assert type(caught.value) is InputError, "waiting for more runs does not mend it"


def test_settings_that_are_listed_can_be_given():
    with pytest.raises(InputError, match=r"those that differ here: arch, lr$"):
        chosen("zzz=1", differing=lambda: ["arch.name", "lr"])
    with pytest.raises(InputError, match=r"this setting; see config\.yaml$"):
        chosen("zzz=1", runs=RUNS[:1])


def test_runs_that_a_condition_does_not_concern_stay():
    assert chosen("lr=0.1", concerns=lambda run, key: "lr" in run) == ([0, 2], "")


def test_values_are_listed_in_their_order():
    values = ["b", "10", "2", "null", "a", "none"]
    assert natural_order(values) == ["none", "null", "2", "10", "a", "b"]


def test_a_filter_by_state_reads_no_configs(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    monkeypatch.setattr(type(run), "config", lambda self: pytest.fail("config.yaml was read"))
    assert select_runs([run], {run: "finished"}, [("state", "finished")]) == ([run], "")
    assert select_runs([run], {run: "finished"}, []) == ([run], "")


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["seed=0"], 3),
        (["seed=0,2", "arch=vgg11"], 2),
        (["state=finished"], 6),
        (["name=made"], 6),
        (["name=made,other", "state=finished"], 6),
        (["ops.norm=none,batch", "optimizer.lr=1e-1"], 6),
        (["data.num_workers=0"], 6),
        (["logger=none"], 6),
    ],
)
def test_runs_and_compare_take_the_same_conditions(tmp_path, capsys, words, count):
    for arch, seeds in (("vgg11", (0, 1, 2)), ("vgg13", (0, 1)), ("mlp", (0,))):
        for seed in seeds:
            make_run(tmp_path / "runs", arch=arch, seed=seed)
    assert cli.main(["runs", str(tmp_path), *words]) == 0
    assert f"\n{count} runs, {count} finished" in capsys.readouterr().out
    assert cli.main(["compare", str(tmp_path), *words, "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == count


@pytest.mark.parametrize("words", [["ops.nrm=none"], ["state=lost"], ["=x"], ["ops.norm=btch"]])
def test_runs_and_compare_word_errors_alike(tmp_path, capsys, words):
    """Only that no run meets a condition is no error for a verb that lists runs."""
    for norm in ("batch", "none"):
        make_run(tmp_path / "runs", norm=norm)
    code = cli.main(["runs", str(tmp_path), *words])
    listed = capsys.readouterr()
    assert cli.main(["compare", str(tmp_path), *words]) == 2
    message = capsys.readouterr().err.removeprefix("error: ")
    near = message.partition("those that differ here: ")[0]
    assert (code, listed.out + listed.err.removeprefix("error: ")) == (
        0 if words == ["ops.norm=btch"] else 2,
        message if near == message else f"{near}those that differ here: ops.norm\n",
    )
