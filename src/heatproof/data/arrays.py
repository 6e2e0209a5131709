"""Signals, images and volumes that come as arrays: .npz, .npy and CSV files, or NumPy arrays and tensors."""

from __future__ import annotations

import csv
import math
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from heatproof.annotations import QUANTITY, Task
from heatproof.data.catalogue import dataset
from heatproof.data.groups import set_aside
from heatproof.data.strata import stratified
from heatproof.errors import FileError, InputError, UsageError
from heatproof.preprocessing import squashed
from heatproof.records import Samples, Splits

Channels = Literal["first", "last", "absent"]
Array = NDArray[Any]
_COMMA = re.compile(r"[+-]?\d+,\d+")
_LABELS = ("y", "label", "class", "target")
_COLUMN = "column of labels"  # what a CSV file calls them
_SPLITS = ("train", "test")


@dataclass(frozen=True)
class _Part:
    inputs: Array
    labels: Array
    mask: Array | None
    groups: Array | None = None


@dataset("arrays", path="required", place="a .npz, .npy or CSV file of inputs and labels")
def arrays(
    source: str | Path | Mapping[str, Any],
    *,
    x: str = "x",
    y: str | tuple[str, ...] = "",
    mask: str = "mask",
    channels: Channels = "first",
    task: Task | None = None,
    test: float = 0.2,
    seed: int = 0,
    group: str = "",
) -> Splits:
    """Samples from a file or a mapping that holds inputs x, labels y and, where there are any, mask and classes.

    Inputs are (N, C, *S); with ``channels`` "last" (N, *S, C), with "absent" (N, *S); of two axes it is always (N, T).
    Files: .npz with arrays x, y, mask, classes or x_train, y_train, x_test, y_test, other names through the options
    ``x``, ``y`` and ``mask``; .npy, with ``y`` the .npy file of the labels; CSV, a signal a row, with ``y`` the column
    of labels (by default the one called y, label, class or target; without header the last), or a+b+c for several
    labels of 0 and 1. Classes may be numbers or words; y of shape (N, L) are labels, fractions a regression, and
    ``task`` decides where whole numbers are one. Without a split, the share ``test`` of each class (or combination of
    labels, or range of values) goes to the test samples. ``group`` names the array, or in a CSV file the column, of the
    patient or slide of each sample; whole groups go to the test samples then.

    Raises: FileError for a file that is damaged, foreign or holds Python objects; InputError where arrays do not fit.
    """
    if not 0 < test < 1:
        raise UsageError(f"arrays: option test got {test}, expected a share between 0 and 1")
    if isinstance(source, Mapping):
        name, members = "arrays", {key: np.asarray(value) for key, value in source.items()}
    else:
        name, members = Path(source).name, _read(Path(source), y, group)
    column = str(members.pop(_COLUMN, ""))
    if not isinstance(source, Mapping) and Path(source).suffix.lower() != ".npz":
        if (x, mask) != ("x", "mask"):
            raise UsageError(f"{name}: the options x and mask name arrays of an .npz file")
        y = "y"
    elif not isinstance(y, str):
        raise UsageError(f"{name}: option y got {'+'.join(y)}; several columns of labels are read from CSV files alone")
    parts = _parts(members, (x, y or "y", mask), "the mapping" if isinstance(source, Mapping) else name, group)
    labels, classes = _annotated(
        [part.labels for part in parts.values()], members.get("classes"), y, task, name, column
    )
    about = {"source": name, "channels": channels}
    samples = [
        _described(
            Samples(
                *_shaped(part.inputs, part.mask, codes, channels, f"{name}, {split or 'x'}"),
                classes=classes, name=name, about=about, groups=_words_of(part.groups, len(part.inputs), name),
            ),
            part.inputs,
        )
        for (split, part), codes in zip(parts.items(), labels, strict=True)
    ]  # fmt: skip
    if len(samples) == 2:
        return Splits(samples[0], samples[1])
    return _split(samples[0], test, seed)


def _described(samples: Samples, inputs: Array) -> Samples:
    """The samples, of images stored as bytes also saying so: such numbers have not been scaled."""
    channels, *sides = samples.x.shape[1:]
    if inputs.dtype != np.uint8 or len(sides) != 2 or channels not in (1, 3):
        return samples
    plain = replace(squashed(None, channels), scale=1.0, origin="bytes in an array")
    return replace(samples, about={**samples.about, "preprocessing": plain.record()})


def _words_of(groups: Array | None, n: int, named: str) -> tuple[str, ...]:
    """The group of each sample as text."""
    if groups is None:
        return ()
    if groups.shape not in ((n,), (n, 1)) or groups.dtype.kind not in "iubSU":
        raise InputError(
            f"{named}: groups of shape {groups.shape}, {groups.dtype}; expected one whole number or word a sample"
        )
    return tuple(np.char.decode(groups, "utf-8") if groups.dtype.kind == "S" else map(str, groups.reshape(-1)))


def _read(path: Path, labels: str | tuple[str, ...], group: str = "") -> dict[str, Array]:
    if not path.is_file():
        raise FileError(f"{path}: no such file; expected a .npz, .npy or .csv file")
    if path.stat().st_size == 0:
        raise FileError(f"{path}: is empty (0 bytes)")
    if path.suffix.lower() == ".csv":
        return _read_csv(path, labels, group)
    if path.suffix.lower() == ".npz":
        return _load(path)
    if path.suffix.lower() == ".npy":
        if not labels or not isinstance(labels, str):
            raise UsageError(
                f"{path}: holds one array; name the .npy file of its labels, as in --data arrays:y=labels.npy, "
                "or use an .npz file with x and y"
            )
        return {"x": _load(path)["x"], "y": _load(path.parent / labels)["x"]}
    raise FileError(f"{path}: got {path.suffix or 'no ending'}, expected .npz, .npy or .csv")


def _load(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"x": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError, OSError, SyntaxError, MemoryError) as error:
        if "pickle" in str(error).lower():
            raise FileError(f"{path}: holds Python objects or is no NumPy file; save plain numbers or text") from None
        raise FileError(f"{path}: damaged or truncated ({error})") from None


def _read_csv(path: Path, labels: str | tuple[str, ...], group: str = "") -> dict[str, Array]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(reader.line_num, row) for reader in [csv.reader(file)] for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path}: is no CSV text in UTF-8 ({error})") from None
    if not rows:
        raise FileError(f"{path}: holds no rows")
    width = len(rows[0][1])
    uneven = next((line for line, row in rows if len(row) != width), None)
    if uneven is not None:
        raise FileError(f"{path}: line {uneven} has another number of cells than line {rows[0][0]}, which has {width}")
    head = [cell.strip() for cell in rows[0][1]] if not all(map(_is_number, rows[0][1][:-1])) else []
    columns = _columns(path, head, width, labels)
    body = rows[1:] if head else rows
    apart = [*columns, *([_columns(path, head, width, group)[0]] if group else [])]
    if len({*apart}) < len(apart):
        raise InputError(f"{path}: column {group!r} holds the labels; name another one for group")
    x = np.array([[_number(path, line, cell) for i, cell in enumerate(row) if i not in apart] for line, row in body])
    members: dict[str, Array] = {"x": x.reshape(len(body), width - len(apart))}
    if group:
        members[group] = np.array([row[apart[-1]].strip() for _, row in body])
    if isinstance(labels, str):
        y = np.array([row[columns[0]].strip() for _, row in body])
        column = head[columns[0]] if head else ""
        _check_fractions(y, lambda i: f"{path}: line {body[i][0]}, column {column or columns[0] + 1}")
        return members | {"y": y} | ({_COLUMN: np.array(column)} if column else {})
    y = np.array([[_number(path, line, row[i]) for i in columns] for line, row in body])
    return members | {"y": y.reshape(len(body), len(columns)), "classes": np.array(labels)}


def _columns(path: Path, head: Sequence[str], width: int, labels: str | tuple[str, ...]) -> list[int]:
    """The columns that hold labels."""
    names = [labels] if isinstance(labels, str) else list(labels)
    if width <= len(names):
        columns = "one column" if width == 1 else f"{width} columns"
        raise FileError(f"{path}: has {columns}; expected the values of a signal and its label")
    if names == [""]:
        return [next((i for i, name in enumerate(head) if name.lower() in _LABELS), width - 1)]
    for name in names:
        if name not in head:
            raise InputError(f"{path}: has no column {name!r}; columns: {', '.join(head[:12]) or 'no header'}")
    return [head.index(name) for name in names]


def _are_fractions(words: Array) -> bool:
    """Whether the words are numbers and some of them not whole."""
    return all(map(_is_number, words)) and not all(_is_whole(word) for word in words)


def _check_fractions(words: Array, where: Callable[[int], str]) -> None:
    """Refuse words where most are fractional numbers and others are none: they would become classes.

    Raises: InputError that says where.
    """
    fractions = [_is_fraction(word) for word in words]
    bad = next((i for i, word in enumerate(words) if not (_is_number(word) and math.isfinite(float(word)))), None)
    if bad is not None and 2 * sum(fractions) > len(words):
        advice = "write it with a decimal point" if _COMMA.fullmatch(words[bad]) else "give its value or leave it out"
        raise InputError(f"{where(bad)} has {str(words[bad])!r} among fractional numbers; {advice}")


def _is_fraction(word: str) -> bool:
    if _COMMA.fullmatch(word):
        return True
    return _is_number(word) and math.isfinite(float(word)) and not _is_whole(word)


def _is_whole(word: str) -> bool:
    return word.lstrip("+-").isdecimal()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, cell: str) -> float:
    if not _is_number(cell) or not math.isfinite(float(cell)):
        raise FileError(f"{path}: line {line} has {cell!r} where a finite number is expected")
    return float(cell)


def _parts(members: Mapping[str, Array], names: tuple[str, str, str], where: str, group: str = "") -> dict[str, _Part]:
    """The arrays of the training and of the test samples, or under "" those of a single set."""
    x, y, mask = names
    splits = [split for split in _SPLITS if f"{x}_{split}" in members]
    if len(splits) == 1:
        present, absent = ("train", "test") if splits == ["train"] else ("test", "train")
        raise InputError(
            f"{where} has {x}_{present} but no {x}_{absent}; expected {x}_train, {y}_train, {x}_test and {y}_test, "
            f"or {x} and {y}"
        )
    parts = {}
    for split in splits or [""]:
        wanted = [f"{name}_{split}" if split else name for name in names]
        if not set(wanted[:2]) <= set(members) or (mask != "mask" and wanted[2] not in members):
            listed = ", ".join(map(repr, wanted[: 2 if mask == "mask" else 3]))
            expected = " and ".join(listed.rsplit(", ", 1))
            raise InputError(f"{where} has {_names(members)}; expected {expected}{_renaming(members, *wanted[:2])}")
        belongs = f"{group}_{split}" if split else group
        if group and belongs not in members:
            raise InputError(f"{where} has {_names(members)}; expected {belongs!r} too, as group={group} says")
        groups = members[belongs] if group else None
        parts[split] = _Part(members[wanted[0]], members[wanted[1]], members.get(wanted[2]), groups)
    return parts


def _names(members: Mapping[str, Array]) -> str:
    if len(members) < 2:
        return f"only the array {next(iter(members))!r}" if members else "no arrays"
    return "arrays " + " and ".join(", ".join(map(repr, members)).rsplit(", ", 1))


def _renaming(members: Mapping[str, Array], x: str, y: str) -> str:
    """How to name the arrays that look like inputs and labels; empty where none do."""
    if x in members and y in members:
        return ""
    spare = {name: array for name, array in members.items() if array.ndim and name not in ("mask", "classes")}
    inputs = x if x in spare else max(spare, key=lambda name: spare[name].ndim, default="")
    labels = [name for name in spare if name != inputs and len(spare[name]) == len(spare[inputs])]
    if not labels:
        return ""
    target = y if y in labels else min(labels, key=lambda name: spare[name].ndim)
    options = [f"{key}={name}" for key, name in (("x", inputs), ("y", target)) if name != key]
    return f" (or name them with --data arrays:{','.join(options)})"


def _annotated(
    labels: Sequence[Array],
    classes: Array | None,
    y: str | tuple[str, ...],
    task: Task | None,
    named: str,
    column: str = "",
) -> tuple[list[Array], tuple[str, ...]]:
    """Labels of every part as numbers, and the names of the classes or labels, or that of the quantity."""
    flat = [
        _numbers(part.reshape(-1) if part.ndim == 2 and part.shape[1] == 1 else part, named, task) for part in labels
    ]
    fractions = any(part.ndim == 1 and part.dtype.kind == "f" and not (part == part.round()).all() for part in flat)
    task = task or ("labels" if flat[0].ndim == 2 else "regression" if fractions else "classes")
    if task == "classes" and fractions:
        raise InputError(f"{named}: labels are no whole numbers; expected classes, or leave out task=classes")
    if task == "classes" and flat[0].ndim == 1:
        return _coded(flat, classes, named)
    wanted = 2 if task == "labels" else 1
    wrong = next((part for part in flat if part.ndim != wanted or part.dtype.kind in "US"), None)
    if wrong is not None:
        expected = {"classes": "one number or word a sample", "labels": "0 or 1 for each of several labels (N, L)"}
        raise InputError(
            f"{named}: labels of shape {wrong.shape}, {wrong.dtype}; "
            f"expected {expected.get(task, 'one number a sample')} for task={task}"
        )
    names = () if classes is None else tuple(map(str, classes.reshape(-1)))
    if task == "labels":
        return flat, names
    quantity = column or (str(y) if y not in ("", "y") else QUANTITY)
    return [part.astype(np.float64) for part in flat], names or (quantity,)


def _numbers(y: Array, named: str, task: Task | None = None) -> Array:
    """The labels of one part as they are, or as numbers where they are numbers written as words."""
    if y.dtype.kind not in "iubfUS" or not 1 <= y.ndim <= 2:
        raise InputError(
            f"{named}: labels of shape {y.shape}, {y.dtype}; expected one number or word a sample, or (N, L) of 0 and 1"
        )
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.argwhere(~np.isfinite(y))[0, 0])
        raise InputError(f"{named}: NaN or infinite label, first in sample {row}")
    text = np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y
    if text.dtype.kind != "U":
        return text
    words = text.reshape(-1)
    if y.ndim == 1:
        _check_fractions(words, lambda i: f"{named}: the label of sample {i}")
    bad = next((i for i, word in enumerate(words) if not _is_number(word)), None)
    if task == "regression" and bad is not None:
        raise InputError(
            f"{named}: the label of sample {bad} is {str(words[bad])!r}; "
            "expected one number a sample for task=regression"
        )
    return text.astype(np.float64) if task == "regression" or _are_fractions(words) else text


def _coded(labels: Sequence[Array], classes: Array | None, named: str) -> tuple[list[Array], tuple[str, ...]]:
    """Labels of every part as numbers from 0, and the names of the classes."""
    whole = [_words(y) if y.dtype.kind == "U" else y.astype(np.int64) for y in labels]
    codes = np.unique(np.concatenate(whole))
    if classes is not None and codes.dtype.kind == "i":
        names = tuple(str(name) for name in classes.reshape(-1))
        if len(codes) and not (codes[0] >= 0 and codes[-1] < len(names)):
            raise InputError(f"{named}: labels from {codes[0]} to {codes[-1]} for {len(names)} classes")
        return whole, names
    if len(codes) < 2:
        raise InputError(f"{named}: got {len(codes)} class; expected at least two")
    return [np.searchsorted(codes, y) for y in whole], tuple(str(name) for name in codes)


def _words(y: Array) -> Array:
    return y.astype(np.int64) if all(map(_is_whole, y)) else y


def _shaped(
    x: Array, mask: Array | None, y: Array, channels: Channels, named: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    if x.dtype.kind not in "iubf":
        raise InputError(f"{named}: inputs of type {x.dtype}, expected numbers")
    if x.ndim == 2 or channels == "absent":
        x = x[:, None]
    elif channels == "last":
        x = np.moveaxis(x, -1, 1)
    if not 3 <= x.ndim <= 5:
        raise InputError(f"{named}: inputs of shape {x.shape}, expected (N, C, *S) with one to three position axes")
    if len(x) != len(y) or (mask is not None and mask.shape != (len(x), *x.shape[2:])):
        others = f"{len(y)} labels" + ("" if mask is None else f" and a mask of shape {mask.shape}")
        raise InputError(f"{named}: {others} for inputs of shape {x.shape}; expected one label a sample, mask (N, *S)")
    values = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    bad = (~torch.isfinite(values)).flatten(1).any(1)
    if bad.any():
        raise InputError(f"{named}: NaN or infinite values, first in sample {int(bad.nonzero()[0])}")
    truth = None if mask is None else torch.from_numpy(np.ascontiguousarray(mask != 0))
    return values, torch.from_numpy(np.ascontiguousarray(y)), truth


def _split(samples: Samples, test: float, seed: int) -> Splits:
    counts = torch.bincount(samples.y, minlength=len(samples.classes)).tolist() if samples.task == "classes" else []
    for label, count in enumerate(counts):
        if count == 1:
            raise InputError(
                f"class {samples.classes[label]} has one sample; expected two, for training and for testing"
            )
    if len(samples) == 1:
        raise InputError(f"{samples.name}: has one sample; expected two, for training and for testing")
    if samples.groups:
        share = set_aside(samples.groups, test, seed)
    else:
        share = stratified(samples.y, lambda n: min(n - 1, max(1, round(test * n))), seed)
    return Splits(samples.take((~share).nonzero()[:, 0]), samples.take(share.nonzero()[:, 0]))
