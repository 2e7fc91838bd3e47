"""What device settings become, and what is no device's."""

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

ASKED = {"name": "cpu", "accelerator": "cpu", "precision": "32-true", "memory_format": "auto", "threads": 1}


def asked(**more):
    return Device.model_validate(ASKED | more)


@pytest.mark.parametrize(
    ("short", "precision"), [("fp32", "32-true"), ("bf16", "bf16-mixed"), ("fp64", "64-true")]
)
def test_what_people_write_is_the_same_run(short, precision):
    plain = composed("mlp")
    one, other = (
        parse(plain | {"device": plain["device"] | {"precision": p}}).choice() for p in (short, precision)
    )
    assert identity(one) == identity(other)
    assert one["device"]["precision"] == precision


@pytest.mark.parametrize("precision", ["tf32", "16-mixed"])
def test_precisions_that_the_cpu_has_not(precision):
    with pytest.raises(InputError, match=f"device.precision={precision}: not on cpu; allowed: 32-true, bf16"):
        device.resolve(asked(precision=precision))


@pytest.mark.parametrize(
    ("there", "accelerator", "memory_format"),
    [
        (["gpu", "mps", "cpu"], "gpu", "channels_last"),
        (["mps", "cpu"], "mps", "contiguous"),
        (["cpu"], "cpu", "channels_last"),
    ],
)
def test_auto_follows_rules_and_no_timing(monkeypatch, there, accelerator, memory_format):
    """The best that is there; of machines that are not here only the answer to what there is."""
    monkeypatch.setattr(device, "available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    found = device.resolve(asked(name="auto", accelerator="auto"))
    assert (found["accelerator"], found["memory_format"]) == (accelerator, memory_format)
    assert (
        device.resolve(asked(accelerator="auto"), layout=Layout(**{accelerator: "contiguous"}))[
            "memory_format"
        ]
        == "contiguous"
    )
    if accelerator != "cpu":
        with pytest.raises(InputError, match=r"device.devices=2: too many; allowed: 1 at most"):
            device.resolve(asked(accelerator=accelerator, devices=2))
    if accelerator == "mps":
        with pytest.raises(InputError, match=r"device\.precision=64-true: not on mps"):
            device.resolve(asked(accelerator="mps", precision="64-true"))


@pytest.mark.skipif(len(device.available()) > 1, reason="there is more than a CPU")
@pytest.mark.parametrize("absent", ["gpu", "mps"])
def test_what_is_not_here_is_refused_with_what_there_is(absent):
    with pytest.raises(InputError, match=f"device.accelerator={absent}: not available here; allowed: cpu"):
        device.resolve(asked(accelerator=absent))


def test_auto_is_the_layout_of_the_architecture_and_no_part_of_the_identity():
    assert device.resolve(asked())["memory_format"] == "channels_last"
    own = Layout(cpu="contiguous")
    assert device.resolve(asked(), layout=own)["memory_format"] == "contiguous"
    assert (
        device.resolve(asked(memory_format="channels_last"), layout=own)["memory_format"] == "channels_last"
    )
    recorded = device.resolve(asked())
    assert device.resolve(asked(), recorded, layout=own)["memory_format"] == "channels_last", "as it began"

    plain = composed("mlp")
    changed = plain | {"arch": plain["arch"] | {"layout": {"cpu": "contiguous"}}}
    assert identity(parse(changed).choice()) == identity(parse(plain).choice())
    assert parse(changed).arch.layout == own


def test_compile_is_part_of_the_identity_only_where_it_is_asked_for():
    plain = composed("mlp")
    without = {key: value for key, value in plain["device"].items() if key != "compile"}
    choices = [
        parse(plain | {"device": one}).choice()
        for one in (without, without | {"compile": False}, without | {"compile": True})
    ]
    assert identity(choices[0]) == identity(choices[1]) != identity(choices[2])


def test_batch_norm_is_not_synchronised_in_compiled_code():
    plain = composed("basic")
    both = {"compile": True, "devices": 2, "sync_batch_norm": True}
    with pytest.raises(InputError, match=r"device.sync_batch_norm=true: not with device.compile=true"):
        parse(plain | {"device": plain["device"] | both})


def test_no_compiler_is_said_before_anything_starts(cli):
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):  # torch remembers what it found
        code, _, err = cli("train", *TINY, "device.compile=true")
    assert code == 2
    assert "device.compile=true: no C++ compiler found" in err


@pytest.mark.parametrize(("precision", "asked"), [("tf32", "high"), ("32-true", "highest")])
def test_tf32_is_set_in_a_way_that_lightning_can_ask_about(precision, asked):
    """torch raises at the question where its two ways to set TF32 are mixed; no GPU is needed to see it."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    gpu = {"accelerator": "gpu", "precision": precision, "memory_format": "contiguous", "threads": 1}
    try:
        device.place(torch.nn.Linear(2, 2), gpu)
        assert torch.get_float32_matmul_precision() == asked
        assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.slow
def test_a_compiled_training_is_the_same_training(cli):
    """Its names, its checkpoints and, within rounding, its figures are those of the plain one."""
    found = {}
    for compiled in ("false", "true"):
        code, _, err = cli("train", *TINY, f"device.compile={compiled}", f"name=compile-{compiled}")
        assert code == 0, err
        run = Run(the_run(f"outputs/compile-{compiled}"))
        found[compiled] = run.rows(), torch.load(run.checkpoints / "best.ckpt", weights_only=True)
        assert run.status()["device"]["compile"] == (compiled == "true")
    rows, checkpoints = zip(*found.values(), strict=True)
    assert checkpoints[0]["state_dict"].keys() == checkpoints[1]["state_dict"].keys()
    for plain, other in zip(*rows, strict=True):
        assert other["train/loss"] == pytest.approx(plain["train/loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("limit", "cores"), [("200000 100000", 2), ("50000 100000", 1), ("250000 100000", 2), ("max 100000", 64)]
)
def test_a_container_has_a_part_of_the_cores(monkeypatch, tmp_path, limit, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda who: set(range(64)), raising=False)
    monkeypatch.setattr(processes_cores, "CGROUP", tmp_path)
    assert processes_cores.cpu_cores() == 64, "no container"
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert processes_cores.cpu_cores() == cores


def test_the_models_of_the_benchmark_can_be_made():
    """Nobody runs a benchmark in a test, where a time says nothing; but what it calls may change."""
    file = Path(__file__).parents[2] / "benchmarks" / "devices.py"
    found = runpy.run_path(str(file))["_models"]()
    assert "resnet18" in found
    assert all(next(model.parameters()).dtype == torch.float32 for model in found.values())
