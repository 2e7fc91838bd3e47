"""Search by Optuna: spaces, resumed studies, trials that fail or are pruned."""

import signal
import subprocess
from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from running import TINY, command, epochs, kill_when, runs

from cnnbench.errors import InputError
from cnnbench.run_store.find import find
from cnnbench.settings.base import options
from cnnbench.sweeps.optuna_search import OptunaOptions
from cnnbench.sweeps.search_space import space

SEARCH = ["-m", "hydra/sweeper=optuna", *TINY, "name=o", "device.threads=1"]


def study():
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend("outputs/o/study.log")
    )
    return optuna.load_study(study_name="o", storage=storage)


def states():
    return [trial.state.name for trial in study().trials]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=interval(0.1,1)", FloatDistribution(0.1, 1.0)),
        ("lr=tag(log,interval(0.001,1.0))", FloatDistribution(0.001, 1.0, log=True)),
        ("n=int(interval(1,8))", IntDistribution(1, 8)),
        ("n=tag(log,int(interval(1,8)))", IntDistribution(1, 8, log=True)),
        ("n=range(1,8,3)", IntDistribution(1, 7, step=3)),
        ("x=range(0.0,1.0,0.25)", FloatDistribution(0.0, 1.0, step=0.25)),
        ("arch=basic,mlp", CategoricalDistribution(["basic", "mlp"])),
        ("x=null,true,0.5,'a b'", CategoricalDistribution(["null", "True", "0.5", "'a b'"])),
    ],
)
def test_spaces(text, expected):
    searched, fixed = space(OverridesParser.create().parse_overrides([text, "seed=3"]))
    assert list(searched.values()) == [expected]
    assert fixed == ["seed=3"]


def test_the_command_line_overrides_the_space_of_the_experiment():
    parsed = OverridesParser.create().parse_overrides(
        ["lr=interval(0.1,1)", "w=1,2", "lr=0.5", "w=interval(0,1.0)"]
    )
    searched, fixed = space(parsed)
    assert searched == {"w": FloatDistribution(0, 1.0)}
    assert fixed == ["lr=0.5"]


def test_an_invalid_range():
    with pytest.raises(InputError, match="interval"):
        space(OverridesParser.create().parse_overrides(["lr=tag(log,interval(-1.0,1.0))"]))


def test_a_study_learns_ends_and_is_extended(cli):
    overrides = [*SEARCH, "optimizer.lr=tag(log,interval(0.001,0.5))", "arch.kernel=3,5"]
    code, out, err = cli("train", *overrides, "hydra.sweeper.n_trials=3", "hydra.sweeper.at_once=2")
    assert code == 0, err
    assert states() == ["COMPLETE"] * 3
    by_name = {run.path.name: run for run in find(Path("outputs"))}
    for trial in study().trials:
        run = by_name[trial.user_attrs["run"]]
        assert trial.value == run.summary()["best/val_acc"]
        assert run.config()["optimizer"]["lr"] == float(f"{trial.params['optimizer.lr']:.4g}")
        assert str(run.config()["arch"]["kernel"]) == trial.params["arch.kernel"]
    best = study().best_trial
    assert f"best of 3 finished trials: best/val_acc {best.value:.4f}" in out
    assert best.user_attrs["run"] in out
    code, out, err = cli("train", *overrides, "hydra.sweeper.n_trials=5", "hydra.sweeper.at_once=2")
    assert code == 0, err
    assert "resuming the study: 3 of 5 trials are done" in err
    assert states() == ["COMPLETE"] * 5
    assert len({tuple(trial.params.values()) for trial in study().trials}) == 5
    assert "trials 4 to 5 of 5" in err
    assert all(run.path.name in out for run in find(Path("outputs"))), "including those of the first launch"
    code, out, err = cli("train", *overrides, "hydra.sweeper.n_trials=5")
    assert code == 0, err
    assert "best of 5" in out
    assert len(find(Path("outputs"))) == 5
    assert all(run.path.name in out for run in find(Path("outputs")))
    assert {run.status()["device"]["threads"] for run in find(Path("outputs"))} == {1}


def test_a_study_has_one_base(cli):
    """Trials with other settings are not comparable with the existing ones."""
    overrides = [*SEARCH, "optimizer.lr=tag(log,interval(0.001,0.5))", "arch.kernel=3,5"]
    overrides.append("hydra.sweeper.n_trials=1")
    assert cli("train", *overrides)[0] == 0
    for changed, named in (
        ("trainer.max_epochs=3", "trainer.max_epochs was 2 and is 3"),
        ("hydra.sweeper.metric=best/val_loss", "hydra.sweeper.metric was best/val_acc"),
        ("arch.kernel=3", "searched was optimizer.lr, arch.kernel and is optimizer.lr"),
    ):
        code, _, err = cli("train", *overrides, changed, "hydra.sweeper.n_trials=2")
        assert code == 2
        assert named in " ".join(err.split())
    assert len(runs()) == 1
    wider = [word.replace("0.5", "0.9") for word in overrides]
    assert cli("train", *wider, "hydra.sweeper.n_trials=2")[0] == 0, "a range may change"
    assert len(runs()) == 2


def test_a_trial_that_diverges_or_fails_does_not_end_the_study(cli):
    overrides = [*SEARCH, "optimizer.lr=0.1,1e30", "hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=6"]
    code, out, err = cli("train", *overrides)
    assert code == 0, err
    assert sorted(set(states())) == ["COMPLETE", "FAIL"]
    assert {t.user_attrs.get("failed") for t in study().trials if t.state.name == "FAIL"} == {"diverged"}
    assert "finished trials" in out


@pytest.mark.slow
def test_a_killed_study_is_resumed(cli):
    overrides = [
        *SEARCH,
        "optimizer.lr=tag(log,interval(0.001,0.5))",
        "trainer.max_epochs=15",
        "data.limit=600",
    ]
    overrides += ["hydra.sweeper.n_trials=2", "hydra.sweeper.at_once=2"]
    driver = subprocess.Popen(
        command("train", *overrides), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    kill_when(driver, lambda: sum(epochs(run) >= 2 for run in runs()) == 2, signal.SIGKILL)
    assert states() == ["RUNNING"] * 2
    code, _, err = cli("train", *overrides)
    assert code == 0, err
    assert sorted(states()) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"], "unfinished trials are queued again"
    assert len(find(Path("outputs"))) == 2, "the same two runs were resumed"
    assert all(len(run.status()["attempts"]) == 2 for run in find(Path("outputs")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "direction"), [("acc", "maximize"), ("loss", "minimize"), ("ece", "minimize")]
)
def test_the_pruner_sees_what_is_optimised(metric, direction):
    shipped = options(
        OptunaOptions,
        {
            "n_trials": 1,
            "metric": f"best/val_{metric}",
            "sampler": "tpe",
            "pruner": "none",
            "at_once": None,
            "seed": 0,
            "params": {},
        },
        "hydra.sweeper",
    )
    assert (shipped.column, shipped.direction) == (f"val/{metric}", direction)


@pytest.mark.slow
def test_pruning(cli):
    """Bad trials are pruned; their runs are kept, and can be resumed by themselves."""
    overrides = [
        *SEARCH,
        "hydra.sweeper.pruner=median",
        "hydra.sweeper.at_once=1",
        "hydra.sweeper.sampler=random",
    ]
    recipe = ["data.limit=600", "trainer.max_epochs=30", "scheduler=constant"]
    good = ["optimizer.lr=interval(0.05,0.06)", "seed=1,2,3,4,5,6,7"]
    assert cli("train", *overrides, *recipe, *good, "hydra.sweeper.n_trials=7")[0] == 0
    bad = ["optimizer.lr=interval(0.000001,0.000002)", "seed=1,2,3,4,5,6,7"]
    code, out, err = cli("train", *overrides, *recipe, *bad, "hydra.sweeper.n_trials=8")
    assert code == 0, err
    assert states()[-1] == "PRUNED"
    name = study().trials[-1].user_attrs["run"]
    (run,) = [run for run in find(Path("outputs")) if run.path.name == name]
    assert run.state == "pruned"
    assert 1 <= len(run.rows()) < 30
    assert "pruned" in out
    same = [f"optimizer.lr={run.config()['optimizer']['lr']}", f"seed={run.config()['seed']}"]
    assert cli("train", *TINY, *recipe, *same, "name=o", "device.threads=1")[0] == 0
    assert run.state == "finished"
    assert len(run.rows()) == 30


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["seed=1"], ["nothing to search"]),
        (["seed=1,2", "hydra.sweeper.metric=test/acc"], ["hydra.sweeper.metric=test/acc", "best/val_acc"]),
        (["seed=1,2", "hydra.sweeper.n_trials=0"], ["hydra.sweeper.n_trials=0"]),
        (["seed=1,2", "hydra.sweeper.sampler=best"], ["hydra.sweeper.sampler=best", "tpe"]),
        (["seed=1,2", "hydra.sweeper.trials=3"], ["hydra.sweeper.trials", "did you mean n_trials?"]),
        (["optimizer.lr=interval(-1.0,-0.5)"], ["optimizer.lr", "greater than 0"]),
        (["seed=1,2", "hydra/launcher=basic"], ["hydra/launcher", "local, slurm and ray"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input(cli, overrides, named):
    code, _, err = cli("train", *SEARCH, *overrides)
    assert code == 2, err
    assert err.count("error:") == 1
    for part in named:
        assert part in err
    assert not runs()
