"""How a machine is shared out: no core and no GPU twice. No GPU is needed to tell."""

import pytest

from cnnbench.settings import Sweep
from cnnbench.sweeps.local import Machine, Place


def machine(cores=8, gpus=(), jobs=None, per_gpu=1, runs=100, accelerated=None, processes=1):
    sweep = Sweep(jobs=jobs, jobs_per_gpu=per_gpu, retries=1, on_failure="continue", on_refused="stop")
    accelerated = bool(gpus) if accelerated is None else accelerated
    return Machine.of(cores, gpus, sweep, runs, accelerated=accelerated, processes=processes)


@pytest.mark.parametrize(
    ("asked", "jobs", "share"),
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
        ({"accelerated": True}, 1, 8),  # Apple's
    ],
)
def test_runs_at_a_time(asked, jobs, share):
    found = machine(**asked)
    assert (found.jobs, found.share) == (jobs, share)


def fill(found, cores, accelerated=False):
    """Places until there is no room."""
    taken = []
    while (place := found.place(taken, cores, accelerated=accelerated)) is not None:
        taken.append(place)
    return taken


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("jobs", [None, 1, 2, 5])
def test_cores_are_never_taken_twice(cores, jobs):
    taken = fill(machine(jobs=jobs), cores)
    assert 1 <= len(taken) <= (jobs or 8)
    assert sum(place.cores for place in taken) <= 8


def test_a_run_that_wants_more_than_there_is_runs_alone():
    found = machine(cores=2)
    assert fill(found, 16) == [Place(16)]
    assert found.place([Place(1)], 16, accelerated=False) is None


def test_what_one_run_leaves_another_takes():
    """One that goes on with eight threads waits, one of a single thread does not."""
    found = machine()
    assert found.place([Place(4)], 8, accelerated=False) is None
    assert found.place([Place(4)], 4, accelerated=False) == Place(4)


def test_each_run_has_its_gpu():
    assert [place.gpus for place in fill(machine(gpus="01"), 1, True)] == [("0",), ("1",)]
    shared = fill(machine(gpus="01", per_gpu=2), 1, True)
    assert sorted(place.gpus for place in shared) == [("0",), ("0",), ("1",), ("1",)]
    assert shared[0] != shared[1]
    found = machine(gpus=["GPU-a", "GPU-b"])
    assert found.place([Place(1, ("GPU-a",))], 1, accelerated=True) == Place(1, ("GPU-b",))
    assert found.place([Place(1, ("GPU-b",))], 1, accelerated=True) == Place(1, ("GPU-a",))


@pytest.mark.parametrize(
    ("asked", "jobs", "share"),
    [
        ({"processes": 2}, 4, 1),
        ({"processes": 2, "runs": 1}, 1, 4),
        ({"processes": 8, "runs": 3}, 1, 1),
        ({"processes": 16}, 1, 1),
        ({"processes": 2, "gpus": "0123"}, 2, 2),
        ({"processes": 2, "gpus": "012"}, 1, 4),
    ],
)
def test_runs_of_several_processes(asked, jobs, share):
    found = machine(**asked)
    assert (found.jobs, found.share) == (jobs, share)


def test_each_process_of_a_run_has_its_gpu():
    found = machine(gpus="012", per_gpu=2)
    first = found.place([], 2, accelerated=True, processes=2)
    assert first == Place(2, ("0", "1"))
    assert found.place([first], 2, accelerated=True, processes=2) == Place(2, ("2", "0"))
    taken = [first, Place(2, ("2", "0"))]
    assert found.place(taken, 2, accelerated=True, processes=2) == Place(2, ("1", "2"))
    assert found.place([*taken, Place(2, ("1", "2"))], 1, accelerated=True) is None
    assert machine(gpus="01").place([Place(1, ("0",))], 2, accelerated=True, processes=2) is None


def test_one_run_at_a_time_where_a_gpu_cannot_be_divided():
    assert fill(machine(accelerated=True), 1, True) == [Place(1)]
