"""Memory that was freed but is still held by the C library."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

LARGE = 2**20  # numbers in the inputs at hand from which giving memory back is worth its time


def release(numbers: int = LARGE) -> None:
    """Give freed memory back to the system, where ``numbers`` in the inputs worked on are many.

    glibc keeps what was freed for later, in pieces that the next large tensor does not fit: without this the memory of
    a long study grows from chunk to chunk though nothing is held. Elsewhere than under glibc nothing happens.
    """
    trim = _trim()
    if trim is not None and numbers >= LARGE:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or none to be asked
        return None
    return trim
