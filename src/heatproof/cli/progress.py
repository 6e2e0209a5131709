"""Progress bars on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from heatproof.cli.messages import err

if TYPE_CHECKING:
    from heatproof.pipeline.stages import Step, Watch


@contextmanager
def bars(*, quiet: bool) -> Iterator[Watch | None]:
    """A callback that draws a bar a stage, with rate and estimated time left; None where quiet."""
    if quiet:
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    live = Progress(*columns, console=err())
    try:
        yield _drawn(live)
    finally:
        live.stop()


def _drawn(live: Any) -> Callable[[Step], None]:
    lines: dict[str, Any] = {}

    def watch(step: Step) -> None:
        live.start()  # not before there is something to show: training draws a bar of its own
        if step.stage not in lines:
            lines[step.stage] = live.add_task(step.stage, total=step.total, rate="", note="")
        line = lines[step.stage]
        live.update(line, completed=step.done, total=step.total, note=step.note)
        task = next(t for t in live.tasks if t.id == line)
        speed = task.finished_speed or task.speed
        live.update(line, rate=f"{speed:,.0f} {step.unit}/s" if speed else "")

    return watch
