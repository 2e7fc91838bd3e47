"""The table that ends a sweep: seeds pooled, tuned settings chosen on val, nothing left out silently."""

import json

import pytest
import yaml

from cnnbench.compare import words
from cnnbench.compare.comparison import Options, compare
from cnnbench.compare.records import record
from cnnbench.runs import Run


@pytest.fixture
def run(tmp_path):
    """`run(val=…, test=…, state=…, arch=…, …)`: a run's folder with these figures and settings."""

    def make(
        val=0.9, test=0.8, state="finished", seed=0, lr=0.1, arch="vgg11", norm="batch", act="relu", **more
    ):
        path = tmp_path / f"{arch}-{norm}-{act}-{lr}-{seed}-{more}"
        path.mkdir()
        config = {
            "arch": {"name": arch, "target": arch.upper(), **more},
            "ops": {"norm": norm, "act": act},
            "optimizer": {"lr": lr},
            "data": {"name": "digits"},
            "seed": seed,
        }
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        (path / "status.json").write_text(json.dumps({"state": state, "attempts": [], "device": {}}))
        figures = {"best/val_acc": val, "test/acc": test, "params": 1000, "macs": 1000}
        (path / "summary.json").write_text(json.dumps(figures if state == "finished" else {}))
        return Run(path)

    return make


def rows(runs, select=()):
    """Headers and cells of the table."""
    headers, cells = words.table(compare([record(run) for run in runs], Options(select=select)))
    return [headers, *cells]


def test_the_rate_is_chosen_on_val_within_each_cell(run):
    runs = [
        run(norm="batch", lr=0.1, val=0.9, test=0.5),
        run(norm="batch", lr=0.01, val=0.8, test=0.99),
        run(norm="none", lr=0.1, val=0.1, test=0.99),
        run(norm="none", lr=0.01, val=0.7, test=0.6),
    ]
    header, *found = rows(runs, ["optimizer.lr"])
    assert header[:2] == ["ops.norm", "optimizer.lr"]
    assert [row[:5] for row in found] == [
        ["batch", "0.1", "1", "50.00 [one run]", "90.00"],
        ["none", "0.01", "1", "60.00 [one run]", "70.00"],
    ]
    assert len(rows(runs)) == 5


def test_the_choice_is_made_on_the_mean_over_seeds(run):
    runs = [run(lr=0.1, seed=s, val=v) for s, v in enumerate((0.99, 0.5, 0.5))]
    runs += [run(lr=0.01, seed=s, val=0.7) for s in range(3)]
    runs += [run(lr=lr, norm="none", seed=s, val=0.2) for lr in (0.1, 0.01) for s in range(3)]
    assert rows(runs, ["optimizer.lr"])[1][:3] == ["batch", "0.01", "3"]


def test_a_rate_with_which_seeds_diverged_is_not_chosen(run):
    runs = [run(lr=0.1, seed=0, val=0.99), run(lr=0.1, seed=1, state="diverged")]
    runs += [run(lr=0.01, seed=s, val=0.7) for s in range(2)]
    runs += [run(lr=0.1, norm="none", seed=s, state="diverged") for s in range(2)]
    found = rows(runs, ["optimizer.lr"])[1:]
    assert [*found[0][:3], found[0][4]] == ["batch", "0.01", "2", "70.00"]
    assert found[1][:3] == ["none", "0.1", "0 of 2 (2 diverged)"], "what diverged everywhere is still a row"


def test_what_is_native_follows_from_the_architecture(run):
    """An axis is a column where it differs within an architecture, not where architectures differ by it."""
    natives = [run(arch="resnet18"), run(arch="mobilenet_v2", act="relu6")]
    assert rows(natives)[0][:2] == ["arch", "n"]
    ablated = [*natives, run(arch="resnet18", act="gelu")]
    assert rows(ablated)[0][:3] == ["arch", "ops.act", "n"]


def test_a_setting_of_an_architecture_is_a_column_where_it_was_swept(run):
    """What follows from the name is not: each architecture has its own target, but both have two heads."""
    runs = [run(arch=arch, head=head) for arch in ("vgg11", "alexnet") for head in ("flatten", "gap")]
    assert rows(runs)[0][:3] == ["arch", "arch.head", "n"]
