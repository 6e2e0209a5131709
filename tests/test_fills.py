"""Fills, removals and curves: against dense float64 systems and closed forms."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heatproof import spatial
from heatproof.errors import InputError, NotApplicable, UnknownName, UsageError
from heatproof.fills import Canvas, even_counts, fill, fills, imputation, removal_scores, removals
from heatproof.probe import Probe
from heatproof.registry import Spec

SIZES = {1: (11,), 2: (5, 7), 3: (4, 3, 5)}


def sample(rank: int, n: int = 2, channels: int = 2) -> Tensor:
    return torch.randn(n, channels, *SIZES[rank], generator=torch.Generator().manual_seed(rank))


def holes(rank: int, n: int = 2, share: float = 0.6) -> Tensor:
    return torch.rand(n, *SIZES[rank], generator=torch.Generator().manual_seed(7 + rank)) < share


def canvas(x: Tensor, fill: str, pool: Tensor | None = None) -> Canvas:
    return Canvas(x, fills.spec(fill), torch.arange(len(x)), pool)


ALL = ["black", "black:value=0.5", "black:value=min", "mean", "blur", "noise", "donor", "noisy-linear"]


def test_every_fill_is_tried_here() -> None:
    assert {Spec.parse(f).name for f in ALL} == set(fills)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("fill", ALL)
def test_a_fill_keeps_what_is_not_removed_and_treats_each_sample_alone(fill: str, rank: int) -> None:
    x, removed, pool = sample(rank, 3), holes(rank, 3), sample(rank, 9)
    whole = canvas(x, fill, pool).without(removed[None])
    torch.testing.assert_close(torch.where(removed[:, None], x, whole), x, rtol=0, atol=0)
    assert torch.isfinite(whole).all()
    for i in range(3):
        alone = Canvas(x[i : i + 1], fills.spec(fill), torch.tensor([i]), pool).without(removed[None, i : i + 1])
        torch.testing.assert_close(alone[0], whole[i])
    everything = canvas(x, fill, pool).without(torch.ones_like(removed)[None])
    torch.testing.assert_close(everything, canvas(x, fill, pool).blank)
    nothing = canvas(x, fill, pool).without(torch.zeros_like(removed)[None])
    torch.testing.assert_close(nothing, x, rtol=0, atol=0)


def dense(x: Tensor, removed: Tensor) -> Tensor:
    """Each removed position the weighted mean of its neighbours inside the grid: one dense float64 system."""
    size = tuple(x.shape[1:])
    places = list(product(*map(range, size)))
    free = [p for p in places if removed[p]]
    number = {p: i for i, p in enumerate(free)}
    left, right = torch.zeros(len(free), len(free), dtype=torch.float64), torch.zeros(len(free), len(x)).double()
    for p in free:
        for offset, weight in spatial.neighbours(len(size)):
            q = tuple(a + b for a, b in zip(p, offset, strict=True))
            if q not in places:
                continue
            left[number[p], number[p]] += weight
            if q in number:
                left[number[p], number[q]] -= weight
            else:
                right[number[p]] += weight * x[(slice(None), *q)].double()
    solved, out = torch.linalg.solve(left, right), x.double().clone()
    for p, i in number.items():
        out[(slice(None), *p)] = solved[i]
    return out


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_noisy_linear_solves_the_system(rank: int) -> None:
    x, removed = sample(rank), holes(rank)
    filled = canvas(x, "noisy-linear:noise=0.0").without(removed[None])
    want = torch.stack([dense(a, m) for a, m in zip(x, removed, strict=True)])
    torch.testing.assert_close(filled.double(), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(27, 22), (19, 5, 4)])
@pytest.mark.parametrize("near", [imputation.NEAR, 1])
def test_noisy_linear_fills_large_holes(size: tuple[int, ...], near: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From coarse to fine, and no further than the hole and its rim; nothing left in one of the samples."""
    monkeypatch.setattr(imputation, "NEAR", near)
    x = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(1))
    removed = torch.zeros(3, *size, dtype=torch.bool)
    removed[0, 2:-1, 1:-1] = True
    removed[1, 10:17, 2:4] = True
    removed[2] = True
    filled = canvas(x, "noisy-linear:noise=0.0").without(removed[None])
    want = torch.stack([dense(a, m) for a, m in zip(x[:2], removed[:2], strict=True)])
    error = (filled[:2].double() - want).flatten(1).square().mean(1).sqrt()
    assert float(error.amax()) < 0.03
    torch.testing.assert_close(filled[2], spatial.like(spatial.mean(x[2:]), x)[0].expand_as(x[2]))
    torch.testing.assert_close(torch.where(removed[:, None], x, filled), x, rtol=0, atol=0)


def test_noisy_linear_adds_noise_of_the_stated_size() -> None:
    x = torch.randn(1, 1, 4000, generator=torch.Generator().manual_seed(0))
    removed = torch.ones(1, 4000, dtype=torch.bool)
    removed[0, 0] = False
    still, moved = (canvas(x, f"noisy-linear:noise={n}").without(removed[None]) for n in (0.0, 0.1))
    assert float((moved - still).std()) == pytest.approx(0.1 * float(x.std()), rel=0.05)


def test_fills_are_what_they_say() -> None:
    x = torch.tensor([[[1.0, 2.0, 6.0], [-1.0, 0.0, 4.0]]])
    torch.testing.assert_close(canvas(x, "mean").blank, torch.tensor([[[3.0] * 3, [1.0] * 3]]))
    torch.testing.assert_close(canvas(x, "black:value=min").blank, torch.tensor([[[1.0] * 3, [-1.0] * 3]]))
    torch.testing.assert_close(canvas(x, "black").blank, torch.zeros_like(x))
    long = torch.randn(1, 1, 20000, generator=torch.Generator().manual_seed(0)) * 3 + 5
    noise = canvas(long, "noise").blank
    assert float(noise.mean()) == pytest.approx(5, abs=0.1)
    assert float(noise.std()) == pytest.approx(3, rel=0.05)
    assert not noise.equal(long)


def test_a_donor_is_another_sample() -> None:
    pool = torch.arange(5.0)[:, None, None].expand(5, 1, 4)
    donors = canvas(pool, "donor", pool).blank[:, 0, 0]
    assert (donors != torch.arange(5.0)).all()
    assert set(donors.tolist()) <= set(range(5))
    with pytest.raises(NotApplicable, match="other samples"):
        _ = canvas(pool, "donor").blank
    with pytest.raises(InputError, match="expected"):
        _ = canvas(pool, "donor", torch.zeros(3, 1, 5)).blank


def test_unknown_fills_are_refused() -> None:
    with pytest.raises(UnknownName, match="blur"):
        fills.spec("blurr")
    with pytest.raises(NotApplicable, match="cannot fade"):
        canvas(sample(1), "noisy-linear").faded(torch.ones(2, 11))


class OnePlace(torch.nn.Module):
    """The probability depends on one position alone."""

    def forward(self, x: Tensor) -> Tensor:
        z = 4 * x[:, 0, 2]
        return torch.stack([z, torch.zeros_like(z)], dim=1)


def test_removals_start_at_the_score_and_end_at_that_of_the_fill() -> None:
    x = torch.ones(2, 1, 5)
    probe = Probe(OnePlace())
    ranks = spatial.ranks(torch.tensor([[0.0, 1, 9, 2, 3], [3, 2, -1, 1, 2.5]]))
    values = removal_scores(probe, canvas(x, "black"), probe.goal(x, 0), removals(ranks, even_counts(5, 5)))
    on, off = float(torch.tensor(4.0).sigmoid()), 0.5
    torch.testing.assert_close(values, torch.tensor([[on, off, off, off, off, off], [on, on, on, on, on, off]]))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70))
def test_counts_go_from_none_to_all_without_repeats(total: int, steps: int) -> None:
    counts = even_counts(total, steps)
    assert counts[0] == 0
    assert counts[-1] == total
    assert counts == sorted(set(counts))
    assert len(counts) == min(steps, total) + 1


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_size_does_not_matter(batch: int) -> None:
    x = sample(1, 4)
    probe = Probe(OnePlace(), batch=batch)
    ranks = spatial.ranks(x.abs().sum(1))
    masks = list(removals(ranks, range(12)))
    scores = removal_scores(probe, canvas(x, "mean"), probe.goal(x, 0), masks)
    want = torch.stack([probe.scored(canvas(x, "mean").without(r[None]), probe.goal(x, 0)) for r in masks], dim=1)
    torch.testing.assert_close(scores, want, rtol=0, atol=1e-6)
    assert probe.passes["forward"] >= 4 * 12


def test_exactly_that_many_positions_are_removed_despite_ties() -> None:
    ranks = spatial.ranks(torch.zeros(1, 10))
    for count in range(11):
        for first in ("most", "least"):
            (removed,) = removals(ranks, [count], first=first)
            assert int(removed.sum()) == count


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="steps"):
        even_counts(5, 0)


def test_a_fill_asks_for_what_a_canvas_has() -> None:
    with pytest.raises(UsageError, match="asks for 'mask', expected one of x, seeds, pool"):

        @fill("odd")
        def odd(x: Tensor, mask: Tensor) -> Tensor:
            return x * mask

    assert "odd" not in fills
