"""The basic network, without sharing too: geometry, equal cost, and what is refused."""

import pytest
import torch
from cells import make
from torch import nn

from cnnbench.errors import InputError, OpsError
from cnnbench.models import complexity
from cnnbench.models.linear_map import counts
from cnnbench.ops.factory import Ops
from cnnbench.ops.layers import Conv2d
from cnnbench.ops.local import LocallyConnected2d

IMAGES = [(1, 8), (1, 28), (3, 32)]


def sides(**changed):
    with torch.device("meta"):
        model, _ = make("basic", 1, 10, 28, width=0.25, ops={"pool": "stride"}, **changed)
        layers = complexity.layers(model, (1, 28, 28))
    return [x.output[1] for x in layers if x.kind != "BatchNorm2d" and len(x.output) == 3]


def test_stride_and_windows_halve_the_map():
    """By block: convolution, activation and window; at last the pooling of the head, which leaves the map."""
    assert sides(blocks=2) == [28, 28, 14, 14, 14, 7, 7]
    assert sides(blocks=2, stride=2) == [14, 14, 7, 4, 4, 2, 2]
    assert sides(blocks=2, stride=2, pool_kernel=1) == [14, 14, 7, 7, 7]
    assert sides(blocks=2, pool_kernel=3, kernel=5) == [28, 28, 13, 13, 13, 6, 6]


def test_every_op_replaces_the_stride():
    for pool in ("max", "avg", "blur"):
        model, _ = make("basic", 1, 10, 8, width=0.25, stride=2, pool_kernel=1, ops={"pool": pool})
        convs = [m for m in model.modules() if isinstance(m, Conv2d)]
        assert all(conv.stride == (1, 1) and not isinstance(conv.down, nn.Identity) for conv in convs)
    local, _ = make("locally_connected", 1, 10, 8, width=0.25, stride=2, pool_kernel=1, ops={"pool": "avg"})
    shared, _ = make("basic", 1, 10, 8, width=0.25, stride=2, pool_kernel=1, ops={"pool": "avg"})
    for ours, conv in zip(layers(local), layers(shared), strict=True):
        assert type(ours.down) is type(conv.down) is nn.AvgPool2d


def layers(model):
    return [m for m in model.modules() if isinstance(m, Conv2d | LocallyConnected2d)]


@pytest.mark.parametrize("padding", ["zeros", "valid", "circular", "same"])
def test_without_sharing_it_is_the_same_network(padding):
    """With the weights of the convolutions at each place, it computes what they compute."""
    options = {"width": 0.25, "blocks": 2, "kernel": 3, "convs": 2 if padding != "valid" else 1}
    ops = {"padding": padding, "norm": "none"}
    (shared, facts), (local, others) = (
        make(arch, 2, 10, 12, ops=ops, **options) for arch in ("basic", "locally_connected")
    )
    assert facts["macs"] == others["macs"]
    with torch.no_grad():
        for ours, conv in zip(layers(local), layers(shared), strict=True):
            assert ours.weight.var().item() == pytest.approx(conv.weight.var().item(), rel=0.35), "one start"
            ours.weight.copy_(conv.weight.flatten(1).expand_as(ours.weight))
            nn.init.normal_(conv.bias)
            ours.bias.copy_(conv.bias.repeat_interleave(len(ours.weight)))
        local.head.load_state_dict(shared.head.state_dict())
        x = torch.randn(3, 2, 12, 12)
        torch.testing.assert_close(local.eval()(x), shared.eval()(x))


def test_weights_of_the_locally_connected_network_are_the_non_zero_ones_of_the_convolutions():
    with torch.device("meta"):
        (shared, _), (local, _) = (
            make(arch, 1, 10, 28, width=0.25) for arch in ("basic", "locally_connected")
        )
    for side, ours, conv in zip((28, 14, 7), layers(local), layers(shared), strict=True):
        shape = (conv.in_channels, side, side)
        assert counts(ours, shape).free == counts(conv, shape).nonzero < ours.weight.numel()


def test_the_gradient_of_a_single_image_behind_batch_norm():
    """torch's batch norm computes a wrong one for the strides of a permuted map of one image."""
    model = nn.Sequential(Ops().local(1, 4, 3, side=9), nn.BatchNorm2d(4)).double().eval()
    image = torch.randn(1, 1, 9, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, image)


def test_the_biases_of_a_locally_connected_layer_have_no_weight_decay():
    model, _ = make("locally_connected", 1, 10, 8, width=0.25, ops={"norm": "none"})
    assert all(layer.bias.ndim == 1 for layer in layers(model))


@pytest.mark.parametrize(("channels", "size"), IMAGES)
@pytest.mark.parametrize("width", [0.25, 1.0])
def test_fully_connected_networks_are_equal_to_two_percent(channels, size, width):
    """`experiment=conv_vs_mlp`, at both budgets: counted in the networks, better than it says."""
    with torch.device("meta"):
        facts = {
            arch: make(arch, channels, 10, size, width=width)[1]
            for arch in ("basic", "locally_connected", "mlp_params", "mlp_macs")
        }
    basic = facts["basic"]
    assert facts["mlp_params"]["params"] == pytest.approx(basic["params"], rel=0.005)
    assert facts["mlp_macs"]["macs"] == pytest.approx(basic["macs"], rel=0.005)
    assert facts["locally_connected"]["macs"] == basic["macs"]
    assert facts["locally_connected"]["params"] > 4 * basic["params"]


@pytest.mark.parametrize(
    ("channels", "size", "width"),
    [(1, 8, 0.25), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(1, 28, 0.25), (3, 32, 1.0)])],
)
def test_ways_of_downsampling_cost_the_same(channels, size, width):
    """`experiment=downsampling`, to 5 %: channels are whole numbers."""
    with torch.device("meta"):
        textbook = make("basic", channels, 10, size, width=width)[1]["macs"]
        found = {
            pool: make(
                "basic",
                channels,
                10,
                size,
                width=width,
                stride=2,
                pool_kernel=1,
                equal="macs",
                ops={"pool": pool},
            )[1]["macs"]
            for pool in ("max", "avg", "blur", "max_blur", "stride", "none")
        }
    assert found == dict.fromkeys(found, pytest.approx(textbook, rel=0.05))


def test_what_is_tried_on_the_way_draws_no_random_numbers_and_asks_no_op():
    """The weights are those that the width which was found gives."""
    equal, facts = make(
        "basic", 1, 10, 8, width=0.25, equal="macs", stride=2, pool_kernel=1, ops={"pool": "avg"}
    )
    direct, others = make("basic", 1, 10, 8, width=0.25, stride=2, pool_kernel=1, ops={"pool": "avg"})
    assert facts == others, "windows right after the convolution cost what those after the activation do"
    assert all(torch.equal(a, b) for a, b in zip(equal.parameters(), direct.parameters(), strict=True))
    with pytest.raises(OpsError, match="no such layer"):
        make("basic", 1, 10, 8, equal="params", pool_kernel=1, ops={"pool": "max"})


@pytest.mark.parametrize(
    ("arch", "changed", "message"),
    [("basic", {"kernel": 4}, "kernel=4: allowed: odd numbers"),
     ("basic", {"stride": 4}, "stride=4: no pixel must be left out; allowed with kernel=3: 1 to 3"),
     ("basic", {"stride": 0}, "stride=0"), ("basic", {"pool_kernel": 0}, "pool_kernel=0: allowed: 1 or more"),
     ("basic", {"convs": 0}, "convs=0"), ("basic", {"blocks": 9}, "blocks=9: each block halves"),
     ("basic", {"blocks": 3, "stride": 2}, "left of images of 8 pixels; allowed: blocks up to 1, smaller"),
     ("basic", {"pool_kernel": 9}, "allowed: blocks up to 0, smaller values or larger images"),
     ("basic", {"width": 0.04, "equal": "macs", "pool_kernel": 1, "blocks": 1},
      "equal=macs: the textbook network has .* allowed: null, or a larger width"),
     ("locally_connected", {"kernel": 6}, "kernel=6"),
     ("mlp_params", {"width": 0.016, "blocks": 7, "size": 128}, "equal=params: the textbook network has")],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(arch, changed, message):
    with pytest.raises(InputError, match=message):
        make(arch, 1, 10, **{"size": 8} | changed)


def test_a_map_too_small_without_padding_is_refused():
    for arch in ("basic", "locally_connected"):
        with pytest.raises(OpsError, match="8 pixels"):
            make(arch, 1, 10, 8, width=0.25, blocks=1, convs=4, ops={"padding": "valid"})
        make(arch, 1, 10, 8, width=0.25, blocks=1, convs=3, ops={"padding": "valid"})
