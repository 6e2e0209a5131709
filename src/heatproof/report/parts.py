"""What a page is made of: sections of tables, pictures and paragraphs, all of them plain records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from heatproof.records import Estimate

Kind = Literal["good", "bad", "note"]
LONG, NAME = 32, 16  # letters of a cell that is set in several lines, and of a name that may be broken
SMALL = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Share:
    """A share in [0, 1], shown in percent with so many digits after the point."""

    value: float
    digits: int = 0


Cell = str | int | float | Estimate | Share | None


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    Attributes:
        name: that of its files. rows: of cells; an Estimate is shown with its interval.
        faint: rows set in grey. digits: after the point. folded: whether it has to be opened, showing ``short``.
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

    ``label`` is read out by screen readers, ``name`` is that of its files, ``short`` what is seen while it is folded.
    """

    name: str
    caption: str
    label: str
    figure: Any
    folded: bool = False
    short: str = ""

    @cached_property
    def svg(self) -> str:
        """The figure as it stands in the page, and in its file."""
        from heatproof import plots

        return plots.svg(self.figure, label=self.label)


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether it is good or bad news."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Listing:
    """Findings one below the other."""

    items: tuple[Finding, ...]


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


def section(key: str, title: str, short: str, lead: str, parts: Sequence[Part | None]) -> Section | None:
    """The section with the parts that are there, or None without any."""
    found = tuple(part for part in parts if part)
    return Section(key, title, short, lead, found) if found else None


def number(value: float, digits: int = 3) -> str:
    """A number as text; a dash where it is undefined.

    >>> number(0.5), number(0.00042), number(-2e-6), number(31000.0)
    ('0.500', '0.0004', '−2 × 10⁻⁶', '31,000')
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size, sign = abs(value), "−" if value < 0 else ""
    if size >= 1e6 or 0 < size < 5e-5:
        head, tail = f"{size:.0e}".split("e")
        return f"{sign}{head} × 10{str(int(tail)).translate(SMALL)}"
    if 0 < size < 0.5 * 10.0**-digits:
        digits = 1 - math.ceil(math.log10(size))
    said = f"{size:,.{digits if size < 1e4 else 0}f}"
    return sign + said if float(said.replace(",", "")) else said


def interval(found: Estimate, digits: int = 3) -> str:
    """The ends of an interval in brackets, or nothing where there is none."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return ""
    return f"[{number(found.low, digits)}, {number(found.high, digits)}]"


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


def percent(share: float, digits: int = 0) -> str:
    """A share as text; a dash where it is undefined.

    >>> percent(0.5415), percent(0.9781, 1)
    ('54 %', '97.8 %')
    """
    return f"{100 * share:.{digits}f} %" if math.isfinite(share) else "–"


def counted(some: int, of: int) -> str:
    """How many of a few.

    >>> counted(0, 3), counted(2, 3), counted(3, 3)
    ('none', '2 of 3', 'all 3')
    """
    return "none" if not some else f"all {of}" if some == of > 1 else f"{some} of {of}"


def subject(some: int, of: int, noun: str) -> str:
    """How many of a few, at the head of a sentence.

    >>> subject(0, 3, "metric"), subject(2, 3, "metric"), subject(3, 3, "metric")
    ('No metric', '2 of 3 metrics', 'All 3 metrics')
    """
    return f"{counted(some, of).capitalize()} {noun}s" if some else f"No {noun}"


def rounded(count: float) -> int:
    """A large count to two digits.

    >>> rounded(47.0), rounded(2903.0)
    (47, 2900)
    """
    step = 10 ** max(0, len(str(int(count))) - 2)
    return int(round(count / step) * step)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names joined by commas and a final "and"; of very many the first and a count."""
    shown = list(names)
    if len(shown) > most:
        shown = [*shown[: most - 1], f"{len(shown) - most + 1} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def plural(count: int, word: str) -> str:
    """A count with its noun.

    >>> plural(1, "sample"), plural(1200, "class")
    ('1 sample', '1,200 classes')
    """
    ending = "" if count == 1 else "es" if word.endswith("s") else "s"
    return f"{count:,} {word}{ending}"
