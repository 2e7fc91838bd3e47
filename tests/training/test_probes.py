"""Probes change nothing, measure what they say, and survive an interruption."""

import csv

import pytest
import torch
from resuming import assert_same, final, interrupted_after
from running import TINY, the_run
from torch import nn
from torch.nn import functional as F

from cnnbench.cli import main
from cnnbench.run_store.run import Run
from cnnbench.training.probes.layers import slopes, watched_layers
from cnnbench.training.probes.translation import shifted

RECIPE = [*TINY, "data.limit=200", "data.batch_size=32", "ops.norm=batch", "arch.dropout=0.2"]
ALL = [
    "probes=[activations,gradients,shift,landscape,field,translation]",
    *("probes.activations.every=3", "probes.gradients.every=2"),
    *("probes.shift.every=4", "probes.landscape.every=5"),
]

VARIANTS = {
    "plain": [],
    "ema": ["trainer.ema_decay=0.9", "trainer.mixup=0.4"],
    "accumulate": ["trainer.accumulate=2", "trainer.swa=0.3", "trainer.max_epochs=3"],
    "bfloat16": ["device.precision=bf16", "optimizer=adamw"],
    "schedulefree": ["optimizer=adamw_schedulefree", "scheduler=constant", "trainer.clip_norm=1.0"],
}


def measured(run, name):
    with (run / "probes" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "variant", [v if v == "plain" else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS]
)
def test_probes_change_nothing(variant):
    recipe = [*RECIPE, *VARIANTS[variant]]
    assert main(["train", "output_dir=without", *recipe]) == 0
    assert main(["train", "output_dir=with", *recipe, *ALL]) == 0
    without, probed = the_run("without"), the_run("with")
    assert without.name == probed.name
    (rows_a, summary_a, weights_a), (rows_b, summary_b, weights_b) = final(without), final(probed)
    assert rows_a == rows_b
    assert summary_a.items() < summary_b.items()
    assert all(torch.equal(value, weights_b[key]) for key, value in weights_a.items())


def test_a_resumed_run_has_every_measurement_once(monkeypatch):
    recipe = [*RECIPE, *ALL, "trainer.checkpoint_every_n_steps=4", "trainer.max_epochs=3"]
    assert main(["train", "output_dir=undisturbed", *recipe]) == 0
    interrupted_after(1, monkeypatch, ["output_dir=broken", *recipe])
    interrupted_after(2, monkeypatch, ["output_dir=broken", *recipe])
    assert main(["train", "output_dir=broken", *recipe]) == 0
    assert_same(the_run("undisturbed"), the_run("broken"))
    for path in (the_run("undisturbed") / "probes").iterdir():
        assert path.read_text() == (the_run("broken") / "probes" / path.name).read_text()
    steps = [int(row["step"]) for row in measured(the_run("broken"), "activations")]
    assert sorted(set(steps)) == [0, 3, 6, 9, 12, 15]
    assert steps == sorted(steps)
    assert len(steps) == 4 * 6
    assert Run(the_run("broken")).damage == []


def test_layers_are_seen_at_the_input_of_the_activation_that_follows():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.act = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU(inplace=True)
            self.out, self.head = nn.Conv2d(2, 2, 1), nn.Linear(2, 3)

        def forward(self, x):
            self.sum = x + self.norm(self.conv(x))
            self.copy = self.sum.clone()
            return self.head(self.out(self.act(self.sum)).mean((2, 3)))

    model, seen = Block(), {}
    with watched_layers(model, lambda name, x, act: seen.update({name: (x.clone(), act)})):
        logits = model(torch.randn(4, 2, 3, 3))
    assert list(seen) == ["conv", "out", "head"]
    assert seen["conv"][1] is model.act
    assert torch.equal(seen["conv"][0], model.copy)
    assert seen["out"][1] is seen["head"][1] is None
    assert torch.equal(seen["head"][0], logits)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    "act", [nn.ReLU(), nn.ReLU6(inplace=True), nn.Tanh(), nn.GELU(), nn.PReLU(), nn.Sigmoid()]
)
def test_slopes_are_differences(act):
    x = torch.linspace(-8, 8, 400, dtype=torch.float64)[None]
    act.double()
    h = 1e-6
    expected = (act(x + h) - act(x - h)) / (2 * h)
    assert torch.allclose(slopes(act, x.clone()), expected.detach(), atol=1e-5)


def test_shifts_are_those_of_numpy():
    images = torch.arange(4 * 25.0).view(4, 1, 5, 5)
    result = shifted(images, torch.arange(4), 2)
    padded = F.pad(images, [2] * 4, mode="replicate")
    for i, (rows, columns) in enumerate([(0, 2), (0, -2), (2, 0), (-2, 0)]):
        rolled = torch.roll(padded[i], (rows, columns), (1, 2))[:, 2:-2, 2:-2]
        assert torch.equal(result[i], rolled)


def test_activations_of_a_known_network(tmp_path):
    """Layers are measured with the statistics of the batch, and units that are dead are found."""
    assert main(["train", *TINY, "trainer.max_epochs=1", "ops.norm=batch", "probes=activations"]) == 0
    first = measured(the_run(), "activations")[0]
    assert (first["step"], first["layer"]) == ("0", "features.block1.0")
    assert float(first["mean"]) == pytest.approx(0, abs=1e-5)
    assert float(first["deviation"]) == pytest.approx(1, abs=1e-3)
