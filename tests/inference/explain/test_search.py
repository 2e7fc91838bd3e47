"""Top images by brute force, what a unit sees by its gradient, and the worst mistakes by their loss."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnbench.data.image_file import Memory
from cnnbench.data.prefetch import labelled
from cnnbench.inference import trained_model
from cnnbench.inference.explain.mistakes import worst_mistakes
from cnnbench.inference.explain.survey import survey
from cnnbench.inference.explain.top_images import Top, patch
from cnnbench.models.receptive_field import receptive_fields
from cnnbench.training.images import make_data

pytest_plugins = ["finished_fixtures"]

LAYER = "features.block2.2"


@pytest.fixture(scope="module")
def surveyed(digits):
    trained = trained_model.load(digits)
    data = make_data(trained.settings.data, trained.settings.arch, trained.settings.seed)
    batches = labelled(trained.preparation, data.test, 50, Memory())
    return trained, data.test, *survey(trained, batches, [LAYER], most=6)


def test_top_images_by_brute_force(surveyed):
    trained, test, _, tops = surveyed
    features, top = trained.model.features, tops[LAYER]
    with torch.no_grad():
        x = trained.preparation.normalise(test.pixels)
        maps = nn.Sequential(features.block1, features.block2[:3])(x)  # (360, C, 4, 4)
    assert top.seen == len(test.labels) == 360
    assert top.columns == 4
    best = maps.flatten(2).amax(2).numpy()
    for k in range(maps.shape[1]):
        expected = sorted(range(360), key=lambda i: (-best[i, k], i))[:6]
        assert np.allclose(top.values[k], best[expected, k], atol=1e-5)
        for value, image, position in zip(top.values[k], top.images[k], top.positions[k], strict=True):
            row, column = divmod(int(position), 4)
            assert maps[int(image), k, row, column] == pytest.approx(float(value), abs=1e-5)
        assert len({*top.images[k].tolist()}) == 6


def test_batches_make_no_difference():
    maps = torch.randint(0, 5, (20, 3, 2, 2)).float()  # with ties
    whole, parts = Top(4), Top(4)
    whole.add(maps)
    for part in maps.split([1, 7, 12]):
        parts.add(part)
    for name in ("values", "images", "positions"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_patch_is_where_the_gradient_is(kernel, stride):
    """Every unit of two convolutions with positive weights, also at the edges."""
    model = nn.Sequential(
        nn.Conv2d(1, 1, kernel, stride, kernel // 2), nn.Conv2d(1, 1, 3, 2, 1), nn.Flatten(), nn.Identity()
    )
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    size = 17
    field = receptive_fields(model, (1, size, size)).layers["1"]
    image = torch.ones(1, 1, size, size, requires_grad=True)
    maps = model[:2](image)[0, 0]
    for position in range(maps.numel()):
        [gradient] = torch.autograd.grad(maps.flatten()[position], image, retain_graph=True)
        rows, columns = (gradient[0, 0].sum(axis).nonzero().flatten() for axis in (1, 0))
        top, left, height, width = patch(field, position, maps.shape[1], size)
        assert (rows.min(), rows.max()) == (max(top, 0), min(top + height, size) - 1)
        assert (columns.min(), columns.max()) == (max(left, 0), min(left + width, size) - 1)


def test_without_a_bound_it_is_the_whole_image():
    assert patch(None, 3, 2, 8) == (0, 0, 8, 8)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    field = receptive_fields(model, (1, 8, 8)).layers["0"]
    assert patch(field, 0, 1, 8) == (0, 0, 8, 8)


def test_the_worst_mistakes_are_those_of_the_highest_loss(surveyed):
    trained, test, evaluation, _ = surveyed
    with torch.no_grad():
        logits = trained.model.double()(trained.preparation.normalise(test.pixels).double())
    trained.model.float()
    labels = torch.from_numpy(test.labels)
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    wrong = [i for i in range(360) if logits[i].argmax() != labels[i]]
    assert len(wrong) > 5
    found = worst_mistakes(evaluation, 5)
    assert [one.image for one in found] == sorted(wrong, key=lambda i: -losses[i])[:5]
    for one in found:
        assert one.loss == pytest.approx(float(losses[one.image]), rel=1e-4)
        assert (one.true, one.predicted) == (labels[one.image], logits[one.image].argmax())
        assert one.probability == pytest.approx(float(logits[one.image].softmax(0).max()), rel=1e-4)
    assert len(worst_mistakes(evaluation, 10_000)) == len(wrong)
