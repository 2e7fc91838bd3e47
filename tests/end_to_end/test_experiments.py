"""Experiments: each header states question and cost, and every cell can be trained."""

import re
from itertools import product
from math import prod
from pathlib import Path

import pytest
import torch
import yaml
from cells import composed
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from cnnbench.errors import OpsError
from cnnbench.settings.compose import CONF
from cnnbench.settings.parse import parse
from cnnbench.training import model

FILES = sorted(Path(CONF, "experiment").glob("*.yaml"))
ABLATIONS = [
    path
    for path in FILES
    if path.stem not in ("quickstart", "seeds", "tune", "lr_range", "devices", "batchnorm_study")
]
VERBS = {"devices": "bench"}
names = pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)


def axes(path):
    """Return the values of each setting that an experiment sweeps."""
    params = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]
    return {key: values(str(text)) for key, text in params.items()}


def skips(path):
    """Return whether an experiment leaves out cells that are refused."""
    return yaml.safe_load(path.read_text()).get("sweep", {}).get("on_refused") == "skip"


def cost(path):
    """Return the number of runs that the header states."""
    return int(re.search(r"# Cost: (\d+) runs", path.read_text())[1])


def values(text):
    """Return the values of `a,b` or `range(3)`, and the factors of `${multiples:${optimizer.lr},a,b}`."""
    if match := re.fullmatch(r"\$\{multiples:\$\{[\w.]+\},(.*)\}", text):
        text = match[1]
    if match := re.fullmatch(r"range\((\d+)\)", text):
        return [str(i) for i in range(int(match[1]))]
    return text.split(",")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_header_says_what_it_is_about(path):
    text = path.read_text()
    command = f"cnnbench {VERBS.get(path.stem, 'train')} -m experiment={path.stem}"
    for line in ("# Question: ", "# Cost: ", "# Expected: ", command):
        assert line in text
    assert yaml.safe_load(text)["name"] == path.stem
    sweeper = yaml.safe_load(text)["hydra"]["sweeper"]
    runs = sweeper.get("n_trials") or prod(len(values) for values in axes(path).values())
    assert cost(path) == runs or (skips(path) and cost(path) < runs)


@names
def test_ablations_tune_the_learning_rate_and_repeat_seeds(path):
    assert yaml.safe_load(path.read_text())["select"] == ["optimizer.lr"]
    assert len(axes(path)["optimizer.lr"]) >= 2
    assert len(axes(path)["seed"]) >= 3


@names
@pytest.mark.parametrize(
    ("channels", "size"),
    [(1, 8), pytest.param(1, 28, marks=pytest.mark.slow), pytest.param(3, 32, marks=pytest.mark.slow)],
)
def test_every_cell_can_be_trained(path, channels, size):
    """With the image sizes of digits, Fashion-MNIST and CIFAR-10, at the width of the small budget.

    Those that are to be skipped are not in the cost; on larger images fewer are.
    """
    swept = {key: values for key, values in axes(path).items() if key not in ("optimizer.lr", "seed")}
    fixed = {key: yaml.safe_load(path.read_text()).get(key, {}) for key in ("ops", "arch")}
    trained = 0
    for values in product(*swept.values()):
        cell = dict(zip(swept, values, strict=True))
        plain = composed(cell.pop("arch"))
        sections = {key: plain[key] | fixed[key] for key in fixed}
        sections["arch"] |= {"width": 0.25}
        for key, value in cell.items():
            section, name = key.split(".")
            sections[section] = sections[section] | {name: yaml.safe_load(value)}
        with torch.device("meta"):
            settings = parse(plain | sections)
            try:
                model.make(settings, (channels, size, size), 10, 64)
                trained += 1
            except OpsError:
                assert skips(path), cell
    runs = trained * len(axes(path)["optimizer.lr"]) * len(axes(path)["seed"])
    assert runs == cost(path) or (skips(path) and size > 8 and runs > cost(path))


@names
def test_budgets_are_one_setting(path, cli):
    for budget, width, limit in (("small", 0.25, 1500), ("full", 1.0, None)):
        extra = [] if budget == "small" else ["budget=full"]
        code, out, _ = cli("train", f"experiment={path.stem}", *extra, "--cfg", "job")
        config = yaml.safe_load(out)
        assert code == 0
        assert (config["arch"]["width"], config["data"]["limit"]) == (width, limit)


@pytest.mark.slow
@names
def test_the_experiment_runs(path, cli):
    """Train every cell for one epoch, with one learning rate and one seed."""
    values = {k: v for k, v in axes(path).items() if k not in ("optimizer.lr", "seed")}
    tiny = ["optimizer.lr=0.05", "seed=0", "trainer.max_epochs=1", "data.limit=100", "data.limit_test=50"]
    code, out, err = cli("train", "-m", f"experiment={path.stem}", *tiny, "arch.width=0.125", "logger=none")
    assert code == 0, err
    runs = cost(path) // (len(axes(path)["optimizer.lr"]) * len(axes(path)["seed"]))
    assert f"{runs} runs in outputs/{path.stem}: " in out
    for value in set().union(*values.values()) - {"native"}:
        assert value in out


@pytest.mark.slow
def test_the_search_runs(cli):
    tiny = ["trainer.max_epochs=1", "data.limit=100", "data.limit_test=50", "logger=none", "arch=basic"]
    code, out, err = cli("train", "-m", "experiment=tune", *tiny, "hydra.sweeper.n_trials=2")
    assert code == 0, err
    assert "best of 2 finished trials" in out
    for key in ("optimizer.lr", "optimizer.weight_decay", "arch.width", "trainer.label_smoothing"):
        assert f"{key}=" in out


@pytest.mark.parametrize(
    ("words", "rates"),
    [
        ([], "0.001,0.003,0.01,0.03,0.1,0.3,1"),
        (["optimizer=adamw"], "2e-05,6e-05,0.0002,0.0006,0.002,0.006,0.02"),
        (["arch=vgg16"], "5e-05,0.00015,0.0005,0.0015,0.005,0.015,0.05"),
    ],
)
def test_the_grid_of_rates_is_around_the_default_of_the_optimizer(words, rates):
    GlobalHydra.instance().clear()
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose("train", ["experiment=lr_range", *words], return_hydra_config=True)
    assert config.hydra.sweeper.params["optimizer.lr"] == rates


def test_a_rate_is_found_although_one_diverges(cli):
    """Real trainings of four rates: the picture has all of them, and the last line says which to use."""
    tiny = ["arch=basic", "seed=0", "trainer.max_epochs=1", "data.limit=400", "data.limit_test=50"]
    rates = "optimizer.lr=0.0001,0.03,0.1,1e30"
    code, out, err = cli("train", "-m", "experiment=lr_range", *tiny, rates, "logger=none")
    assert code == 0, err
    assert "4 runs in outputs/lr_range: 3 finished, 1 diverged" in out
    said = " ".join(out.split())
    assert re.search(r"optimizer.lr: best at (0.03|0.1) \(val acc [\d.]+ %\)", said)
    assert "diverged: runs at 1e+30; to use it: optimizer.lr=0." in said
    page = Path("outputs/lr_range/compare.html").read_text()
    assert '"axis":"optimizer.lr","metric":"best/val_acc","logarithmic":true,"joined":true' in page
