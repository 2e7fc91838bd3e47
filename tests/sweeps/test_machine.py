"""Division of a machine among runs: no core and no GPU is allocated twice. Needs no GPU."""

import pytest

from cnnbench.settings.run import Sweep
from cnnbench.sweeps.local import Allocation, Machine


def machine(cores=8, gpus=(), jobs=None, per_gpu=1, runs=100, accelerated=None, processes=1):
    sweep = Sweep(jobs=jobs, jobs_per_gpu=per_gpu, retries=1, on_failure="continue", on_refused="stop")
    accelerated = bool(gpus) if accelerated is None else accelerated
    return Machine.of(cores, gpus, sweep, runs, accelerated=accelerated, processes=processes)


@pytest.mark.parametrize(
    ("arguments", "jobs", "threads"),
    [
        ({}, 8, 1),
        ({"jobs": 2}, 2, 4),
        ({"jobs": 3}, 3, 2),
        ({"jobs": 64}, 8, 1),
        ({"runs": 3}, 3, 2),
        ({"runs": 1}, 1, 8),
        ({"gpus": "01"}, 2, 4),
        ({"gpus": "01", "per_gpu": 2}, 4, 2),
        ({"gpus": "01", "jobs": 1}, 1, 8),
        ({"gpus": "01", "jobs": 5}, 2, 4),
        ({"gpus": "0123", "cores": 2}, 2, 1),
        ({"gpus": "01", "accelerated": False}, 8, 1),
        ({"accelerated": True}, 1, 8),  # Apple's GPU
    ],
)
def test_runs_at_a_time(arguments, jobs, threads):
    divided = machine(**arguments)
    assert (divided.jobs, divided.threads) == (jobs, threads)


def fill(shared, cores, accelerated=False):
    """Allocate until there is no room."""
    taken = []
    while (allocation := shared.allocate(taken, cores, accelerated=accelerated)) is not None:
        taken.append(allocation)
    return taken


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("jobs", [None, 1, 2, 5])
def test_cores_are_never_allocated_twice(cores, jobs):
    taken = fill(machine(jobs=jobs), cores)
    assert 1 <= len(taken) <= (jobs or 8)
    assert sum(allocation.cores for allocation in taken) <= 8


def test_a_run_that_needs_more_cores_than_exist_runs_alone():
    shared = machine(cores=2)
    assert fill(shared, 16) == [Allocation(16)]
    assert shared.allocate([Allocation(1)], 16, accelerated=False) is None


def test_smaller_runs_use_the_remaining_cores():
    """A run that needs eight threads waits; one that needs four does not."""
    shared = machine()
    assert shared.allocate([Allocation(4)], 8, accelerated=False) is None
    assert shared.allocate([Allocation(4)], 4, accelerated=False) == Allocation(4)


def test_each_run_has_its_gpu():
    assert [allocation.gpus for allocation in fill(machine(gpus="01"), 1, True)] == [("0",), ("1",)]
    taken = fill(machine(gpus="01", per_gpu=2), 1, True)
    assert sorted(allocation.gpus for allocation in taken) == [("0",), ("0",), ("1",), ("1",)]
    assert taken[0] != taken[1]
    shared = machine(gpus=["GPU-a", "GPU-b"])
    assert shared.allocate([Allocation(1, ("GPU-a",))], 1, accelerated=True) == Allocation(1, ("GPU-b",))
    assert shared.allocate([Allocation(1, ("GPU-b",))], 1, accelerated=True) == Allocation(1, ("GPU-a",))


@pytest.mark.parametrize(
    ("arguments", "jobs", "threads"),
    [
        ({"processes": 2}, 4, 1),
        ({"processes": 2, "runs": 1}, 1, 4),
        ({"processes": 8, "runs": 3}, 1, 1),
        ({"processes": 16}, 1, 1),
        ({"processes": 2, "gpus": "0123"}, 2, 2),
        ({"processes": 2, "gpus": "012"}, 1, 4),
    ],
)
def test_runs_of_several_processes(arguments, jobs, threads):
    divided = machine(**arguments)
    assert (divided.jobs, divided.threads) == (jobs, threads)


def test_each_process_of_a_run_has_its_gpu():
    shared = machine(gpus="012", per_gpu=2)
    first = shared.allocate([], 2, accelerated=True, processes=2)
    assert first == Allocation(2, ("0", "1"))
    assert shared.allocate([first], 2, accelerated=True, processes=2) == Allocation(2, ("2", "0"))
    taken = [first, Allocation(2, ("2", "0"))]
    assert shared.allocate(taken, 2, accelerated=True, processes=2) == Allocation(2, ("1", "2"))
    assert shared.allocate([*taken, Allocation(2, ("1", "2"))], 1, accelerated=True) is None
    assert machine(gpus="01").allocate([Allocation(1, ("0",))], 2, accelerated=True, processes=2) is None


def test_one_run_at_a_time_where_a_gpu_cannot_be_divided():
    assert fill(machine(accelerated=True), 1, True) == [Allocation(1)]
