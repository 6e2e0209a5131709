"""The kinds of output that a model may have, what each means, and which numbers each can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from heatproof.annotations import Task as Task
from heatproof.errors import InputError

Kind = Literal[
    "logits", "probabilities", "log-probabilities", "binary-logit", "binary-probability", "label-logits",
    "label-probabilities", "regression",
]  # fmt: skip

KINDS: tuple[Kind, ...] = get_args(Kind)
WORDS: dict[Kind, str] = {
    "logits": "one logit a class",
    "probabilities": "class probabilities",
    "log-probabilities": "logarithms of class probabilities",
    "binary-logit": "one logit, that of the second of two classes",
    "binary-probability": "one probability, that of the second of two classes",
    "label-logits": "one logit a label",
    "label-probabilities": "one probability a label",
    "regression": "regression",
}
BINARY = ("binary-logit", "binary-probability")
PROBABILITIES = ("probabilities", "binary-probability", "label-probabilities")
LOOSE = 2e-3  # how far probabilities may be from summing to one, in single precision
CLOSE = 1e-3  # how far rows may be from a common sum, as a share of it
MEANINGS: dict[Kind, str] = {
    "logits": "a logit a class",
    "probabilities": "class probabilities",
    "log-probabilities": "logarithms of class probabilities",
    "binary-logit": "the logit of the second of two classes",
    "binary-probability": "the probability of the second of two classes",
    "label-logits": "a logit a label",
    "label-probabilities": "a probability a label",
    "regression": "a regression",
}
LABELS: dict[Kind, Kind] = {
    "logits": "label-logits",
    "label-logits": "label-logits",
    "label-probabilities": "label-probabilities",
    "binary-logit": "label-logits",
    "binary-probability": "label-probabilities",
}


@dataclass(frozen=True)
class Numbers:
    """What the values of an output (N, K) may be: rows that sum to one, logarithms of such, values from 0 to 1, or
    none above 0.

    Attributes:
        total: what rows that are at least 0 all sum to, where that is not one; None where they do not, or where a
            single row cannot show it. power: the base, 2 or 10, whose logarithms of probabilities the rows may be.
        mute: whether a single row says nothing of a common total.
    """

    simplex: bool
    log_simplex: bool
    unit: bool
    negative: bool
    total: float | None = None
    power: int | None = None
    mute: bool = False

    @classmethod
    def of(cls, out: Tensor) -> Numbers:
        """A look at every row."""
        loose = {torch.float16: 4e-3, torch.bfloat16: 2e-2}.get(out.dtype, LOOSE)
        z = out.detach().double() if out.device.type == "cpu" else out.detach().float()
        unit, negative = bool(((z >= 0) & (z <= 1 + loose)).all()), bool((z <= loose).all())
        several = z.shape[1] > 1
        simplex = several and unit and _is_one(z, loose)
        positive = several and not simplex and bool((z >= 0).all())
        powers = (base for base in (2, 10) if several and negative and _is_one(base**z, loose))
        return cls(
            simplex,
            several and negative and _is_one(z.exp(), loose),
            unit,
            negative,
            _total(z, loose if loose > LOOSE else CLOSE) if positive else None,
            next(powers, None),
            positive and len(z) == 1,
        )

    def fit(self, kind: Kind, *, log: bool = False) -> bool:
        """Whether an output of this kind can have such values."""
        if kind in ("probabilities", "log-probabilities"):
            return self.simplex if kind == "probabilities" else self.log_simplex
        return (self.negative if log else self.unit) if kind in PROBABILITIES else True


def _is_one(z: Tensor, loose: float) -> bool:
    return bool(((z.sum(1) - 1).abs() <= loose).all())


def _total(z: Tensor, loose: float) -> float | None:
    """The sum that all rows have in common; of a single row, or of rows that are all alike, only 100 is telling."""
    sums = z.sum(1)
    total = float(sums.mean())
    if total <= 0 or not bool(((sums - total).abs() <= loose * total).all()):
        return None
    percent, apart = abs(total - 100) <= 100 * loose, bool(((z - z[:1]).abs() > loose * total).any())
    return 100.0 if percent else total if apart else None


def parsed(text: str) -> tuple[str, Kind | None]:
    """The entry and the kind in ``outputs=``: a kind, an entry of a nested output, or both as "entry:kind".

    Raises: InputError for an unknown kind behind the colon.
    """
    if text in KINDS:
        return "", text
    name, colon, kind = text.rpartition(":")
    if not colon:
        return text, None
    if kind not in KINDS:
        raise InputError(f"outputs: got {text!r}; expected one of {', '.join(KINDS)} behind the colon")
    return name, kind
