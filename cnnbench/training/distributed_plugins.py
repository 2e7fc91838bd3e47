"""What Lightning is told of processes that train together."""

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

from cnnbench.training.checkpoints import PlainCheckpoints
from cnnbench.training.rank import Rank


class Environment(ClusterEnvironment):
    """What Lightning asks about the processes: they are there already."""

    def __init__(self, me: Rank) -> None:
        super().__init__()
        self.me = me

    @property
    def creates_processes_externally(self) -> bool:
        """True: they are there already."""
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
        """False: it is made here, not looked for."""
        return False

    def world_size(self) -> int:
        """How many processes there are."""
        return self.me.world

    def set_world_size(self, size: int) -> None:
        """Ignored: it is known."""

    def global_rank(self) -> int:
        """Rank among all processes."""
        return self.me.rank

    def set_global_rank(self, rank: int) -> None:
        """Ignored: it is known."""

    def local_rank(self) -> int:
        """Rank on this machine."""
        return self.me.local

    def node_rank(self) -> int:
        """Number of this machine."""
        return self.me.node


class TakenBack(pl.Callback):
    """What Lightning changes on its own when several processes train.

    Its handler of SIGTERM talks to the other processes, which may be elsewhere, and would wait for ever; it
    sets the number of threads, and OMP_NUM_THREADS, to what the number of cores suggests.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)
        self.threads = torch.get_num_threads()
        self.variable = os.environ.get("OMP_NUM_THREADS")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """After the threads were set."""
        torch.set_num_threads(self.threads)
        if self.variable is None:
            os.environ.pop("OMP_NUM_THREADS", None)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After the handler was set."""
        self._take_handler_back()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After the handler was set."""
        self._take_handler_back()

    def _take_handler_back(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class SameStatistics(pl.Callback):
    """Has all processes evaluate with the batch statistics of the first one, which will be written down."""

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After a callback that exchanges the weights for their averages."""
        for buffer in pl_module.buffers():
            distributed.broadcast(buffer, 0)


class SharedCheckpoints(PlainCheckpoints):
    """Has all processes resume from what the first one has read: another machine may still see an older file.

    Args:
        agree: returns the first process's value in all of them.
    """

    def __init__(self, agree: Callable[[Any], Any]) -> None:
        super().__init__()
        self.agree = agree

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        """Read by the first process, and hand to all."""
        checkpoint = super().load_checkpoint(path, *args, **options) if distributed.get_rank() == 0 else None
        return self.agree(checkpoint)  # type: ignore[no-any-return]
