"""A run that was killed resumes, and its result equals that of an uninterrupted run bit for bit, on CPU."""

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from resuming import assert_same, interrupted_after
from running import TINY, command, epochs, kill_when, the_run
from sealing import seal
from sklearn.datasets import load_digits

from cnnbench.cli import main
from cnnbench.run_store.run import Run
from cnnbench.training import recorder
from cnnbench.training.checkpoints import RECORD, read_checkpoint, resumable, write_checkpoint
from cnnbench.training.recorder import Recorder

RECIPE = [*TINY, "trainer.max_epochs=6", "data.limit=600", "data.batch_size=32"]
FILES = ["data=imagefolder", "data.root=images", "data.size=16", "data.num_workers=2", "data.limit=null"]

VARIANTS = {
    "plain": ["optimizer=adamw", "scheduler=cosine", "scheduler.warmup_epochs=1.5", "arch.dropout=0.2"],
    "ema": ["trainer.ema_decay=0.9", "trainer.mixup=0.4", "trainer.cutmix=1.0", "trainer.clip_norm=1.0"],
    "plateau": [
        "scheduler=plateau",
        "scheduler.patience=0",
        "scheduler.warmup_epochs=1",
        "trainer.accumulate=2",
        "scheduler.monitor=val/balanced_acc",
        "trainer.monitor=val/f1_macro",
        "trainer.early_stopping.patience=4",
    ],
    "balanced": [
        *("data.sampler=balanced", "data.augment.policy=randaugment", "trainer.ema_decay=0.9"),
        *("trainer.loss=focal", "data.class_weights=[1,2,3,4,5,6,7,8,9,9]"),
    ],
    "policy": [
        "data.augment.policy=trivialaugment",
        "data.augment.cutout=2",
        "scheduler=step",
        "data.augment.flip=alternating",
        "data.augment.jitter=0.2",
        "data.augment.erase=0.5",
        "optimizer=muon",
    ],
    "no_val": ["data.val_fraction=0", "trainer.ema_decay=0.9", "scheduler=cosine"],
    "swa": ["trainer.swa=0.3", "scheduler=cosine", "scheduler.floor=0.2", "scheduler.until=0.5"],
    "swa_no_val": ["data.val_fraction=0", "trainer.swa=0.3", "ops.norm=batch"],
    "schedulefree": ["optimizer=adamw_schedulefree", "scheduler=constant", "scheduler.warmup_epochs=1"],
    "float64": ["device.precision=fp64", "optimizer=adamw"],
    "float64_ema": ["device.precision=fp64", "optimizer=adamw", "trainer.ema_decay=0.9"],
    "bfloat16": ["device.precision=bf16", "optimizer=adamw"],
    "files": [*FILES, "data.augment.policy=randaugment"],
}


@pytest.fixture
def images(tmp_path):
    """Write ten class folders of small PNG files."""
    digits = load_digits()
    for i in range(300):
        folder = tmp_path / "images" / str(digits.target[i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[i] * 15).astype(np.uint8)).save(folder / f"{i}.png")


@pytest.mark.parametrize(
    ("variant", "every_n_steps"),  # at the ends of epochs, and within epochs
    [
        *((variant, "null") for variant in VARIANTS),
        *(
            pytest.param(
                variant,
                7,
                marks=() if variant in ("plain", "float64", "files", "balanced") else pytest.mark.slow,
            )
            for variant in VARIANTS
        ),
    ],
)
def test_resumed_equals_undisturbed(variant, every_n_steps, monkeypatch, images):
    overrides = [*RECIPE, *VARIANTS[variant], f"trainer.checkpoint_every_n_steps={every_n_steps}"]
    assert main(["train", "output_dir=undisturbed", *overrides]) == 0
    interrupted_after(2, monkeypatch, ["output_dir=broken", *overrides])
    interrupted_after(3, monkeypatch, ["output_dir=broken", *overrides])
    assert main(["train", "output_dir=broken", *overrides]) == 0
    assert len(Run(the_run("broken")).status()["attempts"]) == 3
    assert_same(the_run("undisturbed"), the_run("broken"))


def test_a_run_that_an_older_version_began_keeps_its_columns(monkeypatch):
    """Its rows have no macro-F1, balanced accuracy or calibration; the test of the resumed run has them."""
    overrides = ["output_dir=broken", *RECIPE]
    with monkeypatch.context() as older:
        older.setattr(recorder, "VAL", recorder.VAL[:3])
        interrupted_after(2, monkeypatch, overrides)
    assert main(["train", *overrides]) == 0
    run = Run(the_run("broken"))
    assert run.state == "finished"
    assert len(run.rows()) == 6
    assert all(list(row) == list(run.rows()[0]) and "val/ece" not in row for row in run.rows())
    assert {"test/f1_macro", "test/balanced_acc", "test/ece"} < run.summary().keys()
    assert "best/val_ece" not in run.summary()


def test_an_interruption_waits_for_the_checkpoint(monkeypatch):
    """An epoch whose row was written is not trained again."""
    save, written = Recorder._save, []

    def interrupting(self, trainer, *, best):
        written.append(trainer.global_step)
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        save(self, trainer, best=best)

    monkeypatch.setattr(Recorder, "_save", interrupting)
    assert main(["train", *RECIPE]) == 128 + signal.SIGTERM
    run = Run(the_run())
    assert run.state == "interrupted"
    assert len(run.rows()) == len(resumable(run, "val/acc")[1]) == len(written) == 2


@pytest.mark.parametrize(
    "signum",
    [signal.SIGKILL, *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGTERM, signal.SIGINT))],
)
def test_killed_process(signum):
    overrides = [*RECIPE, "trainer.max_epochs=30"]
    process = subprocess.Popen(command("train", "output_dir=broken", *overrides))
    code = kill_when(
        process, lambda: any(epochs(p.parent) > 2 for p in Path("broken").rglob("metrics.csv")), signum
    )
    run = Run(the_run("broken"))
    assert code == (-signum if signum == signal.SIGKILL else 128 + signum)
    assert run.status()["state"] == ("running" if signum == signal.SIGKILL else "interrupted")
    assert run.state == "interrupted"  # whatever the file says: no process holds the lease
    before = len(run.rows())
    assert 0 < before < 30

    assert main(["train", "output_dir=broken", *overrides]) == 0
    assert run.state == "finished"
    assert main(["train", "output_dir=undisturbed", *overrides]) == 0
    assert_same(the_run("undisturbed"), run.path)


def zeroed(path):
    content = bytearray(path.read_bytes())
    content[16543 : 16543 + 4096] = bytes(4096)
    return bytes(content)


def of_another_structure(path):
    write_checkpoint({"state_dict": {}, "epoch": 1}, path)
    return path.read_bytes()


def of_another_run(path):
    write_checkpoint(read_checkpoint(path) | {RECORD: {"run": "0123456789", "rows": []}}, path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("names", "damaged"),
    [
        (["last"], zeroed),
        (["last"], of_another_structure),
        (["last"], of_another_run),
        (["best"], zeroed),
        (["last", "best", "previous"], lambda path: path.read_bytes()[:1000]),
        (["previous", "previous_best"], lambda path: b"not read at all"),
    ],
)
def test_damaged_checkpoints(names, damaged, undisturbed, monkeypatch, capfd):
    """One that cannot be used in full gives way to the one before, and nothing else gives way to nothing."""
    interrupted_after(3, monkeypatch, ["output_dir=broken", *RECIPE])
    for name in names:
        path = the_run("broken") / "checkpoints" / f"{name}.ckpt"
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())  # the file may have several names
        content = damaged(copy)
        copy.unlink()
        path.unlink()
        path.write_bytes(content)
    capfd.readouterr()
    assert main(["train", "output_dir=broken", *RECIPE]) == 0
    err = capfd.readouterr().err
    skipped = [line for line in err.splitlines() if line.endswith("is skipped")]
    assert len(skipped) == (0 if names[0] == "previous" else len({"last", "previous"} & {*names, "last"}))
    assert "Traceback" not in err
    assert_same(undisturbed, the_run("broken"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run of RECIPE that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert main(["train", f"output_dir={folder}", *RECIPE]) == 0
    return the_run(folder)


def test_rows_that_differ_from_those_in_the_checkpoint_are_an_error(undisturbed, monkeypatch, cli):
    """Or else metrics.csv alone would decide which epoch is the best."""
    interrupted_after(3, monkeypatch, ["output_dir=broken", *RECIPE])
    path = the_run("broken") / "metrics.csv"
    rows = Run(the_run("broken")).rows()
    text = path.read_text()
    Run(the_run("broken")).write_rows([rows[0] | {"val/acc": 0.97}, *rows[1:]])
    seal(Run(the_run("broken")), state="running")  # as after a kill, which leaves no digests
    code, _, err = cli("train", "output_dir=broken", *RECIPE)
    assert code == 2
    assert f"{path}: val/acc of epoch 0 is 0.97, but {rows[0]['val/acc']} in the checkpoint" in err
    # A row too many or too few is what a kill leaves, and a file that is gone is written anew.
    for left in (
        text + text.splitlines()[-1].replace("2,", "3,", 1) + "\n",
        text[: text.rindex("\n2,") + 1],
        None,
    ):
        if left is None:
            path.unlink()
        else:
            path.write_text(left)
        seal(Run(the_run("broken")), state="running")
        interrupted_after(1, monkeypatch, ["output_dir=broken", *RECIPE])
    # After an end that was recorded, the digest shows that it is damaged, and it is written anew, too.
    path.write_text(path.read_text().replace("\n0,", "\n00,"))
    code, _, err = cli("train", "output_dir=broken", *RECIPE)
    assert (code, f"damaged: {path}: was changed since the run ended" in " ".join(err.split())) == (0, True)
    assert_same(undisturbed, the_run("broken"))


def test_early_stopped_run_that_lacks_only_its_test(monkeypatch):
    """Stopped by patience, then killed before the summary: the resumed run trains no further epoch."""
    overrides = [*RECIPE, "trainer.early_stopping.patience=2", "trainer.max_epochs=40", "optimizer.lr=1e-5"]
    assert main(["train", "output_dir=undisturbed", *overrides]) == 0
    stopped = len(Run(the_run("undisturbed")).rows())
    assert stopped < 40
    interrupted_after(stopped, monkeypatch, ["output_dir=broken", *overrides])
    assert main(["train", "output_dir=broken", *overrides]) == 0
    assert_same(the_run("undisturbed"), the_run("broken"))


def test_device_of_the_first_attempt_is_kept(monkeypatch):
    """The value of `auto` is recorded at the first start; another number of cores changes nothing."""
    interrupted_after(2, monkeypatch, ["output_dir=broken", *RECIPE])
    run = Run(the_run("broken"))
    seal(run, device=run.status()["device"] | {"threads": 1})
    before = torch.get_num_threads()
    try:
        assert main(["train", "output_dir=broken", *RECIPE]) == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert run.status()["device"]["threads"] == 1
