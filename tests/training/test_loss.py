"""Losses of the training, against those of torch, torchvision and timm, and the paper's formula."""

from functools import partial

import numpy as np
import pytest
import torch
from running import TINY, runs, the_run
from timm.loss import BinaryCrossEntropy
from torch import nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from cnnbench.data.balance import class_weights
from cnnbench.data.images import Images
from cnnbench.run_store.run import Run
from cnnbench.training.loss import WeightedMean, binary, focal

K = 5


def drawn(scale=2.0):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(32, K, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.arange(32) % K


def mixed(labels):
    """Targets of mixed images: 0.7 of one class, 0.3 of another."""
    one, other = F.one_hot(labels, K), F.one_hot((labels + 1) % K, K)
    return (0.7 * one + 0.3 * other).double()


def assert_same(loss, expected, logits):
    """Assert that values and gradients agree."""
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    gradients = (torch.autograd.grad(one, logits, retain_graph=True)[0] for one in (loss, expected))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_loss_of_two_classes_is_that_of_torchvision(gamma):
    z, labels = torch.linspace(-8, 8, 33, dtype=torch.float64).requires_grad_(), torch.arange(33) % 2
    logits = torch.stack([torch.zeros_like(z), z], 1)
    expected = sigmoid_focal_loss(z, labels.double(), alpha=-1, gamma=gamma, reduction="mean")
    assert_same(focal(logits, labels, gamma=gamma).mean(), expected, z)


def test_focal_loss_with_gamma_0_is_cross_entropy():
    logits, labels = drawn()
    assert_same(focal(logits, labels, gamma=0.0).mean(), F.cross_entropy(logits, labels), logits)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_focal_loss_of_a_certain_answer_has_a_gradient(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    focal(logits, torch.tensor([0, 0]), gamma=gamma).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0].abs().max() < 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("mixing", [False, True])
def test_weights_as_in_torch(smoothing, mixing):
    logits, labels = drawn()
    targets = mixed(labels) if mixing else labels
    weights = torch.tensor([0.1, 1.0, 2.0, 3.0, 0.5], dtype=torch.float64)
    losses = partial(F.cross_entropy, label_smoothing=smoothing, reduction="none")
    expected = nn.CrossEntropyLoss(weights, label_smoothing=smoothing)(logits, targets)
    assert_same(WeightedMean(losses, weights)(logits, targets), expected, logits)


@pytest.mark.parametrize(
    ("mixing", "smoothing", "threshold", "sum_classes"),
    [
        (False, 0.0, None, False),
        (False, 0.1, None, True),
        (True, 0.0, None, False),
        (True, 0.0, 0.2, False),
        (True, 0.0, 0.4, True),
    ],
)
def test_binary_cross_entropy_as_in_timm(mixing, smoothing, threshold, sum_classes):
    logits, labels = drawn()
    targets = mixed(labels) if mixing else labels
    expected = BinaryCrossEntropy(smoothing, target_threshold=threshold, sum_classes=sum_classes)
    loss = binary(logits, targets, smoothing=smoothing, threshold=threshold, sum_classes=sum_classes)
    assert_same(loss, expected(logits, targets), logits)


def test_a_mixed_image_is_of_both_its_classes():
    logits, labels = drawn()
    both = ((F.one_hot(labels, K) + F.one_hot((labels + 1) % K, K)) > 0).double()
    loss = binary(logits, mixed(labels), smoothing=0.0, threshold=0.2, sum_classes=False)
    assert_same(loss, F.binary_cross_entropy_with_logits(logits, both), logits)


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], [60, 30, 10])
    images = Images(torch.zeros(100, 1, 2, 2, dtype=torch.uint8), labels, ["a", "b", "c"])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights("balanced", images), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.loss=focal", "trainer.focal_gamma=1.5", "data.class_weights=balanced"],
        ["trainer.loss=bce", "trainer.bce_threshold=0.2", "trainer.mixup=0.2", "trainer.cutmix=1.0"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_val_and_test_losses_are_the_negative_log_likelihood_of_any_training(overrides, cli):
    assert cli("train", *TINY, *overrides, "trainer.max_epochs=3")[0] == 0
    run = Run(the_run())
    code, out, _ = cli("evaluate", run.path)
    assert (code, "the same (accuracy" in " ".join(out.split())) == (0, True)
    assert run.rows()[-1]["train/loss"] < run.rows()[0]["train/loss"]


WRONG = {
    "trainer.loss=hinge": ["trainer.loss=hinge"],
    "trainer.focal_gamma=1.0: only with trainer.loss=focal; allowed: 2": ["trainer.focal_gamma=1"],
    "trainer.bce_sum=true: only with trainer.loss=bce": ["trainer.bce_sum=true", "trainer.loss=focal"],
    "trainer.bce_threshold=1.0": ["trainer.bce_threshold=1.0", "trainer.loss=bce"],
    "trainer.mixup=0.2: not with trainer.loss=focal; allowed: 0": ["trainer.mixup=0.2", "trainer.loss=focal"],
    "trainer.label_smoothing=0.1: not with trainer.loss=focal": [
        "trainer.label_smoothing=0.1",
        "trainer.loss=focal",
    ],
    "trainer.bce_threshold=0.2: only with trainer.mixup": ["trainer.bce_threshold=0.2", "trainer.loss=bce"],
    "trainer.label_smoothing=0.1: not with trainer.bce_threshold": [
        *("trainer.label_smoothing=0.1", "trainer.loss=bce", "trainer.bce_threshold=0.2", "trainer.mixup=1.0")
    ],
    "data.class_weights=balanced: not with trainer.loss=bce; allowed: null": [
        "data.class_weights=balanced",
        "trainer.loss=bce",
    ],
    "data.class_weights=even: allowed: null, balanced, or": ["data.class_weights=even"],
    "data.class_weights=[1, 0]: allowed: null, balanced, or a number from 0.0001 to 10000 for": [
        "data.class_weights=[1,0]"
    ],
    "data.class_weights=[1, 1e+38]: allowed: null": ["data.class_weights=[1,1e38]"],
    "data.class_weights=[1.0, 2.0]: 2 numbers for 10 classes; allowed: one for each (0, 1, 2, 3, 4, …)": [
        "data.class_weights=[1,2]"
    ],
}


@pytest.mark.parametrize(("said", "overrides"), WRONG.items(), ids=lambda value: str(value)[:40])
def test_errors_name_the_setting_and_what_is_allowed(said, overrides, cli):
    code, _, err = cli("train", *TINY, *overrides)
    assert (code, said in " ".join(err.split())) == (2, True), err
    assert not runs()


def test_a_sweep_says_so_before_it_trains(cli):
    code, _, err = cli("train", "-m", *TINY, "data.class_weights=null,[1,2]")
    assert (code, "2 numbers for 10 classes" in " ".join(err.split())) == (2, True), err
    assert not runs()
