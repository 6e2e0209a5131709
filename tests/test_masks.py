"""Masks of maps: the mean, Otsu's threshold against a plain search, exact fractions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import heatproof as hp
from heatproof.errors import InputError
from heatproof.masks import otsu

NUMBERS = st.lists(st.integers(-5, 5), min_size=2, max_size=15)


def separation(values: list[float], threshold: float) -> float:
    """The variance between the two groups (Otsu 1979, equation 12), up to a constant."""
    low, high = [v for v in values if v <= threshold], [v for v in values if v > threshold]
    if not low or not high:
        return -1.0
    return len(low) * len(high) * (sum(low) / len(low) - sum(high) / len(high)) ** 2


@settings(max_examples=80, deadline=None)
@given(NUMBERS)
def test_otsu_separates_best(values: list[int]) -> None:
    threshold = float(otsu(torch.tensor([values], dtype=torch.float64)))
    if len(set(values)) == 1:
        assert threshold == values[0]
    else:
        numbers = [float(v) for v in values]
        best = max(separation(numbers, v) for v in numbers)
        assert separation(numbers, threshold) == pytest.approx(best)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (4.0, 8.0), (0.1, -0.7), (3e-5, 1.0)])
def test_of_equal_thresholds_the_lowest_is_taken(scale: float, offset: float) -> None:
    values = torch.tensor([[0.0, 1.0, 1.0, 2.0]], dtype=torch.float64) * scale + offset
    assert hp.mask(values, "otsu").tolist() == [[False, True, True, True]]


@settings(max_examples=60, deadline=None)
@given(NUMBERS, st.floats(0.01, 1.0))
def test_fractions_are_exact_whatever_the_ties(values: list[int], fraction: float) -> None:
    maps = torch.tensor([values, [0] * len(values)], dtype=torch.float32)
    marked = hp.mask(maps, fraction)
    assert marked.dtype == torch.bool
    assert marked.sum(1).tolist() == [max(1, round(fraction * len(values)))] * 2
    if not bool(marked[0].all()):
        assert float(maps[0][marked[0]].min()) >= float(maps[0][~marked[0]].max())


@settings(max_examples=40, deadline=None)
@given(NUMBERS)
def test_mean_and_scale(values: list[int]) -> None:
    maps = torch.tensor([values], dtype=torch.float64)
    assert hp.mask(maps)[0].tolist() == [v > math.fsum(values) / len(values) + 1e-12 for v in values]
    for at in ("mean", "otsu"):
        assert torch.equal(hp.mask(maps, at), hp.mask(maps * 4 + 8, at))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(24,), (4, 6), (2, 3, 4)])
@pytest.mark.parametrize("at", ["mean", "otsu", 0.25, 1, 1.0])
def test_any_rank_and_each_map_on_its_own(size: tuple[int, ...], at: Any) -> None:
    maps = torch.randn(3, *size)
    marked = hp.mask(maps, at)
    assert marked.shape == maps.shape
    for i in range(3):
        if not isinstance(at, float):
            assert torch.equal(hp.mask(maps[i : i + 1] * (i + 1), at)[0], marked[i])


@pytest.mark.parametrize("at", ["mean", "otsu"])
def test_a_constant_map_marks_nothing(at: Any) -> None:
    assert not bool(hp.mask(torch.full((2, 5), 0.1), at).any())


@pytest.mark.parametrize("at", [0, -0.5, 1.5, True, "median", None, math.nan])
def test_bad_thresholds(at: Any) -> None:
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(InputError, match="expected"):
            hp.mask(torch.randn(1, 4), at)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
