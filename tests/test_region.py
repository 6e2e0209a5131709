"""The box that is enough for the model: closed forms, and that no map shapes it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from heatproof import Probe, score
from heatproof.errors import UsageError
from heatproof.metrics import case
from heatproof.metrics.region import sufficient_box

SIZE = {1: (16,), 2: (16, 8), 3: (8, 8, 8)}
NAMES = ("region-pointing-game", "region-relevance-mass", "region-relevance-rank")


class Corner(nn.Module):
    """Sure of class 0 in so far as the positions 2 to 3 of every axis are 1."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank, self.weight = rank, nn.Parameter(torch.tensor(8.0))

    def forward(self, x: Tensor) -> Tensor:
        part = x[(slice(None), 0, *[slice(2, 4)] * self.rank)].flatten(1).mean(1)
        z = self.weight * (part - 0.5)
        return torch.stack([z, -z], dim=1)


def toy(rank: int) -> tuple[Probe, Tensor, Tensor]:
    """The model, two inputs of ones, and which positions decide."""
    inside = torch.zeros(2, *SIZE[rank], dtype=torch.bool)
    inside[(slice(None), *[slice(2, 4)] * rank)] = True
    return Probe(Corner(rank)), torch.ones(2, 1, *SIZE[rank]), inside


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_box_is_the_part_that_decides(rank: int) -> None:
    probe, x, inside = toy(rank)
    for map in (inside.float(), 1 - inside.float()):
        box = sufficient_box(case(probe, x, map, fill="black"), enough=0.9)
        assert box[inside].all()
        assert box.flatten(1).sum(1).tolist() == [2**rank] * 2


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_perfect_and_the_worst_map(rank: int) -> None:
    probe, x, inside = toy(rank)
    noise = torch.linspace(0, 1e-3, x[0].numel()).reshape(1, *SIZE[rank])
    for name in NAMES:
        best, worst = (
            score(probe, x, map, f"{name}:enough=0.9", fill="black") for map in (inside + noise, 1 - inside.float())
        )
        assert best.tolist() == pytest.approx([1.0, 1.0], abs=0.1)
        assert worst.tolist() == [0.0, 0.0]


def test_where_the_fill_is_enough_nothing_is_told() -> None:
    probe, x, inside = toy(1)
    for name in NAMES:
        assert score(probe, x, inside.float(), name, fill="mean").isnan().all()


def test_the_smaller_the_share_to_keep_the_smaller_the_box() -> None:
    probe, x, inside = toy(2)
    one = case(probe, x, inside.float(), fill="black")
    sizes = [int(sufficient_box(one, enough=enough).sum()) for enough in (0.9, 0.4)]
    assert sizes[0] > sizes[1] > 0


@pytest.mark.parametrize("option", ["enough=0", "enough=1.5", "steps=1"])
def test_options_out_of_range_are_refused(option: str) -> None:
    probe, x, inside = toy(1)
    with pytest.raises(UsageError, match=option.split("=")[0]):
        score(probe, x, inside.float(), f"{NAMES[0]}:{option}")
