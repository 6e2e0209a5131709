"""Trees of images with a folder a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from heatproof.data.catalogue import dataset
from heatproof.data.groups import set_aside, with_groups
from heatproof.data.images import SUFFIXES, Checked, check_images, reading
from heatproof.data.strata import stratified
from heatproof.errors import FileError, UsageError
from heatproof.preprocessing import Preprocessing
from heatproof.records import Samples, Splits

# Which of the samples are for testing, and how they were picked, for the report.
Pick = Callable[[Samples], tuple[Bool[Tensor, " n"], str]]

_TRAIN, _TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")


@dataset("folder", path="required", place="the folder with one subfolder per class")
def folder(
    path: str | Path,
    *,
    preprocessing: str | Preprocessing | None = "unit",
    size: int | tuple[int, ...] | Literal["file"] | None = None,
    channels: int | None = None,
    test: float = 0.2,
    seed: int = 0,
    strict: bool = False,
    group: str = "",
) -> Splits:
    """Images in a folder a class: ``path/train/<class>`` and ``path/test/<class>``, or ``path/<class>``, to be split.

    Files are taken in order of class and name; each is read once to see that it can be, and bad ones are left out and
    listed in ``about["bad"]``, or with ``strict`` are an error. A single tree gives the share ``test`` of each class to
    the test samples, drawn by ``seed``. Pixels stay on disk until a row of ``x`` is asked for.

    ``preprocessing`` is that of a model (``model.card.preprocessing``), or a scaling, "unit", "signed" or "imagenet",
    of images resized to 224 x 224; ``size`` and ``channels`` replace its own, and "file" keeps the size of the files.

    ``group`` is a regular expression; what it, or its first group, matches in class/file is the patient or slide of the
    image. A single tree is then split by these.

    Raises: FileError where the folder, a class or every image of a class is missing; UsageError for a bad option.
    """
    if not 0 < test < 1:
        raise UsageError(f"folder: option test got {test}, expected a share between 0 and 1")
    preparation = reading(preprocessing, size=size, channels=channels)

    def pick(samples: Samples) -> tuple[Bool[Tensor, " n"], str]:
        if samples.groups:
            return set_aside(samples.groups, test, seed), f"about {test:.0%} for testing, whole groups, seed {seed}"
        chosen = stratified(samples.y, lambda n: min(n - 1, max(1, round(test * n))), seed)
        return chosen, f"{test:.0%} of each class for testing, seed {seed}"

    return tree(Path(path), preparation, pick, strict=strict, group=group)


def tree(
    root: Path,
    preprocessing: Preprocessing,
    pick: Pick,
    *,
    strict: bool = False,
    about: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
    group: str = "",
) -> Splits:
    """The splits of a tree; where it has none, ``pick`` returns which samples are for testing, and in words how.

    ``names`` maps folders to the names of classes; ``group`` reads the groups of samples off their names.

    Raises: FileError, as `folder`.
    """
    if not root.is_dir():
        raise FileError(
            f"{root}: no such folder of images" if not root.exists() else f"{root}: is a file, not a folder"
        )
    inner = {entry.name.lower(): entry for entry in folders(root)}
    train = next((inner[name] for name in _TRAIN if name in inner), None)
    test = next((inner[name] for name in _TEST if name in inner), None)
    facts = {"source": root.name, **(about or {})}
    if train is not None and test is not None:
        classes = _classes(train, test)
        parts = [
            with_groups(
                samples(part, classes, preprocessing, strict=strict, name=root.name, about=facts, names=names), group
            )
            for part in (train, test)
        ]
        return Splits(parts[0], parts[1])
    if train is not None or test is not None:
        present, absent = ("train", "test") if train is not None else ("test", "train")
        raise FileError(
            f"{root}: has {present}/ but no {absent}/; expected both, or the class folders directly in {root.name}/"
        )
    everything = with_groups(
        samples(root, _classes(root), preprocessing, strict=strict, name=root.name, about=facts, names=names), group
    )
    for label, count in enumerate(torch.bincount(everything.y, minlength=len(everything.classes)).tolist()):
        if count == 1:
            raise FileError(
                f"{root}: class {everything.classes[label]} has one readable image; expected at least two, "
                "one for training and one for testing"
            )
    chosen, how = pick(everything)
    parts = [_about(everything.take(rows.nonzero()[:, 0]), {"split": how}) for rows in (~chosen, chosen)]
    return Splits(parts[0], parts[1])


def folders(path: Path) -> list[Path]:
    """The folders directly inside, by name; hidden ones and those of archive tools are left out."""
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def samples(
    path: Path,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    *,
    name: str = "",
    strict: bool = False,
    about: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
) -> Samples:
    """The good images in the class folders of one tree, lazily read.

    Raises: FileError where a class has no image that can be read.
    """
    files = {name: image_files(path / name) for name in classes}
    labels = {file: label for label, name in enumerate(classes) for file in files[name]}
    checked = check_images(labels, preprocessing, strict=strict)
    y = torch.tensor([labels[file] for file in checked.images.paths], dtype=torch.int64)
    for label, folder_name in enumerate(classes):
        if not bool((y == label).any()):
            reason = next((why for file, why in checked.bad.items() if Path(file).parent.name == folder_name), "")
            count = len(files[folder_name])
            state = f"{count} images, none readable; the first: {reason}" if count else "no images"
            raise FileError(f"{path / folder_name}: {state}; every class needs one of {', '.join(SUFFIXES)}")
    return Samples(
        x=checked.images,
        y=y,
        classes=tuple((names or {}).get(name, name) for name in classes),
        name=name or path.name,
        ids=tuple(f"{file.parent.name}/{file.name}" for file in checked.images.paths),
        about={**(about or {}), "preprocessing": preprocessing.record(), **_problems(checked, path)},
    )


def _classes(*parts: Path) -> tuple[str, ...]:
    listings = [[entry.name for entry in folders(part)] for part in parts]
    everything = sorted(set().union(*listings))
    for part, names in zip(parts, listings, strict=True):
        missing = [name for name in everything if name not in names]
        if missing and names:
            raise FileError(
                f"{part}: has no folder for class {', '.join(missing)}; train and test need the same classes"
            )
    if len(everything) < 2:
        got = f"only one class folder, {everything[0]}" if everything else "no class folders"
        raise FileError(f"{parts[0]}: {got}; expected at least two folders of images, one a class")
    return tuple(everything)


def image_files(path: Path) -> list[Path]:
    """The images directly inside, by name."""
    # Names that begin with a dot are left by other systems' file managers beside the images.
    entries = (p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in entries if not p.is_dir())


def _problems(checked: Checked, root: Path) -> dict[str, Any]:
    problems = {"bad": checked.bad, "converted": checked.remarks}
    return {
        key: {str(Path(file).relative_to(root)): why for file, why in files.items()}
        for key, files in problems.items()
        if files
    }


def _about(part: Samples, more: Mapping[str, Any]) -> Samples:
    return replace(part, about={**part.about, **more})
