"""What a method or metric raised that nobody foresaw: a line for the table of skips, a traceback for the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from heatproof.errors import HeatproofError, NotApplicable, UsageError, first_line
from heatproof.registry import Spec

LOG = "log.txt"
logger = logging.getLogger("heatproof")
logger.addHandler(logging.NullHandler())  # without it, tracebacks would go to the terminal


def reason(what: Spec, error: Exception) -> str:
    """Why a method or metric has no numbers, in one line; the traceback of what was not foreseen goes to the log."""
    if isinstance(error, NotApplicable):
        return str(error)
    if isinstance(error, HeatproofError):
        return f"{what} failed: {first_line(error)}"
    logger.error("%s failed", what, exc_info=error)
    return f"{what} failed: {type(error).__name__}: {first_line(error)}"


def end_of_study(errors: Mapping[Spec, Exception]) -> Exception:
    """What to raise where no method is left: the first error itself where the call was wrong, else all in a line."""
    first = next(iter(errors.values()))
    if isinstance(first, UsageError):
        return first
    reasons = dict.fromkeys(f"{type(error).__name__}: {first_line(error)}" for error in errors.values())
    methods = ", ".join(map(str, errors))
    return HeatproofError(f"no method could explain these samples ({methods}: {'; '.join(reasons)})")


@contextmanager
def logged(folder: Path | None) -> Iterator[None]:
    """Keeps what is logged in the block in ``log.txt`` of the folder, which appears with the first entry."""
    if folder is None:
        yield
        return
    handler = logging.FileHandler(folder / LOG, delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
