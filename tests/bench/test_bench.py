"""`cnnbench bench`: measurements, their output, and refused settings."""

import json
import math
from pathlib import Path
from statistics import median

import pytest
import torch
from running import runs
from torch import nn

from cnnbench.bench import roofline
from cnnbench.bench.timing import LEAST, WARM_UP, Durations, in_turn
from cnnbench.run_store.run import Run

pytest_plugins = ["bench_fixtures"]

QUICK = ["arch=mlp", "arch.hidden=[8]", "rounds=2", "round_s=0.001", "logger=none"]
BASIC = ["arch=basic", "arch.width=0.25", "arch.blocks=2", "rounds=2", "round_s=0.001", "logger=none"]

KNOWN = """\
import torch
from torch import nn


class Known(nn.Module):
    \"\"\"Holds three maps of 32 MiB at a time; its one weight has another 32 MiB.\"\"\"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8 * 2**20))

    def forward(self, x):
        held = [torch.ones(8 * 2**20, dtype=torch.float32, device=x.device) for _ in range(3)]
        return x.flatten(1)[:, :10] * sum(one[0] for one in held) * self.weight[0]


def known(num_classes):
    return Known()
"""

OTHERWISE = """\
import torch
from torch import nn


class Otherwise(nn.Module):
    \"\"\"Computes something else in float32 than in float64.\"\"\"

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(x.flatten(1)) * (1.01 if x.dtype == torch.float32 else 1)


def otherwise(num_classes):
    return Otherwise()
"""


def test_a_measurement_is_a_run(cli):
    code, out, err = cli("bench", *BASIC, "batch_sizes=[1,4]")
    assert code == 0, err
    (path,) = runs()
    run, summary = Run(path), Run(path).summary()
    assert path.name.startswith("basic-digits-eager-s0-")
    assert (run.state, run.verb) == ("finished", "bench")
    assert summary["time/latency_p50_ms"] <= summary["time/latency_p95_ms"] <= summary["time/latency_p99_ms"]
    assert summary["params"] == json.loads(cli("inspect", "--json", *BASIC[:3])[1])["params"]
    assert summary["memory/weights_mb"] == pytest.approx(4 * summary["params"] / 1e6)
    assert summary["time/flops"] == pytest.approx(
        2 * summary["macs"] * summary["time/inference_images_per_s"]
    )
    assert 0 < summary["time/matmul_flops"] <= summary["time/ceiling_flops"]
    assert summary["time/share_of_matmul"] == pytest.approx(
        summary["time/flops"] / summary["time/matmul_flops"]
    )
    assert summary["time/share_of_roofline"] >= summary["time/flops"] / summary["time/ceiling_flops"]
    assert 0 <= summary["noise/others_cpu"] <= 1
    rows = run.rows()
    assert [row["batch"] for row in rows] == [1, 4]
    for row in rows:
        assert row["images_per_s"] == pytest.approx(1e3 * row["batch"] / row["p50_ms"])
        assert row["calls"] >= 2 * LEAST
        assert row["process_mb"] > row["activations_mb"] >= 0
    assert math.isnan(rows[0]["training_images_per_s"]), "one image has no batch statistics"
    assert rows[1]["training_images_per_s"] > 0
    assert "latency" in out
    assert "images/s" in out

    again, _, said = cli("bench", *BASIC, "batch_sizes=[1,4]", "rounds=5")
    assert again == 0
    assert "already finished" in said
    assert "force=true measures it again" in said
    assert "it was measured with rounds=2\n" in said
    again, _, said = cli("bench", "-m", *BASIC, "batch_sizes=[1,4]", "rounds=5")
    assert again == 0
    assert "1 run: 1 done; 1 of those measured with rounds=2\n" in said
    assert len(runs()) == 1

    code, out, _ = cli("compare", "outputs", "--json", "-")
    (row,) = json.loads(out)["rows"]
    assert code == 0
    assert row["score"]["mean"] == summary["time/latency_p50_ms"]
    assert row["command"].startswith("cnnbench bench ")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backend=tensorrt"], "backend=tensorrt: should be 'eager'"),
        (["batch_sizes=[8,1]"], "batch_sizes=[8, 1]: allowed: auto, or integers in increasing order"),
        (["batch_sizes=0"], "batch_sizes=0: allowed: auto"),
        (["batch_sizes=[]"], "batch_sizes=[]: allowed: auto"),
        (["batch_sizes=[true]"], "batch_sizes=[True]: allowed: auto"),
        (["device.compile=true"], "device.compile=true: is for training; allowed here: backend=compile"),
        (["device.devices=2"], "device.devices=2: bench measures one device; allowed: 1"),
        (["backend=onnxruntime", "device.precision=bf16"], "device.precision=bf16-mixed: not with backend"),
        (["parity=true", "tune=true"], "tune=true: not together with parity=true"),
        (["of=nowhere"], "of=nowhere: not a run; allowed: the folder of a finished training run"),
        (["of=3"], "of=3: should be a valid string"),
        (["of="], "of=: is empty; allowed: a file or a folder"),
        (["outputs/x"], "outputs/x: not a setting; allowed: KEY=VALUE; of=outputs/x measures a run"),
        (['of="~nobody7/x"'], "of=~nobody7/x: no such user"),
        (["data=imagefolder", "data.root=3"], "data.root=3: should be a valid string"),
        (["memory_limit_gb=0"], "memory_limit_gb=0: should be greater than 0"),
        (["device=gpu"], "device.accelerator=gpu: not available here; allowed: cpu"),
        (["-m", "seed=0,1", "sweep.jobs=2"], "sweep.jobs=2: measurements side by side disturb each other"),
        (["backend=onnxruntime", "tune=true"], "backend=onnxruntime: tune=true trains with torch; allowed"),
        (["backend=compile", "parity=true"], "backend=compile: parity=true compares all backends; allowed"),
        (["device.threads=100000"], "device.threads=100000: should be less than or equal to 1024"),
        (["device.threads=1000"], "device.threads=1000: more than the "),
        (["-m", "device.threads=1,1000"], "device.threads=1000: more than the "),
        (["bakend=eager"], "bakend: no such setting; did you mean backend?"),
        (["ops.norm=batch"], "ops.norm=batch with arch=mlp"),
    ],
)
def test_wrong_settings_end_before_anything_is_measured(cli, monkeypatch, overrides, message):
    if torch.cuda.is_available() and overrides == ["device=gpu"]:
        pytest.skip("there is one")
    code, _, err = cli("bench", *QUICK, *overrides)
    assert code == 2
    assert message in err
    assert not runs()


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_named_and_no_smaller_one_takes_its_place(cli):
    code, _, err = cli("bench", *BASIC, "batch_sizes=[1,2000000]", "memory_limit_gb=0.5")
    assert code == 1
    message = (
        "out of memory at 2000000, in training at 2000000; allowed: batches that fit memory_limit_gb=0.5"
    )
    assert f"error: batch_sizes=[1, 2000000]: {message}; see " in err
    (path,) = runs()
    assert Run(path).state == "failed"
    rows = Run(path).rows()
    assert rows[0]["p50_ms"] > 0, "what was measured before is kept"
    assert rows[1]["batch"] == 2000000
    assert math.isnan(rows[1]["images_per_s"])
    summary = Run(path).summary()
    assert summary["time/inference_batch"] == 1
    assert not any(key.startswith("memory/activations") for key in summary), "of the largest, or none"


@pytest.mark.slow
def test_auto_goes_on_until_memory_or_patience_ends(cli):
    code, _, err = cli("bench", *BASIC, "batch_sizes=auto", "data.size=96", "memory_limit_gb=0.4")
    assert code == 0, err
    (path,) = runs()
    sizes = [row["batch"] for row in Run(path).rows()]
    assert sizes[:3] == [1, 4, 16]
    assert "out of memory" in Run(path).summary()["stopped"]


def test_peak_memory_of_a_model_whose_memory_is_known(cli, own):
    code, _, err = cli("bench", *own(KNOWN, "known"), *QUICK[2:], "batch_sizes=[1]")
    assert code == 0, err
    (path,) = runs()
    summary = Run(path).summary()
    assert summary["memory/activations_mb"] == pytest.approx(96 * 2**20 / 1e6, rel=0.05)
    assert summary["memory/weights_mb"] == pytest.approx(32 * 2**20 / 1e6, rel=0.01)


def test_memory_is_refused_rather_than_promised():
    """`confine` and `exhausted` together, in a process of its own, since its limit cannot be lifted again."""
    from cnnbench.processes.forked import Child

    assert Child("bench_fixtures:allocate_too_much", captured=False).answer() == (True, True)


def test_calls_are_measured_in_turn():
    done = []
    calls = {name: (lambda name=name: done.append(name)) for name in ("a", "b")}
    durations = in_turn(calls, rounds=3, round_s=0)
    assert done == [*"a" * WARM_UP, *"b" * WARM_UP, *(["a"] * LEAST + ["b"] * LEAST) * 3]
    assert [len(seconds) for seconds in durations["a"].rounds] == [LEAST] * 3


def test_durations():
    durations = Durations([[1.0, 2.0, 9.0], [2.0, 2.0, 2.0], [4.0, 4.0, 4.0]])
    assert durations.typical == 2.0
    assert durations.best == 2.0
    assert durations.percentile(99) == 9.0
    assert durations.percentile(50) == median(durations.all)
    assert durations.spread == pytest.approx((3 - 2) / 2)
    hundred = Durations([[float(i) for i in range(1, 101)]])
    assert [hundred.percentile(p) for p in (50, 95, 99)] == [50, 95, 99]
    assert hundred.spread == 0


def test_what_passes_between_layers_and_memory():
    first = nn.Conv2d(1, 2, 3, padding=1, bias=False)
    model = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(32, 5))
    numbers, weights = roofline.traffic(model, (1, 4, 4))
    conv, relu, flatten, linear = 16 + 32, 32 + 32, 32 + 32, 32 + 5
    assert numbers == conv + relu + flatten + linear
    assert weights == 18 + 32 * 5 + 5


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_openvino_tells_nobody_and_ends(cli, monkeypatch, tmp_path):
    """Its telemetry left a process that held the pipe open; a finished measurement waited for ever."""
    pytest.importorskip("openvino")
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, err = cli("bench", *BASIC, "backend=openvino", "batch_sizes=[1]")
    assert code == 0, err
    assert not (tmp_path / "intel").exists(), "its telemetry keeps an id there"


@pytest.mark.slow
def test_a_trained_run_is_measured_with_its_weights_and_named(cli):
    tiny = ["data.limit=200", "trainer.max_epochs=1"]
    assert cli("train", *BASIC[:3], "ops.norm=group", "logger=none", *tiny)[0] == 0
    (trained,) = runs()
    code, out, err = cli("bench", f"of={trained}", *BASIC[3:], "batch_sizes=[1]")
    assert code == 0, err
    (path,) = [one for one in runs() if one != trained]
    config = Run(path).config()
    assert config["of"] == trained.name
    assert config["ops"]["norm"] == "group"
    assert config["arch"]["width"] == 0.25
    assert Run(path).summary()["macs"] == Run(trained).summary()["macs"]

    code, _, err = cli("bench", f"of={trained}", "arch=mlp", *QUICK[2:])
    assert code == 2
    assert "arch=mlp: of=" in err

    code, out, _ = cli("compare", "outputs", "--json", "-")
    (row,) = json.loads(out)["rows"]
    assert row["score"]["mean"] == Run(trained).summary()["test/acc"], "accuracy meets latency"
    assert row["figures"]["latency_p50_ms"] == Run(path).summary()["time/latency_p50_ms"]

    (trained / "checkpoints/best.ckpt").write_bytes(b"no checkpoint")
    code, _, err = cli("bench", f"of={trained}", *BASIC[3:], "batch_sizes=[2]")
    assert code == 2
    assert "best.ckpt: is not as it was written" in err


@pytest.mark.slow
def test_parity(cli):
    code, out, err = cli("bench", *BASIC, "parity=true")
    assert code == 0, err
    (path,) = runs()
    summary = Run(path).summary()
    assert 0 < summary["parity/cpu eager 32-true channels_last/gradient"] < 1e-2
    assert summary["parity/cpu eager 64-true channels_last/logits"] < 1e-12
    assert summary["parity/cpu onnxruntime 32-true/logits"] < 1e-5
    assert summary["parity/cpu eager bf16-mixed channels_last/logits"] > 1e-4, "another arithmetic"
    assert "cpu openvino 32-true" in out


@pytest.mark.slow
def test_what_is_not_the_same_fails(cli, own):
    code, _, err = cli("bench", *own(OTHERWISE, "otherwise"), "parity=true", "logger=none")
    assert code == 1
    assert "beyond tolerance: cpu eager 32-true contiguous: logits 1.0e-02, allowed 1e-04" in err
    (path,) = runs()
    assert Run(path).state == "failed"
    assert Run(path).summary()["parity/worst"] > 50


@pytest.mark.slow
def test_tune_says_which_line_belongs_into_the_file_of_the_architecture(cli):
    code, out, err = cli("bench", *BASIC, "tune=true", "batch_sizes=[4]")
    assert code == 0, err
    (path,) = runs()
    summary = Run(path).summary()
    assert summary["tune/layout"] in ("contiguous", "channels_last")
    assert f"layout: {{cpu: {summary['tune/layout']}}}" in out


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_over_backends_measures_in_turn_and_compares(cli):
    pytest.importorskip("openvino")
    overrides = ["-m", *BASIC, "backend=eager,compile,onnxruntime,openvino", "batch_sizes=[1]", "seed=0,1"]
    code, out, err = cli("bench", *overrides)
    assert code == 0, err
    assert [Run(path).state for path in runs()] == ["finished"] * 8
    assert "backend: latency p50 ms against eager" in out
    (compiled,) = [path for path in runs() if "-compile-s0-" in path.name]
    (eager,) = [path for path in runs() if "-eager-s0-" in path.name]
    compiled, eager = (Run(path).summary() for path in (compiled, eager))
    assert compiled["time/first_call_s"] > 10 * eager["time/first_call_s"], "compiling starts from nothing"
    more = compiled["memory/activations_mb"] - eager["memory/activations_mb"]
    assert more < 10, "the compiler's memory is not the model's"
    assert Path("outputs/bench/compare.html").is_file()
