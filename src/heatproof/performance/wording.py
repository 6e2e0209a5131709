"""The sentences for the findings on a classifier; nothing else in this room writes one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from heatproof.performance.findings import STRONG
from heatproof.records import Finding

SLIGHT = 0.05  # expected calibration error below which a deviation is slight


def sentence(finding: Finding) -> str:
    """One sentence for a finding of a kind in `SENTENCES`."""
    return SENTENCES[finding.kind](finding)


def _accuracy(finding: Finding) -> str:
    correct, samples = (int(finding.numbers[key]) for key in ("correct", "samples"))
    return f"{correct:,} of {_count(samples, 'sample')} ({_interval(finding.numbers)}) are classified correctly."


def _hard_class(finding: Finding) -> str:
    accuracy = f"accuracy {_interval(finding.numbers)}"
    return f"Class {finding.subjects[0]} is harder than the rest ({accuracy}){_confused(finding)}."


def _lowest_class(finding: Finding) -> str:
    lowest = f"the lowest accuracy is that of {finding.subjects[0]} ({_interval(finding.numbers)})"
    return f"No class is significantly harder than the rest; {lowest}{_confused(finding)}."


def _more_hard_classes(finding: Finding) -> str:
    count = len(finding.subjects)
    return (
        f"{count} more {'class is' if count == 1 else 'classes are'} harder than the rest: {_listed(finding.subjects)}."
    )


def _confused_pair(finding: Finding) -> str:
    first, second = finding.subjects
    count, errors = (int(finding.numbers[key]) for key in ("count", "errors"))
    return f"The most confused pair is {first} and {second}: {count:,} of the {_count(errors, 'error')}."


def _calibration(finding: Finding) -> str:
    ece = finding.numbers["ece"]
    degree = "slightly" if ece < SLIGHT else "moderately" if ece < STRONG else "strongly"
    state = "consistent with the accuracy" if finding.reason == "calibrated" else f"{degree} {finding.reason}"
    means = f"mean probability {_percent(finding.numbers['probability'])}"
    return f"Calibration: {state} (ECE {ece:.2f}; {means}, accuracy {_percent(finding.numbers['accuracy'])})."


SENTENCES: Mapping[str, Callable[[Finding], str]] = {
    "classifier-accuracy": _accuracy,
    "classifier-hard-class": _hard_class,
    "classifier-more-hard-classes": _more_hard_classes,
    "classifier-lowest-class": _lowest_class,
    "classifier-confused-pair": _confused_pair,
    "classifier-no-confused-pair": lambda f: (
        f"No pair of classes stands out among the {_count(int(f.numbers['errors']), 'error')}."
    ),
    "classifier-no-errors": lambda _: "No sample is classified incorrectly.",
    "classifier-calibration": _calibration,
    "classifier-absent-classes": lambda f: (
        f"There are no samples of {_listed(f.subjects)}, so nothing is measured for "
        f"{'this class' if len(f.subjects) == 1 else 'these classes'}."
    ),
}


def _confused(finding: Finding) -> str:
    """The class that most errors go to, where there is one."""
    if len(finding.subjects) < 2:
        return ""
    count, errors, samples = (int(finding.numbers[key]) for key in ("count", "errors", "samples"))
    often = "mostly" if 2 * count > errors else "most often"
    return f", {often} classified as {finding.subjects[1]} ({count:,} of {samples:,})"


def _interval(numbers: Mapping[str, float]) -> str:
    if not math.isfinite(numbers["low"]):
        return _percent(numbers["accuracy"])
    ends = f"{100 * numbers['low']:.1f} to {100 * numbers['high']:.1f}"
    return f"{_percent(numbers['accuracy'])}, 95 % CI {ends}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = [*names[:most], *([f"{len(names) - most} more classes"] if len(names) > most else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
