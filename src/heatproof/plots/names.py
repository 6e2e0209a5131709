"""Names that are never cut: folded at hyphens, colons and spaces, or set smaller where that is not enough."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

BREAKS = re.compile(r"(?<=[-:,_/=→ ])")
SPARE = 1.1  # a page may set the text in a wider font
LINE = 1.25  # the height of a line of text in font sizes
SIZES = (1.0, 0.94, 0.88, 0.82, 0.76, 0.7)


def fold(name: str, length: int) -> str:
    """The name on lines of at most so many characters, as far as there are places to break it.

    >>> fold("integrated-gradients:steps=20", 14).split(chr(10))
    ['integrated-', 'gradients:', 'steps=20']
    """
    return _folded(name, length, len)


def fit(name: str, inches: float, *, size: float = 8.0, bold: bool = False, lines: int = 3) -> tuple[str, float]:
    """The name folded to a width, and the font size at which every line fits; at most so many lines where possible."""
    for share in SIZES:
        text = _folded(name, inches, functools.partial(width, size=share * size, bold=bold))
        if width(text, share * size, bold=bold) <= inches and text.count("\n") < lines:
            return text, share * size
    return text, size * min(SIZES[-1], inches / width(text, size, bold=bold))


def width(text: str, size: float, *, bold: bool = False) -> float:
    """The width in inches of the longest line of a text at a font size, with something to spare."""
    return max((_width(line, bold) for line in text.split("\n")), default=0.0) * size


def height(text: str, size: float) -> float:
    """The height in inches of the lines of a text at a font size; 0 without a text."""
    return (text.count("\n") + 1) * LINE * size / 72 if text else 0.0


def spaced(names: Sequence[str], row: float) -> float:
    """The height in inches of names below each other, each at least ``row`` inches high; of one where there is none."""
    return max([row, *(height(name, 8.0) + 0.02 for name in names)]) * max(len(names), 1)


def longest(names: Sequence[str]) -> int:
    """The number of characters of the longest line of the names; 1 where there is none."""
    return max([1, *(len(line) for name in names for line in name.split("\n"))])


def _folded(name: str, room: float, measure: Callable[[str], float]) -> str:
    lines = [""]
    for part in BREAKS.split(name):
        if lines[-1] and measure((lines[-1] + part).rstrip()) > room:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


@functools.lru_cache(maxsize=4096)
def _width(line: str, bold: bool) -> float:
    font = FontProperties(family="DejaVu Sans", size=10, weight="bold" if bold else "normal")
    return SPARE * float(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0]) / 720
