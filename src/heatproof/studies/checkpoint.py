"""The finished chunks of a study on disk, so that a stopped study continues where it was.

``study.json`` says which study the folder belongs to; each chunk is a file of plain arrays that appears whole or not at
all. Once the results are written the chunks are removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heatproof.errors import FileError, FolderInUse, HeatproofError
from heatproof.files import writing
from heatproof.records import brief
from heatproof.registry import Spec
from heatproof.results.storage import FILLS
from heatproof.studies.chunk import Arrays
from heatproof.studies.witness import Witness

PAGE, CHUNKS, RESULTS = "study.json", "chunks", "results.json"
PREDICTIONS = "predictions"
FOREIGN = (RESULTS, "run.json", "training.json", "card.json", "scores.csv", "scores.parquet")


class Journal:
    """The chunks of one study in one folder.

    ``witness`` is what else is compared with the folder; one that was begun without it is judged by its identity alone.

    Raises: FolderInUse where the folder belongs to another study, or to this one and ``resume`` is off.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], witness: Witness | None = None, *, resume: bool = True
    ) -> None:
        self.folder = folder
        page = {"heatproof": "study", "identity": json.loads(json.dumps(identity))}
        if folder.exists() and not folder.is_dir():
            raise FolderInUse(f"{str(folder)!r} is a file; choose another folder")
        whole = self._page()
        existing = None if whole is None else dict(whole["identity"])
        if existing is None and any((folder / name).exists() for name in FOREIGN):
            raise FolderInUse(f"{str(folder)!r} holds other results; choose another folder")
        if existing is not None and existing != page["identity"]:
            names = sorted({*existing, *page["identity"]})
            pairs = [(name, existing.get(name), page["identity"].get(name)) for name in names]
            differs = [
                f"{name}: {_text(there)} there, {_text(here)} here" for name, there, here in pairs if there != here
            ]
            raise self._foreign(differs)
        changes = self._changes(whole, witness)
        if changes:
            raise self._foreign(changes)
        if existing is not None and not resume:
            raise FolderInUse(f"{str(folder)!r} holds this very study; resume it or choose another folder")
        if existing is None:
            page |= {} if witness is None else {"witness": witness.page}
            with writing(folder / PAGE) as part:
                part.write_text(json.dumps(page, indent=1) + "\n", encoding="utf-8")

    @property
    def finished(self) -> bool:
        """Whether the results were written."""
        return (self.folder / RESULTS).exists()

    def read(self, part: int | str) -> Arrays | None:
        """The arrays of a finished chunk, or of a part with a name, or None."""
        path = self._path(part)
        if not path.exists():
            return None
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except Exception as error:  # zip and npy readers raise many kinds for a truncated file
            raise FileError(f"{str(path)!r} is damaged ({type(error).__name__}); delete it and run again") from None

    def write(self, part: int | str, arrays: Arrays) -> None:
        """Keep the arrays of a chunk, or of a part with a name."""
        with writing(self._path(part)) as beside, beside.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def close(self) -> None:
        """Remove the chunks; the results hold all of them."""
        for path in (self.folder / CHUNKS).glob("*.npz"):
            path.unlink()
        if (self.folder / CHUNKS).is_dir():
            (self.folder / CHUNKS).rmdir()

    def _path(self, part: int | str) -> Path:
        return self.folder / CHUNKS / (f"{part}.npz" if isinstance(part, str) else f"{part:06d}.npz")

    def _foreign(self, differs: Sequence[str]) -> FolderInUse:
        return FolderInUse(f"{str(self.folder)!r} holds another study ({'; '.join(differs)}); choose another folder")

    def _changes(self, page: Mapping[str, Any] | None, witness: Witness | None) -> list[str]:
        kept = None if page is None else page.get("witness")
        try:
            return [] if witness is None or kept is None else witness.changes(kept)
        except HeatproofError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._damage() from None

    def _damage(self) -> FileError:
        return FileError(f"{str(self.folder / PAGE)!r} is damaged; choose another folder")

    def _page(self) -> dict[str, Any] | None:
        path = self.folder / PAGE
        if not path.exists():
            return None
        try:
            page = json.loads(path.read_text(encoding="utf-8"))
            return {**page, "identity": dict(page["identity"])}
        except (OSError, ValueError, KeyError, TypeError):
            raise self._damage() from None


def folder_of(folder: Path, fills: Sequence[Spec], fill: Spec) -> Path:
    """Where the study with one of several fills lies: that with the first in the folder itself."""
    place = list(fills).index(fill)
    return folder / FILLS / f"{place}-{re.sub(r'[^a-z0-9.-]+', '-', str(fill))}" if place else folder


def _text(value: Any) -> str:
    """A value of an identity, short enough for an error."""
    return brief(", ".join(map(str, value)) if isinstance(value, list) else str(value))
