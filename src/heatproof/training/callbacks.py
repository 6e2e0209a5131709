"""Callbacks of training: history, progress, TensorBoard."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from heatproof.errors import HeatproofError
from heatproof.records import Samples
from heatproof.training.history import Epoch, Progress, write_history
from heatproof.training.task import Task

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Watch = Callable[[Progress], None]


class History(Callback):
    """A row an epoch, kept in the checkpoint and, where there is a path, in a CSV file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[Epoch] = []

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of this epoch."""
        assert isinstance(pl_module, Task)
        loss, accuracy = pl_module.train_means.read()
        if not math.isfinite(loss):
            raise HeatproofError(
                f"the loss became {loss} in epoch {trainer.current_epoch + 1}: the inputs hold NaN or infinity, or "
                f"learning_rate={pl_module.recipe.learning_rate} is too high"
            )
        held = pl_module.val_means.read() or [float("nan")] * 2
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        row = Epoch(trainer.current_epoch + 1, loss, accuracy, held[0], held[1], rate, pl_module.norms.read()[0])
        self.rows.append(row)
        pl_module.log("train_loss", loss)
        if self.path is not None:
            write_history(self.path, self.rows)

    @override
    def state_dict(self) -> dict[str, Any]:
        """The rows as plain numbers."""
        return {"rows": [asdict(row) for row in self.rows]}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows up where they were left."""
        self.rows = [Epoch(**row) for row in state_dict["rows"]]


class Reporter(Callback):
    """Reports the progress of training to a callback, at most ten times a second."""

    def __init__(self, watch: Watch, history: History) -> None:
        self.watch, self.history, self.reported = watch, history, 0.0

    @override
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Report, if the last report is long enough ago."""
        if time.monotonic() - self.reported > 0.1:
            self.on_train_epoch_end(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report."""
        assert isinstance(pl_module, Task)
        epochs = pl_module.recipe.epochs
        last = self.history.rows[-1] if self.history.rows else None
        self.watch(Progress(pl_module.done, pl_module.steps * epochs, epochs, last))
        self.reported = time.monotonic()


class TensorBoard(Callback):
    """Scalars each epoch, the graph once, and heatmaps of a few samples about eight times in all."""

    def __init__(self, folder: Path, examples: Samples, history: History) -> None:
        self.folder, self.examples, self.history = folder, examples, history
        self.writer: SummaryWriter | None = None
        self.drawing = True

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the log, dropping what an interrupted epoch left in it, and write the graph."""
        from torch.utils.tensorboard import SummaryWriter

        assert isinstance(pl_module, Task)
        self.writer = SummaryWriter(str(self.folder), purge_step=trainer.current_epoch + 1)
        if trainer.current_epoch == 0:
            with warnings.catch_warnings():
                # The tracer warns of every branch, and that it is deprecated.
                warnings.simplefilter("ignore")
                try:
                    self.writer.add_graph(pl_module.net, self.examples.x[:1].to(pl_module.device))
                except RuntimeError as error:
                    self.writer.add_text("graph", f"not drawn: {error}")

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the numbers of this epoch, and every few epochs the heatmaps."""
        assert isinstance(pl_module, Task)
        assert self.writer is not None
        row = self.history.rows[-1]
        for name, value in asdict(row).items():
            group, _, rest = name.partition("_")
            if name != "epoch" and value == value:
                self.writer.add_scalar(f"{rest}/{group}" if group in ("train", "val") else name, value, row.epoch)
        if row.epoch % max(1, pl_module.recipe.epochs // 8) == 0 and self.drawing:
            self._draw(pl_module, row.epoch)

    def _draw(self, task: Task, epoch: int) -> None:
        from heatproof.methods import explain

        assert self.writer is not None
        x = self.examples.x[:].to(task.device)
        try:
            maps = explain(task.kept, x, "grad-cam")
        except HeatproofError as error:
            self.drawing = False
            self.writer.add_text("heatmaps", f"not drawn: {error}", epoch)
            return
        assert isinstance(maps, Tensor)
        self.writer.add_image("heatmaps/grad-cam", strips(x.cpu(), maps.cpu()), epoch)

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the log."""
        self._close()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the log."""
        self._close()

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def strips(x: Float[Tensor, "n c *s"], maps: Float[Tensor, "n *s"]) -> Float[Tensor, "3 height width"]:
    """The samples one below the other, dark on a wash of red where their map is positive and blue where negative.

    Signals are drawn as lines, images in grey, volumes as their middle slice; values in [0, 1].
    """
    while maps.ndim > 3:
        maps, x = maps[:, maps.shape[1] // 2], x[:, :, x.shape[2] // 2]
    ink = _plotted(x[:, 0]) if maps.ndim == 2 else 1 - _unit(x.mean(1))
    heat = maps / maps.abs().flatten(1).amax(1).clamp_min(1e-12).reshape(-1, *(1,) * (maps.ndim - 1))
    if maps.ndim == 2:
        heat = heat.repeat_interleave(_DOT, 1)[:, None].expand_as(ink)
    wash = torch.stack([1 - (-heat).clamp_min(0), 1 - heat.abs(), 1 - heat.clamp_min(0)])
    return (wash * (1 - 0.8 * ink)).flatten(1, 2)


_DOT, _ROWS = 8, 48


def _plotted(signals: Float[Tensor, "n t"]) -> Float[Tensor, "n height width"]:
    level = ((1 - _unit(signals)) * (_ROWS - 3)).round().repeat_interleave(_DOT, 1)[:, None] + 1
    rows = torch.arange(_ROWS)[None, :, None]
    before = level.roll(1, 2)
    before[..., 0] = level[..., 0]
    return ((rows >= torch.minimum(level, before)) & (rows <= torch.maximum(level, before))).float()


def _unit(x: Float[Tensor, "n *s"]) -> Float[Tensor, "n *s"]:
    low = x.flatten(1).amin(1).reshape(-1, *(1,) * (x.ndim - 1))
    high = x.flatten(1).amax(1).reshape(-1, *(1,) * (x.ndim - 1))
    return (x - low) / (high - low).clamp_min(1e-12)


@contextmanager
def bar(title: str) -> Iterator[Watch]:
    """A progress bar in the terminal with rate and remaining time; calling what it yields moves it."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    fields = (TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("{task.fields[state]}"))
    with Bar(TextColumn("{task.description}"), BarColumn(16), TaskProgressColumn(), *fields) as live:
        line = live.add_task(title, total=None, rate="", state="")

        def watch(progress: Progress) -> None:
            row, speed = progress.last, live.tasks[0].speed
            state = ""
            if row is not None:
                accuracy = row.train_accuracy if math.isnan(row.val_accuracy) else row.val_accuracy
                measure = f"accuracy {accuracy:.3f}"
                if math.isnan(accuracy):
                    measure = f"loss {row.train_loss if math.isnan(row.val_loss) else row.val_loss:.3g}"
                state = f"epoch {row.epoch}/{progress.epochs}, {measure}"
            rate = f"{speed:.0f} steps/s" if speed else ""
            live.update(line, total=progress.total, completed=progress.done, rate=rate, state=state)

        yield watch
