"""The processes that train one run together: how they start, meet, and end.

Each has its part of every batch, and DistributedDataParallel takes the mean of their gradients
(arXiv:2006.15704). The first one, of rank 0, holds the run's lease, and alone writes into its folder.
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
from multiprocessing import connection
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from cnnbench.errors import Busy, Diverged, InputError, Interrupted, Pruned, Superseded
from cnnbench.processes.forked import GRACE_S, Child, Died
from cnnbench.settings.device import Device
from cnnbench.training.distributed_plugins import Environment, SameStatistics, TakenBack
from cnnbench.training.rank import ALONE, Rank
from cnnbench.training.sync_batch_norm import SyncBatchNorm

MEET_S = 600.0
"""How long a process waits for the others: they may have images to decode first."""


LAST_WORDS_S = 2.0
"""How long a process that lost its connection to another waits for what that one has to say."""


Anything = TypeVar("Anything")


class Team:
    """This process among those that train a run together; it may be the only one.

    Args:
        me: which it is.
        asked: how many there are on each machine, and whether they share their batch statistics.
        others: those that it has started, by rank.
        store: where they meet; made when they do if it is None.

    Attributes:
        over: set when the others are needed no more, and may end.
        lost: whether one of them ended before.
    """

    def __init__(
        self, me: Rank, asked: Device, others: dict[int, Child] | None = None, store: TCPStore | None = None
    ) -> None:
        self.me, self.asked, self.others, self.store = me, asked, others or {}, store
        self.over, self.lost = threading.Event(), False

    def meet(self, accelerator: str) -> None:
        """Wait for the others: from here on they can hear of each other."""
        if self.me.world == 1:
            return
        wait = timedelta(seconds=MEET_S)
        if self.store is None:
            first = self.me.rank == 0
            self.store = TCPStore(self.me.address, self.me.port, self.me.world, is_master=first, timeout=wait)
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
        """What the first process has to say; the others may pass anything."""
        if self.me.world == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, 0)
        return said[0]

    def collect(self, value: Anything) -> list[Anything]:
        """What each process has, in their order; empty in all but the first."""
        if self.me.world == 1:
            return [value]
        found: list[Any] | None = [None] * self.me.world if self.me.rank == 0 else None
        distributed.gather_object(value, found, 0)
        return found or []

    def strategy(self) -> dict[str, Any]:
        """What Lightning's Trainer is told."""
        if self.me.world == 1:
            return {"devices": 1}
        return {
            "devices": self.asked.devices,
            "num_nodes": self.asked.nodes,
            "strategy": DDPStrategy(cluster_environment=Environment(self.me), gradient_as_bucket_view=True),
        }

    def plugins(self) -> list[Any]:
        """What Lightning's Trainer is told besides."""
        return [SyncBatchNorm()] if self.me.world > 1 and self.asked.sync_batch_norm else []

    def callbacks(self) -> list[pl.Callback]:
        """What a training of several processes needs besides."""
        return [TakenBack(), SameStatistics()] if self.me.world > 1 else []

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Say what went wrong in the process where it did, and not that this one lost its connection."""
        try:
            yield
        except (Busy, Diverged, InputError, Pruned, Superseded):
            raise
        except Interrupted:
            if self.lost:  # and this one was told to end, see `_follow`
                self._hear()
            raise
        except Exception as error:
            if self.me.rank:
                self._tell(error)
            else:
                self._hear()
            raise

    def _tell(self, error: Exception) -> None:
        """Leave for the first process what went wrong in this one, which a cluster may have started."""
        if self.store is not None:
            with suppress(Exception):  # of a connection that is gone
                self.store.set(f"failed/{self.me.rank}", f"{type(error).__name__}: {error}")

    def _hear(self) -> None:
        """Wait for what the others have to say, and raise it.

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
                        what = "" if isinstance(cause, Died) else f"{type(cause).__name__}: "
                        raise RuntimeError(f"process {rank}: {what}{cause}") from cause
            if not self.others and (said := self._told()):
                raise RuntimeError(said)
            time.sleep(0.02)

    def _told(self) -> str:
        """What one of the others has left of its end; empty if none has."""
        for rank in range(1, self.me.world):
            with suppress(Exception):  # of a connection that is gone
                if self.store is not None and self.store.check([f"failed/{rank}"]):
                    return f"process {rank}: {self.store.get(f'failed/{rank}').decode(errors='replace')}"
        return ""


@contextmanager
def team(asked: Device, rank: Rank | None, start: Callable[[Rank], Child]) -> Iterator[Team]:
    """This process, and those that train with it, for the length of a training.

    Args:
        asked: how many there are to be.
        rank: which this is, where a cluster has started all of them; None: the others are started here.
        start: starts one of the others.

    Raises:
        InputError: several machines, and no cluster that has started a process on each.
    """
    if rank is None:
        asked.check_one_machine()
    if rank is None and asked.devices > 1:
        yield from _started(asked, start)
        return
    here = Team(rank or ALONE, asked)
    try:
        yield here
    finally:
        if distributed.is_initialized() and here.me.world > 1:
            distributed.destroy_process_group()


def _started(asked: Device, start: Callable[[Rank], Child]) -> Iterator[Team]:
    world = asked.devices
    store = TCPStore("127.0.0.1", 0, world, is_master=True, wait_for_workers=False)
    me = Rank(0, world, port=store.port)
    here = Team(me, asked, store=store)
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
        deadline = time.monotonic()  # they hold nothing that could be lost
        raise
    finally:
        for other in here.others.values():
            other.kill_after(deadline)
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _follow(here: Team, others: Sequence[Child]) -> None:
    """End when one of the others has ended before its time, should this process wait for it for ever."""
    connection.wait([other.process.sentinel for other in others])
    if not here.over.wait(GRACE_S):
        here.lost = True
        os.kill(os.getpid(), signal.SIGTERM)
        if not here.over.wait(GRACE_S):
            faulthandler.dump_traceback()
            os._exit(1)
