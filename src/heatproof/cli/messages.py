"""What the command line writes: plain lines on stdout; notes and errors on stderr."""

from __future__ import annotations

import errno
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text


def out() -> Console:
    """Standard output."""
    return Console(highlight=False)


def err() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False)


def say(*lines: str) -> None:
    """Plain lines on stdout, as long as they are."""
    for line in lines:
        out().print(Text(line), soft_wrap=True)


def place(what: str, path: Path) -> None:
    """Where something lies."""
    out().print(Text.assemble((f"{what} ", "bold"), str(path)), soft_wrap=True)


def error(line: str) -> None:
    """One red line on stderr."""
    err().print(Text(f"error: {line}", style="bold red"), soft_wrap=True)


def traceback() -> None:
    """The traceback of the error at hand."""
    err().print_exception(width=None, suppress=["typer"])


@contextmanager
def notes(*, debug: bool) -> Iterator[None]:
    """Heatproof's own warnings shown as one line each, and those of other packages only with ``debug``."""
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = str(message)
        if text in seen or not (debug or category.__module__.startswith("heatproof")):
            return
        seen.add(text)
        err().print(Text(f"note: {text}", style="yellow"), soft_wrap=True)

    with warnings.catch_warnings():
        if not debug and not sys.warnoptions:
            warnings.simplefilter("default")
        warnings.showwarning = show
        yield


def usage(error: Any) -> str:
    """What Typer says about a wrong call, and where to read more."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message[:1].lower()}{message[1:]}; see {context.command_path if context else 'heatproof'} --help"


def resume(words: Sequence[str]) -> str:
    """How to go on after an interrupt, where the command keeps what it has finished."""
    if words and words[0] in ("run", "train", "study"):
        return f"; go on with: {shlex.join(['heatproof', *words])}"
    return "; nothing was kept"


def disk(error: OSError) -> str:
    """A failed read or write in one line."""
    where = f" {error.filename!r}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left to write{where}; free some, then run the same command again"
    return f"cannot use{where or ' a file'}: {error.strerror or error}"
