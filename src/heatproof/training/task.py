"""The Lightning module: loss, optimiser, learning rate and averaged weights of one training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from typing_extensions import override

from heatproof.annotations import Task as Asked
from heatproof.training.batches import Batch, Labels, Stretch, generator
from heatproof.training.recipes import Recipe


def averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """The update of averaged weights; its decay rises to ``decay``, so that a short training forgets its start."""

    def update(kept: Any, current: Any, count: Any) -> None:
        steps = float(count)
        get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(kept, current, count)

    return update


class Task(LightningModule):
    """A network being trained by a recipe; per-epoch means are kept on the device and read once an epoch.

    Lightning's own work for a step takes as long as a step of a small network. So one of its steps is a stretch of
    ours, and the optimiser is called here. ``steps`` are ours, in one epoch; ``done`` counts them over all epochs.
    """

    def __init__(self, net: nn.Module, recipe: Recipe, seed: int, steps: int, asked: Asked = "classes") -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net, self.recipe, self.seed, self.asked = net, recipe, seed, asked
        self.steps, self.done = steps, 0
        self.average: AveragedModel | None = None
        if recipe.average:
            self.average = AveragedModel(net, multi_avg_fn=averaging(recipe.average), use_buffers=True)
            self.average.requires_grad_(False)
        self.weights = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
        self.others = [p for p in net.parameters() if p.requires_grad and p.ndim <= 1]
        trained = [p.requires_grad and p.ndim > 1 for p in net.parameters()]
        self.kept_weights = list(itertools.compress(self.kept.parameters(), trained))
        self.train_means, self.val_means = Means(), Means()
        self.norms = Means()

    @property
    def kept(self) -> nn.Module:
        """The network that is kept: the averaged one, where there is one."""
        return self.net if self.average is None else self.average.module

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW decays weights, not biases or normalisation; SGD is plain."""
        groups = [
            {"params": self.weights, "weight_decay": self.recipe.weight_decay},
            {"params": self.others, "weight_decay": 0.0},
        ]
        fused = self.device.type in ("cpu", "cuda")
        if self.recipe.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=self.recipe.learning_rate, fused=fused)
        return torch.optim.AdamW(groups, lr=self.recipe.learning_rate, fused=fused)

    def loss(
        self, logits: Float[Tensor, "n k"], y: Labels, weights: list[nn.Parameter], smoothing: float = 0.0
    ) -> Float[Tensor, ""]:
        """The loss of the task, and the L2 term of these weights where the recipe has one.

        Cross-entropy of classes, its mean over labels, the mean squared error of a regression.
        """
        if self.asked == "labels":
            soft = y.to(logits.dtype) * (1 - smoothing) + smoothing / 2
            loss = functional.binary_cross_entropy_with_logits(logits, soft)
        elif self.asked == "regression":
            loss = functional.mse_loss(logits.reshape(len(y)), y.to(logits.dtype))
        else:
            loss = functional.cross_entropy(logits, y, label_smoothing=smoothing)
        if self.recipe.l2:
            loss = loss + self.recipe.l2 * torch.stack([w.square().sum() for w in weights]).sum()
        return loss

    @override
    def on_train_epoch_start(self) -> None:
        """Give dropout and the like the random state that belongs to this epoch."""
        torch.manual_seed(generator(self.seed, f"dropout {self.current_epoch}").initial_seed())
        self.done = self.current_epoch * self.steps
        self.train_means.clear()
        self.norms.clear()

    @override
    def training_step(self, batch: Stretch, batch_idx: int) -> None:
        """One optimiser step a batch of the stretch."""
        counted, plain = self.optimizers(), self.trainer.optimizers[0]
        assert not isinstance(counted, list)
        for place, (x, y) in enumerate(batch, start=1):
            self._descend(x, y, plain)
            # Lightning counts the last step of a stretch, which is how it knows that there is something to save.
            (counted if place == len(batch) else plain).step()
            if self.average is not None:
                self.average.update_parameters(self.net)
            self.done += 1

    def _descend(self, x: Float[Tensor, "n c *s"], y: Labels, optimiser: torch.optim.Optimizer) -> None:
        rate = self.recipe.rate(self.done, self.steps * self.recipe.epochs, self.current_epoch)
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = self.net(x)
        logits = logits.float()
        loss = self.loss(logits, y, self.weights, self.recipe.label_smoothing)
        optimiser.zero_grad()
        loss.backward()
        self.norms.add(1, self._norm())
        self.train_means.add(len(y), loss.detach(), hits(logits.detach(), y, self.asked))

    def _norm(self) -> Float[Tensor, ""]:
        """The norm of the gradient, which is then cut to the recipe's limit."""
        trained = self.weights + self.others
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        if self.recipe.clip:
            torch.nn.utils.clip_grads_with_norm_(trained, self.recipe.clip, norm)
        return norm

    @override
    def on_validation_epoch_start(self) -> None:
        """Start new means."""
        self.val_means.clear()

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Record loss and accuracy of the network that is kept."""
        x, y = batch
        logits = self.kept(x)
        loss = self.loss(logits, y, self.kept_weights)
        self.val_means.add(len(y), loss, hits(logits, y, self.asked))

    @override
    def on_validation_epoch_end(self) -> None:
        """Publish the validation loss for early stopping and the best checkpoint."""
        self.log("val_loss", self.val_means.read()[0])


def hits(logits: Float[Tensor, "n k"], y: Labels, asked: Asked = "classes") -> Float[Tensor, ""]:
    """Share of the samples classified correctly; the label of a blended one is the class with the larger part.

    Of labels the share of correct decisions; NaN for a regression.
    """
    if asked == "regression":
        return torch.full((), torch.nan, device=logits.device)
    if asked == "labels":
        return ((logits >= 0) == (y >= 0.5)).float().mean()
    labels = y.argmax(1) if y.is_floating_point() else y
    return (logits.argmax(1) == labels).float().mean()


class Means:
    """Weighted means of a few scalars, without waiting for the device before they are read."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._sums: list[Tensor] = []
        self._count = 0

    def add(self, count: int, *values: Tensor) -> None:
        """Add values that are means over ``count`` samples."""
        weighted = [value * count for value in values]
        self._sums = [a + b for a, b in zip(self._sums, weighted, strict=True)] if self._sums else weighted
        self._count += count

    def read(self) -> list[float]:
        """The means so far."""
        return [float(total) / self._count for total in self._sums]


@contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """torch's global random state set to the seed, and put back at the end."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
