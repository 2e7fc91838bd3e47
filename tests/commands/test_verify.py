"""`cnnbench verify`: any changed byte of a run is named, and nothing that is as it was written."""

import os
import random
from pathlib import Path

import pytest
import torch
from search import SEED

from cnnbench.training.checkpoints import write_checkpoint

pytest_plugins = ["finished_fixtures"]


def lines(out):
    return [line for line in out.splitlines() if line.strip()]


def test_what_is_as_it_was_written(digits, cli):
    code, out, err = cli("verify", digits.path.parent)
    assert (code, err) == (0, "")
    assert lines(out) == ["1 run with 2 checkpoints verified: all as they were written"]


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "summary.json", "metrics.csv", "config.yaml",
        "identity.json", "status.json",
    ],
)  # fmt: skip
def test_one_flipped_bit_anywhere_in_a_file_is_named(name, digits, copied, cli):
    run, sound = copied(digits, digits.path.name), copied(digits, f"x-{digits.path.name}")
    path, rng = run.path / name, random.Random(SEED)
    content = path.read_bytes()
    for _ in range(5):
        damaged = bytearray(content)
        position, bit = rng.randrange(len(damaged)), rng.randrange(8)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        code, out, err = cli("verify", sound.path.parent)
        assert (code, err) == (1, ""), (position, bit, SEED)
        assert any(line.startswith(str(path)) for line in lines(out)), (position, bit, out)
        assert not any(str(sound.path) in line for line in lines(out))
        assert lines(out)[-1] == "2 runs with 4 checkpoints verified: 1 damaged"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "checkpoints" / "best.ckpt").unlink(), "best.ckpt: is missing"),
        (lambda path: (path / "summary.json").unlink(), "summary.json"),
        (lambda path: (path / "notes").symlink_to("/etc"), "notes: is a link"),
    ],
)
def test_what_is_missing_or_leads_elsewhere_is_named(damage, message, digits, copied, cli):
    run = copied(digits, digits.path.name)
    damage(run.path)
    code, out, _ = cli("verify", run.path)
    assert code == 1
    assert message in out


INSTEAD = {
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another": lambda path: write_checkpoint(torch.load(path, weights_only=True) | {"epoch": 7}, path),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("what", INSTEAD)
def test_what_stands_for_the_checkpoint_that_a_run_wrote_is_not_used(what, digits, copied, cli):
    """Not even a sealed one, as of another run; and nothing waits for a pipe or reads a device."""
    run = copied(digits, digits.path.name)
    path = run.path / "checkpoints" / "best.ckpt"
    INSTEAD[what](path)
    code, out, _ = cli("verify", run.path)
    assert code == 1
    assert any(line.startswith(f"{path}: ") for line in lines(out)), out
    for words in (["evaluate"], ["export", "--output", "x.onnx"], ["predict", Path("nothing.png")]):
        Path("nothing.png").touch()
        code, out, err = cli(words[0], run.path, *words[1:])
        assert (code, out) == (2, ""), words
        assert err.startswith(f"error: {path}: is not ")


def test_a_run_that_has_lost_its_status_is_named(digits, copied, cli):
    run = copied(digits, digits.path.name)
    copied(digits, f"x-{digits.path.name}")
    (run.path / "status.json").unlink()
    code, out, _ = cli("verify", run.path.parent)
    assert code == 1
    assert f"{run.path / 'status.json'}: is missing" in out
    assert lines(out)[-1] == "1 run with 2 checkpoints verified: 1 damaged"


def test_a_folder_without_runs(tmp_path, cli):
    code, _, err = cli("verify", tmp_path)
    assert code == 2
    assert "no run here" in err
