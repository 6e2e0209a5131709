"""The sentences for the findings on a model; nothing else in this room writes one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from heatproof.annotations import Task
from heatproof.performance.findings import STRONG
from heatproof.records import Estimate, Finding

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


def _labels_accuracy(finding: Finding) -> str:
    labels, samples = (int(finding.numbers[key]) for key in ("labels", "samples"))
    auc = f"{finding.numbers['auc']:.3f}{_ends(finding.numbers)}"
    if not math.isfinite(finding.numbers["auc"]):
        auc = "undefined"
    exact = f"all {labels} labels are predicted correctly in {_percent(finding.numbers['exact'])}"
    return f"The mean AUC of {labels} labels is {auc}; {exact} of {_count(samples, 'sample')}."


def _labels_lowest(finding: Finding) -> str:
    positive = _count(int(finding.numbers["positive"]), "positive sample")
    auc = f"{finding.numbers['auc']:.3f}{_ends(finding.numbers)}"
    return f"The label with the lowest AUC is {finding.subjects[0]}: {auc}, {positive}."


def _labels_calibration(finding: Finding) -> str:
    numbers = finding.numbers
    ece = f"mean ECE over labels {numbers['ece']:.2f}"
    if finding.reason == "calibrated":
        return f"Calibration: the mean probability of every label is consistent with its share of positives ({ece})."
    off, labels = int(numbers["off"]), int(numbers["labels"])
    means = f"mean probability {_percent(numbers['probability'])}, share of positives {_percent(numbers['share'])}"
    return (
        f"Calibration: the mean probability differs significantly from the share of positives for {off} of {labels} "
        f"labels ({ece}); most for {finding.subjects[0]}, which is {finding.reason} ({means})."
    )


def _of_labels(finding: Finding, one: str, several: str) -> str:
    """A sentence on labels, with the form for one of them or for several."""
    count = len(finding.subjects)
    return (one if count == 1 else several).format(_listed(finding.subjects, noun="labels"))


def _fit(finding: Finding) -> str:
    numbers, unit = finding.numbers, _unit(finding)
    r2 = (
        f"R2 {numbers['r2']:.3f}{_ends(numbers)}" if math.isfinite(numbers["r2"]) else "R2 undefined (all values equal)"
    )
    error = f"mean absolute error {numbers['mae']:.3g}{unit}"
    return f"Prediction of {finding.subjects[0]}: {r2}, {error}, on {_count(int(numbers['samples']), 'sample')}."


def _bias(finding: Finding) -> str:
    side = "high" if finding.reason == "too-high" else "low"
    numbers, unit = finding.numbers, _unit(finding)
    return (
        f"The outputs are too {side} on average: bias {numbers['bias']:.3g}{unit} "
        f"(95 % CI {numbers['low']:.3g} to {numbers['high']:.3g})."
    )


def _unit(finding: Finding) -> str:
    return f" {finding.objects[0]}" if finding.objects and finding.objects[0] else ""


def _ends(numbers: Mapping[str, float]) -> str:
    return f" (95 % CI {numbers['low']:.3f} to {numbers['high']:.3f})" if math.isfinite(numbers["low"]) else ""


def headline(task: Task, intervals: Mapping[str, Estimate], samples: int) -> str:
    """How good a model is, in one phrase without a full stop.

    >>> headline("classes", {"accuracy": Estimate(0.65, 0.61, 0.7, 200)}, 200)
    '65.0 % (95 % CI 61.0 to 70.0) of 200 samples classified correctly'
    """
    among = _count(samples, "sample")
    if task == "classes":
        accuracy = intervals["accuracy"]
        ends = (
            f" (95 % CI {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})" if math.isfinite(accuracy.low) else ""
        )
        return f"{_percent(accuracy.mean)}{ends} of {among} classified correctly"
    name, key = ("mean AUC of the labels", "auc_macro") if task == "labels" else ("R2", "r2")
    number = intervals[key]
    value = f"{number.mean:.3f}" if math.isfinite(number.mean) else "undefined"
    ends = _ends({"low": number.low, "high": number.high})
    return f"{name} {value}{ends} on {among}"


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
    "labels-accuracy": _labels_accuracy,
    "labels-lowest": _labels_lowest,
    "labels-calibration": _labels_calibration,
    "labels-at-chance": lambda f: _of_labels(
        f,
        "The AUC of label {} is not significantly above 0.5, the value of a model that knows nothing.",
        "The AUCs of labels {} are not significantly above 0.5, the value of a model that knows nothing.",
    ),
    "labels-never-predicted": lambda f: _of_labels(
        f,
        "Label {} is never predicted: its probability stays below 0.5.",
        "Labels {} are never predicted: their probabilities stay below 0.5.",
    ),
    "labels-absent": lambda f: _of_labels(
        f,
        "No sample has label {}, so its AUC, recall and average precision are not defined.",
        "No sample has any of the labels {}, so their AUC, recall and average precision are not defined.",
    ),
    "labels-in-all": lambda f: _of_labels(
        f, "All samples have label {}, so its AUC is not defined.", "All samples have the labels {}: no AUC is defined."
    ),
    "labels-exclusive": lambda f: (
        f"Each of the {_count(int(f.numbers['samples']), 'sample')} has exactly one label; if the labels exclude each "
        "other, pass class numbers (N,) instead."
    ),
    "regression-fit": _fit,
    "regression-bias": _bias,
    "regression-unbiased": lambda f: (
        f"No significant bias: outputs and true values differ by {f.numbers['bias']:.3g}{_unit(f)} on average "
        f"(95 % CI {f.numbers['low']:.3g} to {f.numbers['high']:.3g})."
    ),
    "regression-no-better-than-mean": lambda f: (
        f"R2 is not significantly above 0: the mean of {f.subjects[0]} predicts it as well as this model."
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


def _listed(names: Sequence[str], most: int = 5, noun: str = "classes") -> str:
    shown = [*names[:most], *([f"{len(names) - most} more {noun}"] if len(names) > most else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
