"""The LightningModule: loss, parameter groups, metrics and seeds."""

from functools import partial

import pytest
import torch
from torch import nn

from cnnbench.seeds import mix, seed_all
from cnnbench.training.classifier import Classifier


def classifier(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4), nn.BatchNorm1d(4))
    return Classifier(model, 4, lambda p: torch.optim.SGD(p, 0.1), lambda o: None, seed=3, **options)


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 8, 8, generator=generator), torch.arange(8) % 4


def groups(task, decay=0.3):
    """Return the shapes of the optimizer's parameters by weight decay."""
    task.make_optimizer = lambda p: torch.optim.SGD(p, 0.1, weight_decay=decay)
    param_groups = task.configure_optimizers()["optimizer"].param_groups
    return {group["weight_decay"]: [tuple(p.shape) for p in group["params"]] for group in param_groups}


def test_norms_and_biases_are_decayed_unless_set_otherwise():
    assert groups(classifier()) == {0.3: [(4, 192), (4,), (4,), (4,)]}
    assert groups(classifier(decay_norm_and_bias=False)) == {0.3: [(4, 192)], 0.0: [(4,), (4,), (4,)]}


def test_slopes_of_prelu_are_never_decayed():
    task = classifier()
    task.model.append(nn.PReLU(4))
    assert groups(task) == {0.3: [(4, 192), (4,), (4,), (4,)], 0.0: [(4,)]}


def test_label_smoothing_applies_to_the_training_loss_only():
    images, labels = batch()
    plain, smoothed = classifier(), classifier(loss=partial(nn.functional.cross_entropy, label_smoothing=0.3))
    logits = plain(images)
    log_p = logits.log_softmax(1)
    truth = -log_p[torch.arange(8), labels].mean()
    expected = 0.7 * truth - 0.3 * log_p.mean()
    assert smoothed.training_step((images, labels), 0).item() == pytest.approx(expected.item(), rel=1e-5)
    assert plain.training_step((images, labels), 0).item() == pytest.approx(truth.item(), rel=1e-5)
    smoothed.eval()
    smoothed.validation_step((images, labels), 0)
    log_p = smoothed(images).log_softmax(1)
    unsmoothed = -log_p[torch.arange(8), labels].mean()
    assert smoothed.val_metrics.compute()["val/loss"] == pytest.approx(unsmoothed.item(), rel=1e-5)


class TwoHeads(nn.Module):
    aux_weight = 0.25

    def __init__(self):
        super().__init__()
        self.main, self.auxiliary = nn.Linear(192, 4), nn.Linear(192, 4)

    def forward(self, x):
        logits = self.main(x.flatten(1))
        return (logits, self.auxiliary(x.flatten(1))) if self.training else logits


def test_auxiliary_classifiers_count_in_the_training_loss_only():
    task = classifier()
    task.model = TwoHeads()
    images, labels = batch()
    main, auxiliary = (nn.functional.cross_entropy(logits, labels).item() for logits in task(images))
    assert task.training_step((images, labels), 0).item() == pytest.approx(main + 0.25 * auxiliary, rel=1e-5)
    assert task.train_metrics.compute()["train/loss"] == pytest.approx(main, rel=1e-5)
    task.eval()
    task.validation_step((images, labels), 0)
    assert task.val_metrics.compute()["val/loss"] == pytest.approx(main, rel=1e-5)


def test_frozen_modules_stay_in_eval_mode():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(192, 4))
    task = Classifier(model, 4, None, None, seed=0, frozen=[model[0]])
    task.on_train_start()
    assert [module.training for module in model] == [False, True, True, True]


def test_metrics_are_means_over_images_not_batches():
    task = classifier().eval()
    images, labels = batch()
    logits = task(images)
    loss = nn.functional.cross_entropy(logits, labels).item()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    for rows in (slice(0, 6), slice(6, 8)):
        task.training_step((images[rows], labels[rows]), 0)
        task.validation_step((images[rows], labels[rows]), 0)
        task.test_step((images[rows], labels[rows]), 0)
    for split in ("train", "val", "test"):
        values = getattr(task, f"{split}_metrics").compute()
        assert values[f"{split}/loss"] == pytest.approx(loss, rel=1e-5)
        assert values[f"{split}/acc"] == pytest.approx(accuracy)
    assert task.val_metrics.compute()["val/top5"] == 1.0  # four classes


@pytest.mark.parametrize("mixer", ["mixup", "cutmix"])
def test_mixing_is_seeded_by_step(mixer):
    task = classifier(**{mixer: 1.0})
    losses = []
    for epoch_seed in (0, 0, 1):
        seed_all("step", 3, epoch_seed, 0)
        losses.append(task.training_step(batch(), 0).item())
    assert losses[0] == losses[1] != losses[2]


def test_seeds_depend_on_their_parts_alone():
    assert mix("order", 0, 1) == mix("order", 0, 1) == 4_473_484_566_461_243_327
    seeds = {mix("batch", seed, epoch, b) for seed in range(5) for epoch in range(5) for b in range(40)}
    assert len(seeds) == 1000
    assert mix("a", 11, 1) != mix("a", 1, 11)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_every_generator_is_seeded():
    import random

    import numpy as np

    draws = []
    for _ in range(2):
        seed_all("step", 0, 0, 0)
        draws.append((random.random(), np.random.rand(), float(torch.rand(1))))  # noqa: NPY002
    assert draws[0] == draws[1]
