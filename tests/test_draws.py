"""Draws belong to a sample: the same alone or in a batch; uniform and normal by distribution."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from heatproof import draws

MASK = (1 << 64) - 1


def splitmix(bits: int) -> int:
    """The finaliser in plain integers, constants as published."""
    bits &= MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)


def unsigned(value: int) -> int:
    return value & MASK


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.text(max_size=5), st.integers(0, 2**40))
def test_seeds_and_uniform_in_plain_integers(seed: int, label: str, index: int) -> None:
    start = int.from_bytes(hashlib.blake2b(f"{seed}:{label}".encode(), digest_size=8).digest(), "little")
    seeds = draws.seeds(seed, label, torch.tensor([index]))
    assert unsigned(int(seeds)) == splitmix(index + start)
    for position, value in enumerate(draws.uniform(seeds, (3,))[0].tolist(), start=1):
        bits = splitmix(unsigned(int(seeds)) + position * 0x9E3779B97F4A7C15)
        assert value == pytest.approx(((bits >> 11) + 0.5) / 2**53, abs=1e-16)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6), st.integers(1, 5), st.integers(1, 4))
def test_a_sample_draws_the_same_alone(index: list[int], height: int, width: int) -> None:
    seeds = draws.seeds(7, "x", torch.tensor(index))
    for draw in (draws.uniform, draws.normal):
        whole = draw(seeds, (height, width))
        assert whole.shape == (len(index), height, width)
        for i in range(len(index)):
            assert torch.equal(draw(seeds[i : i + 1], (height, width))[0], whole[i])
    orders = draws.permutation(seeds, height * width)
    assert torch.equal(orders.sort(1).values, torch.arange(height * width).expand(len(index), -1))


def test_distributions() -> None:
    seeds = draws.seeds(0, "moments", torch.arange(100))
    flat = draws.uniform(seeds, (500,)).flatten().numpy()
    assert flat.min() > 0
    assert flat.max() < 1
    assert stats.kstest(flat, "uniform").pvalue > 1e-3
    assert stats.kstest(draws.normal(seeds, (500,)).flatten().numpy(), "norm").pvalue > 1e-3
    rows = draws.uniform(seeds, (500,)).numpy()
    assert abs(float(torch.corrcoef(torch.from_numpy(rows)).fill_diagonal_(0).abs().max())) < 0.25
    first = draws.permutation(draws.seeds(0, "p", torch.arange(6000)), 6)[:, 0]
    assert stats.chisquare(torch.bincount(first, minlength=6).numpy()).pvalue > 1e-3


def test_seeds_differ_by_seed_label_and_index() -> None:
    seeds = {
        int(s)
        for seed in (0, 1)
        for label in ("a", "b")
        for s in draws.seeds(seed, label, torch.arange(50))
    }  # fmt: skip
    assert len(seeds) == 200


def test_global_state_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    draws.normal(draws.seeds(0, "x", torch.arange(3)), (4,))
    assert torch.equal(state, torch.random.get_rng_state())
