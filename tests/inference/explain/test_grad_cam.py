"""Grad-CAM against its definition (arXiv:1610.02391), in nets whose gradient can be written down."""

import pytest
import torch
from torch import nn

from cnnbench.inference import trained_model
from cnnbench.inference.explain.grad_cam import grad_cam

pytest.importorskip("captum")

pytest_plugins = ["finished_fixtures"]

CONV, INSIDE, RELU = 0, 1, 2


@pytest.fixture
def small(digits):
    """`small(*head)`: convolution, batch norm and an in-place ReLU before this head, as the run's model."""
    torch.manual_seed(0)
    trained = trained_model.load(digits)

    def make(*head):
        model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), *head).eval()
        object.__setattr__(trained, "model", model.requires_grad_(False))
        return trained

    return make


def maps_of(trained, pixels, layer):
    """The layer's maps, with nothing in place behind it."""
    with torch.no_grad():
        x = trained.inputs(pixels)
        for module in trained.model[: layer + 1]:
            x = module(x).clone()
    return x


PIXELS = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
CLASSES = torch.tensor([3, 0, 9, 3])


def test_behind_global_pooling(small):
    """The logit is the mean of w A over positions, so that the weight of each map is w / (h w)."""
    trained = small(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear := nn.Linear(5, 10))
    maps = maps_of(trained, PIXELS, RELU)
    expected = (linear.weight[CLASSES][..., None, None] / 36 * maps).sum(1).clamp(min=0)
    found = grad_cam(trained, PIXELS, str(RELU), CLASSES)
    assert found.shape == (4, 6, 6)
    assert torch.allclose(found, expected.detach(), atol=1e-7)
    assert (found > 0).any()
    assert (found == 0).any(), "what speaks against the class"


def test_behind_a_flattened_map(small):
    """The gradient at each unit is its weight; that of a map is their mean."""
    trained = small(nn.Flatten(), linear := nn.Linear(5 * 36, 10))
    weight = linear.weight[CLASSES].view(4, 5, 36).mean(2)
    expected = (weight[..., None, None] * maps_of(trained, PIXELS, RELU)).sum(1).clamp(min=0)
    assert torch.allclose(grad_cam(trained, PIXELS, str(RELU), CLASSES), expected.detach(), atol=1e-7)


@pytest.mark.parametrize("layer", [CONV, INSIDE])
def test_before_an_activation_in_place(small, layer):
    """Maps are what the layer returned, not what the ReLU made of them; its gradient is 0 below 0."""
    trained = small(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear := nn.Linear(5, 10))
    maps, normed = maps_of(trained, PIXELS, layer), maps_of(trained, PIXELS, INSIDE)
    norm = trained.model[INSIDE]
    slope = (norm.weight / (norm.running_var + norm.eps).sqrt()) if layer == CONV else torch.ones(5)
    gradient = linear.weight[CLASSES][..., None, None] / 36 * (normed > 0) * slope.view(1, 5, 1, 1)
    expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).clamp(min=0)
    assert maps.min() < 0
    assert torch.allclose(grad_cam(trained, PIXELS, str(layer), CLASSES), expected.detach(), atol=1e-7)


def test_classes_may_come_from_inference(small):
    """Tensors of inference mode cannot take part in a gradient."""
    trained = small(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 10))
    with torch.inference_mode():
        predicted = trained.logits(PIXELS).argmax(1)
    found = grad_cam(trained, PIXELS, str(RELU), predicted)
    assert torch.equal(found, grad_cam(trained, PIXELS, str(RELU), torch.tensor(predicted.tolist())))
    assert not trained.model[RELU]._forward_hooks
