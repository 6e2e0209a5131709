"""What a page consists of: sections of tables, pictures, remarks and paragraphs, all of them plain records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from heatproof import plots
from heatproof.phrases import number, percent
from heatproof.records import Estimate
from heatproof.verdict.wording import Statement

LONG, NAME = 32, 16  # letters: of a cell that is set in several lines, and of a name that may be broken


@dataclass(frozen=True)
class Share:
    """A share in [0, 1], shown in percent with ``digits`` decimals."""

    value: float
    digits: int = 0


Cell = str | int | float | Estimate | Share | None


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    Attributes:
        name: that of its files. rows: of cells; an Estimate is shown with its interval.
        faint: rows set in grey. digits: decimals. folded: whether it is closed at first; it then shows ``short``.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    faint: frozenset[int] = frozenset()
    digits: int = 3
    folded: bool = False
    short: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers alone."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.columns)
        return tuple(not any(isinstance(cell, str) for cell in column) for column in columns)

    @property
    def named(self) -> bool:
        """Whether the first cells hold long names."""
        return any(isinstance(row[0], str) and len(row[0]) > NAME for row in self.rows)

    @property
    def wordy(self) -> bool:
        """Whether some cell behind the first is too long for one line."""
        return any(isinstance(cell, str) and len(cell) > LONG for row in self.rows for cell in row[1:])


@dataclass(frozen=True)
class Picture:
    """A figure with its caption.

    ``label`` is read out by screen readers, ``name`` is that of its files, ``short`` is shown while it is closed.
    """

    name: str
    caption: str
    label: str
    figure: Any  # of matplotlib, which lives in `plots`
    folded: bool = False
    short: str = ""

    @cached_property
    def svg(self) -> str:
        """The figure as it stands in the page, and in its file."""
        return plots.svg(self.figure, label=self.label)


@dataclass(frozen=True)
class Listing:
    """Statements one below the other, each marked by its severity."""

    items: tuple[Statement, ...]


@dataclass(frozen=True)
class Code:
    """Something to type, under a line that says what it does."""

    caption: str
    text: str


Part = Table | Picture | Listing | Code | str


@dataclass(frozen=True)
class Section:
    """A part of the page; ``short`` is its name in the list of contents, ``lead`` a paragraph under its heading."""

    key: str
    title: str
    short: str
    lead: str = ""
    parts: tuple[Part, ...] = ()


def compose(key: str, title: str, short: str, lead: str, parts: Sequence[Part | None]) -> Section | None:
    """The section with those parts that are there, or None without any."""
    present = tuple(part for part in parts if part)
    return Section(key, title, short, lead, present) if present else None


def listing(statements: Iterable[Statement]) -> Listing | None:
    """The statements one below the other; None without any."""
    items = tuple(statements)
    return Listing(items) if items else None


def interval(estimate: Estimate, digits: int = 3) -> str:
    """The ends of an interval in brackets, or nothing where there is none."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return ""
    return f"[{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def text(cell: Cell, digits: int = 3) -> str:
    """A cell as plain text."""
    if cell is None:
        return "–"
    if isinstance(cell, Estimate):
        return f"{number(cell.mean, digits)} {interval(cell, digits)}".strip()
    if isinstance(cell, Share):
        return percent(cell.value, cell.digits)
    if isinstance(cell, float):
        return number(cell, digits)
    return f"{cell:,}" if isinstance(cell, int) else cell
