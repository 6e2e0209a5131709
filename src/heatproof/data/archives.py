"""Archives fetched over the network: checked, unpacked without leaving their folder, never left half done."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from heatproof.errors import FileError, UsageError


def download(url: str, digest: str, folder: Path) -> Path:
    """The file behind ``url`` in ``folder``, its ``digest`` ("sha384:...") checked; kept where it was fetched before.

    Raises: FileError where the address does not answer, the digest differs or the disk is full.
    """
    import pooch

    name = PurePosixPath(url.partition("?")[0]).name or "archive.zip"
    folder.mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(pooch.retrieve(url, known_hash=digest, fname=name, path=folder))
    except ValueError as error:
        if "hash" not in str(error).lower():
            raise UsageError(f"{url}: not an address that can be fetched ({error})") from None
        raise FileError(
            f"{url}: the checksum differs from {digest[:23]}...; damaged, or another file; fetch it again"
        ) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise FileError(f"{folder}: no space left on the disk for {name}") from None
        raise FileError(f"{url}: cannot be fetched ({error}); check the connection, or pass a mirror as url") from None


def unpack(archive: Path, folder: Path) -> None:
    """The zip file's tree as ``folder``, which appears only once complete.

    Raises: FileError where an entry would leave the folder, is a link or is damaged, the disk is too small, or the
        folder exists already.
    """
    if folder.exists():
        raise FileError(f"{folder}: exists already; remove it or unpack elsewhere")
    try:
        with zipfile.ZipFile(archive) as file, building(folder) as temporary:
            entries = [_safe(entry, archive) for entry in file.infolist()]
            need, free = sum(entry.file_size for entry in entries), shutil.disk_usage(temporary).free
            if need > free:
                raise FileError(f"{archive}: no space to unpack it: it needs {_mebi(need)}, {_mebi(free)} are free")
            for entry in entries:
                file.extract(entry, temporary)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise FileError(f"{archive}: damaged archive ({error}); fetch it again") from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise FileError(f"{folder}: no space left on the disk while unpacking {archive.name}") from None


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` that takes its name on success and is removed on failure or interrupt."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _safe(entry: zipfile.ZipInfo, archive: Path) -> zipfile.ZipInfo:
    # ZipFile.extract changes bad names silently; an archive that has one is not to be trusted.
    name = entry.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or (parts and ":" in parts[0]):
        raise FileError(
            f"{archive}: entry {entry.filename!r} would be written outside the folder; nothing was unpacked"
        )
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise FileError(f"{archive}: entry {entry.filename!r} is a link or device; nothing was unpacked")
    return entry


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _mebi(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
