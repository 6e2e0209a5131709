"""Statistics of per-sample scores: intervals, paired tests, ranks with ties, and power.

NumPy in, NumPy and frozen records out. Rows are samples, columns are methods; NaN is "undefined": left out and counted.
"""

from __future__ import annotations

from heatproof.stats.compare import (
    Effects,
    Pairwise,
    Test,
    cliffs_delta,
    cohens_dz,
    complete,
    critical_difference,
    effects,
    friedman,
    groups,
    holm,
    kendall_w,
    letters,
    nemenyi,
    pairwise,
    rank_biserial,
)
from heatproof.stats.intervals import bca, bootstrap, resample_counts
from heatproof.stats.means import estimate, estimates, proportion
from heatproof.stats.ranking import Rank, power, rank, rank_intervals, ranks, samples_needed, support

__all__ = [
    "Effects",
    "Pairwise",
    "Rank",
    "Test",
    "bca",
    "bootstrap",
    "cliffs_delta",
    "cohens_dz",
    "complete",
    "critical_difference",
    "effects",
    "estimate",
    "estimates",
    "friedman",
    "groups",
    "holm",
    "kendall_w",
    "letters",
    "nemenyi",
    "pairwise",
    "power",
    "proportion",
    "rank",
    "rank_biserial",
    "rank_intervals",
    "ranks",
    "resample_counts",
    "samples_needed",
    "support",
]
