"""Processes that train one run together: how they start, connect, and end.

Each has a shard of every batch, and DistributedDataParallel averages their gradients (arXiv:2006.15704). The
process of rank 0 holds the run's lease, and only it writes to the run's folder.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from cnnbench.errors import Busy, Diverged, InputError, Interrupted, Pruned
from cnnbench.processes.forked import GRACE_S, Child, Died
from cnnbench.settings.device import Device
from cnnbench.training.distributed_plugins import Environment, SameStatistics, TakenBack
from cnnbench.training.rank import ALONE, Rank
from cnnbench.training.sync_batch_norm import SyncBatchNorm

MEET_S = 600.0
"""Seconds that a process waits for the others, which may have images to decode first."""

LOOK_S = 0.5
"""Interval of looking whether another process has ended."""

LAST_WORDS_S = 2.0
"""Seconds that a process which lost its connection to another waits for the error of that one."""

Anything = TypeVar("Anything")


class Team:
    """Processes that train a run together, as seen by one of them; there may be only one.

    Args:
        me: rank of this process.
        device: number of processes on each machine, and whether batch norm is synchronised.
        others: the processes that this one has started, by rank.
        store: through which they connect; None: it is created by `meet`.

    Attributes:
        over: set when the other processes may end.
        lost: whether one of them ended too early.
    """

    def __init__(
        self, me: Rank, device: Device, others: dict[int, Child] | None = None, store: TCPStore | None = None
    ) -> None:
        self.me, self.device, self.others, self.store = me, device, others or {}, store
        self.over, self.lost = threading.Event(), False

    def meet(self, accelerator: str) -> None:
        """Wait for the other processes, and connect to them."""
        if self.me.world == 1:
            return
        wait = timedelta(seconds=MEET_S)
        if self.store is None:
            is_first = self.me.rank == 0
            self.store = TCPStore(
                self.me.address, self.me.port, self.me.world, is_master=is_first, timeout=wait
            )
        backend = "nccl" if accelerator == "gpu" else "gloo"
        if backend == "nccl":
            torch.cuda.set_device(self.me.local)
        if self.me.rank:
            self.store.set(f"ready/{self.me.rank}", "")
        for rank, other in list(self.others.items()):
            while not self.store.check([f"ready/{rank}"]):
                if other.ended:
                    self.others.pop(rank).answer()
                time.sleep(0.02)
        distributed.init_process_group(
            backend, store=self.store, rank=self.me.rank, world_size=self.me.world, timeout=wait
        )

    def agree(self, value: Anything) -> Anything:
        """Return the value of the first process in all of them; the others may pass anything."""
        if self.me.world == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, 0)
        return values[0]

    def collect(self, value: Anything) -> list[Anything]:
        """Return the values of all processes by rank in the first one, an empty list in the others."""
        if self.me.world == 1:
            return [value]
        values: list[Any] | None = [None] * self.me.world if self.me.rank == 0 else None
        distributed.gather_object(value, values, 0)
        return values or []

    def strategy(self) -> dict[str, Any]:
        """Return the options of Lightning's Trainer that depend on the number of processes."""
        if self.me.world == 1:
            return {"devices": 1}
        return {
            "devices": self.device.devices,
            "num_nodes": self.device.nodes,
            "strategy": DDPStrategy(cluster_environment=Environment(self.me), gradient_as_bucket_view=True),
        }

    def plugins(self) -> list[Any]:
        """Return the plugins of Lightning's Trainer that several processes need."""
        return [SyncBatchNorm()] if self.me.world > 1 and self.device.sync_batch_norm else []

    def callbacks(self) -> list[pl.Callback]:
        """Return the callbacks that several processes need."""
        return [TakenBack(), SameStatistics()] if self.me.world > 1 else []

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Raise the error of the process that failed first, not the lost connection that it causes here."""
        try:
            yield
        except (Busy, Diverged, InputError, Pruned):
            raise
        except Interrupted:
            if self.lost:  # the signal came from `_follow`
                self._raise_error_of_others()
            raise
        except Exception as error:
            if self.me.rank:
                self._send(error)
            else:
                self._raise_error_of_others()
            raise

    def _send(self, error: Exception) -> None:
        """Send the error of this process, which a cluster may have started, to the first one."""
        if self.store is not None:
            with suppress(Exception):  # the connection may be lost
                self.store.set(f"failed/{self.me.rank}", f"{type(error).__name__}: {error}")

    def _raise_error_of_others(self) -> None:
        """Wait a moment for an error of the other processes.

        Raises:
            RuntimeError: one of them failed.
        """
        deadline = time.monotonic() + LAST_WORDS_S
        while self.me.world > 1 and time.monotonic() < deadline:
            for rank, other in list(self.others.items()):
                if other.ended:
                    del self.others[rank]
                    try:
                        other.answer()
                    except Exception as cause:
                        kind = "" if isinstance(cause, Died) else f"{type(cause).__name__}: "
                        raise RuntimeError(f"process {rank}: {kind}{cause}") from cause
            if not self.others and (message := self._received()):
                raise RuntimeError(message)
            time.sleep(0.02)

    def _received(self) -> str:
        """Return the error that another process has sent; an empty text if there is none."""
        for rank in range(1, self.me.world):
            with suppress(Exception):  # the connection may be lost
                if self.store is not None and self.store.check([f"failed/{rank}"]):
                    return f"process {rank}: {self.store.get(f'failed/{rank}').decode(errors='replace')}"
        return ""


@contextmanager
def team(device: Device, rank: Rank | None, start: Callable[[Rank], Child]) -> Iterator[Team]:
    """Start the processes that train a run together, and stop them afterwards.

    Args:
        device: the device settings, with the number of processes.
        rank: rank of this process if a cluster has started all of them; None: this one starts the others.
        start: starts the process of a rank.

    Yields:
        The team, as seen by this process.

    Raises:
        InputError: several machines, without a cluster that has started a process on each.
    """
    if rank is None:
        device.check_one_machine()
    if rank is None and device.devices > 1:
        yield from _started(device, start)
        return
    here = Team(rank or ALONE, device)
    try:
        yield here
    finally:
        if distributed.is_initialized() and here.me.world > 1:
            distributed.destroy_process_group()


def _started(device: Device, start: Callable[[Rank], Child]) -> Iterator[Team]:
    world = device.devices
    store = TCPStore("127.0.0.1", 0, world, is_master=True, wait_for_workers=False)
    me = Rank(0, world, port=store.port)
    here = Team(me, device, store=store)
    try:
        for rank in range(1, world):
            here.others[rank] = start(replace(me, rank=rank, local=rank))
        threading.Thread(target=_follow, args=(here, list(here.others.values())), daemon=True).start()
        yield here
        here.over.set()
        distributed.destroy_process_group()
        deadline = time.monotonic() + GRACE_S
    except BaseException:
        here.over.set()
        deadline = time.monotonic()  # they hold nothing that must be saved
        raise
    finally:
        for other in here.others.values():
            other.kill_after(deadline)
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _follow(here: Team, others: Sequence[Child]) -> None:
    """End this process after one of the others has ended too early, since it may wait for it forever."""
    while not any(other.ended for other in others):
        if here.over.wait(LOOK_S):
            return
    if not here.over.wait(GRACE_S):
        here.lost = True
        os.kill(os.getpid(), signal.SIGTERM)
        if not here.over.wait(GRACE_S):
            faulthandler.dump_traceback()
            os._exit(1)
