"""HDF5 files of unknown origin, read by another process so that a damaged one can neither hang nor crash this one."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heatproof.errors import FileError

PROGRAM = Path(__file__).with_name("hdf5_process.py")
FACTOR, LEAST = 4, 1 << 26  # how many times its size a file may unpack to, and what any file may
RATE, SECONDS, PATIENCE = 20 << 20, 10, 6  # bytes a second, on top of so many; how much longer the clock may run


@dataclass(frozen=True)
class Contents:
    """What an HDF5 file holds.

    Attributes:
        attributes: of the whole file; members: the names at its top.
        clean: a new HDF5 file with the same groups and arrays and nothing else.
    """

    attributes: Mapping[str, Any]
    members: tuple[str, ...]
    clean: Path


def contents(path: Path, clean: Path, name: Path | None = None) -> Contents:
    """The contents of the HDF5 file at ``path``, its weights copied to the new file ``clean``.

    ``name`` is what messages call the file.

    Raises: FileError where it is damaged, reaches into other files, unpacks to far more than its size, or has weights
        that are not finite.
    """
    shown, arrays = repr(str(name or path)), clean.with_suffix(".npz")
    page = _read(path, arrays, shown)
    if "refused" in page:
        raise FileError(f"{shown}: {page['refused']}; refused")
    if "damaged" in page:
        raise FileError(f"{shown} is truncated or damaged: {page['damaged']}")
    h5py = importlib.import_module("h5py")
    with h5py.File(clean, "w") as file, np.load(arrays, allow_pickle=False) as held:
        for place, attributes in page["groups"].items():
            _describe(file.require_group(place or "/"), attributes)
        for number, (place, attributes) in enumerate(page["arrays"]):
            _describe(file.create_dataset(place, data=held[str(number)]), attributes)
    arrays.unlink()
    return Contents(page["attributes"], tuple(page["members"]), clean)


def _describe(place: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if value is not None and value != []:
            place.attrs[name] = value


def _read(path: Path, arrays: Path, shown: str) -> dict[str, Any]:
    size = path.stat().st_size
    seconds = SECONDS + size // RATE
    words = [
        sys.executable,
        "-P",
        str(PROGRAM),
        str(path),
        str(arrays),
        str(max(LEAST, size * FACTOR)),
        str(seconds),
    ]
    places = os.pathsep.join(filter(None, sys.path))
    env = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(words, capture_output=True, env=env, timeout=PATIENCE * seconds, check=False)
    except subprocess.TimeoutExpired:
        raise FileError(f"{shown} is damaged: reading it does not end; copy or save it again") from None
    if done.returncode in (-getattr(signal, "SIGXCPU", 0), -getattr(signal, "SIGKILL", 0)):
        raise FileError(f"{shown} is damaged: reading it does not end; copy or save it again")
    try:
        page: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise FileError(f"{shown} is damaged: reading it ends in a crash; copy or save it again") from None
    return page
