"""HMT: tiles of H&E-stained colorectal tissue in eight classes (Kather et al. 2016)."""

from __future__ import annotations

from pathlib import Path

from heatproof.data.catalogue import dataset
from heatproof.data.fetching import home
from heatproof.data.folder import folders, tree
from heatproof.data.images import Transform, side
from heatproof.errors import FileError, UsageError
from heatproof.records import Splits

CLASSES = ("TUMOR", "STROMA", "COMPLEX", "LYMPHO", "DEBRIS", "MUCOSA", "ADIPOSE", "EMPTY")
# A class folder of the archive is 01_TUMOR and so on.
FOLDERS = {f"{i:02d}_{name}": name for i, name in enumerate(CLASSES, start=1)}
ABOUT = {
    "source": "Kather_texture_2016_image_tiles_5000, Zenodo record 53169, doi:10.5281/zenodo.53169",
    "licence": "CC BY 4.0",
    "citation": "Kather et al. (2016), Multi-class texture analysis in colorectal cancer histology, "
    "Scientific Reports 6:27988, doi:10.1038/srep27988",
    "resolution": "tiles of 150 x 150 pixels, 0.495 um a pixel",
}


@dataset("hmt", path="optional", classes=CLASSES)
def hmt(
    path: str | Path | None = None,
    *,
    size: int | tuple[int, ...] | None = 128,
    test: int = 62,
    seed: int = 0,
    strict: bool = False,
) -> Splits:
    """The eight tissue classes, RGB in [0, 1], read from disk as they are asked for.

    ``path`` holds train/ and test/, or the class folders 01_TUMOR to 08_EMPTY: of these, ``test`` tiles a class, drawn
    by ``seed``, are for testing. Without a path it is the place where `fetch` puts the tiles.

    Raises: FileError where the tiles are not there, the folders are not the eight classes, or strict and a file is bad.
    """
    if test < 1:
        raise UsageError(f"hmt: option test got {test}, expected at least 1 tile a class")
    root = Path(path) if path is not None else home() / "hmt"
    if not root.is_dir():
        raise FileError(f"{root}: no HMT tiles; run 'heatproof data fetch hmt' or give the path of the class folders")
    inner = {entry.name: entry for entry in folders(root)}
    for part in [inner[name] for name in ("train", "test") if name in inner] or [root]:
        found = [entry.name for entry in folders(part)]
        if set(found) != set(FOLDERS):
            raise FileError(f"{part}: got folders {', '.join(found) or 'none'}; expected {', '.join(FOLDERS)}")
    transform = Transform(side(size))
    return tree(root, transform, share=lambda n: min(test, n - 1), seed=seed, strict=strict, about=ABOUT, names=FOLDERS)
