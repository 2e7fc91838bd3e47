"""Selection of the best epoch on val, and early stopping."""

from cnnbench.training.recorder import best_row, stops_early


def rows(*accuracies, losses=None):
    losses = losses or [1.0] * len(accuracies)
    return [
        {"epoch": i, "val/acc": a, "val/loss": loss}
        for i, (a, loss) in enumerate(zip(accuracies, losses, strict=True))
    ]


def test_best_is_the_highest_val_accuracy_then_the_lowest_loss_then_the_earliest():
    assert best_row(rows(0.1, 0.9, 0.5))["epoch"] == 1
    assert best_row(rows(0.9, 0.9, 0.9, losses=[0.3, 0.2, 0.4]))["epoch"] == 1
    assert best_row(rows(0.9, 0.9, 0.9))["epoch"] == 0


def test_patience():
    assert not stops_early(rows(0.5, 0.5), None)
    assert not stops_early(rows(0.5), 1)
    assert stops_early(rows(0.5, 0.5), 1)
    assert not stops_early(rows(0.5, 0.4, 0.6), 2)
    assert stops_early(rows(0.5, 0.6, 0.4, 0.6), 2)
    assert not stops_early(rows(0.5, 0.6, 0.4, 0.7), 2)
