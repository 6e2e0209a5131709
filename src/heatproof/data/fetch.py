"""Data sets fetched over the network, each into its own folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from heatproof.data.archives import building, download, unpack
from heatproof.data.folder import folders, image_files
from heatproof.errors import FileError, UnknownName, UsageError


@dataclass(frozen=True)
class Archive:
    """Where a data set comes from.

    Attributes:
        url: the address of a zip file of class folders.
        digest: its checksum, "sha384:...".
        licence: shown before it is used.
    """

    url: str
    digest: str
    licence: str


ARCHIVES = {
    "hmt": Archive(
        url="https://zenodo.org/records/53169/files/Kather_texture_2016_image_tiles_5000.zip",
        digest="sha384:7d86abe1d04e68b77c055820c2a4c582a1d25d2983e38ab724eac75affce8b7c"
        "b2cbf5ba68848dcfd9d84005d87d6790",
        licence="CC BY 4.0, Kather et al. (2016), doi:10.5281/zenodo.53169",
    )
}


# Tiles a class that are for testing by default.
HELDOUT = 62


def heldout() -> tuple[str, ...]:
    """The file names of the 496 HMT tiles that the shipped network was tested on, and never trained."""
    return tuple((Path(__file__).parent / "hmt_test.txt").read_text(encoding="utf-8").split())


def stem(name: str) -> str:
    """A file's name without folder and ending: a converted copy of an image keeps it."""
    return PurePosixPath(name).stem


def home() -> Path:
    """Where fetched data lies: $HEATPROOF_DATA, or the user's cache folder."""
    import pooch

    return Path(os.environ.get("HEATPROOF_DATA") or pooch.os_cache("heatproof"))


def fetch(
    name: str,
    to: str | Path | None = None,
    *,
    url: str | None = None,
    digest: str | None = None,
    test: int | Sequence[str] | None = None,
    seed: int = 0,
) -> Path:
    """The folder of a data set fetched over the network, with its train/ and test/ tree.

    What was fetched before is kept. ``url`` and ``digest`` name a mirror; ``test`` is how many images a class are for
    testing, drawn by ``seed``, or the file names of all of them, by default those that the shipped network never saw.
    No folder is left behind by a failure or an interrupt.

    Raises: UnknownName; FileError where the address fails, the checksum differs, the archive is unsafe or not what was
        expected, or the disk is full; UsageError where ``test`` does not fit the images.
    """
    if name not in ARCHIVES:
        raise UnknownName("data set to fetch", name, ARCHIVES)
    source = ARCHIVES[name]
    folder = Path(to) if to is not None else home() / name
    if folder.is_dir() and any(folder.iterdir()):
        if {entry.name for entry in folders(folder)} >= {"train", "test"}:
            return folder
        raise FileError(f"{folder}: holds other files; choose another folder, or empty this one")
    archive = download(url or source.url, digest or source.digest, home() / "archives")
    with building(folder) as temporary:
        unpack(archive, temporary / "unpacked")
        _arrange(_class_folders(temporary / "unpacked", archive), temporary, heldout() if test is None else test, seed)
        shutil.rmtree(temporary / "unpacked")
    return folder


def _class_folders(root: Path, archive: Path) -> list[Path]:
    while len(inner := folders(root)) == 1:
        root = inner[0]
    if not inner or not all(image_files(entry) for entry in inner):
        raise FileError(f"{archive}: no folders of images inside; expected one a class")
    return inner


def _arrange(classes: Sequence[Path], target: Path, test: int | Sequence[str], seed: int) -> None:
    files = {entry.name: image_files(entry) for entry in classes}
    chosen = _drawn(files, test, seed) if isinstance(test, int) else _listed(files, test)
    for name, members in files.items():
        for part in ("train", "test"):
            (target / part / name).mkdir(parents=True)
        for file in members:
            os.replace(file, target / ("test" if file.name in chosen[name] else "train") / name / file.name)


def _drawn(files: Mapping[str, Sequence[Path]], test: int, seed: int) -> dict[str, set[str]]:
    import torch

    from heatproof import draws

    chosen = {}
    for label, (name, members) in enumerate(sorted(files.items())):
        if not 1 <= test < len(members):
            raise UsageError(
                f"test: got {test} images a class; {name} has {len(members)}, keep at least one for training"
            )
        order = draws.permutation(draws.seeds(seed, "split", torch.tensor([label])), len(members))[0]
        chosen[name] = {members[i].name for i in order[:test].tolist()}
    return chosen


def _listed(files: Mapping[str, Sequence[Path]], names: Sequence[str]) -> dict[str, set[str]]:
    wanted = set(map(stem, names))
    chosen = {name: {file.name for file in members if stem(file.name) in wanted} for name, members in files.items()}
    missing = wanted - {stem(file) for members in chosen.values() for file in members}
    if missing:
        raise UsageError(f"test: {len(missing)} names are not in the archive, the first {min(missing)!r}")
    empty = [name for name, members in files.items() if len(chosen[name]) in (0, len(members))]
    if empty:
        raise UsageError(f"test: the names leave class {empty[0]} without a training or a test image")
    return chosen
