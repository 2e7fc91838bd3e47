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
from cnnbench.training.loss import Loss
from cnnbench.training.metrics import metrics, restore, running_means, states_of_all, update
from cnnbench.training.weight_decay import decay_groups

MakeOptimizer = Callable[[Any], Optimizer]
MakeSchedule = Callable[[Optimizer], LRScheduler]


class Classifier(pl.LightningModule):
    """Image classifier: a model with its loss, metrics, optimizer and schedule.

    Args:
        model: (N, C, H, W) -> (N, K) logits; in training optionally a tuple of these and the logits of
            auxiliary classifiers, whose losses are weighted by `model.aux_weight`.
        num_classes: K.
        optimizer: called with parameter groups.
        schedule: called with the optimizer, and stepped after each optimizer step. If it has `observe`, that
            is called with a metric after each epoch. See `cnnbench.training.schedule`.
        seed: the global generators are seeded from (seed, epoch, batch) before each batch, so that dropout
            and mixing do not depend on earlier draws.
        loss: of the training, see `cnnbench.training.loss`; that of val and test is plain cross-entropy.
        mixup, cutmix: alpha of each (arXiv:1710.09412, 1905.04899); 0: off.
        decay_norm_and_bias: see `cnnbench.training.weight_decay`.
        frozen: modules of `model` that stay in eval mode, so that batch norm keeps its statistics.
        rank: rank of this process; each process draws its own dropout masks.
        weight: called with the number of a batch in its epoch; returns a factor of its loss.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        optimizer: MakeOptimizer,
        schedule: MakeSchedule,
        *,
        seed: int,
        loss: Loss = F.cross_entropy,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        decay_norm_and_bias: bool = True,
        frozen: Sequence[nn.Module] = (),
        rank: int = 0,
        weight: Callable[[int], float] = lambda batch: 1.0,
    ) -> None:
        super().__init__()
        self.rank, self.weight = rank, weight
        self.model = model
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.seed, self.loss, self.decay_norm_and_bias = seed, loss, decay_norm_and_bias
        self.frozen = list(frozen)
        alphas = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        mixers = [mixer(alpha=alpha, num_classes=num_classes) for mixer, alpha in alphas if alpha > 0]
        self.mix = v2.RandomChoice(mixers) if mixers else None
        self.train_metrics = running_means("train/")
        self.val_metrics = metrics("val/", num_classes)
        self.test_metrics = metrics("test/", num_classes)
        self.test_outputs: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """Return the (N, K) logits of images (N, C, H, W); in training perhaps a tuple, see `model`."""
        return self.model(images.to(self.dtype))  # type: ignore[no-any-return]

    # --- training -------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Put frozen modules into eval mode; Lightning keeps the mode of each module from here on."""
        for module in self.frozen:
            module.eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed all generators from (seed, epoch, batch), and from the rank except in the first process."""
        rank = [self.rank] if self.rank else []
        seed_all("step", self.seed, self.current_epoch, batch_idx, *rank)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean loss of a batch: images (N, C, H, W), labels (N,)."""
        images, labels = batch
        targets = labels
        if self.mix is not None:
            images, targets = self.mix(images, labels)
        output = self(images)
        logits, *auxiliary = output if isinstance(output, tuple) else (output,)
        main_loss = loss = self.loss(logits, targets)
        for aux_logits in auxiliary:
            loss = loss + float(self.model.aux_weight) * self.loss(aux_logits, targets)  # type: ignore[arg-type]
        with torch.no_grad():
            # With mixed images a prediction counts by the share of the predicted class.
            predicted = logits.argmax(1)
            if targets is labels:
                correct = (predicted == labels).float()
            else:
                correct = targets.gather(1, predicted[:, None])
            self.train_metrics["loss"].update(main_loss.detach().expand(len(labels)))
            self.train_metrics["acc"].update(correct)
        weight = self.weight(batch_idx)
        return loss if weight == 1 else weight * loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means over the training images."""
        self.log_dict(self.train_metrics.compute())
        self.train_metrics.reset()

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, which is stepped after each optimizer step."""
        optimizer = self.make_optimizer(decay_groups(self.model, norm_and_bias=self.decay_norm_and_bias))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.make_schedule(optimizer), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the running means of all processes, since a checkpoint may be written within an epoch."""
        checkpoint["train_metrics"] = states_of_all(self.train_metrics, self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the running means of this process."""
        restore(self.train_metrics, checkpoint["train_metrics"][self.rank])

    # --- evaluation -----------------------------------------------------------------------------

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Update the val metrics."""
        update(self.val_metrics, self(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        """Log `val/…`, and pass one of them to a schedule that observes it."""
        values = self.val_metrics.compute()
        self.val_metrics.reset()
        self.log_dict(values)
        schedule: Any = self.lr_schedulers() if self.trainer.state.fn == "fit" else None
        if hasattr(schedule, "observe"):
            schedule.observe(float(values[getattr(schedule, "monitor", "val/loss")]))

    def on_test_epoch_start(self) -> None:
        """Discard the outputs of an earlier test."""
        self.test_outputs = []

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Update the test metrics and keep the probabilities."""
        images, labels = batch
        logits = self(images)
        update(self.test_metrics, logits, labels)
        self.test_outputs.append((logits.float().softmax(1).cpu(), labels.cpu()))

    def on_test_epoch_end(self) -> None:
        """Log `test/…`."""
        self.log_dict(self.test_metrics.compute())
        self.test_metrics.reset()
