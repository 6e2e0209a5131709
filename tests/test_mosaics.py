"""Mosaics: where the piece lies, exact values, and what has no value."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import heatproof as hp
from heatproof.errors import NotApplicable, UsageError
from heatproof.metrics import Case, case, measure, mosaics, score, with_donors
from heatproof.metrics.mosaics import corners, mosaics_of
from heatproof.probe import Contrast, Probe
from heatproof.records import Samples
from heatproof.registry import Spec

from .small_study import study

SIZES = {1: (10,), 2: (8, 6), 3: (4, 6, 4)}
NAME = "mosaic-localisation"


class Sums(nn.Module):
    """Two classes: the sum of the first channel and that of the second, times a temperature."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.flatten(2).sum(2)


def halves(rank: int, n: int = 8) -> tuple[Tensor, Tensor]:
    """Samples of the first class, which is everywhere in them, and others of the second."""
    x = torch.rand(n, 2, *SIZES[rank], generator=torch.Generator().manual_seed(rank)) + 0.5
    of = x.clone()
    x[:, 1], of[:, 0] = 0, 0
    return x, of


def explained(map: Callable[[Tensor], Tensor]) -> Any:
    """A method that depends on the input alone."""
    return lambda model, x, *, target, index, seed: map(x)


def run(rank: int, map: Callable[[Tensor], Tensor], spec: str = NAME, **more: Any) -> Tensor:
    x, of = halves(rank)
    arguments = {"explain": explained(map), "fill": torch.cat([x, of])} | more
    return score(Sums(), x, torch.zeros(len(x), *SIZES[rank]), spec, **arguments)


def whole(rank: int, model: nn.Module | None = None, **more: Any) -> Case:
    x, of = halves(rank)
    bare = case(Probe(model or Sums(), outputs="logits"), x, torch.zeros(len(x), *SIZES[rank]), **more)
    return with_donors(bare, of[:, None])


@pytest.mark.parametrize("rank", [1, 2, 3])
class TestExactValues:
    def test_a_map_of_the_piece_scores_one(self, rank: int) -> None:
        values = run(rank, lambda x: (x[:, 0] > 0).float())
        torch.testing.assert_close(values, torch.ones(8, dtype=torch.float64), rtol=0, atol=0)

    def test_a_map_of_the_other_sample_scores_lowest(self, rank: int) -> None:
        share = 0.5**rank
        values = run(rank, lambda x: (x[:, 1] > 0).float())
        torch.testing.assert_close(values, torch.full((8,), -share / (1 - share), dtype=torch.float64))

    @pytest.mark.parametrize("level", [3.0, 0.0, -1.0])
    def test_a_uniform_map_scores_zero(self, rank: int, level: float) -> None:
        values = run(rank, lambda x: torch.full_like(x[:, 0], level))
        torch.testing.assert_close(values, torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-12)

    def test_negative_relevance_counts_as_none(self, rank: int) -> None:
        values = run(rank, lambda x: (x[:, 0] > 0).float() - 5 * (x[:, 1] > 0).float())
        assert (values == 1).all()

    def test_the_method_is_asked_for_the_class_of_the_sample(self, rank: int) -> None:
        values = run(
            rank, lambda _: pytest.fail("not this one"), explain=partial(hp.explain, method="input-x-gradient")
        )
        assert (values == 1).all()

    def test_maps_of_the_middle_gain_nothing(self, rank: int) -> None:
        blob = torch.zeros(SIZES[rank])
        blob[tuple(slice(s // 2 - 1, s // 2 + 1) for s in SIZES[rank])] = 1
        values = run(rank, lambda x: blob.expand(len(x), *blob.shape))
        torch.testing.assert_close(values, torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-6)


class TestPieces:
    @pytest.mark.parametrize("size", [(10,), (9, 6), (5, 4, 7), (1, 8)])
    def test_half_of_every_axis_at_a_drawn_corner(self, size: tuple[int, ...]) -> None:
        x = torch.rand(64, 2, *size)
        piece = corners(case(Probe(Sums()), x, x[:, 0], target=0))
        for axis, length in enumerate(size):
            line = piece.movedim(axis + 1, 1).reshape(64, length, -1).any(2)
            half = max(1, length // 2)
            assert (line.sum(1) == half).all()
            starts = line.int().argmax(1)
            assert set(starts.tolist()) == {0, length - half}
        assert (piece.flatten(1).sum(1) == torch.tensor([max(1, s // 2) for s in size]).prod()).all()

    def test_a_piece_of_everything_has_no_value(self) -> None:
        x, of = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[0.0], [1.0]]])
        values = score(Sums(), x, x[:, 0], NAME, explain=explained(lambda x: x[:, 0]), fill=torch.cat([x, of]))
        assert values.isnan().all()


class TestDonors:
    def test_without_one_it_does_not_apply(self) -> None:
        with pytest.raises(NotApplicable, match="predicted otherwise, and there are none"):
            run(1, lambda x: x[:, 0], fill=halves(1)[0])

    def test_a_sample_without_one_has_no_value(self) -> None:
        x, of = halves(1)
        donors = of[:, None].clone()
        donors[2] = torch.nan
        some = with_donors(case(Probe(Sums()), x, x[:, 0], explain=explained(lambda x: (x[:, 0] > 0).float())), donors)
        values = measure(some, Spec(NAME))
        assert values[2].isnan()
        assert (values[[0, 1, 3, 4, 5, 6, 7]] == 1).all()

    def test_a_mosaic_is_the_sample_in_the_piece_and_its_first_donor_elsewhere(self) -> None:
        x, of = halves(2)
        pair = torch.stack([of, of.flip(0)], dim=1)
        made = mosaics_of(with_donors(case(Probe(Sums()), x, x[:, 0]), pair), 0.01)
        assert made.rows.tolist() == list(range(8))
        torch.testing.assert_close(made.x, torch.where(made.piece[:, None], x, of))


class TestEvidence:
    def test_only_pieces_that_bring_their_class_in_count(self) -> None:
        x, of = halves(1, 40)
        x[:, 0] = 0
        x[:, 0, 0], x[:, 1, 5:] = 30, 1.2  # in the second half, as much against the class as in the others
        pool, more = torch.cat([x, of]), {"explain": explained(lambda x: (x[:, 0] > 0).float())}
        values = score(Sums(), x, x[:, 0], NAME, fill=pool, **more)
        at_start = corners(case(Probe(Sums()), x, x[:, 0]))[:, 0]
        assert 0 < int(at_start.sum()) < 40
        assert (values[at_start] > 0.99).all()
        assert values[~at_start].isnan().all()

    @settings(max_examples=10, deadline=None)
    @given(scale=st.floats(0.05, 50))
    def test_the_temperature_of_the_logits_does_not_matter(self, scale: float) -> None:
        for rank in (1, 2):
            assert mosaics_of(whole(rank, Sums(scale)), 1.0).rows.equal(mosaics_of(whole(rank), 1.0).rows)

    def test_a_sample_that_is_no_more_of_its_class_than_the_donor_has_no_value(self) -> None:
        _, of = halves(1)
        values = score(Sums(), of, of[:, 0], NAME, target=0, explain=explained(lambda x: x[:, 0]), fill=of / 2)
        assert values.isnan().all()


class TestBadInput:
    @pytest.mark.parametrize("rise", ["0", "-1"])
    def test_rise_is_positive(self, rise: str) -> None:
        with pytest.raises(UsageError, match="rise: got"):
            run(1, lambda x: x[:, 0], f"{NAME}:rise={rise}")

    def test_without_donors_or_method(self) -> None:
        x, of = halves(1)
        with pytest.raises(NotApplicable, match="predicted otherwise"):
            score(Sums(), x, x[:, 0], NAME, explain=explained(lambda x: x[:, 0]))
        with pytest.raises(NotApplicable, match="explains other inputs"):
            score(Sums(), x, x[:, 0], NAME, fill=of)

    def test_a_function_has_no_margin(self) -> None:
        with pytest.raises(NotApplicable, match="no margin"):
            run(1, lambda x: x[:, 0], target=lambda z: z[:, 0])

    def test_a_contrast_has_one(self) -> None:
        values = run(1, lambda x: (x[:, 0] > 0).float(), target=Contrast(0, 1))
        assert (values == 1).all()


def test_a_study_shares_the_mosaics(monkeypatch: pytest.MonkeyPatch) -> None:
    x, of = halves(2)
    samples = Samples(torch.cat([x, of]), torch.arange(16) // 8, classes=("a", "b"))
    calls: list[int] = []
    make = mosaics.mosaics_of
    monkeypatch.setattr(mosaics, "mosaics_of", lambda *a: calls.append(1) or make(*a))
    results = study(Sums(), samples, ["input-x-gradient", "saliency"], [NAME], self_checks=False)
    assert len(calls) == 1
    assert results.skips == ()
    values = results.scores["input-x-gradient", NAME]
    assert values.shape == (16,)
    assert (values == 1).all()
    assert (results.scores["random", NAME] < 0.6).all()
