"""One run trained by several processes: the result of a single one, and as robust."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from resuming import assert_same, final, interrupted_after
from running import TINY, command, epochs, kill_when, runs, the_run
from sweeping import alive, gone, states, trained
from torch.distributed import HashStore
from values import values

from cnnbench.data import augment
from cnnbench.processes.forked import Child
from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run
from cnnbench.settings.device import Device
from cnnbench.training import fit
from cnnbench.training.distributed import Team
from cnnbench.training.rank import Rank

SMALL = [*TINY, "device.threads=1"]
AUGMENTED = [
    "data.augment.crop=1", "data.augment.flip=true", "data.augment.cutout=2", "data.augment.erase=0.5",
]  # fmt: skip
LONG = [*SMALL, "data.limit=600", "device=ddp_cpu"]


@pytest.mark.parametrize(
    "recipe",
    [
        [
            "data.batch_size=33",
            *AUGMENTED,
            "trainer.loss=bce",
            "data.sampler=balanced",
        ],  # shards of different sizes
        [
            *("trainer.accumulate=2", "trainer.clip_norm=0.5", "optimizer=adamw"),
            *("data.drop_last=false", "data.batch_size=65", *AUGMENTED),  # the last batch is smaller
            "data.class_weights=[1,2,3,4,5,6,7,8,9,99]",  # the shards' weights differ
        ],
        pytest.param(["device.devices=3", "trainer.ema_decay=0.9", "data.limit=301"], marks=pytest.mark.slow),
    ],
    ids=lambda recipe: recipe[0],
)
def test_the_same_as_one_process(cli, monkeypatch, recipe):
    """In float64, so that only rounding can differ, and without batch norm, which depends on the shards."""
    results = []
    result = fit.test_result
    monkeypatch.setattr(
        fit, "test_result", lambda data, outputs: results.append(result(data, outputs)) or results[-1]
    )
    overrides = [*SMALL, "trainer.max_epochs=3", "ops.norm=none", "arch.dropout=0", *recipe]
    for name in ("cpu", "ddp_cpu"):
        words = [word for word in overrides if name == "ddp_cpu" or "devices" not in word]
        code, _, err = cli(
            "train", *words, f"device={name}", "device.precision=64-true", f"output_dir={name}"
        )
        assert code == 0, err
        assert "Warning" not in err
    (rows, summary, weights), (rows_2, summary_2, weights_2) = (final(the_run(d)) for d in ("cpu", "ddp_cpu"))
    np.testing.assert_allclose(values(rows_2), values(rows), rtol=1e-6)
    assert {k: v for k, v in summary.items() if isinstance(v, str | int)}.items() <= summary_2.items()
    assert summary_2["test/loss"] == pytest.approx(summary["test/loss"], rel=1e-6)
    for key, value in weights.items():
        torch.testing.assert_close(weights_2[key], value, rtol=1e-6, atol=1e-9)
    one, several = results
    np.testing.assert_array_equal(several.labels, one.labels)
    np.testing.assert_allclose(several.probabilities, one.probabilities, rtol=1e-5)
    assert Run(the_run("ddp_cpu")).rows()[0]["time/images"] == Run(the_run("cpu")).rows()[0]["time/images"]


def test_shards_are_augmented_as_by_one_process():
    images = torch.randint(256, (10, 3, 8, 8), dtype=torch.uint8)
    for change in (augment.random_crop, augment.cutout, lambda i, _, *rest: augment.random_flip(i, *rest)):
        batch = change(images, 3, torch.Generator().manual_seed(7))
        for rows in (slice(0, 3), slice(3, 10)):
            shard = change(images[rows], 3, torch.Generator().manual_seed(7), augment.BatchShard(10, rows))
            assert torch.equal(shard, batch[rows])


@pytest.mark.parametrize(
    ("every_n_steps", "sync"),
    [
        ("null", False),
        (7, True),
        *(pytest.param(*v, marks=pytest.mark.slow) for v in ((7, False), ("null", True))),
    ],
)
def test_resumed_equals_undisturbed(cli, monkeypatch, every_n_steps, sync):
    """Each process has its own dropout masks, and batch statistics of its shard or of the full batch."""
    overrides = [*LONG, "trainer.max_epochs=4", "arch.dropout=0.2", "trainer.ema_decay=0.9"]
    overrides.append(f"device.sync_batch_norm={sync}")
    overrides.append(f"trainer.checkpoint_every_n_steps={every_n_steps}")
    assert cli("train", "output_dir=undisturbed", *overrides)[0] == 0
    interrupted_after(3, monkeypatch, ["output_dir=broken", *overrides])
    assert cli("train", "output_dir=broken", *overrides)[0] == 0
    assert len(Run(the_run("broken")).status()["attempts"]) == 2
    assert_same(the_run("undisturbed"), the_run("broken"))


def test_each_process_has_the_number_of_threads_that_is_set(cli, monkeypatch, breaking):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code, _, err = cli("train", *breaking, "arch.worth=3", "device=ddp_cpu", "device.threads=3")
    assert code == 0, err
    assert "OMP_NUM_THREADS" not in os.environ
    code, _, err = cli("train", *breaking, "arch.worth=3", "device=ddp_cpu", "device.threads=2")
    assert code == 1
    assert "process 1: RuntimeError: 2 threads" in err


def processes(pid):
    """Return the descendants of a process."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(child) for child in children] + [p for child in children for p in processes(int(child))]


@pytest.mark.parametrize(
    "signum",
    [signal.SIGTERM, *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGKILL, signal.SIGINT))],
)
@pytest.mark.parametrize("sync", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_process_outlives_the_first(cli, signum, sync):
    overrides = [*LONG, "trainer.max_epochs=30", f"device.sync_batch_norm={sync}"]
    first = subprocess.Popen(command("train", *overrides))
    descendants = []

    def going():
        descendants[:] = processes(first.pid)
        return any(epochs(run) >= 2 for run in runs())

    code = kill_when(first, going, signum)
    assert code == (-signum if signum == signal.SIGKILL else 128 + signum)
    assert all(gone(pid) for pid in descendants)
    run = Run(the_run())
    assert run.state == "interrupted"
    assert 2 <= len(run.rows()) < 30
    assert cli("train", *overrides)[0] == 0
    assert trained(run, 30, again=1)


@pytest.mark.slow
def test_a_killed_process_is_reported():
    first = subprocess.Popen(
        command("train", *LONG, "trainer.max_epochs=500"), stderr=subprocess.PIPE, text=True
    )
    while not any(epochs(run) >= 1 for run in runs()):
        assert first.poll() is None
        time.sleep(0.05)
    server = next(p for p in processes(first.pid) if "forkserver" in Path(f"/proc/{p}/cmdline").read_text())
    (other,) = [p for p in processes(server) if alive(p)]
    os.kill(other, signal.SIGKILL)
    err = first.communicate(timeout=60)[1]
    assert first.returncode == 1, err
    assert "process 1: its process was killed by SIGKILL" in err
    assert "Traceback" not in err
    assert "killed by SIGKILL" in err
    run = Run(the_run())
    assert run.state == "failed"
    assert "killed by SIGKILL" in run.status()["error"]["message"]


BREAKS = '''
import time
import torch
from torch import distributed, nn

class Breaks(nn.Module):
    """Module that fails in the second process, at the third step."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int, worth: float = 1.0):
        super().__init__()
        self.steps, self.linear, self.worth = 0, nn.Linear(in_channels * image_size**2, num_classes), worth
        self.norm = nn.BatchNorm2d(in_channels)

    def forward(self, x):
        if self.worth == 2 and not self.training and distributed.is_initialized():
            if distributed.get_rank() == 1:
                raise RuntimeError("worn")
            time.sleep(1.5)
        if self.worth == 3 and self.training and distributed.is_initialized():
            if distributed.get_rank() == 1 and torch.get_num_threads() != 3:
                raise RuntimeError(f"{torch.get_num_threads()} threads")
            return self.linear(self.norm(x).flatten(1))
        self.steps += self.training and x.device.type == "cpu"
        if self.steps == 3 and distributed.is_initialized() and distributed.get_rank() == 1:
            if self.worth == 1:
                raise RuntimeError("torn")
            return self.linear(self.norm(x).flatten(1)) * self.worth
        return self.linear(self.norm(x).flatten(1))
'''


@pytest.fixture
def breaking():
    Path("breaks.py").write_text(BREAKS)
    Path("mine/arch").mkdir(parents=True)
    Path("mine/arch/breaks.yaml").write_text("name: breaks\n_target_: breaks.Breaks\nworth: 1.0\n")
    return ["--config-dir", "mine", "arch=breaks", "trainer.max_epochs=2", "data.limit=250", "logger=none"]


@pytest.mark.parametrize("sync", [False, True])
def test_the_error_of_another_process_is_reported(cli, breaking, sync):
    """Even while the first process waits for its batch statistics."""
    code, _, err = cli("train", *breaking, "device=ddp_cpu", f"device.sync_batch_norm={sync}")
    assert code == 1
    assert "process 1: RuntimeError: torn" in err
    assert Run(the_run()).status()["error"]["message"] == "process 1: RuntimeError: torn"


def test_the_error_is_reported_while_the_first_process_is_busy(cli, breaking, monkeypatch):
    """During an evaluation nothing is exchanged: the first process is told to end, and reports the reason."""
    monkeypatch.setattr("cnnbench.processes.forked.GRACE_S", 0.3)
    code, _, _ = cli("train", *breaking, "arch.worth=2", "device=ddp_cpu")
    assert code == 1
    assert Run(the_run()).state == "failed"
    assert Run(the_run()).status()["error"]["message"] == "process 1: RuntimeError: worn"


def test_the_first_may_go_on_when_the_others_are_done(cli, monkeypatch):
    """For an upload of a tracker, or a slow disk."""
    monkeypatch.setattr("cnnbench.processes.forked.GRACE_S", 0.3)
    strip = fit.strip
    monkeypatch.setattr(fit, "strip", lambda run: time.sleep(1.5) or strip(run))
    code, _, err = cli("train", *SMALL, "device=ddp_cpu")
    assert code == 0, err
    assert Run(the_run()).state == "finished"


def test_the_others_end_without_errors(cli, monkeypatch):
    answers = []
    monkeypatch.setattr(Child, "kill_after", lambda self, deadline: answers.append(self.answer()))
    code, _, err = cli("train", *SMALL, "device=ddp_cpu", "device.devices=3")
    assert code == 0, err
    assert answers == [None, None]


def test_errors_of_processes_that_a_cluster_has_started():
    """The first process has not started the others, and cannot read their answers."""
    store = HashStore()
    overrides = Device(name="x", accelerator="cpu", precision="32-true", memory_format="auto", threads=None)
    first, second = (Team(Rank(rank, 2), overrides, (), store) for rank in (0, 1))
    with pytest.raises(ValueError, match="torn"), second.failing_together():
        raise ValueError("torn")
    with pytest.raises(RuntimeError, match="process 1: ValueError: torn"), first.failing_together():
        raise ConnectionError("closed by peer")


def test_divergence_in_one_process_is_divergence_of_the_run(cli, breaking):
    code, _, _ = cli("train", *breaking, "arch.worth=1e30", "optimizer.lr=1e30", "device=ddp_cpu")
    assert code == 0
    assert Run(the_run()).state == "diverged"


def test_in_a_sweep(cli):
    overrides = ["-m", *SMALL, "device=cpu,ddp_cpu", "seed=0,1"]
    code, _, err = cli("train", *overrides)
    assert code == 0, err
    assert states() == ["finished"] * 4
    assert {run.status()["device"]["devices"] for run in find(Path("outputs"))} == {1, 2}
    assert "4 runs: 4 done" in cli("train", *overrides)[2]


@pytest.mark.parametrize("sweep", [[], ["-m"]])
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["device=ddp_cpu", "device.nodes=2"], ["device.nodes=2", "hydra/launcher=slurm", "allowed: 1"]),
        (["device=ddp_cpu", "device.devices=0"], ["device.devices=0", "greater than or equal to 1"]),
        (["device=ddp_cpu", "data.batch_size=3"], ["data.batch_size=3", "2 processes", "allowed: 4 or more"]),
        (
            ["device=ddp_cpu", "data.limit_test=11", "device.devices=12"],
            ["12 processes", "11 processes at most"],
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_is_one_error_before_anything_is_written(cli, sweep, overrides, expected):
    code, _, err = cli("train", *sweep, *SMALL, *overrides)
    assert code == 2, err
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    for text in expected:
        assert text in err
    assert not runs()
