"""Freed memory goes back to the system; a study asks for that where its inputs are large."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

from heatproof import memory as heap
from heatproof import nets
from heatproof.records import Samples
from heatproof.studies import scores

from .small_study import studies


def resident() -> int:
    """The bytes that the process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(heap._trim() is None, reason="needs glibc")
def test_freed_memory_is_given_back() -> None:
    blocks = [b"\1" * 100_000 for _ in range(2000)]
    survivors = blocks[::50]
    del blocks
    before = resident()
    heap.release(heap.LARGE - 1)
    few = before - resident()
    heap.release()
    assert before - resident() > few + 100e6
    assert len(survivors) == 40


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: None) -> object:
        return object()

    monkeypatch.setattr(ctypes, "CDLL", missing)
    heap._trim.cache_clear()
    try:
        heap.release()
        assert heap._trim() is None
    finally:
        heap._trim.cache_clear()


def test_a_study_asks_after_every_method_and_self_check(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(scores, "release", asked.append)
    metrics = ["deletion:steps=3", "window-correlation"]
    samples = Samples(torch.rand(6, 1, 40), torch.arange(6) % 10, None, tuple("abcdefghij"))
    model = nets.build("mnist1d-cnn").eval()
    # What no network with random weights predicts: all samples are donors.
    target = next(k for k in range(10) if k not in model(samples.x).argmax(1))
    studies(model, samples, ["grad-cam", "saliency"], metrics, ["mean", "blur"], controls=False, target=target)
    assert asked == [240] * 3
