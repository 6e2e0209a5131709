"""Work is done by one process, several, or Ray, in order and to the last bit alike; what cannot be sent is an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from heatproof import nets, workers
from heatproof.errors import HeatproofError, UsageError
from heatproof.records import Samples
from heatproof.studies import plan as planning

from .small_study import study


def scaled(shared: Tensor, item: int) -> tuple[Tensor, int, int]:
    return shared * item, torch.get_num_threads(), os.getpid()


def failing(shared: None, item: int) -> int:
    if item == 1:
        raise UsageError("item 1 is no good")
    return item


def dying(shared: None, item: int) -> int:
    os._exit(1)


def lost(shared: None, item: int) -> int:
    raise KeyError(item)


def stand_in(seen: list[str]) -> SimpleNamespace:
    """As much of Ray as is used."""

    class RayError(Exception):
        pass

    class RayTaskError(RayError):
        def __init__(self, cause: Exception) -> None:
            super().__init__("the traceback of another machine")
            self.cause = cause

    def get(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except KeyError:
            raise RayError("lost\nand more") from None
        except Exception as error:
            raise RayTaskError(error) from error

    def remote(function: Callable[..., Any]) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda held, item: lambda: function(held, item))

    return SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **_: seen.append("init"),
        put=lambda value: value,
        remote=remote,
        get=get,
        cancel=lambda _: seen.append("cancel"),
        shutdown=lambda: seen.append("shutdown"),
        exceptions=SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError),
    )


@pytest.mark.parametrize("how", ["serial", "processes:1", "processes:2"])
def test_results_come_in_the_order_of_the_items(how: str) -> None:
    shared = torch.randn(5)
    rows = list(workers.mapped(scaled, shared, range(4), workers=how))
    for item, (values, threads, process) in enumerate(rows):
        torch.testing.assert_close(values, shared * item, rtol=0, atol=0)
        assert threads == torch.get_num_threads()
        assert (process == os.getpid()) is (how != "processes:2")
    assert not shared.is_shared()
    assert list(workers.mapped(scaled, shared, [], workers=how)) == []


def test_a_worker_that_dies_is_an_error() -> None:
    with pytest.raises(HeatproofError, match="ask for fewer"):
        list(workers.mapped(dying, None, range(2), workers="processes:2"))


def test_what_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(UsageError, match="workers='serial'"):
        list(workers.mapped(failing, lambda: None, range(3), workers="processes:2"))


@pytest.mark.parametrize("how", ["threads", "processes", "processes:0", "processes:two", ""])
def test_other_workers_are_refused(how: str) -> None:
    with pytest.raises(UsageError, match="expected 'serial'"):
        workers.mapped(failing, None, range(3), workers=how)


def test_ray_is_asked_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setitem(sys.modules, "ray", stand_in(seen))
    shared = torch.randn(5)
    rows = list(workers.mapped(scaled, shared, range(4), workers="ray"))
    for item, (values, _, _) in enumerate(rows):
        torch.testing.assert_close(values, shared * item, rtol=0, atol=0)
    assert seen == ["init", "shutdown"]
    with pytest.raises(UsageError, match=r"^item 1 is no good$"):
        list(workers.mapped(failing, None, range(3), workers="ray"))
    assert seen == ["init", "shutdown", "init", "cancel", "shutdown"]
    with pytest.raises(HeatproofError, match=r"a worker process died; ask for fewer \(memory\); lost$"):
        list(workers.mapped(lost, None, range(3), workers="ray"))


def test_ray_itself() -> None:
    pytest.importorskip("ray", reason="needs Ray (pip install 'heatproof[ray]')")
    shared = torch.randn(5)
    rows = list(workers.mapped(scaled, shared, range(4), workers="ray"))
    for item, (values, _, process) in enumerate(rows):
        torch.testing.assert_close(values, shared * item, rtol=0, atol=0)
        assert process != os.getpid()
    with pytest.raises(UsageError, match=r"^item 1 is no good$"):
        list(workers.mapped(failing, None, range(3), workers="ray"))
    with pytest.raises(HeatproofError, match="a worker process died"):
        list(workers.mapped(dying, None, range(1), workers="ray"))


def test_a_missing_ray_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'heatproof\[ray\]'"):
        workers.mapped(failing, None, range(3), workers="ray")


def test_a_study_by_workers_is_the_serial_one_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CHUNK", 8)
    monkeypatch.setitem(sys.modules, "ray", stand_in([]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = nets.build("mnist1d-cnn").eval()
    x = torch.randn(20, 1, 40, generator=torch.Generator().manual_seed(0))
    samples = Samples(x, torch.arange(20) % 10, None, tuple("abcdefghij"))
    methods, metrics = ["grad-cam", "rise:masks=5"], ["deletion:steps=3", "random-logit"]
    want = study(model, samples, methods, metrics)
    steps: list[tuple[str, int, int]] = []
    for how in ("processes:2", "ray"):
        results = study(
            model, samples, methods, metrics, workers=how, out=tmp_path / how[:3], progress=lambda *s: steps.append(s)
        )
        assert list(results.scores) == list(want.scores)
        for cell, scores in want.scores.items():
            np.testing.assert_array_equal(results.scores[cell], scores)
        for kind in ("methods", "metrics"):
            assert set(results.about["seconds"][kind]) == set(want.about["seconds"][kind])
        passes, serial = results.about["passes"], want.about["passes"]
        assert {**passes, "forward": 0} == {**serial, "forward": 0}
        assert abs(passes["forward"] - serial["forward"]) <= 4  # each process looks at the model once
        assert steps[-1] == ("judging", 20 * 6 * 2, 20 * 6 * 2)
    assert not any(p.is_shared() for p in model.parameters())
    assert not x.is_shared()
