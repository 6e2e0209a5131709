"""What a method or metric raises costs its own numbers, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from heatproof.errors import HeatproofError, LayerError
from heatproof.methods import methods
from heatproof.methods.catalogue import cam, method
from heatproof.metrics import Case, metrics
from heatproof.metrics.catalogue import metric
from heatproof.probe import Goal, Probe
from heatproof.records import Samples

from .small_study import study
from .toys import Plain, inputs, ready


@pytest.fixture
def broken() -> Iterator[None]:
    """Methods and metrics that raise what nobody foresees."""
    with ExitStack() as stack:
        stack.enter_context(methods.temporarily())
        stack.enter_context(metrics.temporarily())

        @method("dividing", paper="1234.56789")
        def dividing(probe: Probe, x: Tensor, goal: Goal) -> Tensor:
            """Nothing.

            Range: none. Cost: none.
            """
            return x[:, 0] * (1 / 0)

        @cam("unruly-cam", paper="1234.56789")
        def unruly_cam(A: Tensor, G: Tensor) -> Tensor:
            """Nothing.

            Range: none. Cost: none.
            """
            raise KeyError("no such thing")

        @metric("undone", better="higher", family="faithfulness", range=(0, 1), paper="1234.56789", label="Undone")
        def undone(case: Case) -> Tensor:
            """Nothing.

            Range: none. Cost: none.
            Tells: nothing.
            Cannot: anything.
            Mind: it always fails.
            """
            raise AttributeError("two\nlines")

        yield


def samples() -> Samples:
    return Samples(inputs(1, 6), torch.tensor([0, 1, 2, 3, 0, 1]), classes=tuple("abcd"))


def test_the_others_go_on(broken: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A skip with one line for each, the traceback in the folder's log, nothing on the terminal."""
    results = study(
        ready(Plain(1)), samples(), ["grad-cam", "dividing", "unruly-cam", "saliency"], ["deletion", "undone"],
        out=tmp_path / "study", progress=False,
    )  # fmt: skip
    reasons = {(skip.method, skip.metric): skip.reason for skip in results.skips}
    assert reasons["dividing", "deletion"] == "dividing failed: ZeroDivisionError: division by zero"
    assert reasons["unruly-cam", "deletion"] == "unruly-cam failed: KeyError: 'no such thing'"
    assert reasons["grad-cam", "undone"] == reasons["saliency", "undone"] == "undone failed: AttributeError: two"
    assert {name for name, _ in results.scores} >= {"grad-cam", "saliency"}
    assert results.methods == ("grad-cam", "saliency")
    log = (tmp_path / "study" / "log.txt").read_text(encoding="utf-8")
    assert log.count("Traceback") >= 3
    assert "ZeroDivisionError" in log
    assert capfd.readouterr().err == ""
    assert not [h for h in logging.getLogger("heatproof").handlers if isinstance(h, logging.FileHandler)]


def test_a_study_of_broken_methods_alone_ends(broken: None) -> None:
    with pytest.raises(HeatproofError, match=r"no method could explain .*dividing, unruly-cam: ZeroDiv.*; KeyError"):
        study(ready(Plain(1)), samples(), ["dividing", "unruly-cam"], ["deletion"], progress=False)


def test_a_wrong_layer_ends_a_study_of_cams_with_its_own_error() -> None:
    probe = Probe(ready(Plain(1)), layer="dense")
    with pytest.raises(LayerError, match="'dense' has an output"):
        study(probe, samples(), ["grad-cam", "hires-cam"], ["deletion"], progress=False)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, torch.OutOfMemoryError])
def test_what_is_no_failure_of_a_method_ends_the_study(error: Any) -> None:
    with methods.temporarily():

        @method("stopping", paper="1234.56789")
        def stopping(probe: Probe, x: Tensor, goal: Goal) -> Tensor:
            """Nothing.

            Range: none. Cost: none.
            """
            raise error

        with pytest.raises((error, HeatproofError)):
            study(ready(Plain(1)), samples(), ["grad-cam", "stopping"], ["deletion"], progress=False)


def test_with_other_processes(tmp_path: Path) -> None:
    """The log of all processes is in the one folder; nothing is logged where nothing fails."""
    study(ready(Plain(1)), samples(), ["grad-cam"], ["deletion"], out=tmp_path / "a", workers="processes:2",
          progress=False)  # fmt: skip
    assert not (tmp_path / "a" / "log.txt").exists()
