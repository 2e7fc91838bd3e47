"""Batch norm over shards of a batch in several processes equals batch norm over the full batch."""

import pytest
import torch
from batch_shards import CASES, shards, trained

from cnnbench.training.sync_batch_norm import SyncBatchNorm

TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-5, torch.bfloat16: 0.05}


@pytest.fixture(scope="module", params=[2, pytest.param(3, id="3 processes")])
def results(request):
    return shards(request.param)


@pytest.mark.parametrize("name", CASES)
def test_as_one_process_with_the_full_batch(results, name):
    """Compare outputs, gradients and running statistics with torch's own layer in float64."""
    case = CASES[name]
    images = sum(case.images[: len(results)])
    layer = case.made()
    one = trained(case, layer, slice(0, images))
    several = {}
    for key in results[0][name]:
        values = [process[name].get(key) for process in results]
        if key.startswith("state/"):
            assert all(torch.equal(value, values[0]) for value in values)  # each process has the same
            several[key] = values[0]
        elif key.startswith("gradient/"):
            several[key] = sum(values)  # as DistributedDataParallel does
        elif not key.startswith("eval/"):
            several[key] = torch.cat(values)
    assert several.keys() == one.keys()
    for key, value in one.items():
        torch.testing.assert_close(
            several[key],
            value,
            rtol=TOLERANCE[case.dtype],
            atol=TOLERANCE[case.dtype] * max(1.0, float(value.double().abs().max())),
            msg=lambda message, key=key: f"{key}: {message}",
        )
    layer.eval()
    torch.testing.assert_close(
        results[0][name]["eval/y"],
        layer(case.batch(0)[0]).detach(),
        rtol=TOLERANCE[case.dtype],
        atol=4 * TOLERANCE[case.dtype],
    )


def test_revert_without_apply():
    """Lightning does this when a checkpoint cannot be read; an error here would hide the reason."""
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    plugin = SyncBatchNorm()
    x = torch.randn(4, 3, 2, 2)
    expected = model(x)
    plugin.revert(model)
    plugin.revert(plugin.apply(model))
    torch.testing.assert_close(model(x), expected)
