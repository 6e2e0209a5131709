"""HMT: tiles of H&E-stained colorectal tissue in eight classes (Kather et al. 2016)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from heatproof.data.catalogue import dataset
from heatproof.data.fetch import HELDOUT, heldout, home, stem
from heatproof.data.folder import folders, tree
from heatproof.data.images import reading
from heatproof.data.strata import stratified
from heatproof.errors import FileError, UsageError
from heatproof.preprocessing import Preprocessing
from heatproof.records import Samples, Splits

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
    preprocessing: str | Preprocessing | None = "unit",
    size: int | tuple[int, ...] | Literal["file"] | None = None,
    test: int | None = None,
    seed: int = 0,
    strict: bool = False,
    group: str = "",
) -> Splits:
    """The eight tissue classes, RGB in [0, 1] of 128 x 128 pixels, read from disk as they are asked for.

    ``path`` holds train/ and test/, or the class folders 01_TUMOR to 08_EMPTY, or is where `fetch` puts the tiles. Of
    the class folders ``test`` tiles each, drawn by ``seed``, are for testing; by default those that the shipped network
    never saw (`heldout`), or where some are missing 62 each. ``preprocessing``, ``size`` and ``group`` as for `folder`.

    Raises: FileError where the tiles are not there, the folders are not the eight classes, or strict and a file is bad.
    """
    if test is not None and test < 1:
        raise UsageError(f"hmt: option test got {test}, expected at least 1 tile a class")
    root = Path(path) if path is not None else home() / "hmt"
    if not root.is_dir():
        raise FileError(
            f"{root}: no HMT tiles; run 'heatproof data fetch hmt', or pass --path, the folder with the class folders"
        )
    inner = {entry.name: entry for entry in folders(root)}
    for part in [inner[name] for name in ("train", "test") if name in inner] or [root]:
        names = [entry.name for entry in folders(part)]
        if set(names) != set(FOLDERS):
            raise FileError(f"{part}: got folders {', '.join(names) or 'none'}; expected {', '.join(FOLDERS)}")
    preparation = reading(preprocessing, size=size, usual=128)

    def pick(samples: Samples) -> tuple[Bool[Tensor, " n"], str]:
        listed = set(map(stem, heldout()))
        chosen = torch.tensor([stem(name) in listed for name in samples.ids])
        if test is None and int(chosen.sum()) == len(listed):
            return chosen, "the tiles held out from the shipped network"
        each = HELDOUT if test is None else test
        return stratified(samples.y, lambda n: min(each, n - 1), seed), f"{each} a class, seed {seed}"

    return tree(root, preparation, pick, strict=strict, about=ABOUT, names=FOLDERS, group=group)
