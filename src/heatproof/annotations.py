"""What a data set says of its samples: one class each, several labels, or a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof.errors import InputError

Task = Literal["classes", "labels", "regression"]
Annotations: TypeAlias = Int[Tensor, " n"] | Int[Tensor, "n l"] | Float[Tensor, " n"]

AVERAGES = ("macro", "micro")  # curves beside those of classes or labels
QUANTITY = "value"  # the name of what a regression predicts where the samples give none


def task_of(y: Annotations) -> Task:
    """What such annotations ask of a model: (N, L) labels, (N,) real numbers a regression, (N,) integers classes."""
    if y.ndim == 2:
        return "labels"
    return "regression" if y.is_floating_point() else "classes"


def annotated(y: Tensor, names: Sequence[str]) -> tuple[Annotations, tuple[str, ...]]:
    """The checked annotations, and a name a class or label, or that of the quantity.

    Integers (N,) are classes. (N, L) of 0 and 1, of any type, are labels. Real numbers (N,) are a regression, where at
    most one name is given; whole ones only where a name is, since they may be classes of the wrong type.

    Raises: InputError.
    """
    names = distinct(names)
    if y.is_complex() or not 1 <= y.ndim <= 2:
        raise InputError(f"labels y: got {y.dtype} of shape {tuple(y.shape)}, expected {_EXPECTED}")
    if y.is_floating_point() and bool(y.isnan().any() | y.isinf().any()):
        bad = int((~y.isfinite()).reshape(len(y), -1).any(1).nonzero()[0])
        raise InputError(
            f"labels y: got NaN or infinite values, first in sample {bad}; remove or replace these samples"
        )
    if y.ndim == 2:
        return _labels(y, names)
    if y.is_floating_point() and (y.numel() or len(names) == 1):
        return _quantity(y, names)
    return _classes(y, names)


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names of classes or labels as text.

    Raises: InputError where one stands twice.
    """
    names = tuple(map(str, names))
    if len(set(names)) < len(names):
        twice = ", ".join(repr(name) for name in dict.fromkeys(names) if names.count(name) > 1)
        raise InputError(f"classes: {twice} stands more than once; expected a different name for each, in their order")
    return names


def curve_name(name: str) -> str:
    """Under which name the curve of a class or label is kept; one called like an average says that it is none."""
    return f"{name} (class)" if name in AVERAGES else name


def overview(y: Annotations, names: Sequence[str]) -> str:
    """The annotations in a few words.

    >>> overview(torch.tensor([0, 1, 1]), ("a", "b")), overview(torch.tensor([[0, 1], [1, 1]]), ("a", "b"))
    ('2 classes', '2 labels, 1.5 a sample')
    >>> overview(torch.tensor([0.5, 2.0]), ("age",))
    'age from 0.5 to 2'
    """
    task = task_of(y)
    if task == "classes":
        return f"{len(names):,} classes"
    if task == "labels":
        return f"{len(names):,} labels, {float(y.sum()) / max(1, len(y)):.1f} a sample"
    return f"{names[0]} from {float(y.min()):.4g} to {float(y.max()):.4g}" if len(y) else f"{names[0]}"


def rows_of(y: Annotations, names: Sequence[str], most: int) -> list[tuple[str, str]]:
    """What a table says of the annotations: samples of each class or label, or mean and range, each with its name."""
    task = task_of(y)
    if task == "regression":
        ends = f"{float(y.min()):.4g} to {float(y.max()):.4g}" if len(y) else "–"
        return [
            (f"{names[0]}, mean", f"{float(y.mean()):.4g}" if len(y) else "–"),
            (f"{names[0]}, range", ends),
        ]
    counts = (y.sum(0) if task == "labels" else torch.bincount(y, minlength=len(names))).tolist()
    word = "class" if task == "classes" else "label"
    rows = [(f"{word} {name}", f"{counts[k]:,}") for k, name in enumerate(names[:most])]
    if len(names) > most:
        plural = "classes" if task == "classes" else "labels"
        rows.append((f"{len(names) - most:,} more {plural}", f"{sum(counts[most:]):,}"))
    return rows


_EXPECTED = "class numbers (N,), labels (N, L) of 0 and 1, or real numbers (N,) for a regression"


def _classes(y: Tensor, names: tuple[str, ...]) -> tuple[Annotations, tuple[str, ...]]:
    labels = y.to(torch.int64)
    lowest, highest = (int(labels.min()), int(labels.max())) if len(labels) else (0, -1)
    names = names or tuple(str(k) for k in range(highest + 1))
    if lowest < 0 or highest >= len(names):
        advice = "; for a regression pass real numbers, y.astype(float)" if len(names) == 1 else ""
        raise InputError(
            f"labels reach from {lowest} to {highest}; expected 0 to {len(names) - 1} for {len(names)} classes{advice}"
        )
    return labels, names


def _labels(y: Tensor, names: tuple[str, ...]) -> tuple[Annotations, tuple[str, ...]]:
    count = y.shape[1]
    if count < 2:
        advice = "y[:, 0] gives class numbers or, as real numbers, a regression" if count else "give class numbers (N,)"
        raise InputError(
            f"labels y: got shape {tuple(y.shape)}, expected (N,), or (N, L) with two labels or more; {advice}"
        )
    other = (y != 0) & (y != 1)
    if bool(other.any()):
        row, column = other.nonzero()[0].tolist()
        raise InputError(
            f"labels y: got {y[row, column].item():g} in sample {row}, label {column}; labels (N, L) are 0 or 1: "
            f"choose a threshold, for example y > 0.5, or one column, y[:, {column}], for a regression"
        )
    if names and len(names) != count:
        raise InputError(
            f"labels y: got {count} columns and {len(names)} names; expected a name a label, in their order"
        )
    return y.to(torch.int64), names or tuple(str(k) for k in range(count))


def _quantity(y: Tensor, names: tuple[str, ...]) -> tuple[Annotations, tuple[str, ...]]:
    if len(names) > 1:
        raise InputError(
            f"labels y: labels are real numbers and {len(names)} classes are named: pass integers, or no classes for a "
            "regression"
        )
    if not names and bool((y == y.round()).all()):
        raise InputError(
            f"labels y: got whole numbers as {str(y.dtype).removeprefix('torch.')}; pass integers for classes, or name "
            "what a regression predicts, for example classes=['age']"
        )
    return y.to(torch.float64), names or (QUANTITY,)
