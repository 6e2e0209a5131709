"""Train and measure networks for the HMT tiles.

    python benchmarks/hmt.py train --tiles TILES --out MODEL     the network that is shipped
    python benchmarks/hmt.py test  --tiles TILES --model MODEL   accuracy by class, size, cost and speed of a model
    python benchmarks/hmt.py vgg   --tiles TILES --out MODEL     the course's VGG-7 with the course's augmentation

TILES holds train/ and test/. Every choice is made on tiles held out from train/; test/ is read by `test` alone.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import heatproof as hp
from heatproof.data.folder import stratified
from heatproof.models.card import Card, card_of
from heatproof.nets import build
from heatproof.records import Samples
from heatproof.registry import Spec
from heatproof.training import history_of
from heatproof.training.batches import generator
from heatproof.training.images import mix, tissue


@dataclass(frozen=True)
class Cycle:
    """One rise and fall of the learning rate.

    Attributes:
        epochs, rate: how long, and the highest rate.
        sides: of the tiles in the first third, the next quarter and the rest.
        mixed: probability that a batch is blended, until the share ``plain`` of the cycle is left.
        colour: strength of the changes of colour.
    """

    epochs: int
    rate: float
    sides: tuple[int, int, int]
    mixed: float
    plain: float
    colour: float

    def side(self, done: float) -> int:
        """The side of the tiles when a share of the cycle is done."""
        return self.sides[0 if done < 0.33 else 1 if done < 0.58 else 2]

    def now(self, done: float) -> float:
        """The learning rate: up by a cosine for a fifth of the cycle, then down."""
        low, part = (1 / 25, done / 0.2) if done < 0.2 else (4e-5, (1 - done) / 0.8)
        return self.rate * (low + (1 - low) * (1 - math.cos(math.pi * part)) / 2)


@dataclass(frozen=True)
class Plan:
    """How the shipped network is trained."""

    cycles: tuple[Cycle, ...] = (
        Cycle(77, 0.004, (96, 112, 128), mixed=0.5, plain=0.12, colour=1.0),
        Cycle(20, 0.0015, (128, 128, 128), mixed=0.2, plain=0.3, colour=0.5),
    )
    batch: int = 64
    weight_decay: float = 0.05
    smoothing: float = 0.05
    dropout: float = 0.1
    average: float = 0.998
    clip: float = 5.0
    held: int = 50
    seed: int = 1

    @property
    def side(self) -> int:
        """The side of the tiles at the end."""
        return self.cycles[-1].sides[-1]


def train(tiles: Path, out: Path, plan: Plan, threads: int) -> None:
    """Train on all but the held-out tiles; weights, averaged over the last steps, go to ``out`` with their card."""
    torch.set_num_threads(threads)
    torch.manual_seed(plan.seed)
    whole = hp.data.hmt(tiles, size=None).train
    chosen = stratified(whole.y, len(whole.classes), lambda _: plan.held, seed=0)
    learn = whole.take((~chosen).nonzero()[:, 0])
    held = hp.data.hmt(tiles, size=plan.side).train.take(chosen.nonzero()[:, 0])
    spec = Spec("tissue-resnet", (("dropout", plan.dropout),))
    net = build(spec).to(memory_format=torch.channels_last)
    average = copy.deepcopy(net).eval()
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": plan.weight_decay},
            {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
    )
    start, step, accuracy, loss = time.perf_counter(), 0, math.nan, math.nan
    epochs = [(cycle, epoch) for cycle in plan.cycles for epoch in range(cycle.epochs)]
    for number, (cycle, epoch) in enumerate(epochs, start=1):
        net.train()
        for done, x, targets in batches(learn, plan, cycle, epoch, number):
            for group in optimiser.param_groups:
                group["lr"] = cycle.now(done)
            descend(net, optimiser, x, targets, plan)
            step += 1
            follow(average, net, min(plan.average, (1 + step) / (10 + step)))
        if number % 4 == 0 or number == len(epochs):
            logits = predict(average, held)
            accuracy, loss = float((logits.argmax(1) == held.y).float().mean()), float(F.cross_entropy(logits, held.y))
            minutes = (time.perf_counter() - start) / 60
            print(f"epoch {number}: held out {accuracy:.4f}, loss {loss:.4f}, {minutes:.1f} min", flush=True)
    card = Card(
        architecture=Spec(spec.name),  # dropout does nothing once trained
        input_shape=(3, plan.side, plan.side),
        classes=whole.classes,
        data=f"hmt:size={plan.side}",
        recipe=asdict(plan),
        metrics={"validation_accuracy": accuracy, "validation_loss": loss},
        seed=plan.seed,
    )
    hp.save(average.to(memory_format=torch.contiguous_format), out, card)


def batches(
    learn: Samples, plan: Plan, cycle: Cycle, epoch: int, number: int
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """The augmented and blended batches of an epoch, each with the share of the cycle that is done."""
    random = generator(plan.seed, f"epoch {number}")
    order = torch.randperm(len(learn), generator=random)
    rows = order[: len(order) // plan.batch * plan.batch].reshape(-1, plan.batch)
    for i, chosen in enumerate(rows):
        done = (epoch + i / len(rows)) / cycle.epochs
        x = tissue(learn.x[chosen], random, size=cycle.side(done), colour=cycle.colour)
        targets = F.one_hot(learn.y[chosen], len(learn.classes)).float()
        yield done, *mix(x, targets, random, cycle.mixed if done < 1 - cycle.plain else 0.0)


def descend(net: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, targets: Tensor, plan: Plan) -> None:
    """One step; products in bfloat16, which halves the time on processors that have it."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(x.contiguous(memory_format=torch.channels_last))
    optimiser.zero_grad()
    F.cross_entropy(logits.float(), targets, label_smoothing=plan.smoothing).backward()
    nn.utils.clip_grad_norm_(net.parameters(), plan.clip)
    optimiser.step()


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the averaged weights, and the statistics of normalisation, towards the present ones."""
    for old, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if old.dtype.is_floating_point:
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)


@torch.inference_mode()
def predict(net: nn.Module, samples: Samples) -> Tensor:
    """Logits (N, classes)."""
    return torch.cat([net.eval()(samples.x[i : i + 32]) for i in range(0, len(samples), 32)])


def test(tiles: Path, model: Path) -> None:
    """Print how good, large and quick a saved model is, and note it on its card; test tiles are read here alone."""
    net = hp.load(model)
    card = card_of(net) if isinstance(net, nn.Module) else None
    if card is None or not isinstance(net, nn.Module) or card.input_shape[1] is None:
        raise SystemExit(f"{model} is no model with a card that tells the side of its tiles")
    side = card.input_shape[1]
    samples = hp.data.hmt(tiles, size=side).test
    logits = predict(net, samples)
    hit = logits.argmax(1) == samples.y
    accuracy, loss = float(hit.float().mean()), float(F.cross_entropy(logits, samples.y))
    hp.save(net, model, replace(card, metrics={**card.metrics, "test_accuracy": accuracy}))
    print(f"test accuracy {accuracy:.4f} of {len(samples)}; loss {loss:.4f}")
    for label, name in enumerate(samples.classes):
        rows = samples.y == label
        recall, taken = float(hit[rows].float().mean()), logits.argmax(1) == label
        precision = float(hit[taken].float().mean()) if bool(taken.any()) else math.nan
        print(f"  {name:8} recall {recall:.3f}, precision {precision:.3f}")
    print("confusion (true class a row):")
    for label in range(len(samples.classes)):
        predicted = logits.argmax(1)[samples.y == label].bincount(minlength=len(samples.classes))
        print("  ", " ".join(f"{int(n):3d}" for n in predicted))
    size, cost = sum(p.numel() for p in net.parameters()), 2 * multiply_adds(net, side) / 1e9
    print(f"parameters {size:,}; {cost:.3f} GFLOP a tile (a multiply-add is two)")
    x = samples.x[0:32]
    with torch.inference_mode():
        times = [_timed(net, x) for _ in range(5)]
    print(f"forward pass {min(times) / len(x) * 1e3:.2f} ms a tile, {torch.get_num_threads()} threads")


def multiply_adds(net: nn.Module, side: int) -> int:
    """Of convolutions and dense layers, for one tile."""
    total = 0

    def count(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        assert isinstance(layer.weight, Tensor)
        total += layer.weight[0].numel() * out[0].numel()

    handles = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.inference_mode():
        net(torch.zeros(1, 3, side, side))
    for handle in handles:
        handle.remove()
    return total


def vgg(tiles: Path, out: Path, epochs: int) -> None:
    """Train the course's network with its augmentation, or take it up again; curves and numbers are left in ``out``."""
    from heatproof import plots

    net = hp.train(
        hp.data.hmt(tiles, size=224), recipe=f"hmt-course:epochs={epochs}", net="vgg-7", out=out, resume=True
    )
    rows = history_of(net)
    print(*plots.save(plots.history(rows), out / "curves"))
    for row in rows:
        print(f"| {row.epoch} | {row.train_loss:.3f} | {row.train_accuracy:.3f} | {row.val_loss:.3f} "
              f"| {row.val_accuracy:.3f} |")  # fmt: skip


def _timed(net: nn.Module, x: Tensor) -> float:
    start = time.perf_counter()
    net(x)
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "test", "vgg"))
    parser.add_argument("--tiles", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--epochs", type=int, default=60, help="of vgg")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.what == "test":
        test(chosen.tiles, chosen.model)
    elif chosen.what == "train":
        train(chosen.tiles, chosen.out, Plan(), chosen.threads)
    else:
        vgg(chosen.tiles, chosen.out, chosen.epochs)
