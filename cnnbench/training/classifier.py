"""The LightningModule: loss, metrics, optimizer and schedule of an image classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchvision.transforms import v2

from cnnbench.seeds import seed_all
from cnnbench.training.metrics import metrics, restore, running_means, states_of_all, update
from cnnbench.training.weight_decay import decay_groups

MakeOptimizer = Callable[[Any], Optimizer]
MakeSchedule = Callable[[Optimizer], LRScheduler]


class Classifier(pl.LightningModule):
    """Trains `model` with any optimizer and any schedule; knows the name of none.

    Args:
        model: (N, C, H, W) -> (N, K) logits; in training perhaps a tuple: those, and the logits of
            auxiliary classifiers, which count `model.aux_weight` in the loss.
        num_classes: K.
        optimizer: called with groups of parameters.
        schedule: called with the optimizer; stepped after each of its steps. If it has `observe`, that is
            called with each val/loss. See `cnnbench.training.schedule`.
        seed: the global generators are seeded from (seed, epoch, batch) before each batch: dropout and
            mixing do not depend on earlier draws.
        label_smoothing: of the training loss alone; val and test losses are plain cross-entropy.
        mixup, cutmix: alpha of each (arXiv:1710.09412, 1905.04899); 0 is off.
        decay_norm_and_bias: see `cnnbench.training.weight_decay`.
        frozen: modules of `model` that stay in eval mode, so that batch norm keeps its statistics.
        rank: of this process among those that train together; each draws its own dropout masks.
        weight: of this process's loss in the mean over processes, whose shards may be unequal.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        optimizer: MakeOptimizer,
        schedule: MakeSchedule,
        *,
        seed: int,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        decay_norm_and_bias: bool = True,
        frozen: Sequence[nn.Module] = (),
        rank: int = 0,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.rank, self.weight = rank, weight
        self.model = model
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.seed, self.label_smoothing, self.decay_norm_and_bias = seed, label_smoothing, decay_norm_and_bias
        self._frozen = list(frozen)
        mixers: list[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = []
        if mixup > 0:
            mixers.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
        if cutmix > 0:
            mixers.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))
        self.mix = v2.RandomChoice(mixers) if mixers else None
        self.train_metrics = running_means("train/")
        self.val_metrics = metrics("val/", num_classes)
        self.test_metrics = metrics("test/", num_classes)
        self.test_outputs: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, K) logits; in training to a tuple if the model has auxiliary ones."""
        return self.model(images.to(self.dtype))  # type: ignore[no-any-return]

    # --- training -------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Put what is frozen into eval mode; Lightning keeps each module's mode from here on."""
        for module in self._frozen:
            module.eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed every generator from (seed, epoch, batch), and the rank of all processes but the first."""
        rank = [self.rank] if self.rank else []
        seed_all("step", self.seed, self.current_epoch, batch_idx, *rank)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of a batch: images (N, C, H, W), labels (N,)."""
        images, labels = batch
        targets = labels
        if self.mix is not None:
            images, targets = self.mix(images, labels)
        output = self(images)
        logits, *auxiliary = output if isinstance(output, tuple) else (output,)
        own = loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        for other in auxiliary:
            weight = float(self.model.aux_weight)  # type: ignore[arg-type]
            loss = loss + weight * F.cross_entropy(other, targets, label_smoothing=self.label_smoothing)
        with torch.no_grad():
            # With mixed images a prediction counts by the share of the class that it names.
            hits = logits.argmax(1)
            right = (hits == labels).float() if targets is labels else targets.gather(1, hits[:, None])
            self.train_metrics["loss"].update(own.detach().expand(len(labels)))
            self.train_metrics["acc"].update(right)
        return loss if self.weight == 1 else self.weight * loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means over the images seen."""
        self.log_dict(self.train_metrics.compute())
        self.train_metrics.reset()

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and its schedule with a step per optimizer step."""
        optimizer = self.make_optimizer(decay_groups(self.model, norm_and_bias=self.decay_norm_and_bias))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.make_schedule(optimizer), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the running means of each process: a checkpoint may be written within an epoch."""
        checkpoint["train_metrics"] = states_of_all(self.train_metrics, self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the running means."""
        restore(self.train_metrics, checkpoint["train_metrics"][self.rank])

    # --- evaluation -----------------------------------------------------------------------------

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Update the val metrics."""
        update(self.val_metrics, self(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        """Log val/loss, val/acc and val/top5, and tell the schedule about the loss."""
        values = self.val_metrics.compute()
        self.val_metrics.reset()
        self.log_dict(values)
        schedule: Any = self.lr_schedulers() if self.trainer.state.fn == "fit" else None
        if hasattr(schedule, "observe"):
            schedule.observe(float(values["val/loss"]))

    def on_test_epoch_start(self) -> None:
        """Forget an earlier test."""
        self.test_outputs = []

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Update the test metrics and keep the probabilities."""
        images, labels = batch
        logits = self(images)
        update(self.test_metrics, logits, labels)
        self.test_outputs.append((logits.float().softmax(1).cpu(), labels.cpu()))

    def on_test_epoch_end(self) -> None:
        """Log test/loss, test/acc and test/top5."""
        self.log_dict(self.test_metrics.compute())
        self.test_metrics.reset()
