"""Lightning plugins and callbacks for several processes that train together."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from torch import distributed

from cnnbench.training.checkpoints import SealedCheckpoints
from cnnbench.training.rank import Rank


class Environment(ClusterEnvironment):
    """Cluster environment of processes that are running already."""

    def __init__(self, me: Rank) -> None:
        super().__init__()
        self.me = me

    @property
    def creates_processes_externally(self) -> bool:
        """True: Lightning must not start any."""
        return True

    @property
    def main_address(self) -> str:
        """Address of the first process."""
        return self.me.address

    @property
    def main_port(self) -> int:
        """Port of the first process."""
        return self.me.port

    @staticmethod
    def detect() -> bool:
        """Return False: the environment is never detected, but passed to the Trainer."""
        return False

    def world_size(self) -> int:
        """Return the number of processes."""
        return self.me.world

    def set_world_size(self, size: int) -> None:
        """Ignore the value; it is known."""

    def global_rank(self) -> int:
        """Return the rank among all processes."""
        return self.me.rank

    def set_global_rank(self, rank: int) -> None:
        """Ignore the value; it is known."""

    def local_rank(self) -> int:
        """Return the rank on this machine."""
        return self.me.local

    def node_rank(self) -> int:
        """Return the number of this machine."""
        return self.me.node


class TakenBack(pl.Callback):
    """Callback that reverts what Lightning changes when several processes train.

    Its SIGTERM handler communicates with the other processes, and would wait forever if they are busy. It
    sets the number of threads and OMP_NUM_THREADS from the number of cores.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)
        self.threads = torch.get_num_threads()
        self.variable = os.environ.get("OMP_NUM_THREADS")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the number of threads."""
        torch.set_num_threads(self.threads)
        if self.variable is None:
            os.environ.pop("OMP_NUM_THREADS", None)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the SIGTERM handler."""
        self._restore_handler()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the SIGTERM handler."""
        self._restore_handler()

    def _restore_handler(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class SameStatistics(pl.Callback):
    """Callback by which all processes evaluate with the batch statistics of the first, which are saved."""

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Broadcast the buffers; an EMA callback has swapped the weights before."""
        for buffer in pl_module.buffers():
            distributed.broadcast(buffer, 0)


class SharedCheckpoints(SealedCheckpoints):
    """Checkpoints read by the first process for all of them: another machine may still see an older file.

    Args:
        agree: returns the first process's value in all of them.
    """

    def __init__(self, agree: Callable[[Any], Any]) -> None:
        super().__init__()
        self.agree = agree

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint in the first process, and return it in all of them."""
        checkpoint = super().load_checkpoint(path, *args, **options) if distributed.get_rank() == 0 else None
        return self.agree(checkpoint)  # type: ignore[no-any-return]
