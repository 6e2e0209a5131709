"""The history of a training: a row an epoch, and its progress."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from torch import nn

from heatproof.errors import FileError
from heatproof.files import writing

HISTORY = "history.csv"


@dataclass(frozen=True)
class Epoch:
    """One epoch. Training values are means over its steps, augmentation included; NaN where nothing was held out.

    Attributes:
        epoch: counted from 1.
        train_loss, val_loss: with the L2 term, if the recipe has one.
        lr: of the last step; grad_norm: mean over the steps of the gradient's L2 norm.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    grad_norm: float


@dataclass(frozen=True)
class Progress:
    """The progress of a training: steps done of steps in all, and the last finished epoch."""

    done: int
    total: int
    epochs: int
    last: Epoch | None


def history_of(model: nn.Module) -> tuple[Epoch, ...]:
    """The epochs of a model that `heatproof.train` returned; empty for any other."""
    history = getattr(model, "history", ())
    return history if isinstance(history, tuple) else ()


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Write the epochs as CSV, replacing the file as a whole.

    Raises: FileError where it cannot be written.
    """
    with writing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(f.name for f in fields(Epoch))
        table.writerows(astuple(row) for row in history)


def read_history(path: str | os.PathLike[str]) -> tuple[Epoch, ...]:
    """The epochs in a run's folder, or in its ``history.csv``.

    Raises: FileError where there is none, or it is not one.
    """
    path = Path(path)
    path = path / HISTORY if path.is_dir() else path
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return tuple(
                Epoch(int(row["epoch"]), *(float(row[f.name]) for f in fields(Epoch)[1:]))
                for row in csv.DictReader(file)
            )
    except FileNotFoundError:
        raise FileError(f"no training history at {str(path)!r}") from None
    except (KeyError, ValueError, TypeError) as error:
        raise FileError(f"{str(path)!r} is not a training history: {error}") from None
