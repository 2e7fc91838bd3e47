"""`device.sync_batch_norm`: several processes train the same run as one, even with batch norm."""

from pathlib import Path

import numpy as np
import pytest
import torch
from resuming import final
from running import TINY, runs, the_run
from sweeping import states
from values import values

from cnnbench.run_store.find import find
from cnnbench.settings.device import Device

EXACT = ["trainer.max_epochs=2", "logger=none", "device.threads=1", "device.precision=64-true"]
ODD = ["data.limit=310", "data.limit_test=101"]  # val and test do not divide by two
SYNC = ["device=ddp_cpu", "device.sync_batch_norm=true"]
BASIC = ["arch=basic", "arch.blocks=2", "arch.width=0.25", "data.batch_size=33"]  # an odd batch size


def trained(cli, folder, *overrides):
    code, _, err = cli("train", *overrides, f"output_dir={folder}")
    assert code == 0, err
    assert "Warning" not in err
    return final(the_run(folder))


def distance(one, other):
    """Return the largest relative differences between two runs: of metrics, and of weights."""
    (rows, summary, weights), (rows_2, summary_2, weights_2) = one, other
    assert list(weights) == list(weights_2)  # the same names, in the same order
    assert summary["data/split"] == summary_2["data/split"]
    figures = np.append(values(rows), summary["test/loss"]), np.append(values(rows_2), summary_2["test/loss"])
    apart = [
        (tensor - weights_2[name]).abs().max() / tensor.abs().max().clamp(min=1e-3)
        for name, tensor in weights.items()
    ]
    return float((np.abs(figures[0] - figures[1]) / np.maximum(1, np.abs(figures[0]))).max()), float(
        max(apart)
    )


@pytest.mark.parametrize(
    "recipe",
    [
        [*BASIC, "data.augment.flip=true", "trainer.accumulate=2", "trainer.clip_norm=0.5"],
        ["arch=resnet20", "arch.width=0.25", "trainer.ema_decay=0.9", "data.batch_size=32"],
        pytest.param(
            [*BASIC, "trainer.swa=0.3", "trainer.max_epochs=3", "data.augment.crop=1"], marks=pytest.mark.slow
        ),
        pytest.param([*BASIC, "optimizer=sgd_schedulefree", "scheduler=constant"], marks=pytest.mark.slow),
        pytest.param(
            ["arch=timm", "arch.name=test_efficientnet", "data=synthetic", "data.size=32"],
            marks=pytest.mark.slow,
        ),
        pytest.param([*BASIC, "device.devices=3", "trainer.label_smoothing=0.1"], marks=pytest.mark.slow),
        # Not ReLU6, whose kinks amplify rounding: a single process in another memory format differs by
        # 1e-3 after eight steps; with SiLU by 1e-12.
        pytest.param(["arch=mobilenet_v2", "arch.width=0.25", "ops.act=silu"], marks=pytest.mark.slow),
        pytest.param(
            [
                "arch=googlenet",
                "arch.width=0.25",
                "arch.aux=true",
                "arch.aux_dropout=0",
                "data.batch_size=32",
            ],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["arch=torchvision", "arch.name=shufflenet_v2_x0_5", "data=synthetic", "data.size=32"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda recipe: f"{recipe[0]} {recipe[-1]}",
)
def test_the_same_as_one_process(cli, recipe):
    """Equal up to rounding in float64, with metrics in float32; different without synchronisation."""
    overrides = [*EXACT, *ODD]
    if recipe[0].removeprefix("arch=") in ("basic", "mobilenet_v2", "googlenet"):
        overrides.append("arch.dropout=0")  # masks differ between processes
    one = trained(cli, "one", *overrides, *(word for word in recipe if "devices" not in word), "device=cpu")
    figures, weights = distance(one, trained(cli, "sync", *overrides, *recipe, *SYNC))
    print(f"{recipe[0]}: figures to {figures:.1e}, weights to {weights:.1e}")
    assert figures < 1e-6
    assert weights < 1e-7
    figures, weights = distance(one, trained(cli, "unsynced", *overrides, *recipe, "device=ddp_cpu"))
    assert figures > 1e-3
    assert weights > 1e-3


def test_frozen_layers_keep_their_statistics(cli):
    """As in one process, loaded layers stay in eval mode and the others share their statistics."""
    source = ["arch=basic", "arch.width=0.25", "arch.dropout=0", *ODD]
    _, _, loaded = trained(cli, "source", *EXACT, *source, "arch.blocks=1")
    weights = the_run("source") / "checkpoints" / "best.ckpt"
    overrides = [*EXACT, *source, "arch.blocks=2", f"arch.weights={weights.absolute()}", "arch.freeze=true"]
    one, several = trained(cli, "one", *overrides, "device=cpu"), trained(cli, "sync", *overrides, *SYNC)
    assert max(distance(one, several)) < 1e-6
    statistics = [name for name in loaded if name.startswith("best/") and "running" in name]
    assert statistics
    for name in statistics:  # models are built, and weights loaded, in float32
        assert torch.equal(several[2][name], loaded[name].float().double())
    learnt = [name for name in several[2] if "running_var" in name and name not in loaded]
    assert learnt
    assert not any(torch.equal(several[2][name], torch.ones_like(several[2][name])) for name in learnt)


def test_one_image_is_enough_for_a_process(cli):
    overrides = [*TINY, "data.batch_size=2", "data.limit=110", "arch.width=0.125", "device.threads=1"]
    overrides += ["arch.dropout=0", "device.precision=64-true"]
    code, _, err = cli("train", *overrides, "device=ddp_cpu")
    assert code == 2
    assert "data.batch_size=2: 2 processes share each batch; allowed: 4 or more" in err
    assert "allowed: 3 or more" in cli("train", *overrides, *SYNC, "device.devices=3")[2]
    one, several = trained(cli, "one", *overrides, "device=cpu"), trained(cli, "sync", *overrides, *SYNC)
    assert distance(one, several)[0] < 1e-5


OWN = '''
from torch import nn

class Centred(nn.BatchNorm2d):
    """Batch norm that computes its own statistics."""

    def forward(self, x):
        return x - x.mean((0, 2, 3), keepdim=True)

def own(num_classes: int, in_channels: int, image_size: int):
    inputs = in_channels * image_size**2
    return nn.Sequential(Centred(in_channels, affine=False), nn.Flatten(), nn.Linear(inputs, num_classes))
'''


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_layer_that_cannot_be_synchronised_is_refused(cli, sweep):
    Path("own_layer.py").write_text(OWN)
    Path("mine/arch").mkdir(parents=True)
    Path("mine/arch/own.yaml").write_text("name: own\n_target_: own_layer.own\n")
    overrides = ["--config-dir", "mine", "arch=own", "trainer.max_epochs=1", "data.limit=250", "logger=none"]
    code, _, err = cli("train", *sweep, *overrides, *SYNC)
    assert code == 2, err
    assert "device.sync_batch_norm=true: 0 of arch=own is a own_layer.Centred" in err
    assert "allowed: false" in err
    assert not runs()
    assert cli("train", *sweep, *overrides, "device=ddp_cpu")[0] == 0


def test_an_invalid_value_is_refused(cli):
    code, _, err = cli("train", *TINY, "device=ddp_cpu", "device.sync_batch_norm=maybe")
    assert code == 2
    assert "device.sync_batch_norm=maybe: should be a valid boolean" in err


def test_identity(cli):
    """The setting changes nothing for a single process, and no identity of earlier runs."""
    device = {"name": "d", "accelerator": "cpu", "precision": "32-true", "memory_format": "auto"}
    device |= {"threads": None, "devices": 2, "nodes": 1}
    before = Device(**device).model_dump()
    assert "sync_batch_norm" not in before
    assert Device(**device, sync_batch_norm=False).model_dump() == before
    assert Device(**device, sync_batch_norm=True).model_dump() == before | {"sync_batch_norm": True}
    for single in ({"devices": 1}, {"devices": 1, "nodes": 1}):
        assert Device(**device | single, sync_batch_norm=True) == Device(**device | single)
    assert Device(**device | {"devices": 1, "nodes": 2}, sync_batch_norm=True).sync_batch_norm


@pytest.mark.slow
def test_in_a_sweep(cli):
    """Each run has one folder for any number of processes; with one process both values are the same run."""
    overrides = ["-m", *TINY, "device.threads=1", "device=ddp_cpu", "device.devices=1,2"]
    overrides.append("device.sync_batch_norm=false,true")
    code, _, err = cli("train", *overrides)
    assert code == 0, err
    assert states() == ["finished"] * 3
    folders = {run.path for run in find(Path("outputs"))}
    assert {path.parent for path in folders} == {Path("outputs/default")}
    assert {path for path in Path("outputs/default").iterdir() if path.is_dir()} == folders
    assert "3 runs: 3 done" in cli("train", *overrides)[2]
