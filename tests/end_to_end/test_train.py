"""`cnnbench train` end to end, on scikit-learn's digits: files of a run, reuse, failures, settings."""

import math
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from cells import ARCHS, families
from running import TINY, command, kill_when, the_run
from sealing import seal

from cnnbench.run_store.run import Run

SUMMARY = {
    *("params", "macs", "init", "epochs", "best/epoch", "best/val_acc", "best/val_loss"),
    *("test/acc", "test/loss", "test/top5"),
    *(f"{part}{key}" for part in ("best/val_", "test/") for key in ("f1_macro", "balanced_acc", "ece")),
    *("data/train", "data/val", "data/test", "data/classes", "data/split", "data/dropped", "data/chance"),
    *("time/wall_s", "time/train_s", "time/images_per_s"),
}


def test_the_files_of_a_run(cli):
    code, out, _ = cli("train", *TINY)
    assert code == 0
    folder = the_run()
    run = Run(folder)
    assert folder.parent == Path("outputs/default")
    assert folder.name.startswith("basic-digits-s0-")
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "identity.json",
        "status.json",
        "metrics.csv",
        "summary.json",
        "train.log",
        "checkpoints",
    }

    rows, summary, status = run.rows(), run.summary(), run.status()
    assert [row["epoch"] for row in rows] == [0, 1]
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "val/top5", "lr"} <= rows[0].keys()
    assert summary.keys() == SUMMARY
    best = max(rows, key=lambda row: row["val/acc"])
    assert summary["best/val_acc"] == best["val/acc"]
    assert (summary["data/train"], summary["data/val"], summary["data/test"]) == (270, 30, 360)
    assert status["state"] == "finished"
    assert status["device"]["accelerator"] == "cpu"
    assert status["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"]["limit"] == 300

    assert {path.name for path in run.checkpoints.iterdir()} == {"last.ckpt", "best.ckpt"}
    checkpoint = torch.load(run.checkpoints / "best.ckpt", weights_only=True)
    assert checkpoint["optimizer_states"] == []  # a finished run is never resumed
    assert any(key.startswith("model.") for key in checkpoint["state_dict"])

    for shown in ("best epoch", "test accuracy", "parameters", "images/s", "cnnbench runs " + str(folder)):
        assert shown in out
    assert cli("runs", folder)[:2] == (0, out)


def test_a_finished_run_is_shown_from_disk_without_torch(cli):
    """The second process imports nothing heavy, which is what makes it fast."""
    assert cli("train", *TINY)[0] == 0
    before = (the_run() / "status.json").stat().st_mtime_ns
    script = (
        "import sys; from cnnbench.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'lightning', 'torchvision', 'wandb', 'numpy', 'sklearn'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, "train", *TINY], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert "already finished" in answer.stderr
    assert "test accuracy" in answer.stdout
    assert (the_run() / "status.json").stat().st_mtime_ns == before


def test_force_trains_again_bit_for_bit_and_keeps_the_old_result(cli):
    overrides = [*TINY, "optimizer=adamw", "arch.dropout=0.1", "data.augment.flip=true"]
    assert cli("train", *overrides)[0] == 0
    assert cli("train", *overrides, "force=true")[0] == 0
    run = Run(the_run())
    old = Run(run.path / "repeats" / "0")
    assert old.state == "finished"
    assert run.status()["repeats"] == 1
    assert len(run.status()["attempts"]) == 1
    drop = lambda row: {k: v for k, v in row.items() if not k.startswith("time/")}  # noqa: E731
    assert [drop(row) for row in run.rows()] == [drop(row) for row in old.rows()]
    assert drop(run.summary()) == drop(old.summary())
    a, b = (torch.load(r.checkpoints / "last.ckpt", weights_only=True)["state_dict"] for r in (run, old))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert cli("train", *overrides)[0] == 0
    assert run.status()["repeats"] == 1


def test_equal_results_in_another_process_and_folder(cli, tmp_path):
    assert cli("train", *TINY)[0] == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(command("train", *TINY), cwd=elsewhere, check=True, capture_output=True)
    here, there = Run(the_run()), Run(the_run(elsewhere))
    assert here.path.name == there.path.name
    values = [[v for k, v in row.items() if not k.startswith("time/")] for row in here.rows()]
    assert values == [[v for k, v in row.items() if not k.startswith("time/")] for row in there.rows()]


def test_the_identity_depends_on_what_decides_the_result_and_nothing_else(cli, tmp_path):
    def name(*overrides):
        shutil.rmtree("outputs", ignore_errors=True)
        assert cli("train", *TINY, "trainer.max_epochs=1", *overrides)[0] == 0
        return the_run().name

    plain = name()
    same = [
        *("data.num_workers=3", f"data.root={tmp_path}", "logger=csv", "name=other"),
        *("trainer.checkpoint_every_n_steps=2", "optimizer.weight_decay=0.00050", "arch.width=0.250"),
    ]
    for free in same:
        assert name(free) == plain, free
    others = [
        *("seed=1", "data.split_seed=1", "optimizer.lr=0.051", "trainer.label_smoothing=0.1", "device=cpu"),
        *("device.threads=1", "data.batch_size=65", "data.augment.crop=2", "arch.kernel=5"),
    ]
    names = [name(other).rpartition("-")[2] for other in others]
    assert len({plain.rpartition("-")[2], *names}) == len(others) + 1


def test_an_edited_file_is_a_new_choice(cli, tmp_path):
    group = tmp_path / "mine" / "optimizer"
    group.mkdir(parents=True)
    text = "name: gentle\n_target_: torch.optim.SGD\nlr: 0.01\nmomentum: 0.5\n"
    (group / "gentle.yaml").write_text(text)
    overrides = ["train", "--config-dir", tmp_path / "mine", "optimizer=gentle", *TINY]
    assert cli(*overrides)[0] == 0
    first = the_run()
    (group / "gentle.yaml").write_text(text.replace("0.5", "0.6"))
    assert cli(*overrides)[0] == 0
    assert len(list(first.parent.glob("basic-digits-*"))) == 2


def test_a_users_own_model_and_optimizer(cli, tmp_path, monkeypatch):
    """A model of one's own needs a factory on the path and a file in --config-dir."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n"
        "def tiny(num_classes: int, in_channels: int, width: int):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, width, 3), nn.AdaptiveAvgPool2d(1),"
        " nn.Flatten(), nn.Linear(width, num_classes))\n"
    )
    (tmp_path / "mine" / "arch").mkdir(parents=True)
    (tmp_path / "mine" / "arch" / "tiny.yaml").write_text(
        "name: tiny\n_target_: mynet.tiny\nwidth: 4\nin_channels: 3\n"
    )
    overrides = [
        "--config-dir",
        tmp_path / "mine",
        "arch=tiny",
        "data.limit=200",
        "trainer.max_epochs=1",
        "logger=none",
    ]
    assert cli("train", *overrides)[0] == 0
    assert Run(the_run()).summary()["params"] == 3 * 4 * 9 + 4 + 4 * 10 + 10  # grey digits came as 3 channels
    code, _, err = cli("train", *overrides, "arch.width=wide")
    assert code == 2
    assert "arch.width=wide" in err


def test_divergence_is_a_result(cli):
    code, out, _ = cli("train", *TINY, "optimizer.lr=1e30", "scheduler=constant", "trainer.max_epochs=4")
    run = Run(the_run())
    assert code == 0
    assert run.state == "diverged"
    assert "diverged" in out
    assert not math.isfinite(run.rows()[-1]["train/loss"])
    assert "test/acc" not in run.summary()
    attempts = len(run.status()["attempts"])
    assert cli("train", *TINY, "optimizer.lr=1e30", "scheduler=constant", "trainer.max_epochs=4")[0] == 0
    assert len(run.status()["attempts"]) == attempts  # not retried


def test_a_failed_run_reports_its_error_and_is_retried(cli, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "faulty.py").write_text(
        "from pathlib import Path\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes: int, equal: None = None):\n"
        "        super().__init__(); self.fc = nn.Linear(64, num_classes)\n"
        "    def forward(self, x):\n"
        "        if self.training and Path('broken').exists(): raise OSError('the disk is gone')\n"
        "        return self.fc(x.flatten(1))\n"
    )
    overrides = [
        "arch._target_=faulty.Net",
        "~arch.native",
        "~arch.blocks",
        "~arch.convs",
        "~arch.kernel",
        "~arch.stride",
        "~arch.pool_kernel",
        "~arch.head",
        "~arch.hidden",
        "~arch.dropout",
        "~arch.width",
        "trainer.max_epochs=1",
        "logger=none",
    ]
    Path("broken").touch()
    code, _, err = cli("train", *overrides)
    run = Run(the_run())
    assert code == 1
    assert run.state == "failed"
    assert run.status()["error"]["message"] == "the disk is gone"
    assert "faulty.py" in run.status()["error"]["traceback"]
    assert str(run.path / "train.log") in err
    assert "the disk is gone" in (run.path / "train.log").read_text()
    assert "the disk is gone" in cli("runs", run.path)[1]
    Path("broken").unlink()
    assert cli("train", *overrides)[0] == 0
    assert run.state == "finished"
    assert "error" not in run.status()


def test_a_run_that_is_being_trained_is_left_alone(cli):
    overrides = [*TINY, "trainer.max_epochs=2000"]
    first = subprocess.Popen(command("train", *overrides), stderr=subprocess.DEVNULL)
    try:
        while not list(Path().rglob("metrics.csv")):
            assert first.poll() is None
        run = Run(the_run())
        assert run.state == "running"
        with Path("stderr").open("w") as stderr:
            second = subprocess.Popen(command("train", *overrides), stderr=stderr)
            waits = f"is already being trained ({socket.gethostname()}, process {first.pid})"
            assert kill_when(second, lambda: waits in Path("stderr").read_text(), signal.SIGINT) == 130
        assert run.state == "running", "the waiting process can be interrupted without effect on the other"
        assert "running" in cli("runs")[1]
    finally:
        first.kill()
        first.wait()
    assert run.state == "interrupted"
    assert "interrupted" in cli("runs")[1]


def test_another_version_is_announced(cli):
    assert cli("train", *TINY)[0] == 0
    run = Run(the_run())
    seal(run, versions=run.status()["versions"] | {"cnnbench": "0.0.1"})
    assert "trained by cnnbench 0.0.1" in cli("train", *TINY)[2]


def test_a_sweep_ends_with_one_table(cli):
    overrides = [*TINY, "name=sweep", "-m", "arch.kernel=3,5", "seed=0,1"]
    code, out, _ = cli("train", *overrides)
    assert code == 0
    assert "4 runs" in out
    assert "arch.kernel" in out
    assert out.count(" [") == 5  # two configurations, one effect, and two headers
    assert len(list(Path("outputs/sweep").glob("basic-*"))) == 4
    code, repeated, err = cli("train", *overrides)
    assert (code, repeated) == (0, out)
    assert "4 runs: 4 done" in err


SETTINGS = [
    ["trainer.loss=focal"],
    ["trainer.loss=bce"],
    ["data.class_weights=balanced"],
    ["data.sampler=balanced"],
    ["trainer.label_smoothing=0.1"],
    ["trainer.mixup=0.2"],
    ["trainer.cutmix=1.0"],
    ["trainer.ema_decay=0.9"],
    ["trainer.swa=0.3", "trainer.max_epochs=3"],
    ["trainer.clip_norm=0.5"],
    ["trainer.accumulate=3"],
    ["trainer.decay_norm_and_bias=false"],
    ["trainer.deterministic=true"],
    ["trainer.early_stopping.patience=1"],
    ["device.precision=bf16-mixed"],
    ["device.precision=64-true"],
    ["device.memory_format=contiguous"],
    ["arch.head=gap"],
    ["data.size=12"],
    ["arch.in_channels=3"],
    ["data=synthetic", "data.size=8"],
]


@pytest.mark.parametrize("overrides", SETTINGS, ids=lambda overrides: overrides[0])
def test_every_setting_trains_and_changes_something(overrides, cli):
    assert cli("train", *TINY, "output_dir=plain")[0] == 0
    assert cli("train", *TINY, *overrides)[0] == 0
    plain, run = Run(the_run("plain")), Run(the_run())
    assert math.isfinite(run.summary()["test/loss"])
    same = ("trainer.deterministic", "trainer.early_stopping", "device.memory_format", "device.precision=64")
    if not overrides[0].startswith(same):
        assert [row["val/loss"] for row in run.rows()] != [row["val/loss"] for row in plain.rows()]


CHOICES = [f"arch={arch}" for arch in families()] + [
    f"{group}={file.stem}"
    for group in ("optimizer", "scheduler")
    for file in sorted((Path(__file__).parents[2] / "conf" / group).glob("*.yaml"))
]
DEEPER = [
    f"arch={arch}" for arch in ARCHS if f"arch={arch}" not in CHOICES and arch not in ("torchvision", "timm")
]


@pytest.mark.parametrize("choice", [*CHOICES, *(pytest.param(c, marks=pytest.mark.slow) for c in DEEPER)])
def test_every_choice_trains(choice, cli):
    small = ["data.limit=200", "trainer.max_epochs=2", "arch.width=0.125", "logger=none"]
    constant = ["scheduler=constant"] if choice.endswith("_schedulefree") else []
    assert cli("train", *small, choice, *constant)[0] == 0
    assert Run(the_run()).state == "finished"
    assert Run(the_run()).rows()[1]["train/loss"] > 0


@pytest.mark.parametrize(
    "choice", ["arch=torchvision arch.name=mobilenet_v3_small", "arch=timm arch.name=mobilenetv3_small_050"]
)
def test_models_of_other_libraries_train(choice, cli):
    assert cli("train", *choice.split(), "data.limit=100", "trainer.max_epochs=2", "logger=none")[0] == 0
    assert the_run().name.startswith(choice.split()[0].removeprefix("arch=") + ".mobilenet")
    assert Run(the_run()).state == "finished"
    assert Run(the_run()).rows()[1]["train/loss"] > 0


@pytest.mark.slow
def test_the_default_reaches_97_percent_on_digits(cli):
    code, _, _ = cli("train")
    assert code == 0
    assert Run(the_run()).summary()["test/acc"] >= 0.97


@pytest.mark.slow
def test_fashion_mnist_reaches_90_percent_in_three_epochs(cli):
    """With the images of Debian's package `dataset-fashion-mnist`."""
    code, _, _ = cli("train", "data=fashion_mnist", "trainer.max_epochs=3")
    assert code == 0
    summary = Run(the_run()).summary()
    assert (summary["data/train"], summary["data/val"], summary["data/test"]) == (54000, 6000, 10000)
    assert summary["test/acc"] >= 0.90


@pytest.mark.slow
def test_quickstart(cli):
    code, out, _ = cli("train", "-m", "experiment=quickstart")
    assert code == 0
    for arch in ("basic", "mlp", "resnet20"):
        assert arch in out
    assert all(run.state == "finished" for run in map(Run, Path("outputs/quickstart").glob("*-digits-*")))
    page = Path("outputs/quickstart/compare.html")
    assert f"page: {page}" in out
    assert page.read_text().count("basic-digits-s0-") > 0


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_finished_run_without_a_summary_is_evaluated_again(content, cli):
    assert cli("train", *TINY)[0] == 0
    run = Run(the_run())
    before, epochs = run.summary(), (run.path / "metrics.csv").read_text()
    (run.path / "summary.json").unlink()
    if content is not None:
        (run.path / "summary.json").write_text(content)
    assert run.state == ("interrupted" if content is None else "damaged")
    assert cli("train", *TINY)[0] == 0
    assert (run.state, run.damage) == ("finished", [])
    drop = {key for key in before if key.startswith("time/")}
    assert {k: v for k, v in run.summary().items() if k not in drop} == {
        k: v for k, v in before.items() if k not in drop
    }
    assert (run.path / "metrics.csv").read_text() == epochs  # nothing was trained again


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("status.json", '{"state": 5, "attempts": "x", "device": 7}'),
        ("status.json", "\x00\xff"),
        ("status.json", '{"state": "running", "attempts": 3, "device": []}'),
        ("metrics.csv", "garbage\n1,2,3\n"),
        ("metrics.csv", ""),
        ("config.yaml", "a: [1"),
    ],
)
def test_a_damaged_run_is_trained_again(file, content, cli):
    assert cli("train", *TINY)[0] == 0
    run = Run(the_run())
    (run.path / "summary.json").unlink()
    (run.path / file).write_text(content)
    assert cli("runs")[0] == 0
    assert cli("train", *TINY)[0] == 0
    assert run.state == "finished"
    assert [row["epoch"] for row in run.rows()] == [0, 1]


def test_ctrl_c_while_torch_is_imported():
    """numpy's import swallows a KeyboardInterrupt; the signal is still handled, and reported in one line."""
    with subprocess.Popen(command("train", *TINY), stderr=subprocess.PIPE, text=True) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        assert kill_when(process, lambda: "libtorch_cpu" in maps.read_text(), signal.SIGINT) == 130
        messages = process.stderr.read().splitlines()
    assert messages == ["interrupted; run the same command again to resume"]
    assert not Path("outputs").exists()
