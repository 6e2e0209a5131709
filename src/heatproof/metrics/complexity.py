"""How widely the relevance is spread. A compact map need not be correct; these metrics decide nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from heatproof.errors import UsageError
from heatproof.fills import even_counts
from heatproof.metrics.cases import Case
from heatproof.metrics.catalogue import metric


@metric("gini-sparseness", better="higher", family="complexity", range=(0, 1), paper="1810.06583")
def gini_sparseness(case: Case) -> Tensor:
    """The Gini index of absolute relevance (section 5): 0 for a uniform map, 1 - 1/P for a single position.

    NaN for a map of zeros.
    Tells: how unevenly the relevance is distributed over the positions.
    Cannot: whether the positions with much relevance are the right ones.
    Mind: use it only between methods that are equal by other metrics.
    """
    rising = case.map.flatten(1).double().abs().sort(dim=1).values
    count, whole = rising.shape[1], rising.sum(1)
    place = torch.arange(1, count + 1, dtype=torch.float64, device=rising.device)
    return ((2 * place - count - 1) * rising).sum(1) / (count * torch.where(whole > 0, whole, torch.nan))


@metric("entropy", better="lower", family="complexity", range=(0, None), paper="2005.00631", unit="nats")
def entropy(case: Case) -> Tensor:
    """The entropy of the shares of absolute relevance (definition 5), in nats: from 0 for one position to log P.

    NaN for a map of zeros.
    Tells: over how many positions the relevance spreads.
    Cannot: whether these positions are the right ones.
    Mind: use it only between methods that are equal by other metrics.
    """
    mass = case.map.flatten(1).double().abs()
    whole = mass.sum(1, keepdim=True)
    share = mass / torch.where(whole > 0, whole, torch.nan)
    nats: Tensor = torch.special.entr(share).sum(1)
    return nats


@metric(
    "effective-complexity",
    better="lower",
    family="complexity",
    range=(0, 1),
    paper="2007.07584",
    unit="share of positions",
)
def effective_complexity(case: Case, *, tolerance: float = 0.1, steps: int = 20, fill: str | None = None) -> Tensor:
    """The least fraction of the most relevant positions that keeps the score within ``tolerance`` (definition 6).

    The score must stay within that share of itself for every larger fraction too.
    Deviates: read off the curve of least relevant first, on its steps.
    Range: 0 to 1. Cost: one pass a step, shared.
    Tells: the smallest share of the most relevant positions that keeps the score.
    Cannot: whether these positions are the model's reason; the score may also be kept by chance.
    Mind: use it only between methods that are equal by other metrics.
    """
    if not tolerance >= 0:
        raise UsageError(f"tolerance: got {tolerance}, expected a share of the score, at least 0")
    counts = even_counts(case.positions, steps)
    values = case.removed(counts, first="least", fill=fill)
    near = (values - case.score[:, None]).abs() <= tolerance * case.score.abs()[:, None]
    last = near.int().cumprod(1).sum(1).clamp_min(1) - 1
    return 1 - torch.tensor(counts, dtype=torch.float64, device=values.device)[last] / case.positions
