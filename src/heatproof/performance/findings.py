"""Sentences computed from a classifier's numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from heatproof.records import Estimate
from heatproof.stats import proportion

if TYPE_CHECKING:
    from heatproof.performance.record import Performance


def sentences(found: Performance) -> tuple[str, ...]:
    """How good the classifier is, which classes are hard and what for, and whether its confidence can be believed."""
    parts = [_overall(found), _hard(found), _pairs(found), _calibration(found)]
    absent = [name for name, n in zip(found.classes, found.support, strict=True) if n == 0]
    if absent:
        parts.append(f"No sample of {_listed(absent)} was given, so nothing is known of {_it(absent)}.")
    return tuple(part for part in parts if part)


def _overall(found: Performance) -> str:
    right, n = int(found.right.sum()), len(found)
    share = _percent(found.intervals["accuracy"])
    return f"{right:,} of {n:,} {_plural('sample', n)} ({share}) are classified correctly."


def _hard(found: Performance) -> str:
    """The classes that are worse than the others beyond doubt, else the lowest one."""
    known = [k for k, n in enumerate(found.support) if n]
    if len(known) < 2 or found.right.all():
        return ""
    intervals = found.class_intervals["accuracy"]
    strict = 1 - 0.05 / len(known)  # each class is compared, so each is asked for more
    hard = [k for k in known if proportion(found.right[found.y == k], confidence=strict).high < found.accuracy]
    if not hard:
        worst = min(known, key=lambda k: found.class_accuracy[k])
        name, share = found.classes[worst], _percent(intervals[worst])
        return f"No class is clearly harder than the rest; the lowest is {name} ({share}){_taken_for(found, worst)}."
    hard.sort(key=lambda k: found.class_accuracy[k])
    named = [f"{found.classes[k]} ({_percent(intervals[k])}){_taken_for(found, k)}" for k in hard[:3]]
    more = f" and {len(hard) - 3} more" if len(hard) > 3 else ""
    return f"Harder than the rest {'is' if len(hard) == 1 else 'are'} {'; '.join(named)}{more}."


def _taken_for(found: Performance, k: int) -> str:
    """The class that a class is taken for most often, where there is one."""
    wrong = found.confusion[k].copy()
    wrong[k] = 0
    most = int(wrong.argmax())
    if (wrong == wrong[most]).sum() > 1:
        return ""
    often = "mostly" if 2 * wrong[most] > wrong.sum() else "most often"
    return f", {often} taken for {found.classes[most]} ({wrong[most]} of {found.support[k]})"


def _pairs(found: Performance) -> str:
    """The two classes most often confused with each other, both ways counted."""
    wrong = found.confusion - np.diag(np.diag(found.confusion))
    if not wrong.any():
        return "No sample is classified wrongly."
    both = np.triu(wrong + wrong.T)
    i, j = divmod(int(both.argmax()), len(found.classes))
    total, count = int(wrong.sum()), int(both[i, j])
    if count == 1 and total > 1:
        return f"No pair of classes stands out among the {total} errors."
    return (
        f"The most confused pair is {found.classes[i]} and {found.classes[j]}: "
        f"{count} of the {total} {_plural('error', total)}."
    )


def _calibration(found: Performance) -> str:
    gap = float(found.confidence.mean()) - found.accuracy
    ece = f"expected calibration error {found.ece:.3f}"
    means = f"mean confidence {_share(found.confidence.mean())} against {_share(found.accuracy)} right, {ece}"
    interval = found.intervals["accuracy"]
    if interval.low <= found.accuracy + gap <= interval.high or not np.isfinite(interval.low):
        return f"Its confidence fits its accuracy on the whole ({means})."
    return f"It is {'overconfident' if gap > 0 else 'underconfident'} ({means})."


def _percent(found: Estimate) -> str:
    if not np.isfinite(found.low):
        return _share(found.mean)
    return f"{_share(found.mean)}, 95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def _plural(word: str, n: int) -> str:
    return word if n == 1 else f"{word}s"


def _listed(names: list[str]) -> str:
    shown = names[:5] + ([f"{len(names) - 5} more classes"] if len(names) > 5 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _it(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"
