"""Plain frozen records that flow between the stages; tensors stay on the CPU unless a stage says otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from heatproof.annotations import Annotations, Task, annotated, overview, rows_of, task_of
from heatproof.errors import InputError

Direction = Literal["higher", "lower"]
Severity = Literal["bad", "note", "good"]
_ASKED: Mapping[Task, str] = {"classes": "classes", "labels": "labels", "regression": "real numbers"}


@runtime_checkable
class Lazy(Protocol):
    """Inputs that are read when asked for: sliced like a tensor (N, C, *S), and each slice is one."""

    @property
    def shape(self) -> torch.Size:
        """(N, C, *S)."""

    @property
    def dtype(self) -> torch.dtype:
        """That of the tensors given out."""

    @property
    def ndim(self) -> int:
        """The number of axes, with that of the samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> Tensor: ...

    def take(self, rows: slice | Sequence[int] | Tensor) -> Lazy:
        """The inputs at the given positions, in that order, still unread."""


@dataclass(frozen=True, init=False, repr=False)
class Samples:
    """Inputs with what is true of them, and the positions that decide it where these are known.

    Attributes:
        x: inputs (N, C, *S), float; in memory, or Lazy: then take it in slices, ``x[start:stop]``.
        y: true classes (N,), int64, each in [0, len(classes)); or labels (N, L) of 0 and 1, int64; or, for a
            regression, real numbers (N,), float64.
        mask: planted truth (N, *S), bool, or None.
        classes: a name a class or label; for a regression one, that of the quantity, whose unit is in ``about``.
        name: what the samples are called in reports.
        ids: a name a sample (a file name, say), or empty.
        groups: a number or name a sample: its patient or slide, within which samples are not independent; or empty.
        about: source, licence, citation and preprocessing, shown in reports.

    Inputs, labels and masks may be NumPy arrays or lists; classes of any integer type, labels and masks of 0 and 1 of
    any type. Real numbers (N,) that are all whole are taken for a regression only with one name in ``classes``.

    Raises: InputError where shapes, types or values disagree.

    >>> Samples(np.zeros((2, 1, 4)), [0, 1], name="silence")
    Samples('silence', 2 inputs of shape (1, 4), float64, 2 classes, without planted truth)
    """

    x: Float[Tensor, "n c *s"] | Lazy
    y: Annotations
    mask: Bool[Tensor, "n *s"] | None = None
    classes: tuple[str, ...] = ()
    name: str = "samples"
    ids: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()

    def __init__(
        self,
        x: ArrayLike | Tensor | Lazy,
        y: ArrayLike | Tensor | Sequence[float] | Sequence[Sequence[float]],
        mask: ArrayLike | Tensor | None = None,
        classes: Sequence[str] = (),
        name: str = "samples",
        ids: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
        groups: Sequence[str | int] | Tensor | np.ndarray = (),
    ) -> None:
        inputs = _inputs(x)
        labels, names = annotated(_tensor(y, "labels y"), classes)
        n = len(labels)
        if len(inputs) != n:
            raise InputError(f"got {len(inputs)} inputs and {n} labels; expected one label an input")
        if ids and len(ids) != n:
            raise InputError(f"got {len(ids)} ids for {n} samples; expected one each")
        named = tuple(str(one) for one in (groups.tolist() if isinstance(groups, (Tensor, np.ndarray)) else groups))
        if named and len(named) != n:
            raise InputError(f"got {len(named)} groups for {n} samples; expected one each")
        planted = None if mask is None else _planted(mask, (n, *inputs.shape[2:]))
        record = {"x": inputs, "y": labels, "mask": planted, "classes": names, "name": name, "ids": tuple(ids)}
        for attribute, value in (record | {"about": about or {}, "groups": named}).items():
            object.__setattr__(self, attribute, value)

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        dtype = str(self.x.dtype).removeprefix("torch.")
        truth = "without" if self.mask is None else "with"
        return (
            f"Samples({brief(self.name)!r}, {len(self):,} inputs of shape {tuple(self.x.shape[1:])}, {dtype}, "
            f"{overview(self.y, self.classes)}, {truth} planted truth)"
        )

    def _repr_html_(self) -> str:
        return _page((self,), ("",))

    @property
    def task(self) -> Task:
        """What is asked of a model: one of the classes, which of the labels are present, or a number."""
        return task_of(self.y)

    def take(self, index: Sequence[int] | Int[Tensor, " k"] | slice) -> Samples:
        """The samples at the given positions, in that order."""
        if isinstance(index, slice):
            index = range(*index.indices(len(self)))
        rows = torch.as_tensor(list(index) if isinstance(index, range) else index, dtype=torch.int64)
        return replace(
            self,
            x=self.x[rows] if isinstance(self.x, Tensor) else self.x.take(rows),
            y=self.y[rows],
            mask=None if self.mask is None else self.mask[rows],
            ids=tuple(self.ids[i] for i in rows.tolist()) if self.ids else (),
            groups=tuple(self.groups[i] for i in rows.tolist()) if self.groups else (),
        )


@dataclass(frozen=True, repr=False)
class Splits:
    """The training and the test samples of one data set.

    Raises: InputError where one part has classes and the other labels or real numbers.
    """

    train: Samples
    test: Samples

    def __post_init__(self) -> None:
        if self.train.task != self.test.task:
            raise InputError(
                f"got training samples with {_ASKED[self.train.task]} and test samples with {_ASKED[self.test.task]}; "
                "expected the same in both"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """A name a class or label, or that of the quantity."""
        return self.train.classes

    @property
    def task(self) -> Task:
        """What is asked of a model."""
        return self.train.task

    def __iter__(self) -> Iterator[Samples]:
        return iter((self.train, self.test))

    def __repr__(self) -> str:
        return (
            f"Splits({brief(self.train.name)!r}, {len(self.train):,} training and {len(self.test):,} test inputs "
            f"of shape {tuple(self.train.x.shape[1:])}, {overview(self.train.y, self.classes)})"
        )

    def _repr_html_(self) -> str:
        return _page((self.train, self.test), ("training", "test"))


@dataclass(frozen=True, repr=False)
class Estimate:
    """A mean over samples with its confidence interval; ``float(estimate)`` is the mean.

    A format spec formats the mean alone; without one the interval follows it.

    Attributes:
        mean, low, high: the estimate and the ends of its interval; NaN where nothing is defined.
        n: how many samples it rests on; undefined: how many had no value.
        level: the confidence level of the interval.

    >>> accuracy = Estimate(0.65, 0.61, 0.7, 200)
    >>> accuracy
    0.650 (95 % CI 0.610 to 0.700, n=200)
    >>> print(accuracy, f"{accuracy:.2f}", float(accuracy))
    0.650 (95 % CI 0.610 to 0.700) 0.65 0.65
    """

    mean: float
    low: float
    high: float
    n: int
    undefined: int = 0
    level: float = 0.95

    def __float__(self) -> float:
        return float(self.mean)

    def __format__(self, spec: str) -> str:
        return format(float(self.mean), spec) if spec else str(self)

    def __str__(self) -> str:
        return self._text()

    def __repr__(self) -> str:
        return self._text(f"n={self.n:,}", *([f"{self.undefined:,} undefined"] if self.undefined else []))

    def _text(self, *notes: str) -> str:
        if not math.isnan(self.low):
            notes = f"{100 * self.level:g} % CI {self.low:.3f} to {self.high:.3f}", *notes
        mean = "undefined" if math.isnan(self.mean) else f"{self.mean:.3f}"
        return f"{mean} ({', '.join(notes)})" if notes else mean


@dataclass(frozen=True, repr=False)
class Skip:
    """A cell of a study that was not computed, and why."""

    method: str
    metric: str
    reason: str

    def __repr__(self) -> str:
        return f"Skip({brief(self.method)!r}, {brief(self.metric)!r}, {brief(self.reason, 120)!r})"


@dataclass(frozen=True, repr=False)
class Finding:
    """Something that a reader should know, as data; `heatproof.verdict.wording` makes sentences of it.

    Attributes:
        kind: what is found, a kebab-case identifier. severity: "bad", "note" or "good".
        subjects: whom it is about: methods, metrics, fills, families or classes.
        metric: by which metric it was found; findings that differ in it alone are told together.
        reason: why, a kebab-case identifier. numbers: what was measured, by name.
        objects: what the subjects are compared with, or what each subject has, in the same order.
    """

    kind: str
    severity: Severity
    subjects: tuple[str, ...] = ()
    metric: str = ""
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    objects: tuple[str, ...] = ()

    def __repr__(self) -> str:
        parts = [self.kind, self.severity, self.metric, self.reason, ", ".join(self.subjects), ", ".join(self.objects)]
        return f"Finding({'; '.join(brief(part) for part in parts if part)})"


def brief(text: str, length: int = 40) -> str:
    """A text at most so many characters long, its end replaced by an ellipsis where it is longer."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _tensor(value: Any, name: str) -> Tensor:
    """A tensor of what may be one, an array or a list; arrays that torch cannot share are copied."""
    if isinstance(value, Tensor):
        return value
    try:
        array = np.asarray(value)
        if array.dtype.byteorder not in "=|":
            array = array.astype(array.dtype.newbyteorder("="))
        if not array.flags.writeable or any(step < 0 for step in array.strides):
            array = array.copy()
        return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{name}: got {type(value).__name__}, expected a tensor or an array of numbers ({reason})"
        ) from None


def _inputs(x: Any) -> Tensor | Lazy:
    if not isinstance(x, (Tensor, np.ndarray)) and isinstance(x, Lazy):
        return x
    inputs = _tensor(x, "inputs x")
    if isinstance(x, (list, tuple)) and inputs.is_floating_point():
        inputs = inputs.to(torch.get_default_dtype())
    if not inputs.is_floating_point():
        raise InputError(f"inputs x: got {inputs.dtype}, expected float; convert them, for example x.astype('float32')")
    if inputs.ndim < 3:
        raise InputError(
            f"inputs x: got shape {tuple(inputs.shape)}, expected (N, C, *S); add an axis of channels: x[:, None]"
        )
    return inputs


def _planted(mask: Any, shape: tuple[int, ...]) -> Tensor:
    planted = _tensor(mask, "mask")
    if tuple(planted.shape) != shape:
        raise InputError(f"mask: got {tuple(planted.shape)}, expected {shape}")
    if planted.dtype != torch.bool and not bool(((planted == 0) | (planted == 1)).all()):
        raise InputError(
            f"mask: got {planted.dtype} with other values than 0 and 1, expected bool or 0 and 1; "
            "choose a threshold, for example mask > 0.5"
        )
    return planted.bool()


def _page(parts: Sequence[Samples], heads: Sequence[str], most: int = 20) -> str:
    """An HTML table of samples, a column each: how many, their shape, and what is true of them."""
    truths = [rows_of(part.y, part.classes, most) for part in parts]
    rows: list[tuple[str, list[str]]] = [("", list(heads))] if any(heads) else []
    rows += [
        ("name", [part.name for part in parts]),
        ("samples", [f"{len(part):,}" for part in parts]),
        ("shape", [str(tuple(part.x.shape[1:])) for part in parts]),
        ("planted truth", ["no" if part.mask is None else "yes" for part in parts]),
        *((name, [truth[k][1] for truth in truths]) for k, (name, _) in enumerate(truths[0])),
    ]
    lines = [
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for name, values in rows
    ]
    return f"<table>{''.join(lines)}</table>"
