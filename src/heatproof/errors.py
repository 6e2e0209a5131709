"""Every error heatproof raises on purpose.

    HeatproofError              exit code 1: something failed
    ├── UsageError              exit code 2: the call was wrong; also a ValueError
    │   ├── UnknownName         a method, metric, layer, data set ... that does not exist
    │   ├── InputError          samples, targets, maps or masks of the wrong shape, type or content
    │   ├── LayerError          a layer that cannot be tapped
    │   └── FolderInUse         an output folder that holds something else
    ├── FileError               a file that is missing, truncated, foreign or unsafe
    ├── NotApplicable           a method or metric that has no meaning here; a study records a Skip
    └── Interrupted             stopped by the user; finished work was kept

Messages say what was got, what was expected, and how to mend it, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeatproofError(Exception):
    """Something failed; the message is one line fit for a terminal."""

    exit_code = 1


class UsageError(HeatproofError, ValueError):
    """The call was wrong and can be mended by the caller."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that is not registered; the message offers the near ones."""

    def __init__(self, kind: str, name: str, choices: Iterable[str], hint: str = "") -> None:
        names = sorted(choices)
        near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
        near += [n for n in names if name.lower() in n and n not in near][:3]
        if near:
            offer = f"did you mean {' or '.join(repr(n) for n in near)}?"
        elif len(names) <= 12:
            offer = f"known: {', '.join(names) or 'none'}"
        else:
            offer = f"{len(names)} are known"
        super().__init__(f"unknown {kind} {name!r}; {offer}{' ' + hint if hint else ''}")
        self.kind, self.name, self.near = kind, name, tuple(near)

    def __reduce__(self) -> tuple[object, ...]:
        return (UsageError, (str(self),))


class InputError(UsageError):
    """Samples, targets, maps or masks of the wrong shape, type or content."""


class LayerError(UsageError):
    """A layer that does not exist, never runs, runs twice or has no positions."""


class FolderInUse(UsageError):
    """An output folder that already holds another run."""


class FileError(HeatproofError):
    """A file that is missing, truncated, foreign or unsafe."""


class NotApplicable(HeatproofError):
    """A method or metric that has no meaning for this model or these samples."""


class Interrupted(HeatproofError):
    """The user stopped the work; whatever was finished is kept."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, cut to a length that fits into a message."""
    try:
        text = str(error)
    except Exception:  # an exception of somebody else's may fail to say what it is
        text = ""
    return (text.strip().splitlines() or [type(error).__name__])[0][:200]
