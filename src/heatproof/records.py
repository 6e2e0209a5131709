"""Plain frozen records that flow between the stages; tensors stay on the CPU unless a stage says otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof.errors import InputError

Direction = Literal["higher", "lower"]


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
        """Some of the inputs, in the given order, still unread."""


@dataclass(frozen=True)
class Samples:
    """Labelled inputs, and where known which positions decide the class.

    Attributes:
        x: inputs (N, C, *S), float; in memory, or Lazy: then take it in slices, ``x[start:stop]``.
        y: true labels (N,), int64, each in [0, len(classes)).
        mask: planted truth (N, *S), bool, or None.
        classes: a name a class.
        name: what the samples are called in reports.
        ids: a name a sample (a file name, say), or empty.
        about: source, licence, citation and transform, shown in reports.

    Raises: InputError where shapes or types disagree.
    """

    x: Float[Tensor, "n c *s"] | Lazy
    y: Int[Tensor, " n"]
    mask: Bool[Tensor, "n *s"] | None = None
    classes: tuple[str, ...] = ()
    name: str = "samples"
    ids: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.y)
        if self.y.ndim != 1 or self.y.dtype != torch.int64:
            raise InputError(f"labels y: got {self.y.dtype} of shape {tuple(self.y.shape)}, expected int64 (N,)")
        if len(self.x) != n:
            raise InputError(f"got {len(self.x)} inputs and {n} labels; expected one label an input")
        if self.mask is not None and tuple(self.mask.shape) != (n, *self.x.shape[2:]):
            raise InputError(f"mask: got {tuple(self.mask.shape)}, expected {(n, *self.x.shape[2:])}")
        if self.ids and len(self.ids) != n:
            raise InputError(f"got {len(self.ids)} ids for {n} samples")
        if not self.classes:
            count = int(self.y.max()) + 1 if n else 0
            object.__setattr__(self, "classes", tuple(str(i) for i in range(count)))
        if n and (int(self.y.min()) < 0 or int(self.y.max()) >= len(self.classes)):
            raise InputError(
                f"labels reach from {int(self.y.min())} to {int(self.y.max())}; "
                f"expected 0 to {len(self.classes) - 1} for {len(self.classes)} classes"
            )

    def __len__(self) -> int:
        return len(self.y)

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
        )


@dataclass(frozen=True)
class Splits:
    """The training and the test samples of one data set."""

    train: Samples
    test: Samples

    @property
    def classes(self) -> tuple[str, ...]:
        """A name a class."""
        return self.train.classes

    def __iter__(self) -> Iterator[Samples]:
        return iter((self.train, self.test))


@dataclass(frozen=True)
class Estimate:
    """A mean over samples with its confidence interval.

    Attributes:
        mean, low, high: the estimate and the ends of its interval; NaN where nothing is defined.
        n: how many samples it rests on; undefined: how many had no value.
    """

    mean: float
    low: float
    high: float
    n: int
    undefined: int = 0

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Skip:
    """A cell of a study that was not computed, and why."""

    method: str
    metric: str
    reason: str
