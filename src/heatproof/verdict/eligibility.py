"""Which methods may be named: those that beat every control and whose maps change when they must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heatproof.results.ranking import ranking_of
from heatproof.results.record import Results
from heatproof.verdict.checks import bears_on_truth


@dataclass(frozen=True)
class MethodCheck:
    """Whether a method is eligible.

    Attributes:
        not_better_than: controls that it does not beat. failed, passed: the sanity checks that it fails and passes.
    """

    method: str
    eligible: bool
    not_better_than: tuple[str, ...]
    failed: tuple[str, ...]
    passed: tuple[str, ...] = ()


def check_methods(results: Results, valid: Sequence[str]) -> tuple[MethodCheck, ...]:
    """Whether each method beats every control by the valid metrics, and its maps change with model and class."""
    truth = tuple(m for m in valid if bears_on_truth(results, m))
    if truth and results.controls:
        table = results.family_ranks(truth)
        own = table[:, : len(results.methods)]
        not_better = ranking_of(
            own, table, results.methods, results.controls,
            metric=None, better="lower", alpha=1 - results.level, seed=results.seed,
        ).not_better_than  # fmt: skip
    else:
        not_better = dict.fromkeys(results.methods, () if truth else results.controls)
    failed: dict[str, list[str]] = {name: [] for name in results.methods}
    passed: dict[str, list[str]] = {name: [] for name in results.methods}
    for (method, metric), similarity in results.estimates().items():
        limit = results.unchanged_above(metric)
        if method in failed and limit is not None and similarity.n:
            (failed if similarity.low > limit else passed)[method].append(metric)
    return tuple(
        MethodCheck(name, bool(truth) and not not_better[name] and not failed[name], not_better[name],
                    tuple(failed[name]), tuple(passed[name]))
        for name in results.methods
    )  # fmt: skip


def under_every_fill(checks: Sequence[tuple[MethodCheck, ...]]) -> tuple[MethodCheck, ...]:
    """Each method's checks with every fill: it is eligible if it is with all of them."""
    merged = []
    for same in zip(*checks, strict=True):
        not_better = tuple(dict.fromkeys(name for check in same for name in check.not_better_than))
        failed = tuple(dict.fromkeys(name for check in same for name in check.failed))
        passed = tuple(name for name in same[0].passed if name not in failed)
        eligible = all(check.eligible for check in same)
        merged.append(MethodCheck(same[0].method, eligible, not_better, failed, passed))
    return tuple(merged)
