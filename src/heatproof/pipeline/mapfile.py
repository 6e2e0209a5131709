"""Maps on disk, written chunk by chunk: a run over any number of tiles holds few of them in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import FileError
from heatproof.files import writing

WORD = 4  # bytes of a float32


class MapWriter:
    """A safetensors file, a tensor (N, *S) of float32 a method, filled from the first sample on."""

    def __init__(self, file: BinaryIO, count: int) -> None:
        self._file, self._count, self._done = file, count, 0
        self._starts: dict[str, int] = {}

    def write(self, maps: Mapping[str, Float[Tensor, "n *s"]]) -> None:
        """The maps of the next samples, the same methods every time."""
        if not self._starts:
            self._begin(maps)
        for name, heat in maps.items():
            self._file.seek(self._starts[name] + self._done * heat[0].numel() * WORD)
            self._file.write(heat.contiguous().float().numpy().astype(np.dtype("<f4"), copy=False).tobytes())
        self._done += max(map(len, maps.values()), default=0)

    def _begin(self, maps: Mapping[str, Tensor]) -> None:
        ends, entries = 0, {}
        for name, heat in maps.items():
            start, ends = ends, ends + self._count * heat[0].numel() * WORD
            entries[name] = {"dtype": "F32", "shape": [self._count, *heat.shape[1:]], "data_offsets": [start, ends]}
        header = json.dumps(entries).encode()
        header += b" " * (-len(header) % 8)
        self._file.write(len(header).to_bytes(8, "little") + header)
        self._starts = {name: 8 + len(header) + entry["data_offsets"][0] for name, entry in entries.items()}


@contextmanager
def map_writer(path: Path, count: int) -> Iterator[MapWriter]:
    """A file for the maps of ``count`` samples, which appears when all are written.

    Raises: FileError where it cannot be written.
    """
    with writing(path) as part, part.open("wb") as file:
        yield MapWriter(file, count)


def read_maps(path: Path) -> dict[str, Float[Tensor, "n *s"]]:
    """The maps by method in a file that `map_writer` wrote, read from the disk as they are looked at.

    Raises: FileError where it is missing, truncated or foreign.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        maps: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise FileError(f"{str(path)!r} is missing or truncated ({error}); delete it and run again") from None
    return maps
