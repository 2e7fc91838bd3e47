"""Networks without non-linearity are one matrix, which is also the product of those of their layers."""

import pytest
import torch
from cells import families, make
from torch import nn

from cnnbench.errors import InputError
from cnnbench.models.affine import collapse
from cnnbench.models.linear_map import is_linear, linear_map

LINEAR = {"act": "identity", "pool": "avg"}


def started(model):
    """Give batch norm statistics that are not those of the identity."""
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 2.0)
    return model.eval()


def wrong(model, shape):
    x = torch.randn(5, *shape)
    with torch.no_grad():
        difference = (collapse(model, shape)(x) - model(x)).abs().max()
        return float(difference / model(x).abs().max())


@pytest.mark.parametrize(
    "arch", [f for f in families() if f not in ("inception_v3", "efficientnet_b0", "mlp")]
)
def test_a_family_without_non_linearity_is_one_matrix(arch):
    for pool in ("avg", "blur"):
        model = started(make(arch, 1, 10, 8, width=0.125, ops=LINEAR | {"pool": pool})[0])
        before = {key: value.clone() for key, value in model.state_dict().items()}
        assert wrong(model, (1, 8, 8)) < 1e-4
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_it_is_the_product_of_the_matrices_of_the_layers():
    model = started(make("basic", 2, 7, 8, width=0.125, convs=2, ops=LINEAR)[0].double())
    shape, product, bias = (2, 8, 8), torch.eye(128).double(), torch.zeros(128).double()
    for layer in model.modules():
        if isinstance(layer, nn.Flatten):
            shape = (len(bias),)
        if isinstance(layer, nn.Sequential | nn.Identity | nn.Flatten | nn.Dropout):
            continue
        if isinstance(layer, nn.BatchNorm2d):
            factor = layer.weight / (layer.running_var + layer.eps).sqrt()
            pixels = shape[1] * shape[2]
            scale = factor.repeat_interleave(pixels)
            offset = (layer.bias - factor * layer.running_mean).repeat_interleave(pixels)
            product, bias = scale[:, None] * product, scale * bias + offset
            continue
        assert is_linear(layer)
        found = linear_map(layer, shape)
        shape = found.output
        product, bias = found.matrix @ product, found.matrix @ bias + found.bias
    whole = collapse(model, (2, 8, 8))
    torch.testing.assert_close(whole.matrix.data, product)
    torch.testing.assert_close(whole.bias.data, bias)


@pytest.mark.parametrize(
    ("ops", "changed", "name"),
    [({"pool": "avg"}, {}, r"features.block1.2 \(ReLU\)"), ({"act": "identity"}, {}, "block1.3 .MaxPool2d"),
     ({"act": "identity", "pool": "stochastic"}, {}, "block1.3 .Stochastic"),
     (LINEAR | {"norm": "group"}, {}, "features.block1.1 .GroupNorm"),
     ({"act": "relu6", "pool": "avg"}, {"convs": 2}, "block1.2 .ReLU6")],
)  # fmt: skip
def test_the_first_layer_that_is_not_affine_is_named(ops, changed, name):
    with pytest.raises(InputError, match=f"{name}.*: not affine.*ops.act=identity"):
        collapse(make("basic", 1, 10, 8, width=0.125, ops=ops, **changed)[0], (1, 8, 8))


def test_an_operation_outside_of_layers_is_that_of_its_module():
    """The gate of squeeze-and-excitation multiplies two functions of the image."""
    with pytest.raises(
        InputError, match=r"features.1.0.block.1 \(SqueezeExcitation\)|scale_activation|Sigmoid"
    ):
        collapse(make("efficientnet_b0", 1, 10, 8, width=0.25, ops=LINEAR)[0], (1, 8, 8))

    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(x.flatten(1)) ** 2

    with pytest.raises(InputError, match=r"the model \(Square\): not affine"):
        collapse(Square(), (1, 2, 2))
