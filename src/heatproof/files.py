"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from safetensors import SafetensorError

from heatproof.errors import FileError


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A path beside ``path``, with its ending, that takes its place when the block ends well and else vanishes.

    Raises: FileError, in one line, where the disk is full or the place cannot be written.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)  # safetensors writes files that nobody else may read
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        _refuse_writing(path, error)
    finally:
        with suppress(OSError):
            part.unlink()


def _refuse_writing(path: Path, error: Exception) -> NoReturn:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(error)
    if full:
        raise FileError(f"no space left to write {str(path)!r}; free some or choose another folder") from error
    reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
    raise FileError(f"cannot write {str(path)!r}: {reason}; choose another folder") from error
