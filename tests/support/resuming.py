"""A training that is interrupted, and what must not differ afterwards."""

import signal
from pathlib import Path

import torch
from running import the_run

from cnnbench.cli import main
from cnnbench.errors import Interrupted
from cnnbench.run_store.run import Run
from cnnbench.training.recorder import Recorder


def final(run: Path):
    """Return what must not differ: metrics and summary outside time/, and the weights."""
    rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in Run(run).rows()]
    summary = {k: v for k, v in Run(run).summary().items() if not k.startswith("time/")}
    weights = {
        f"{name}/{key}": value
        for name in ("best", "last")
        for key, value in torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)[
            "state_dict"
        ].items()
    }
    return rows, summary, weights


def assert_same(a: Path, b: Path):
    (rows_a, summary_a, weights_a), (rows_b, summary_b, weights_b) = final(a), final(b)
    assert rows_a == rows_b
    assert summary_a == summary_b
    assert weights_a.keys() == weights_b.keys()
    assert all(torch.equal(value, weights_b[key]) for key, value in weights_a.items())


def interrupted_after(checkpoints: int, monkeypatch, arguments):
    """Train until so many checkpoints are written, then be interrupted."""
    save, written = Recorder._save, []

    def dying(self, trainer, *, best):
        save(self, trainer, best=best)
        written.append(trainer.global_step)
        if len(written) == checkpoints:
            raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_save", dying)
        assert main(["train", *arguments]) == 128 + signal.SIGTERM
    assert Run(the_run("broken")).state == "interrupted"
