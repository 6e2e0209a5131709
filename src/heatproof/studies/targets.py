"""What a study explains of each sample: a class, one label, every positive label, or the output of a regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heatproof.errors import InputError, UnknownName
from heatproof.probe import Contrast
from heatproof.records import Samples

TRUE, POSITIVE = "label", "positive"  # the true class, and every positive label


@dataclass(frozen=True, eq=False)
class Explained:
    """The samples of a study and what is explained of each.

    Attributes:
        samples: with a row for every positive label of a sample where these are explained.
        target: as `heatproof.Probe` takes it. text: the same in words.
        pairs: how many samples and how many pairs of a sample and a positive label there are, and how many samples are
            left out for want of a positive label; None where rows are samples.
    """

    samples: Samples
    target: Any
    text: str
    pairs: Mapping[str, int] | None = None


def explained(target: Any, samples: Samples) -> Explained:
    """What a target means for the samples: names are looked up, and positive labels become rows of their own.

    Raises: UnknownName, InputError for a class or label that the samples do not have, or a target of a regression.
    """
    if samples.task == "regression":
        if target is not None and not callable(target):
            raise InputError(
                f"target: got {_text(target, samples)!r}, but {samples.name} asks for a regression with one output; "
                "leave the target out"
            )
        return Explained(samples, target, _text(target, samples))
    if isinstance(target, str):
        if samples.task == "labels" and target in (TRUE, POSITIVE):
            return _pairs(samples)
        if target == TRUE:
            return Explained(samples, samples.y, TRUE)
        if target not in samples.classes:
            raise UnknownName("label" if samples.task == "labels" else "class", target, samples.classes)
        return Explained(samples, samples.classes.index(target), target)
    if isinstance(target, int) and not 0 <= target < len(samples.classes):
        noun = "label" if samples.task == "labels" else "class"
        raise InputError(
            f"target: got {noun} {target}, expected 0 to {len(samples.classes) - 1} for {len(samples.classes)} "
            f"{samples.task}"
        )
    if is_array(target) and tuple(np.shape(target)) != (len(samples),):
        raise InputError(f"target: got shape {tuple(np.shape(target))}, expected one class for each of {len(samples)}")
    return Explained(samples, target, _text(target, samples))


def is_array(target: Any) -> bool:
    """Whether a target has a number a sample."""
    return isinstance(target, (list, tuple, Tensor, np.ndarray)) and np.ndim(target) > 0


def _pairs(samples: Samples) -> Explained:
    rows, labels = samples.y.nonzero(as_tuple=True)
    if not len(rows):
        raise InputError(f"target: {samples.name} has no sample with a positive label; name a label instead")
    names = samples.ids or tuple(f"#{i}" for i in range(len(samples)))
    ids = tuple(f"{names[i]} [{samples.classes[k]}]" for i, k in zip(rows.tolist(), labels.tolist(), strict=True))
    used = len(rows.unique())
    counts = {"samples": used, "pairs": len(rows), "left_out": len(samples) - used}
    groups = samples.groups or tuple(map(str, range(len(samples))))
    pairs = replace(samples.take(rows), ids=ids, groups=tuple(groups[i] for i in rows.tolist()))
    return Explained(pairs, labels, POSITIVE, counts)


def _text(target: Any, samples: Samples) -> str:
    if isinstance(target, int) and not isinstance(target, bool) and samples.task != "regression":
        return samples.classes[target]
    if isinstance(target, (str, int, type(None))):
        return str(target)
    if isinstance(target, Contrast):
        return repr(target)
    if callable(target) and not isinstance(target, Tensor):
        return str(getattr(target, "__qualname__", type(target).__name__))
    return " ".join(map(str, torch.as_tensor(target).flatten().tolist()))
