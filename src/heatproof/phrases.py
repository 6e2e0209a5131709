"""Numbers and lists as they stand in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def listed(names: Sequence[str], most: int = 5, *, last: str = "and") -> str:
    """Names joined by commas and a final "and" (or another word); of very many the first and a count.

    >>> listed(["a", "b", "c"]), listed("abcdefg", most=3)
    ('a, b and c', 'a, b and 5 more')
    """
    shown = list(names)
    if len(shown) > most:
        shown = [*shown[: most - 1], f"{len(shown) - most + 1} more"]
    return f" {last} ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def plural(count: int, word: str) -> str:
    """A count with its noun.

    >>> plural(1, "sample"), plural(1200, "class")
    ('1 sample', '1,200 classes')
    """
    ending = "" if count == 1 else "es" if word.endswith("s") else "s"
    return f"{count:,} {word}{ending}"


def verb(count: int, one: str, several: str) -> str:
    """The form of a verb that agrees with a count."""
    return one if count == 1 else several


def share_of(part: int, whole: int, noun: str) -> str:
    """How many of a few, at the head of a sentence.

    >>> share_of(0, 3, "metric"), share_of(2, 3, "metric"), share_of(3, 3, "metric"), share_of(2, 2, "method")
    ('None of 3 metrics', '2 of 3 metrics', 'All 3 metrics', 'Both methods')
    """
    if part < whole or whole < 2:
        return f"{part if part else 'None'} of {plural(whole, noun)}"
    return f"Both {noun}s" if whole == 2 else f"All {whole} {noun}s"


def percent(share: float, digits: int = 0) -> str:
    """A share as text; a dash where it is undefined.

    >>> percent(0.5415), percent(0.9781, 1)
    ('54 %', '97.8 %')
    """
    return f"{100 * share:.{digits}f} %" if math.isfinite(share) else "–"


def rounded(count: float) -> int:
    """A large count to two digits.

    >>> rounded(47.0), rounded(2903.0)
    (47, 2900)
    """
    step = 10 ** max(0, len(str(int(count))) - 2)
    return int(round(count / step) * step)


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
        return f"{sign}{head} × 10{str(int(tail)).translate(SUPERSCRIPTS)}"
    if 0 < size < 0.5 * 10.0**-digits:
        digits = 1 - math.ceil(math.log10(size))
    digits_shown = f"{size:,.{digits if size < 1e4 else 0}f}"
    return sign + digits_shown if float(digits_shown.replace(",", "")) else digits_shown
