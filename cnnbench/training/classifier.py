"""The LightningModule: loss, metrics, optimizer and schedule of an image classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms import v2

from cnnbench.seeds import seed_all

MakeOptimizer = Callable[[Any], Optimizer]
MakeSchedule = Callable[[Optimizer], LRScheduler]


class Classifier(pl.LightningModule):
    """Trains `model` with any optimizer and any schedule; knows the name of none.

    Args:
        model: (N, C, H, W) -> (N, K) logits; in training perhaps a tuple, whose further members are logits
            of auxiliary classifiers, that count `model.aux_weight` in the loss.
        num_classes: K.
        optimizer: called with the parameters, or with groups of them.
        schedule: called with the optimizer; stepped after each of its steps. If it has `observe`, that is
            called with each val/loss. See `cnnbench.training.schedule`.
        seed: the global generators are seeded from (seed, epoch, batch) before each batch, so that
            dropout and mixing do not depend on what was drawn before, in this process or an earlier one.
        label_smoothing: of the training loss alone; val and test losses are plain cross-entropy.
        mixup, cutmix: alpha of each (arXiv:1710.09412, 1905.04899); 0 is off.
        decay_norm_and_bias: False leaves parameters of one dimension without weight decay; PReLU's slopes
            never have any.
        frozen: modules of `model` that stay in eval mode, so that batch norm keeps its statistics.
        rank: which of the processes this is that train together; each draws its own dropout masks.
        weight: of this process's loss in the mean over processes: the parts of a batch need not be equal.
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
        # One value for each image: without its search for NaN, MeanMetric (torchmetrics 1.9) ignores weights.
        self.train_metrics = MetricCollection(
            {"loss": MeanMetric(nan_strategy="disable"), "acc": MeanMetric(nan_strategy="disable")},
            prefix="train/",
            compute_groups=False,
        )
        self.val_metrics = metrics("val/", num_classes)
        self.test_metrics = metrics("test/", num_classes)
        self.test_outputs: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K) logits; in training a tuple, if the model has auxiliary classifiers."""
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
        """Mean cross-entropy of one batch, (N, C, H, W) images with (N,) labels."""
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
        """The optimizer, and its schedule with a step per optimizer step."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = self.make_optimizer(list(self._decay_groups(trained)))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.make_schedule(optimizer), "interval": "step"},
        }

    def _decay_groups(self, trained: Sequence[nn.Parameter]) -> Iterator[dict[str, Any]]:
        """What has the optimizer's weight decay, and what has none.

        None have PReLU's slopes, which it would draw to those of a ReLU (arXiv:1502.01852, section 2.1).
        """
        slopes = {id(m.weight) for m in self.model.modules() if isinstance(m, nn.PReLU)}
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for p in trained:
            small = p.ndim <= 1 and not self.decay_norm_and_bias  # norms and biases
            (free if small or id(p) in slopes else decayed).append(p)
        yield {"params": decayed}
        if free:
            yield {"params": free, "weight_decay": 0.0}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the running means too, those of each process: a checkpoint may lie within an epoch."""
        checkpoint["train_metrics"] = [
            {
                name: {key: tensor[rank] for key, tensor in states.items()}
                | {"_update_count": self.train_metrics[name].update_count}
                for name, states in self._states().items()
            }
            for rank in range(self.trainer.world_size)
        ]

    def _states(self) -> dict[str, dict[str, Tensor]]:
        """The sums behind the running means, (processes, …)."""
        return {
            name: {key: _of_all(tensor) for key, tensor in metric.metric_state.items()}  # type: ignore[arg-type]
            for name, metric in self.train_metrics.items(keep_base=True)
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the running means up again."""
        for name, states in checkpoint["train_metrics"][self.rank].items():
            for key, value in states.items():
                setattr(self.train_metrics[name], key, value)

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


def metrics(prefix: str, num_classes: int) -> MetricCollection:
    """Loss, accuracy and top-5 accuracy over the images that `update` is called with."""
    return MetricCollection(
        {
            "loss": MeanMetric(nan_strategy="disable"),
            "acc": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
            "top5": MulticlassAccuracy(
                num_classes, average="micro", top_k=min(5, num_classes), validate_args=False
            ),
        },
        prefix=prefix,
        compute_groups=False,
    )


def update(metrics: MetricCollection, logits: Tensor, labels: Tensor) -> None:
    """Count in (N, K) logits with (N,) labels."""
    logits = logits.float()
    metrics["loss"].update(F.cross_entropy(logits, labels, reduction="none"))
    metrics["acc"].update(logits, labels)
    metrics["top5"].update(logits, labels)


def _of_all(tensor: Tensor) -> Tensor:
    """(…) of each process -> (processes, …)."""
    if not distributed.is_initialized():
        return tensor[None]
    found = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(found, tensor)
    return torch.stack(found)
