"""Random numbers that belong to a sample, not to a batch.

Each number is a hash of (seed of the sample, position), so that a sample's draws are the same alone or in any batch, on
any device, in any order, in any process; the global random state is neither read nor changed. The hash is the finaliser
of SplitMix64 (Steele, Lea and Flood 2014).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def seeds(seed: int, label: str, index: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """One 64-bit seed a sample, from the study's seed, what it is for, and the sample's index.

    >>> seeds(0, "random", torch.arange(2)).equal(seeds(0, "random", torch.arange(3))[:2])
    True
    """
    digest = hashlib.blake2b(f"{seed}:{label}".encode(), digest_size=8).digest()
    return _mix(index.to(torch.int64) + int.from_bytes(digest, "little", signed=True))


def uniform(seeds: Int[Tensor, " n"], shape: Sequence[int]) -> Float[Tensor, "n ..."]:
    """Numbers in (0, 1), one row of that shape a seed, float64."""
    count = math.prod(shape)
    counter = torch.arange(1, count + 1, dtype=torch.int64, device=seeds.device)
    bits = _mix(seeds[:, None] + counter * -7046029254386353131)
    return (((bits >> 11) & ((1 << 53) - 1)).double().add_(0.5) / (1 << 53)).reshape(len(seeds), *shape)


def normal(seeds: Int[Tensor, " n"], shape: Sequence[int]) -> Float[Tensor, "n ..."]:
    """Standard normal numbers, one row of that shape a seed, float64 (Box and Muller 1958)."""
    pair = uniform(seeds, (2, *shape))
    return torch.sqrt(-2.0 * torch.log(pair[:, 0])) * torch.cos((2.0 * math.pi) * pair[:, 1])


def permutation(seeds: Int[Tensor, " n"], count: int) -> Int[Tensor, "n count"]:
    """A random order of ``range(count)``, one a seed."""
    return uniform(seeds, (count,)).argsort(dim=1)


def _mix(bits: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    bits = (bits ^ _shift(bits, 30)) * -4658895280553007687
    bits = (bits ^ _shift(bits, 27)) * -7723592293110705685
    return bits ^ _shift(bits, 31)


def _shift(bits: Int[Tensor, "..."], count: int) -> Int[Tensor, "..."]:
    return (bits >> count) & ((1 << (64 - count)) - 1)
