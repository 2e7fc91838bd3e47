"""Learning rate schedules compared with explicit formulas."""

import math

import pytest
import torch

from cnnbench.training import schedule


def rates(make, steps, **options):
    """Return the learning rate of each of `steps` optimizer steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = make(optimizer, total_steps=steps, steps_per_epoch=10, **options)
    lrs = []
    for _ in range(steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return lrs


def test_constant():
    assert rates(schedule.constant, 20, warmup_epochs=0) == [0.4] * 20


def test_warm_up_rises_linearly_and_starts_above_zero():
    lrs = rates(schedule.constant, 20, warmup_epochs=0.5)
    assert lrs[:6] == pytest.approx([0.4 * k / 6 for k in range(1, 7)])
    assert lrs[6:] == [0.4] * 14


def test_cosine():
    lrs = rates(schedule.cosine, 40, warmup_epochs=0, floor=0.1)
    assert lrs == pytest.approx([0.4 * (0.1 + 0.9 * (1 + math.cos(math.pi * k / 40)) / 2) for k in range(40)])
    warm = rates(schedule.cosine, 50, warmup_epochs=1, floor=0.1)
    assert warm[10:] == pytest.approx(lrs)


def test_a_cosine_may_end_before_the_training():
    """At a share of the training, warm-up included, after which the rate is constant."""
    whole = rates(schedule.cosine, 30, warmup_epochs=1, floor=0.1)
    lrs = rates(schedule.cosine, 40, warmup_epochs=1, floor=0.1, until=0.75)
    assert lrs == pytest.approx([*whole, *[0.04] * 10])
    assert rates(schedule.cosine, 30, warmup_epochs=1, floor=0.1, until=1) == whole


def test_step():
    lrs = rates(schedule.step, 40, warmup_epochs=0, milestones=[0.5, 0.75], gamma=0.1)
    assert lrs == pytest.approx([0.4] * 20 + [0.04] * 10 + [0.004] * 10)


def test_onecycle_rises_to_lr():
    lrs = rates(schedule.onecycle, 100, pct_start=0.3, div_factor=25.0, final_div_factor=1e4)
    assert max(lrs) == pytest.approx(0.4)
    assert lrs[0] == pytest.approx(0.4 / 25)
    assert lrs.index(max(lrs)) == 29
    assert lrs[-1] < 1e-5


def test_plateau_drops_after_patience_and_not_before():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = schedule.plateau(optimizer, 1000, 10, warmup_epochs=0, factor=0.1, patience=1, threshold=0.0)
    lrs = []
    for loss in (1.0, 0.9, 0.95, 0.95, 0.8, 0.85, 0.85, 0.85, 0.85):
        scheduler.observe(loss)
        optimizer.step()
        scheduler.step()
        lrs.append(optimizer.param_groups[0]["lr"])
    assert lrs == pytest.approx([0.4] * 3 + [0.04] * 3 + [0.004] * 2 + [0.0004])


def test_plateau_of_a_metric_that_should_rise():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    options = {"warmup_epochs": 0, "factor": 0.1, "patience": 0, "threshold": 0.1}
    scheduler = schedule.plateau(optimizer, 1000, 10, **options, monitor="val/acc")
    lrs = []
    for accuracy in (0.0, 0.5, 0.6, 0.65, 0.67):  # an improvement is more than a tenth of the best
        scheduler.observe(accuracy)
        lrs.append(optimizer.param_groups[0]["lr"])
    assert lrs == pytest.approx([0.4, 0.4, 0.4, 0.04, 0.04])


def test_plateau_warms_up_and_survives_a_checkpoint():
    def new():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
        return optimizer, schedule.plateau(
            optimizer, 1000, 10, warmup_epochs=0.3, factor=0.5, patience=0, threshold=0.0
        )

    optimizer, scheduler = new()
    for loss in (1.0, 1.0):
        optimizer.step()
        scheduler.step()
        scheduler.observe(loss)
    other, resumed = new()
    resumed.load_state_dict(scheduler.state_dict())
    for _ in range(3):
        optimizer.step(), other.step()
        scheduler.step(), resumed.step()
    assert resumed.get_last_lr() == scheduler.get_last_lr() == [0.2]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (schedule.step, {"warmup_epochs": 0, "milestones": [30], "gamma": 0.1}, "milestones"),
        (
            schedule.plateau,
            {"warmup_epochs": 0, "factor": 2.0, "patience": 1, "threshold": 0.0},
            "factor=2.0",
        ),
        (schedule.onecycle, {"pct_start": 1.5, "div_factor": 25.0, "final_div_factor": 1e4}, "pct_start=1.5"),
    ],
)
def test_values_out_of_range(make, options, message):
    with pytest.raises(ValueError, match=message):
        rates(make, 10, **options)
