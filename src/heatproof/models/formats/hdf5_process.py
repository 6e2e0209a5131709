"""A program of its own: takes an HDF5 file apart into a page of JSON and plain arrays.

The HDF5 library may crash on a damaged file, or never return. Here it takes only this process with it, which has limits
on time, memory and what it writes. Nothing but h5py and NumPy is imported. Links to other files are refused.
"""

from __future__ import annotations

import json
import sys
import zipfile
from typing import Any

import h5py
import numpy as np

_DEPTH, _OBJECTS = 64, 200_000


class Refused(Exception):
    """The file holds what no Keras file does."""


def limit(seconds: int, size: int) -> None:
    """Stop this process after so much processor time, or once it takes more memory than arrays of ``size`` bytes do."""
    try:
        import resource
    except ImportError:  # not on Windows; the parent's own clock has to do
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (size * 3 + (1 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size * 2 + (1 << 26),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def attributes(place: Any) -> dict[str, Any]:
    """The attributes of a group or data set that are text, numbers, or lists of them."""
    return {str(name): plain(place.attrs[name]) for name in place.attrs}


def plain(value: Any) -> Any:
    """An attribute as JSON has it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value if isinstance(value, str | int | float | bool) else None


def walk(group: Any, path: str, arrays: list[Any], groups: dict[str, Any], seen: set[Any]) -> None:
    """Collect every array below a group, and the attributes of every group."""
    if path.count("/") > _DEPTH or len(groups) + len(arrays) > _OBJECTS or group.id in seen:
        raise Refused("its groups are nested without end")
    seen.add(group.id)
    groups[path] = attributes(group)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise Refused(f"{path}/{name} is a link to elsewhere")
        member = group[name]
        if isinstance(member, h5py.Group):
            walk(member, f"{path}/{name}", arrays, groups, seen)
        elif isinstance(member, h5py.Dataset):
            if member.external or member.is_virtual:
                raise Refused(f"{path}/{name} lies in another file")
            if member.dtype.kind not in "biuf":
                raise Refused(f"{path}/{name} holds {member.dtype}, not numbers")
            arrays.append((f"{path}/{name}", member))


def main(source: str, target: str, size: str, seconds: str) -> dict[str, Any]:
    """What the file tells of itself; its weights are written to the zip archive ``target``, an .npy entry an array."""
    limit(int(seconds), int(size))
    arrays: list[Any] = []
    groups: dict[str, Any] = {}
    with h5py.File(source, "r") as file:
        about = {"attributes": attributes(file), "members": list(file)}
        wanted = "model_weights" if "model_weights" in file else ""
        if wanted and not isinstance(file.get(wanted, getlink=True), h5py.HardLink):
            raise Refused(f"{wanted} is a link to elsewhere")
        walk(file[wanted] if wanted else file, f"/{wanted}".rstrip("/"), arrays, groups, set())
        if sum(array.nbytes for _, array in arrays) > int(size):
            raise Refused("its arrays unpack to many times the size of the file")
        with zipfile.ZipFile(target, "w", allowZip64=True) as archive:
            for number, (path, array) in enumerate(arrays):
                values = np.asarray(array[()])
                if values.dtype.kind == "f" and not np.isfinite(values).all():
                    raise Refused(f"the weights {path} are not all finite: the file is damaged, or training diverged")
                with archive.open(f"{number}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, values, allow_pickle=False)
        kept = [[path, attributes(array)] for path, array in arrays]
    return {**about, "groups": groups, "arrays": kept}


if __name__ == "__main__":
    try:
        page = main(*sys.argv[1:])
    except Refused as error:
        page = {"refused": str(error)}
    except MemoryError:
        page = {"damaged": "reading it takes more memory than its size allows"}
    except Exception as error:  # h5py raises a dozen kinds for damaged files
        page = {"damaged": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]}
    print(json.dumps(page))
