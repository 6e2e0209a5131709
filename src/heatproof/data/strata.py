"""Which samples are set aside, so that what is true of them is alike in both parts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Int

from heatproof import draws
from heatproof.annotations import Annotations, task_of

BINS = 10  # of the values of a regression
RARE = 5  # samples below which a combination of labels has no stratum of its own


def stratified(y: Annotations, share: Callable[[int], int], seed: int) -> Bool[torch.Tensor, " n"]:
    """Which samples are set aside: ``share(n)`` of the n in each stratum, drawn by the seed."""
    codes = strata(y)
    chosen = torch.zeros(len(codes), dtype=torch.bool)
    for stratum in range(int(codes.max()) + 1 if len(codes) else 0):
        rows = (codes == stratum).nonzero()[:, 0]
        number = torch.tensor([stratum])
        order = draws.permutation(draws.seeds(seed, "split", number), len(rows))[0]
        chosen[rows[order[: max(0, share(len(rows)))]]] = True
    return chosen


def strata(y: Annotations) -> Int[torch.Tensor, " n"]:
    """The stratum of each sample: its class; its combination of labels, rare ones together; or a tenth of the values.

    >>> strata(torch.tensor([[0, 1], [1, 1]] * 5 + [[1, 0]])).tolist()
    [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 2]
    """
    task = task_of(y)
    if task == "classes" or not len(y):
        return y if task == "classes" else torch.zeros(len(y), dtype=torch.int64)
    if task == "regression":
        bins = max(1, min(BINS, len(y) // 2))
        return y.argsort(stable=True).argsort(stable=True) * bins // len(y)
    codes: torch.Tensor
    _, codes, counts = torch.unique(y, dim=0, return_inverse=True, return_counts=True)
    common = counts >= RARE
    place = torch.where(common, common.cumsum(0) - 1, int(common.sum()))
    return place[codes]
