"""Bad input: one line that names the setting, its value and what is allowed; exit code 2; no run."""

from pathlib import Path

import pytest
from running import TINY

CASES = {
    "unknown choice": (["arch=basik"], ["arch=basik", "did you mean basic?", "resnet20"]),
    "unknown probe": (["probes=activation"], ["probes=activation", "did you mean activations?", "shift"]),
    "unknown probe in a list": (
        ["probes=[field,shifts]"],
        ["probes=shifts", "did you mean shift?", "gradients"],
    ),
    "setting of a probe that is not chosen": (
        ["probes=shift", "probes.activations.every=3"],
        ["probes.activations.every", "activations"],
    ),
    "probe that never measures": (["probes=shift", "probes.shift.every=0"], ["probes.shift.every=0"]),
    "distances out of order": (
        ["probes=landscape", "probes.landscape.distances=[0.4,0.1]"],
        ["probes.landscape.distances=[0.4, 0.1]: allowed: numbers in increasing order"],
    ),
    "probes of several processes": (
        ["probes=[shift,field]", "device=ddp_cpu"],
        ["device.devices=2: not with probes (shift, field); allowed: 1, or probes=[]"],
    ),
    "probes of a compiled model": (
        ["probes=field", "device.compile=true"],
        ["device.compile=true: not with probes"],
    ),
    "field without maps": (["probes=field", "arch=mlp"], ["probes=field: the model has no feature map"]),
    "unknown group": (["architecture=basic"], ["architecture", "did you mean arch?", "optimizer"]),
    "unknown setting": (["trainer.max_epoch=3"], ["trainer.max_epoch", "did you mean max_epochs?"]),
    "unknown setting of another choice": (
        ["arch=mlp", "arch.blocks=3"],
        ["arch.blocks", "no such setting in arch", "hidden"],
    ),
    "a setting that a budget brings along": (
        ["arch=torchvision", "arch.name=resnet18", "budget=small"],
        ["arch.width", "no such setting", "~arch.width removes it"],
    ),
    "unknown section": (["training.epochs=3"], ["training.epochs", "did you mean trainer?"]),
    "mapping for a number": (["trainer.max_epochs={a: 1}"], ["trainer.max_epochs={'a': 1}: should be"]),
    "mapping for weights": (["data.class_weights={a: {b: 1}}"], ["class_weights={'a': {'b': 1}}: allowed"]),
    "mapping with an unknown setting": (
        ["data.augment={flop: true}"],
        ["data.augment: was given a setting that it does not have", "flip"],
    ),
    "added setting": (["+trainer.epochs=3"], ["trainer.epochs", "no such setting", "max_epochs"]),
    "added argument": (["+optimizer.momentun=0.9"], ["optimizer.momentun", "did you mean momentum?"]),
    "no value": (["seed"], ["seed"]),
    "syntax": (["trainer.max_epochs=[1"], ["trainer.max_epochs=[1"]),
    "word for a number": (["trainer.max_epochs=many"], ["trainer.max_epochs=many", "valid integer"]),
    "fraction for an integer": (["trainer.max_epochs=1.5"], ["trainer.max_epochs=1.5", "valid integer"]),
    "quoted number": (["trainer.max_epochs='3'"], ["trainer.max_epochs=3", "text, not a number"]),
    "quoted rate": (["optimizer.lr='1e-3'"], ["optimizer.lr=1e-3: is text, not a number; allowed: without"]),
    "negative epochs": (["trainer.max_epochs=-3"], ["trainer.max_epochs=-3", "greater than or equal to 1"]),
    "batch size 0": (["data.batch_size=0"], ["data.batch_size=0", "greater than or equal to 1"]),
    "negative rate": (["optimizer.lr=-0.1"], ["optimizer.lr=-0.1", "greater than 0"]),
    "word for a rate": (["optimizer.lr=high"], ["optimizer.lr=high", "valid number"]),
    "infinite rate": (["optimizer.lr=inf"], ["optimizer.lr=inf", "finite"]),
    "rate of an architecture": (
        ["arch=vgg11", "arch.rates.sgd=-1"],
        ["error: arch.rates.sgd=-1: should be greater than 0"],
    ),
    "argument that torch refuses": (
        ["optimizer=rmsprop", "optimizer.alpha=-3"],
        ["optimizer.alpha=-3: Invalid alpha value"],
    ),
    "argument with several values that torch refuses": (
        ["optimizer=adam", "optimizer.betas=[1.5,0.9]"],
        ["optimizer.betas=[1.5, 0.9]: Invalid beta parameter at index 0: 1.5"],
    ),
    "momentum of Muon": (
        ["optimizer=muon", "optimizer.momentum=1.5"],
        ["optimizer.momentum=1.5: Invalid momentum: 1.5"],
    ),
    "null": (["trainer.max_epochs=null"], ["trainer.max_epochs=null", "valid integer"]),
    "negative seed": (["seed=-1"], ["seed=-1", "greater than or equal to 0"]),
    "not one of": (["data.augment.policy=autoaugment"], ["data.augment.policy=autoaugment", "'randaugment'"]),
    "smoothing of 1": (["trainer.label_smoothing=1"], ["trainer.label_smoothing=1", "less than 1"]),
    "warm-up longer than the training": (
        ["scheduler=cosine", "scheduler.warmup_epochs=2"],
        ["scheduler.warmup_epochs=2", "trainer.max_epochs=2"],
    ),
    "crop range": (
        ["data.augment.resized_crop=[0.9,0.1]"],
        ["data.augment.resized_crop", "0 < min <= max <= 1"],
    ),
    "name with a slash": (["name=../x"], ["name=../x"]),
    "wrong type of an architecture": (["arch.blocks=two"], ["arch.blocks=two", "valid integer"]),
    "wrong choice of an architecture": (["arch.head=conv"], ["arch.head=conv", "'flatten' or 'gap'"]),
    "more blocks than the image allows": (["arch.blocks=4"], ["arch.blocks=4", "8 pixels", "1 to 3"]),
    "no channels": (["arch=resnet20", "arch.width=0.001"], ["arch.width=0.001", "0.0625 or more"]),
    "value that needs quotes": (
        ["arch.weights=~/x.pth"],
        ["arch.weights=~/x.pth", "put quotes around the value itself"],
    ),
    "value with an equals sign": (
        ["arch.weights=epoch=3-step=9.ckpt"],
        ["put quotes around the value itself, as in 'arch.weights=\"epoch=3-step=9.ckpt\"'"],
    ),
    "value with a comma": (["data.root=d, x=1"], ["as in 'data.root=\"d, x=1\"'"]),
    "no width": (["arch=mobilenet_v2", "arch.width=0"], ["arch.width=0", "greater than 0"]),
    "negative width": (["arch=efficientnet_b0", "arch.width=-1"], ["arch.width=-1", "greater than 0"]),
    "width that is not a number": (["arch=vgg11", "arch.width=nan"], ["arch.width=nan", "equal to 64"]),
    "enormous width": (["arch=vgg11", "arch.width=1e9"], ["arch.width=1000000000.0", "equal to 64"]),
    "width of a word": (["arch=vgg11", "arch.width=true"], ["arch.width=true", "valid number"]),
    "enormous depth": (
        ["arch=efficientnet_b0", "arch.depth_coefficient=1e4"],
        ["arch.depth_coefficient=10000.0", "less than or equal to 10"],
    ),
    "dropout beyond 1": (["arch=alexnet", "arch.dropout=2"], ["arch.dropout=2", "less than 1"]),
    "dropout that is not used": (
        ["arch=googlenet", "arch.aux_dropout=3"],
        ["arch.aux_dropout=3", "less than"],
    ),
    "stochastic depth beyond 1": (
        ["arch=resnet18", "arch.stochastic_depth=1.5"],
        ["arch.stochastic_depth=1.5", "less than 1"],
    ),
    "stochastic depth that is not a number": (
        ["arch=resnet18", "arch.stochastic_depth=nan"],
        ["arch.stochastic_depth=nan"],
    ),
    "images that a foreign model does not take": (
        ["arch=torchvision", "arch.name=vit_b_16", "data.size=32"],
        ["cannot take images of 3x32x32", "Expected 224"],
    ),
    "op that is unused at this size": (
        ["arch=resnet18", "data.size=4", "ops.pool=blur"],
        ["ops.pool=blur with arch=resnet18 on images of 1x4x4", "no such layer (at this image size)"],
    ),
    "unknown op": (["ops.norm=bach"], ["ops.norm=bach", "'batch'"]),
    "unknown axis": (["ops.nrom=batch"], ["ops.nrom", "did you mean norm?"]),
    "op that the model does not support": (
        ["arch=resnet20", "ops.padding=valid"],
        ["ops.padding=valid", "differ in size"],
    ),
    "op that the model does not have": (["arch=mlp", "ops.norm=group"], ["ops.norm=group", "no such layer"]),
    "op on images too small for it": (["arch=vgg16", "ops.padding=valid"], ["8 pixels", "too small"]),
    "op for a model of torchvision": (
        ["arch=torchvision", "arch.name=resnet18", "ops.act=gelu"],
        ["ops.act=gelu", "models of cnnbench"],
    ),
    "unknown setting to select by": (["select=[optimizer.lrr]"], ["select=optimizer.lrr"]),
    "more memory than available": (["arch=mlp", "arch.hidden=[999999999999]"], ["arch=mlp", "memory"]),
    "several values without -m": (["seed=1,2"], ["seed=1,2", "add -m"]),
    "null for a group": (["arch=null"], ["arch=null", "string"]),
    "nothing before =": (["=5"], ["=5"]),
    "no =": (["outputs/x"], ["outputs/x: not a setting; allowed: KEY=VALUE"]),
    "unknown flag": (["--mulitrun"], ["--mulitrun: no such option", "did you mean --multirun?"]),
    "two channels": (["arch.in_channels=2"], ["arch.in_channels=2", "1 or 3"]),
    "a section as a value": (["trainer.early_stopping=3"], ["trainer.early_stopping=3", "is a section"]),
    "empty output folder": (["output_dir="], ["output_dir=: is empty; allowed: a file or a folder"]),
    "unknown home": (['output_dir="~nobody7/x"'], ["output_dir=~nobody7/x", "no such user"]),
    "images of an unknown home": (
        ["data=imagefolder", 'data.root="~nobody7/x"'],
        ["data.root=~nobody7/x", "no such user"],
    ),
    "weights of an unknown home": (
        ['arch.weights="~nobody7/x"'],
        ["arch.weights=~nobody7/x", "no such user"],
    ),
    "even kernel": (["arch.kernel=2"], ["arch.kernel=2", "odd"]),
    "impossible depth": (["arch=resnet20", "arch.depth=21"], ["arch.depth=21", "6n + 2"]),
    "momentum of a word": (["optimizer.momentum=much"], ["optimizer.momentum=much", "valid number"]),
    "momentum that SGD refuses": (["optimizer.momentum=-1"], ["optimizer", "-1"]),
    "milestone beyond the end": (
        ["scheduler=step", "scheduler.milestones=[30,60]"],
        ["scheduler.milestones=[30.0, 60.0]", "between 0 and 1"],
    ),
    "target that does not exist": (["arch._target_=cnnbench.models.basic.basik"], ["arch._target_", "basik"]),
    "absent device": (["device=gpu"], ["device.accelerator=gpu", "allowed: cpu"]),
    "precision that the CPU lacks": (
        ["device=cpu", "device.precision=16-mixed"],
        ["device.precision=16-mixed"],
    ),
    "limit below the classes": (["data.limit=5"], ["data.limit=5", "allowed: 10 or more"]),
    "empty val": (["data.val_fraction=0.001"], ["data.val_fraction=0.001", "10 classes"]),
    "classes of a fixed set": (["+data.num_classes=5"], ["data.num_classes=5", "synthetic"]),
    "grey from colour": (
        ["data=synthetic", "data.limit=100", "data.limit_test=50", "arch.in_channels=1"],
        ["arch.in_channels=1"],
    ),
    "images of 2 pixels": (["data.size=2"], ["data.size=2", "greater than or equal to 4"]),
    "no folder": (["data=imagefolder", "data.root=nowhere"], ["data.root=nowhere", "no such folder"]),
    "folder not given": (["data=imagefolder"], ["data.root", "must be given"]),
    "unwritable outputs": (["output_dir=/dev/null/runs"], ["output_dir", "/dev/null/runs"]),
    "two faults": (["seed=-1", "data.batch_size=0"], ["seed=-1", "data.batch_size=0"]),
    "config folder that is not there": (["--config-dir", "nowhere"], ["nowhere"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_no_run(case, cli):
    overrides, expected = CASES[case]
    code, out, err = cli("train", "trainer.max_epochs=2", "logger=none", *overrides)
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert line.startswith("error: ")
    for text in expected:
        assert text in line
    assert out == ""
    assert not Path("outputs").exists()


SWEEPS = [
    (["data.siez=16,8"], ["data.siez", "did you mean size?"]),
    (["arch=basic,basik"], ["1 of 2", "arch=basik", "did you mean basic?"]),
    (["arch=nothing,basik"], ["2 of 2", "arch=nothing", "arch=basik"]),
    (["optimizer.lr=0.1,-1"], ["1 of 2", "optimizer.lr=-1", "greater than 0"]),
    (["optimizer.lr=0.1,-1", "seed=0,1"], ["2 of 4", "optimizer.lr=-1", "seed=0 and 1 more"]),
    (["arch.blocks=2,9"], ["1 of 2", "arch.blocks=9", "allowed for images of 8 pixels"]),
    (["arch=basic,mlp", "ops.norm=native,group"], ["1 of 4", "ops.norm=group", "arch=mlp"]),
    (["optimizer.momentum=0.9,soft"], ["1 of 2", "optimizer.momentum=soft"]),
    (["data=digits,imagefolder", "data.root=nowhere"], ["1 of 2", "data.root", "nowhere"]),
    (["data.num_workers=0,1"], ["data.num_workers=0,1", "does not change the run"]),
    (["logger=none,csv", "seed=0,1"], ["logger=none,csv", "does not change the run"]),
    (["ops.norm=native,batch"], ["ops.norm=native,batch", "does not change the run"]),
    (["optimizer.lr=interval(0.1,0.2)"], ["optimizer.lr=interval(0.1,0.2)", "hydra/sweeper=optuna"]),
    (["seed=0,1,1"], ["seed=1", "contains a run twice"]),
    (["seed=0,1", "sweep.jobs=0"], ["sweep.jobs=0"]),
    (["seed=0,1", "sweep.on_failure=wait"], ["sweep.on_failure=wait", "'continue' or 'stop'"]),
    (["seed=0,1", "hydra/launcher=cloud"], ["hydra/launcher=cloud", "local"]),
    (["seed=0,1", "device=gpu"], ["device.accelerator=gpu", "allowed: cpu"]),
]


@pytest.mark.parametrize(("overrides", "expected"), SWEEPS, ids=lambda value: " ".join(value))
def test_a_bad_sweep_is_one_error_before_the_first_run(cli, overrides, expected):
    """A single wrong cell is enough: nothing is trained, nothing is written."""
    code, out, err = cli("train", "-m", "data.limit=300", "trainer.max_epochs=2", "logger=none", *overrides)
    assert code == 2, err
    assert err.count("error:") == 1
    assert "Traceback" not in err
    for text in expected:
        assert text in err
    assert out == ""
    assert not Path("outputs").exists()


def test_refused_runs_can_be_skipped(cli):
    overrides = ["-m", *TINY, "optimizer.lr=0.1,-1", "arch.blocks=2,9", "sweep.on_refused=skip"]
    code, _, err = cli("train", *overrides)
    assert code == 0, err
    assert "skipped" in err
    assert "optimizer.lr=-1" in err
    assert "arch.blocks=9" in err
    assert "1 new, 3 skipped" in err
    assert len(list(Path("outputs").rglob("summary.json"))) == 1


def test_an_unwritable_folder_is_reported(cli, tmp_path):
    (tmp_path / "outputs").write_text("a file where the folder should be")
    code, _, err = cli("train", *TINY)
    assert code == 2
    assert "output_dir" in err


def test_unknown_verb(cli):
    code, _, err = cli("trian")
    assert code == 2
    assert "did you mean train?" in err


def test_runs_of_a_missing_folder(cli):
    code, _, err = cli("runs", "nowhere")
    assert code == 2
    assert "nowhere: no such folder" in err


def test_seed_0_is_a_seed(cli):
    assert cli("train", *TINY, "seed=0")[0] == 0
    assert cli("train", *TINY, "seed=1")[0] == 0
    assert len(list(Path("outputs").rglob("summary.json"))) == 2


@pytest.mark.parametrize("sweep", [[], ["-m"]])
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("class Tiny(:\n", ["cannot be imported", "mynet.py, line 1"]),
        ("import torch\nx = 1 / 0\n", ["cannot be imported (division by zero, mynet.py line 2)"]),
        ("class Tiny:\n    def __init__(self):\n        1 / 0\n", ["division by zero, mynet.py line 3"]),
    ],
)
def test_an_error_in_a_users_module_is_located(cli, sweep, code, expected):
    Path("mynet.py").write_text(code)
    Path("mine/arch").mkdir(parents=True)
    Path("mine/arch/tiny.yaml").write_text("name: tiny\n_target_: mynet.Tiny\n")
    code, _, err = cli("train", *sweep, *TINY[:2], "--config-dir", "mine", "arch=tiny", "logger=none")
    assert code == 2, err
    assert "Traceback" not in err
    for text in expected:
        assert text in err
    assert not Path("outputs").exists()


@pytest.mark.parametrize("more", [[], ["hydra/sweeper=optuna", "optimizer.lr=interval(0.01,0.1)"]])
def test_a_sweep_without_a_folder(cli, more):
    Path("taken").touch()
    code, _, err = cli("train", "-m", *TINY, "seed=0,1", "output_dir=taken", *more)
    assert code == 2, err
    assert [line for line in err.splitlines() if "taken" in line and "cannot be written" in line]
    assert "Traceback" not in err
    assert Path("taken").read_text() == ""


@pytest.mark.parametrize("sweeper", ["grid", "optuna"])
def test_a_list_of_a_sweep_in_a_file(cli, sweeper):
    write_file(
        "mine/experiment/mine.yaml", "# @package _global_\nhydra: {sweeper: {params: {seed: [0, 1]}}}\n"
    )
    command = ["-m", "--config-dir", "mine", "experiment=mine", f"hydra/sweeper={sweeper}"]
    code, _, err = cli("train", *TINY, *command)
    assert code == 2
    assert "hydra.sweeper.params.seed=[0, 1]: is a list; allowed: a text with commas, such as '0,1'" in err
    write_file(
        "mine/experiment/mine.yaml", "# @package _global_\nhydra: {sweeper: {params: {seed: '0,1'}}}\n"
    )
    if sweeper == "grid":
        assert cli("train", *TINY, *command)[0] == 0
        assert len(list(Path("outputs").glob("*/basic-*"))) == 2


def test_a_file_with_a_byte_order_mark(cli):
    content = "name: marked\n_target_: torch.optim.SGD\nlr: 0.01\n"
    write_file("mine/optimizer/marked.yaml", content, encoding="utf-8-sig")
    assert cli("train", *TINY, "--config-dir", "mine", "optimizer=marked")[0] == 0


def write_file(path, text, encoding="utf-8"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding=encoding)
