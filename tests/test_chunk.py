"""Chunks and predictions: what is written as arrays is what is read; files appear whole; digests; the progress bar."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from heatproof.errors import FileError, FolderInUse
from heatproof.registry import Spec
from heatproof.results.record import Band
from heatproof.studies.checkpoint import Journal
from heatproof.studies.chunk import Chunk, Predictions
from heatproof.studies.plan import plan_of
from heatproof.studies.progress import Bar, line, reported
from heatproof.studies.scores import Job, chunks_of, predictions_of

from .small_study import options
from .test_study import METRIC, samples
from .toys import Plain, ready

METHODS = (Spec("grad-cam"), Spec("rise", (("masks", 5), ("size", 1e-05))))
METRICS = (Spec("deletion"), Spec("gini-sparseness"))
QUESTIONS = ("window-localisation", "window-correlation")


def arrays_of(chunk: Chunk) -> dict[str, object]:
    """Everything in a chunk by the name of its field."""
    fields = {name: getattr(chunk, name) for name in ("scores", "own", "evidence", "maps", "skips", "costs")}
    curves = {cell: (band.at, band.values) for cell, band in chunk.curves.items()}
    return {**fields, "curves": curves}


def test_a_chunk_is_read_as_it_was_written(tmp_path: Path) -> None:
    cells = [(method, metric) for method in METHODS for metric in METRICS]
    chunk = Chunk(
        scores={cells[0]: np.array([0.5, np.nan]), cells[3]: np.array([1.0, 2.0])},
        curves={cells[0]: Band(np.linspace(0, 1, 3), np.zeros((2, 3), np.float32))},
        own={("moved back", METHODS[1], METRICS[0]): np.array([0.25, np.nan])},
        evidence={"values": np.ones((2, 2, 3)), "scale": np.arange(3)},
        skips={cells[1]: "no reason", cells[2]: 'it\'s "quoted"'},
        maps={METHODS[1]: np.ones((1, 4), np.float32)},
        costs={"methods": {"grad-cam": 0.125}, "passes": {"forward": 3}},
    )
    journal = Journal(tmp_path / "study", {"seed": 0})
    journal.write(7, chunk.arrays(METHODS, METRICS))
    arrays = journal.read(7)
    assert arrays is not None
    np.testing.assert_equal(arrays_of(Chunk.of(arrays, METHODS, METRICS)), arrays_of(chunk))
    assert journal.read(8) is None


@pytest.mark.parametrize("skill", [None, {"samples": 4, "measure": "correct", "model": 3, "copies": [1, 2]}])
def test_predictions_are_read_as_they_were_written(skill: dict[str, object] | None) -> None:
    predictions = Predictions(torch.randn(4, 3), skill, {"passes": {"forward": 4}})
    again = Predictions.of(predictions.arrays())
    torch.testing.assert_close(again.logits, predictions.logits, rtol=0, atol=0)
    assert (again.skill, again.costs) == (predictions.skill, predictions.costs)


def test_a_chunk_is_a_function_of_the_plan_and_its_rows() -> None:
    model: nn.Module = ready(Plain(1))
    plan = plan_of(
        model, samples(), options(["grad-cam", "rise:masks=5"], [*METRIC, *QUESTIONS], ["mean", "noise"], target=0)
    )
    rows = torch.arange(3, 9)
    every = predictions_of(plan).logits
    logits, donors = every[rows], plan.donors(every)[rows]
    assert bool((donors >= 0).all())
    chunks = chunks_of(plan, Job(rows, logits, donors, plan.fills, gallery=(4, 11)))
    assert list(chunks) == list(plan.fills)
    for fill, chunk in chunks.items():
        alone = chunks_of(replace(plan, fills=(fill,)), Job(rows, logits, donors, (fill,), gallery=(4, 11)))[fill]
        ours, theirs = arrays_of(chunk), arrays_of(alone)
        del ours["costs"], theirs["costs"]
        np.testing.assert_equal(ours, theirs)
        assert set(chunk.scores) == set(plan.cells)
        assert {len(values) for values in chunk.scores.values()} == {len(rows)}
        assert {len(maps) for maps in chunk.maps.values()} == {1}
        assert set(chunk.costs["self_checks"]) >= {"another class", "own controls"}
        assert {method for _, method, _ in chunk.own} == {*plan.methods}
        assert {control for control, _, _ in chunk.own} == {
            "another sample", "another class", "moved forward", "moved back",
        }  # fmt: skip


def test_a_damaged_chunk_or_page_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {"seed": 0})
    journal.write(0, {"logits": np.ones(3)})
    (path,) = (tmp_path / "chunks").iterdir()
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(FileError, match="damaged"):
        journal.read(0)
    with pytest.raises(FolderInUse, match=r"seed: . there, . here"):
        Journal(tmp_path, {"seed": 1})
    (tmp_path / "study.json").write_text("{", encoding="utf-8")
    with pytest.raises(FileError, match="damaged"):
        Journal(tmp_path, {"seed": 0})


class Screen(io.StringIO):
    """A terminal, or none."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_bar_is_shown_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, progress: bool, terminal: bool, shown: bool
) -> None:
    screen = Screen(terminal=terminal)
    monkeypatch.setattr("sys.stderr", screen)
    with reported(progress) as watch:
        if watch is not None:
            watch("explaining", 3, 3)
            watch("judging", 1, 4)
            watch("judging", 4, 4)
    assert (watch is not None) is shown
    assert screen.getvalue().rstrip().endswith("100 % of 4 scores") is shown
    assert bool(screen.getvalue()) is shown


def test_a_function_is_called_as_it_is() -> None:
    steps: list[tuple[str, int, int]] = []
    call: Callable[[str, int, int], None] = lambda *step: steps.append(step)  # noqa: E731
    with reported(call) as watch:
        assert watch is call
    with reported(None) as watch:
        assert watch is None


def test_a_shorter_line_covers_the_one_before() -> None:
    screen = Screen(terminal=True)
    bar = Bar(screen)
    bar("judging", 1, 1000)
    bar("judging", 1000, 1000)
    first, second = screen.getvalue().split("\r")[1:]
    assert len(second) >= len(first)
    assert line("judging", 0, 0, 0.0).endswith("100 % of 0 scores")
