"""Rank-free geometry against NumPy and SciPy, for one, two and three position axes."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from heatproof import draws, spatial
from heatproof.errors import InputError

from .toys import inputs

RANKS = pytest.mark.parametrize("rank", [1, 2, 3])


def test_like_mean_total_positions() -> None:
    x = inputs(3)
    assert spatial.like(torch.ones(3, 2), x).shape == (3, 2, 1, 1, 1)
    assert spatial.like(torch.ones(3), x).shape == (3, 1, 1, 1, 1)
    assert spatial.positions(x) == (2, 3, 4)
    assert spatial.positions(x[:, 0], 1) == (1, 2, 3)
    torch.testing.assert_close(spatial.mean(x), x.mean((2, 3, 4)))
    torch.testing.assert_close(spatial.total(x), x.sum((2, 3, 4)))


def resized(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Linear interpolation axis by axis, pixel centres at half, edges held."""
    for axis, length in enumerate(size):
        old = values.shape[axis]
        at = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, old - 1)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        values = np.take(values, low, axis) * (1 - share) + np.take(values, high, axis) * share
    return values


@RANKS
def test_resize(rank: int) -> None:
    maps = torch.randn(2, *(3, 4, 5)[:rank], dtype=torch.float64)
    for size in ((7, 5, 11)[:rank], (2, 2, 2)[:rank], (3, 4, 5)[:rank]):
        resized_maps = spatial.resize(maps, size)
        for i in range(2):
            np.testing.assert_allclose(resized_maps[i].numpy(), resized(maps[i].numpy(), size), atol=1e-12)
    assert spatial.resize(maps, maps.shape[1:]) is maps
    with pytest.raises(InputError, match="cannot resize"):
        spatial.resize(maps, (3,) * (rank + 1))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 100))
def test_ranks_are_each_position_once(values: list[int], seed: int) -> None:
    maps = torch.tensor([values, values[::-1]], dtype=torch.float32)
    seeds = draws.seeds(seed, "ties", torch.arange(2))
    for ties in ("random", "first"):
        ranks = spatial.ranks(maps, ties=ties, seeds=seeds)
        order = spatial.order(maps, ties=ties, seeds=seeds)
        assert torch.equal(ranks.sort(1).values, torch.arange(len(values)).expand(2, -1))
        assert torch.equal(order.gather(1, ranks), torch.arange(len(values)).expand(2, -1))
        assert bool((maps.gather(1, order).diff(dim=1) <= 0).all())
    stable = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert spatial.order(maps, ties="first")[0].tolist() == stable


def test_ties_are_fair_and_belong_to_the_sample() -> None:
    maps = torch.zeros(4000, 4)
    seeds = draws.seeds(1, "ties", torch.arange(4000))
    first = spatial.order(maps, seeds=seeds)[:, 0]
    assert torch.bincount(first, minlength=4).min() > 900
    assert torch.equal(spatial.order(maps[5:7], seeds=seeds[5:7]), spatial.order(maps, seeds=seeds)[5:7])
    grid = spatial.ranks(torch.zeros(2, 3, 4))
    assert grid.shape == (2, 3, 4)


@RANKS
@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_blur_is_scipy(rank: int, sigma: float) -> None:
    x = inputs(rank, 2, dtype=torch.float64)
    blurred = spatial.blur(x, sigma)
    for i, c in itertools.product(range(2), range(2)):
        radius = max(1, int(4 * sigma + 0.5))
        want = ndimage.gaussian_filter(x[i, c].numpy(), sigma, mode="nearest", radius=radius)
        np.testing.assert_allclose(blurred[i, c].numpy(), want, atol=1e-10)
    for bad in (0, -1, math.nan):
        with pytest.raises(InputError, match="sigma"):
            spatial.blur(x, bad)


@RANKS
def test_edges_are_sobel(rank: int) -> None:
    x = inputs(rank, 2, dtype=torch.float64)
    edges = spatial.edges(x)
    for i in range(2):
        total = np.zeros(x.shape[2:])
        for c, axis in itertools.product(range(2), range(rank)):
            total += (ndimage.sobel(x[i, c].numpy(), axis, mode="nearest") / (2 * 4 ** (rank - 1))) ** 2
        np.testing.assert_allclose(edges[i].numpy(), np.sqrt(total), atol=1e-10)
    assert float(spatial.edges(torch.ones(1, 1, *x.shape[2:])).abs().max()) < 1e-6


def test_a_slope_of_one_has_edge_one() -> None:
    ramp = torch.arange(9.0).reshape(1, 1, 9)
    torch.testing.assert_close(spatial.edges(ramp)[0, 1:-1], torch.ones(7))


@pytest.mark.parametrize("size", [(9,), (7, 12), (4, 5, 6), (1, 1)])
def test_centre(size: tuple[int, ...]) -> None:
    blob = spatial.centre(size)
    assert blob.shape == size
    assert 0 < float(blob.min()) <= float(blob.max()) <= 1
    torch.testing.assert_close(blob, blob.flip(list(range(len(size)))))
    assert float(blob.max()) == pytest.approx(float(blob[tuple((s - 1) // 2 for s in size)]))


@RANKS
def test_neighbours(rank: int) -> None:
    offsets = spatial.neighbours(rank)
    assert len(offsets) == 3**rank - 1
    assert sum(weight for _, weight in offsets) == pytest.approx(1)
    straight = next(w for o, w in offsets if sum(map(abs, o)) == 1)
    for offset, weight in offsets:
        assert weight == pytest.approx(straight / sum(o * o for o in offset))


def test_flat() -> None:
    mask: Tensor = inputs(2)[:, 0] > 0
    assert spatial.flat(mask).shape == (3, 120)


@RANKS
@pytest.mark.parametrize("edges", ["replicate", "zero"])
def test_windows_are_correlated_as_scipy_does(
    rank: int, edges: Literal["replicate", "zero"], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.rand(5, 2, *(9, 6, 7)[:rank], dtype=torch.float64)
    windows = [torch.tensor(taps) for taps in ([1.0, -2.0, 0.5], [0.3], [0.1, 0.2, -1.0, 3.0, 0.7])][:rank]
    want = x.numpy()
    for axis, window in enumerate(windows, start=2):
        mode = {"replicate": "nearest", "zero": "constant"}[edges]
        want = ndimage.correlate1d(want, window.numpy(), axis=axis, mode=mode)
    correlated = spatial.separable(x, windows, edges=edges)
    np.testing.assert_allclose(correlated, want, atol=1e-7)
    monkeypatch.setattr(spatial, "CACHED", 1)
    torch.testing.assert_close(spatial.separable(x, windows, edges=edges), correlated, rtol=0, atol=0)
