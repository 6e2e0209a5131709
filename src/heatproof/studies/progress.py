"""A line on the terminal or in a notebook that shows how far a study is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

Progress = Callable[[str, int, int], None]  # the stage, and how many of its samples or scores are done
WIDTH, EVERY = 24, 0.1  # characters of the bar; seconds between two lines
UNITS = {"explaining": "samples", "judging": "scores", "weighing": "samples"}


@runtime_checkable
class Stream(Protocol):
    """What text is written to, as standard error."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> None: ...

    def isatty(self) -> bool: ...


@contextmanager
def reported(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """The function to call with the stage, what is done and all there is to do; None where nobody watches.

    For True a bar on standard error, where that is a terminal or a notebook.
    """
    if callable(progress):
        yield progress
    elif not progress or not _is_watched(sys.stderr):
        yield None
    else:
        bar = Bar(sys.stderr)
        try:
            yield bar
        finally:
            bar.close()


class Bar:
    """One line that is written over: the stage, a bar, what is done, and the seconds left."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._stage, self._start, self._last, self._length = "", 0.0, 0.0, 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._start, self._last = stage, now, 0.0
        if now - self._last >= EVERY or done == total:
            self._last = now
            self._write(line(stage, done, total, now - self._start))

    def close(self) -> None:
        """End the line."""
        if self._length:
            self._stream.write("\n")
            self._stream.flush()

    def _write(self, text: str) -> None:
        self._stream.write("\r" + text.ljust(self._length))
        self._stream.flush()
        self._length = len(text)


def line(stage: str, done: int, total: int, seconds: float) -> str:
    """What the bar shows.

    >>> line("judging", 300, 1200, 5.0)
    'judging    ██████░░░░░░░░░░░░░░░░░░  25 % of 1,200 scores, about 15 s left'
    """
    share = done / total if total else 1.0
    full = round(WIDTH * share)
    left = f", about {seconds * (1 - share) / share:,.0f} s left" if 0 < share < 1 else ""
    bar = "█" * full + "░" * (WIDTH - full)
    return f"{stage:<10} {bar} {100 * share:>3.0f} % of {total:,} {UNITS.get(stage, 'steps')}{left}"


def _is_watched(stream: Stream) -> bool:
    """Whether a person sees the stream as it is written: a terminal, or the output of a notebook's cell."""
    return stream.isatty() or type(stream).__module__.startswith("ipykernel")
