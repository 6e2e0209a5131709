"""The registry of data sets; each entry is a function that returns Splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from heatproof.errors import UsageError
from heatproof.preprocessing import Preprocessing
from heatproof.records import Splits
from heatproof.registry import Entry, Registry, Spec

Function = TypeVar("Function", bound=Callable[..., Any])
OnDisk = Literal["none", "optional", "required"]


@dataclass(frozen=True, kw_only=True)
class DataEntry(Entry):
    """A data set.

    Attributes:
        path: whether it takes the path of files. place: what the path leads to, for messages.
        input_shape: (C, *S) of its inputs and classes: their names, where these are always the same.
    """

    path: OnDisk = "none"
    place: str = "the place of its files"
    input_shape: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()


datasets: Registry[DataEntry] = Registry("data set")


def dataset(
    name: str,
    *,
    path: OnDisk = "none",
    place: str = "the place of its files",
    input_shape: tuple[int, ...] = (),
    classes: tuple[str, ...] = (),
    paper: str = "",
    label: str = "",
) -> Callable[[Function], Function]:
    """Registers a function that returns Splits; with ``path`` it takes a path first, to what ``place`` says."""

    def register(function: Function) -> Function:
        datasets.add(
            DataEntry(
                name,
                function,
                path=path,
                place=place,
                input_shape=input_shape,
                classes=classes,
                paper=paper,
                label=label,
            )
        )
        return function

    return register


def load(
    data: str | Spec, path: str | Path | None = None, *, preprocessing: Preprocessing | None = None, group: str = ""
) -> Splits:
    """The training and test samples named by a spec; ``path`` is where they lie, for those on disk.

    Images on disk are read with ``preprocessing``, that of a model say, unless the spec names another. ``group`` says
    which samples are of one patient or slide, as the data set's option of that name.

    Raises: UnknownName, UsageError where the data set or one of its options does not exist, or a path is missing.

    >>> len(load("mnist1d:samples=100").train)
    80
    """
    spec = datasets.spec(data)
    entry = datasets[spec.name]
    if path is None and entry.path == "required":
        raise UsageError(f"--data {spec.name} needs --path, {entry.place}")
    if path is not None and entry.path == "none":
        raise UsageError(f"--data {spec.name} is generated and takes no --path; got {path}")
    options = spec.kwargs
    if preprocessing is not None and "preprocessing" in entry.options:
        options = {"preprocessing": preprocessing, **options}
    if group:
        if "group" not in entry.options:
            raise UsageError(f"--data {spec.name} has no groups; got group {group!r}")
        options = {**options, "group": group}
    return cast(Splits, entry.function(*(() if path is None else (path,)), **options))
