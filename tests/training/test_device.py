"""Device settings: how they are resolved, and which are refused."""

import runpy
from pathlib import Path

import pytest
import torch
from cells import composed
from running import TINY, the_run

from cnnbench.errors import InputError
from cnnbench.processes import cores as processes_cores
from cnnbench.run_store.identity import identity
from cnnbench.run_store.run import Run
from cnnbench.settings.device import Device
from cnnbench.settings.model import Layout
from cnnbench.settings.parse import parse
from cnnbench.training import device

CPU = {"name": "cpu", "accelerator": "cpu", "precision": "32-true", "memory_format": "auto", "threads": 1}


def settings(**more):
    return Device.model_validate(CPU | more)


@pytest.mark.parametrize(
    ("short", "precision"), [("fp32", "32-true"), ("bf16", "bf16-mixed"), ("fp64", "64-true")]
)
def test_short_names_of_precisions_are_the_same_run(short, precision):
    plain = composed("mlp")
    short_choice, long_choice = (
        parse(plain | {"device": plain["device"] | {"precision": p}}).choice() for p in (short, precision)
    )
    assert identity(short_choice) == identity(long_choice)
    assert short_choice["device"]["precision"] == precision


@pytest.mark.parametrize("precision", ["tf32", "16-mixed"])
def test_precisions_that_the_cpu_does_not_support(precision):
    with pytest.raises(InputError, match=f"device.precision={precision}: not on cpu; allowed: 32-true, bf16"):
        device.resolve(settings(precision=precision))


@pytest.mark.parametrize(
    ("available", "accelerator", "memory_format"),
    [
        (["gpu", "mps", "cpu"], "gpu", "channels_last"),
        (["mps", "cpu"], "mps", "contiguous"),
        (["cpu"], "cpu", "channels_last"),
    ],
)
def test_auto_follows_rules_and_no_timing(monkeypatch, available, accelerator, memory_format):
    """The best available accelerator is chosen; other machines are simulated."""
    monkeypatch.setattr(device, "available", lambda: available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    resolved = device.resolve(settings(name="auto", accelerator="auto"))
    assert (resolved["accelerator"], resolved["memory_format"]) == (accelerator, memory_format)
    assert (
        device.resolve(settings(accelerator="auto"), layout=Layout(**{accelerator: "contiguous"}))[
            "memory_format"
        ]
        == "contiguous"
    )
    if accelerator != "cpu":
        with pytest.raises(InputError, match=r"device.devices=2: too many; allowed: 1 at most"):
            device.resolve(settings(accelerator=accelerator, devices=2))
    if accelerator == "mps":
        with pytest.raises(InputError, match=r"device\.precision=64-true: not on mps"):
            device.resolve(settings(accelerator="mps", precision="64-true"))


@pytest.mark.skipif(len(device.available()) > 1, reason="there is more than a CPU")
@pytest.mark.parametrize("absent", ["gpu", "mps"])
def test_an_unavailable_accelerator_is_refused(absent):
    with pytest.raises(InputError, match=f"device.accelerator={absent}: not available here; allowed: cpu"):
        device.resolve(settings(accelerator=absent))


def test_auto_is_the_layout_of_the_architecture_and_leaves_the_identity_unchanged():
    assert device.resolve(settings())["memory_format"] == "channels_last"
    own = Layout(cpu="contiguous")
    assert device.resolve(settings(), layout=own)["memory_format"] == "contiguous"
    assert (
        device.resolve(settings(memory_format="channels_last"), layout=own)["memory_format"]
        == "channels_last"
    )
    recorded = device.resolve(settings())
    assert device.resolve(settings(), recorded, layout=own)["memory_format"] == "channels_last", (
        "a resumed run keeps its format"
    )

    plain = composed("mlp")
    changed = plain | {"arch": plain["arch"] | {"layout": {"cpu": "contiguous"}}}
    assert identity(parse(changed).choice()) == identity(parse(plain).choice())
    assert parse(changed).arch.layout == own


def test_compile_is_part_of_the_identity_only_if_set():
    plain = composed("mlp")
    without = {key: value for key, value in plain["device"].items() if key != "compile"}
    choices = [
        parse(plain | {"device": section}).choice()
        for section in (without, without | {"compile": False}, without | {"compile": True})
    ]
    assert identity(choices[0]) == identity(choices[1]) != identity(choices[2])


def test_batch_norm_is_not_synchronised_in_compiled_code():
    plain = composed("basic")
    both = {"compile": True, "devices": 2, "sync_batch_norm": True}
    with pytest.raises(InputError, match=r"device.sync_batch_norm=true: not with device.compile=true"):
        parse(plain | {"device": plain["device"] | both})


def test_a_missing_compiler_is_reported_before_anything_starts(cli):
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):  # torch caches its search
        code, _, err = cli("train", *TINY, "device.compile=true")
    assert code == 2
    assert "device.compile=true: no C++ compiler found" in err


@pytest.mark.parametrize(("precision", "expected"), [("tf32", "high"), ("32-true", "highest")])
def test_tf32_is_set_so_that_lightning_can_read_it(precision, expected):
    """torch raises when TF32 is read after both of its APIs have set it; no GPU is needed for this."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    gpu = {"accelerator": "gpu", "precision": precision, "memory_format": "contiguous", "threads": 1}
    try:
        device.place(torch.nn.Linear(2, 2), gpu)
        assert torch.get_float32_matmul_precision() == expected
        assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.slow
def test_a_compiled_training_is_the_same_training(cli):
    """Names and checkpoints equal those of the plain training, and metrics up to rounding."""
    results = {}
    for compiled in ("false", "true"):
        code, _, err = cli("train", *TINY, f"device.compile={compiled}", f"name=compile-{compiled}")
        assert code == 0, err
        run = Run(the_run(f"outputs/compile-{compiled}"))
        results[compiled] = run.rows(), torch.load(run.checkpoints / "best.ckpt", weights_only=True)
        assert run.status()["device"]["compile"] == (compiled == "true")
    rows, checkpoints = zip(*results.values(), strict=True)
    assert checkpoints[0]["state_dict"].keys() == checkpoints[1]["state_dict"].keys()
    for plain, compiled in zip(*rows, strict=True):
        assert compiled["train/loss"] == pytest.approx(plain["train/loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("limit", "cores"), [("200000 100000", 2), ("50000 100000", 1), ("250000 100000", 2), ("max 100000", 64)]
)
def test_a_container_has_a_share_of_the_cores(monkeypatch, tmp_path, limit, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda who: set(range(64)), raising=False)
    monkeypatch.setattr(processes_cores, "CGROUP", tmp_path)
    assert processes_cores.cpu_cores() == 64, "no container"
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert processes_cores.cpu_cores() == cores


def test_the_models_of_the_benchmark_can_be_built():
    """Timings in a test would mean nothing, but the functions that a benchmark calls may change."""
    file = Path(__file__).parents[2] / "benchmarks" / "devices.py"
    models = runpy.run_path(str(file))["_models"]()
    assert "resnet18" in models
    assert all(next(model.parameters()).dtype == torch.float32 for model in models.values())
