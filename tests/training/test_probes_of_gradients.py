"""Gradients before and after a step, and along the gradient, against computations by hand."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnbench.training.probes.landscape import along_gradient
from cnnbench.training.probes.loss import weights_of
from cnnbench.training.probes.shift import chosen_layers, gradient_changes, moved, parameters_before


class Module(pl.LightningModule):
    def __init__(self, model):
        super().__init__()
        self.model = model


@pytest.fixture
def module():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Conv2d(3, 4, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    return Module(model.double()).double()


@pytest.fixture
def batch():
    return torch.randn(6, 1, 5, 5, dtype=torch.float64), torch.randint(5, (6,))


def gradient(model, batch, name):
    loss = F.cross_entropy(model(batch[0]), batch[1])
    return torch.autograd.grad(loss, model.get_parameter(name))[0]


def test_a_gradient_changes_as_the_layers_before_it_do(module, batch):
    before = weights_of(module)
    after = {name: value + 0.1 * torch.randn_like(value) for name, value in before.items()}
    changes = gradient_changes(module, before, after, ["3", "6"], batch)
    for layer, earlier in (("3", ("0.", "1.")), ("6", ("0.", "1.", "3."))):
        old = gradient(module.model, batch, f"{layer}.weight")
        with torch.no_grad():  # by hand: the layers before it make the step
            for name, parameter in module.model.named_parameters():
                parameter.copy_(after[name] if name.startswith(earlier) else before[name])
        new = gradient(module.model, batch, f"{layer}.weight")
        with torch.no_grad():
            for name, parameter in module.model.named_parameters():
                parameter.copy_(before[name])
        size, change, cosine = map(float, changes[layer])
        assert size == pytest.approx(float(old.norm()), rel=1e-5)
        assert change == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-5)
        assert cosine == pytest.approx(float(F.cosine_similarity(old.flatten(), new.flatten(), 0)), rel=1e-5)
        assert 0 < change < 10


def test_a_step_of_the_layer_itself_and_of_later_ones_changes_nothing(module, batch):
    before = weights_of(module)
    after = {name: value + name.startswith(("3", "6")) for name, value in before.items()}
    _, change, cosine = gradient_changes(module, before, after, ["3"], batch)["3"]
    assert (float(change), float(cosine)) == (0, pytest.approx(1))
    assert parameters_before(module, batch[0], ["3"]) == {"3": {"0.weight", "0.bias", "1.weight", "1.bias"}}


def test_distances_of_distributions():
    x = torch.randn(4, 5000)
    deviation = x.std(1, correction=0, keepdim=True)
    assert float(moved(x, x)) == 0
    assert float(moved(x, x + 0.3 * deviation)) == pytest.approx(0.3, abs=1e-4)
    mean = x.mean(1, keepdim=True)
    assert float(moved(x, mean + 1.4 * (x - mean))) == pytest.approx(0.4, abs=1e-4)
    constant = torch.cat([x, torch.zeros(1, 5000)])  # a channel that is dead
    assert float(moved(constant, constant + 0.3)) == pytest.approx(float(moved(x, x + 0.3)))


def test_layers_are_spread_and_never_the_first():
    assert chosen_layers("abcdefg", 3) == ["b", "d", "g"]
    assert chosen_layers("abc", 9) == ["b", "c"]
    assert chosen_layers("a", 2) == []


def test_the_loss_along_the_gradient():
    """Its slope at the start, its values, and the largest curvature of logistic regression as a bound."""
    torch.manual_seed(1)
    module = Module(nn.Sequential(nn.Flatten(), nn.Linear(4, 3))).double()
    batch = torch.randn(8, 1, 2, 2, dtype=torch.float64), torch.randint(3, (8,))
    weights = weights_of(module)
    measured = along_gradient(module, weights, [0.1, 0.4], batch)
    slope = -float(sum(gradient(module.model, batch, name).square().sum() for name in ("1.weight", "1.bias")))
    near = along_gradient(module, weights, [1e-4], batch)
    assert (float(near[1e-4][0]) - float(near[0.0][0])) / 1e-4 == pytest.approx(slope, rel=1e-2)
    inputs = torch.cat([batch[0].flatten(1), torch.ones(8, 1, dtype=torch.float64)], 1)
    most = float(torch.linalg.eigvalsh(inputs.T @ inputs / 8)[-1]) / 2  # a bound of the largest curvature
    for distance in (0.1, 0.4):
        loss, change, smoothness = map(float, measured[distance])
        with torch.no_grad():
            moved = {n: w - distance * gradient_at(module, n, batch) for n, w in weights.items()}
        loss_there = F.cross_entropy(torch.func.functional_call(module.model, moved, (batch[0],)), batch[1])
        assert loss == pytest.approx(float(loss_there), rel=1e-6)
        assert 0 < smoothness < most
        assert change == pytest.approx(smoothness * distance * (-slope) ** 0.5, rel=1e-5)


def gradient_at(module, name, batch):
    with torch.enable_grad():
        return gradient(module.model, batch, name)
