"""The moving average of the weights, against its formula and in short trainings."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from running import TINY, the_run
from torch import nn
from torch.utils.data import DataLoader

from cnnbench.processes.logs import quiet
from cnnbench.run_store.run import Run
from cnnbench.training.averaging import MovingAverage, decay_at
from cnnbench.training.classifier import Classifier


class Weights(Callback):
    """Weights after each step."""

    def __init__(self):
        self.states = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.states.append({k: v.clone() for k, v in pl_module.state_dict().items()})


@pytest.mark.parametrize("decay", [0.3, 0.99, 0.9999])
def test_the_decay_warms_up(decay):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3))
    task = Classifier(model, 3, lambda p: torch.optim.SGD(p, 0.1), constant, seed=0)
    batches = [(torch.randn(6, 3, 2, 2), torch.arange(6) % 3) for _ in range(25)]
    seen, average = Weights(), MovingAverage(decay)
    options = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "num_sanity_val_steps": 0,
    }
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", callbacks=[seen, average], **options)
    with quiet():
        trainer.fit(task, *[DataLoader(batches, batch_size=None)] * 2)

    expected, *later = seen.states
    for n, state in enumerate(later, 1):
        keep = min(decay, (1 + n) / (10 + n))
        for name, value in state.items():
            counts = not value.is_floating_point()
            expected[name] = value if counts else keep * expected[name] + (1 - keep) * value
    for name, value in task.state_dict().items():  # Lightning leaves the average in the module
        torch.testing.assert_close(value, expected[name], msg=name)
    assert "running_var" in " ".join(expected)


def constant(optimizer):
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


def test_decay():
    assert [decay_at(n, 0.5) for n in (0, 1, 8, 1000)] == [0.1, 2 / 11, 0.5, 0.5]


def test_a_slow_decay_does_not_keep_the_first_weights_of_a_short_training(cli):
    final = {}
    for decay in (0.0, 0.99, 0.9999):
        folder = f"decay-{decay}"
        options = [f"trainer.ema_decay={decay}", f"output_dir={folder}", "trainer.max_epochs=6"]
        assert cli("train", *TINY, *options)[0] == 0
        final[decay] = Run(the_run(folder)).rows()[-1]["val/loss"]
    assert final[0.99] == final[0.9999] != final[0.0]
    assert final[0.9999] < 2 * final[0.0]
