"""`cnnbench bench`: durations, out of memory, the machine of a measurement, its identity, and parity."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from running import runs

from cnnbench.bench import memory, parity, roofline
from cnnbench.bench.launch import Killed
from cnnbench.bench.run import _or_exhausted, _spec
from cnnbench.errors import InputError
from cnnbench.run_store.run import Run
from cnnbench.settings.compose import CONF
from cnnbench.settings.identity import locate
from cnnbench.settings.parse import parse, plain
from cnnbench.training.device import resolve
from cnnbench.training.model import sketch

pytest_plugins = ["bench_fixtures"]

ONE = ["rounds=2", "round_s=0.001", "logger=none"]
BASIC = ["arch=basic", "arch.width=0.25", "arch.blocks=2", *ONE]

SLEEPER = """\
import time
from torch import nn


class Sleeper(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        time.sleep(0.02)
        return self.linear(x.flatten(1))


def sleeper(num_classes):
    return Sleeper()
"""

HEAVY = """\
import torch
from torch import nn


class Heavy(nn.Module):
    \"\"\"A weight of 32 MiB, which has a gradient and a momentum of as much.\"\"\"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8 * 2**20))

    def forward(self, x):
        return x.flatten(1)[:, :10] * self.weight.mean()


def heavy(num_classes):
    return Heavy()
"""

STUCK = """\
import torch
from torch import nn


class Stuck(nn.Module):
    \"\"\"Right logits, but in bfloat16 no gradient comes through.\"\"\"

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        y = self.linear(x.flatten(1))
        return y.detach() + 0 * y if torch.is_autocast_enabled("cpu") else y


def stuck(num_classes):
    return Stuck()
"""


def measured():
    (path,) = runs()
    return Run(path).summary()


@pytest.mark.slow
def test_durations_are_those_of_the_model(cli, own):
    """A model that sleeps 20 ms, whatever the batch: no time is in another unit, halved or counted twice."""
    code, _, err = cli("bench", *own(SLEEPER, "sleeper"), *ONE, "batch_sizes=[1,4]")
    assert code == 0, err
    summary = measured()
    assert 20 <= summary["time/latency_p50_ms"] < 2000
    assert 4 / 2 < summary["time/inference_images_per_s"] <= 4 / 0.02
    assert 4 / 2 < summary["time/training_images_per_s"] <= 4 / 0.02
    assert summary["time/inference_batch"] == summary["time/training_batch"] == 4


@pytest.mark.slow
def test_weights_stay_float32_in_mixed_precision(cli):
    code, _, err = cli("bench", "arch=mlp", *ONE, "batch_sizes=[2]", "device.precision=bf16")
    assert code == 0, err
    model, shape, _, facts = sketch(settings("arch=mlp"))
    numbers, weights = roofline.traffic(model, shape)
    expected = 2 * 2 * facts["macs"] / (2 * 2 * numbers + 4 * weights)
    assert measured()["roofline/flop_per_byte"] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_training_memory_counts_the_same_for_each_backend(cli, own):
    group = own(HEAVY, "heavy")
    for backend in ("eager", "compile"):
        code, _, err = cli("bench", *group, *ONE, "batch_sizes=[2]", f"backend={backend}")
        assert code == 0, err
    for path in runs():
        activations_mb = Run(path).summary()["memory/training_activations_mb"]
        assert activations_mb > 0.95 * 2 * 32 * 2**20 / 1e6, path


# --- memory that is not there -------------------------------------------------------------------


def test_auto_that_fits_nowhere_is_no_measurement(cli):
    code, _, err = cli("bench", *BASIC, "batch_sizes=auto", "data.size=96", "memory_limit_gb=0.001")
    assert code == 1
    message = "batch_sizes=auto: out of memory at 1, in training at 4"
    assert f"error: {message}; allowed: batches that fit memory_limit_gb=0.001; see " in err
    (path,) = runs()
    assert Run(path).state == "failed"


@pytest.mark.parametrize(
    "message", ["CUDA error: CUBLAS_STATUS_ALLOC_FAILED", "CUDA out of memory", "bad_alloc"]
)
def test_what_libraries_say_of_memory(message):
    assert memory.exhausted(RuntimeError(message))
    assert not memory.exhausted(RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED"))


def test_a_limit_that_cannot_be_kept_is_refused():
    memory.check(None, "gpu")
    with pytest.raises(InputError, match=r"memory_limit_gb=1.0: can be enforced only for the CPU on Linux"):
        memory.check(1.0, "gpu")


# --- whose machine it was -----------------------------------------------------------------------


def test_machines_are_told_apart(cli):
    """Machines are an axis of a table; rerun on another one, the command names that of the stored result."""
    assert cli("bench", *BASIC, "batch_sizes=[1]")[0] == 0
    (here,) = runs()
    model = Run(here).status()["device"]["model"]
    assert model
    assert model != "unknown"
    there = Path("elsewhere") / here.name
    shutil.copytree(here, there)
    status = Run(there).status()
    Run(there).write_status(status | {"device": status["device"] | {"model": "a slow one"}})
    code, out, _ = cli("compare", "outputs", "elsewhere", "--json", "-")
    assert code == 0
    models = [row["settings"]["device.model"] for row in json.loads(out)["rows"]]
    assert sorted(models) == sorted([model, "a slow one"])
    Run(here).write_status(status | {"host": "laptop"})
    code, _, err = cli("bench", *BASIC, "batch_sizes=[1]")
    assert code == 0
    assert f"it was measured on another machine, laptop ({model})" in " ".join(err.split())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arch.weights=imagenet"], "arch.weights=imagenet: bench measures initial weights"),
        (["trainer.max_epochs=3"], "trainer.max_epochs=3: bench does not use it"),
        (["data.batch_size=16"], "data.batch_size=16: bench does not use it; allowed: batch_sizes=[…]"),
        (["data=cifar10", "arch.in_channels=1"], "arch.in_channels=1: the images of cifar10 have 3"),
    ],
)
def test_what_would_be_ignored_is_refused(cli, overrides, message):
    code, _, err = cli("bench", *BASIC, *overrides)
    assert code == 2
    assert message in err
    assert not runs()


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU, nothing is refused")
def test_a_sweep_is_refused_before_its_first_measurement(cli):
    """Half of the runs are impossible here; the preflight reports it, not the first that fails."""
    code, _, err = cli("bench", "-m", *BASIC, "device=cpu,gpu", "batch_sizes=[1]")
    assert code == 2
    assert "device.accelerator=gpu: not available here; allowed: cpu" in err
    assert not runs()
    assert not Path("outputs/bench").exists()


@pytest.mark.slow
def test_a_run_on_folders_is_measured_without_its_images(cli):
    for split in ("train", "test"):
        for name in ("ape", "bee", "cow"):
            folder = Path("photos", split, name)
            folder.mkdir(parents=True)
            for i in range(20):
                Image.new("RGB", (12, 12), (i, 9 * i, 99)).save(folder / f"{i}.png")
    data = ["data=imagefolder", "data.root=photos", "data.size=16", "data.batch_size=4"]
    code, _, err = cli("train", *BASIC[:3], "logger=none", *data, "trainer.max_epochs=1")
    assert code == 0, err
    (trained,) = runs()
    shutil.rmtree("photos")
    code, _, err = cli("bench", f"of={trained}", *ONE, "batch_sizes=[1]")
    assert code == 0, err
    (path,) = [one for one in runs() if one != trained]
    assert Run(path).summary()["params"] == Run(trained).summary()["params"]
    (row,) = json.loads(cli("compare", "outputs", "--json", "-")[1])["rows"]
    assert row["figures"]["latency_p50_ms"] == Run(path).summary()["time/latency_p50_ms"]


def test_of_a_folder_the_number_of_classes_counts(tmp_path):
    for root, names in (("two", "ab"), ("three", "abc"), ("others", "xy")):
        for name in names:
            (tmp_path / root / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / root / name / "1.png")
    paths = {
        root: locate(settings("data=imagefolder", f"data.root={tmp_path / root}", "data.size=16"))
        for root in ("two", "three", "others")
    }
    assert paths["two"] != paths["three"], "another last layer"
    assert paths["two"] == paths["others"]
    with pytest.raises(InputError, match=r"data\.root=nowhere: no such folder"):
        settings("data=imagefolder", "data.root=nowhere")


@pytest.mark.parametrize(
    ("made", "same", "other"),
    [
        (
            ["backend=onnxruntime"],
            ["optimizer=adam", "device.memory_format=contiguous"],
            ["device.threads=1"],
        ),
        (["parity=true"], ["optimizer=adam", "batch_sizes=[2]", "device.precision=bf16"], ["seed=1"]),
        (["tune=true"], ["device.memory_format=contiguous"], ["optimizer=adam"]),
        (["backend=compile"], [], ["optimizer=adam", "device.memory_format=contiguous"]),
    ],
)
def test_what_changes_nothing_makes_no_other_measurement(made, same, other):
    first = locate(settings(*made))
    assert {locate(settings(*made, word)) for word in same} <= {first}
    assert first not in {locate(settings(*made, word)) for word in other}


def test_an_axis_that_changes_nothing_is_refused(cli):
    code, _, err = cli("bench", "-m", *ONE, "backend=onnxruntime", "optimizer=sgd,adam", "batch_sizes=[1]")
    assert (code, runs()) == (2, [])
    assert "optimizer=sgd,adam: does not change the run" in err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_process_that_the_system_ends_while_it_times_is_out_of_memory(monkeypatch, number):
    """So that results of earlier batch sizes are kept."""

    def killed(spec, report):
        raise Killed("time: batch 4096", number)

    monkeypatch.setattr("cnnbench.bench.run.measure", killed)
    assert _or_exhausted(None, print) == {"error": "out of memory"}
    monkeypatch.setattr("cnnbench.bench.run.measure", lambda spec, report: {"batch": 1})
    assert _or_exhausted(None, print) == {"batch": 1}


# --- what counts as equal -----------------------------------------------------------------------


@pytest.mark.slow
def test_no_gradient_is_not_the_same(cli, own):
    """The relative error of a zero gradient is 1, within the tolerance of bfloat16."""
    code, _, err = cli("bench", *own(STUCK, "stuck"), "parity=true", "logger=none")
    assert code == 1
    assert "cpu eager bf16-mixed channels_last: gradient has another direction (cosine 0.00)" in err
    assert "32-true contiguous" not in err


def test_cosine():
    a = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert parity.cosine(2 * a, a) == pytest.approx(1)
    assert parity.cosine(torch.tensor([4.0, -3.0]), a) == pytest.approx(0)
    assert parity.cosine(torch.zeros(2), a) == 0


@pytest.mark.slow
def test_parity_of_a_run_for_a_gpu(tmp_path):
    """The reference is on the CPU whatever the device, also for one without float64."""
    bench = settings("arch=basic", "arch.width=0.25", "arch.blocks=2", "parity=true")
    shape, classes = (1, 8, 8), 10
    here = _spec(bench, resolve(bench.device), shape, classes, tmp_path)
    other = replace(here, device=here.device | {"accelerator": "gpu", "precision": "16-mixed"})
    summary, _, problem = parity.parity(other, lambda phase: None)
    assert problem is None
    conditions = {key.split("/")[1] for key in summary if key.count("/") == 2}
    assert {"cpu eager 32-true contiguous", "cpu compile 32-true channels_last"} <= conditions
    assert "cpu onnxruntime 32-true" in conditions


def settings(*overrides):
    """The settings of `cnnbench bench` with overrides."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(CONF, version_base="1.3"):
        return parse(plain(compose("bench", list(overrides))))
