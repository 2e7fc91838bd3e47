"""Selection of the best epoch on val, and early stopping."""

import pytest

from cnnbench.training.monitor import best_row, stops_early


def rows(*accuracies, losses=None):
    losses = losses or [1.0] * len(accuracies)
    return [
        {"epoch": i, "val/acc": a, "val/loss": loss}
        for i, (a, loss) in enumerate(zip(accuracies, losses, strict=True))
    ]


def best_epoch(rows, monitor="val/acc"):
    return best_row(rows, monitor)["epoch"]


def test_best_is_the_highest_val_accuracy_then_the_lowest_loss_then_the_earliest():
    assert best_epoch(rows(0.1, 0.9, 0.5)) == 1
    assert best_epoch(rows(0.9, 0.9, 0.9, losses=[0.3, 0.2, 0.4])) == 1
    assert best_epoch(rows(0.9, 0.9, 0.9)) == 0


def test_patience():
    assert not stops_early(rows(0.5, 0.5), "val/acc", None)
    assert not stops_early(rows(0.5), "val/acc", 1)
    assert stops_early(rows(0.5, 0.5), "val/acc", 1)
    assert not stops_early(rows(0.5, 0.4, 0.6), "val/acc", 2)
    assert stops_early(rows(0.5, 0.6, 0.4, 0.6), "val/acc", 2)
    assert not stops_early(rows(0.5, 0.6, 0.4, 0.7), "val/acc", 2)


def test_a_monitored_metric_has_its_direction():
    some = rows(0.9, 0.8, 0.7, losses=[0.5, 0.3, 0.4])
    assert (best_epoch(some), best_epoch(some, "val/loss")) == (0, 1)
    assert stops_early(some, "val/acc", 2)
    assert not stops_early(some, "val/loss", 2)
    assert stops_early(some, "val/loss", 1)


@pytest.mark.parametrize(("monitor", "best"), [("val/ece", 1), ("val/f1_macro", 2), ("val/balanced_acc", 2)])
def test_ties_go_to_the_lower_loss(monitor, best):
    some = [
        {"epoch": i, "val/loss": loss, monitor: value}
        for i, (loss, value) in enumerate([(0.5, 0.2), (0.4, 0.2), (0.6, 0.3)])
    ]
    assert best_epoch(some, monitor) == best
