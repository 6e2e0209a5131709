"""One training under Lightning's trainer: checkpoints, early stopping, resuming, interrupts, and silence."""

from __future__ import annotations

import logging
import math
import pickle
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from heatproof.errors import FileError, Interrupted
from heatproof.records import Samples
from heatproof.training.batches import InOrder, Shuffled, Stretches, is_small
from heatproof.training.callbacks import History, Reporter, TensorBoard, Watch
from heatproof.training.history import HISTORY, Epoch
from heatproof.training.recipes import Recipe
from heatproof.training.task import Task, own_random_state

LAST = Path("checkpoints", "last.ckpt")
BEST = Path("checkpoints", "best.ckpt")


@dataclass(frozen=True)
class Fitted:
    """A trained network in evaluation mode on the CPU, its epochs, and the wall-clock seconds this call took."""

    net: nn.Module
    history: tuple[Epoch, ...]
    seconds: float


def fit(
    net: nn.Module,
    train: Samples,
    recipe: Recipe,
    *,
    held: Samples | None = None,
    seed: int = 0,
    out: Path | None = None,
    watch: Watch | None = None,
) -> Fitted:
    """The network trained by the recipe, its own weights changed in place unless the recipe averages them.

    With ``out``, every epoch leaves a checkpoint there, and a checkpoint found there is taken up: the end is then the
    same, bit for bit, as without the interruption.

    Raises: Interrupted after Ctrl-C; FileError where the checkpoint cannot be read or nothing can be written.
    """
    start = time.perf_counter()
    if train.x.ndim == 4:
        net.to(memory_format=torch.channels_last)  # convolutions of images take half the time
    with ExitStack() as stack:
        folder = out
        if recipe.keep == "best" and out is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        batches = Shuffled(train, recipe, seed, lambda: task.current_epoch)
        task = Task(net, recipe, seed, len(batches), train.task)
        history = History(out / HISTORY if out else None)
        callbacks = [history, *_watchers(recipe, history, watch), *_checkpoints(folder, recipe)]
        if out is not None:
            callbacks.insert(1, TensorBoard(out / "tensorboard", train.take(range(min(8, len(train)))), history))
        stack.enter_context(_interruptible(history, recipe, out))
        stack.enter_context(_silence())
        stack.enter_context(own_random_state(seed))
        stack.enter_context(_threads(recipe.batch * math.prod(train.x.shape[1:])))
        _run(task, batches, held, callbacks, out / LAST if out else None)
        if recipe.keep == "best" and folder is not None:
            task.load_state_dict(_read(folder / BEST))
    kept = task.kept
    for ours, theirs in zip(kept.parameters(), task.net.parameters(), strict=True):
        ours.requires_grad_(theirs.requires_grad)  # averaged weights are made without
    kept = kept.to("cpu").to(memory_format=torch.contiguous_format)
    return Fitted(kept.eval(), tuple(history.rows), time.perf_counter() - start)


def _run(
    task: Task, batches: Shuffled, held: Samples | None, callbacks: list[Callback], checkpoint: Path | None
) -> None:
    trainer = Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=task.recipe.epochs,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    watched = InOrder(held) if held is not None else None
    path = str(checkpoint) if checkpoint is not None and checkpoint.exists() else None
    if path is not None:
        _read(Path(path))
    try:
        trainer.fit(task, Stretches(batches), watched, ckpt_path=path, weights_only=True)
    except OSError as error:
        raise FileError(
            f"cannot write the training's files: {error.strerror or error}; choose another folder"
        ) from error


def _watchers(recipe: Recipe, history: History, watch: Watch | None) -> list[Callback]:
    watchers: list[Callback] = [] if watch is None else [Reporter(watch, history)]
    if recipe.patience is not None:
        watchers.append(EarlyStopping("val_loss", patience=recipe.patience, min_delta=recipe.min_delta))
    return watchers


def _checkpoints(folder: Path | None, recipe: Recipe) -> list[Callback]:
    if folder is None:
        return []
    place = folder / LAST.parent
    watched = "val_loss" if recipe.validation else "train_loss"
    return [
        ModelCheckpoint(place, BEST.stem, monitor=watched, save_on_train_epoch_end=True, enable_version_counter=False),
        ModelCheckpoint(place, LAST.stem, save_on_train_epoch_end=True, enable_version_counter=False),
    ]


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        weights: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise FileError(f"the checkpoint {str(checkpoint)!r} is missing or truncated; start in a new folder") from error
    return weights


@contextmanager
def _silence() -> Iterator[None]:
    """Lightning's advice (on workers, hardware, further products) and its own deprecated calls, suppressed."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=PossibleUserWarning)
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _threads(elements: int) -> Iterator[None]:
    """One thread for batches too small to share: on a busy machine, threads that wait for each other cost 20-fold."""
    before = torch.get_num_threads()
    try:
        if is_small(elements):
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _interruptible(history: History, recipe: Recipe, out: Path | None) -> Iterator[None]:
    """Ctrl-C as `Interrupted`. Lightning turns it into an exit and leaves later ones ignored: both are undone."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        done = f"training stopped after {len(history.rows)} of {recipe.epochs} epochs"
        kept = (
            f"they are kept in {str(out)!r}; resume to go on" if out else "nothing was kept, since no folder was given"
        )
        raise Interrupted(f"{done}; {kept}") from None
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
