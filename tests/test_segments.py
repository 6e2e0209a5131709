"""SLIC segments: against a slow oracle, connected, following planted structures, and the same in any batch."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label
from torch import Tensor

from heatproof.errors import InputError
from heatproof.metrics import score
from heatproof.probe import Probe
from heatproof.segments import boxes, segments

SIZES = [(30,), (11, 14), (6, 7, 8)]


def smooth(size: tuple[int, ...], n: int = 2, channels: int = 2, width: float = 1.0) -> Tensor:
    noise = np.random.default_rng(0).normal(size=(n, channels, *size))
    return torch.tensor(gaussian_filter(noise, (0, 0, *(width,) * len(size)))).float()


def neighbours(place: tuple[int, ...], size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Those that share a face, by axis, before and behind."""
    steps = [tuple(sign * (a == axis) for a in range(len(size))) for axis in range(len(size)) for sign in (-1, 1)]
    places = [tuple(p + s for p, s in zip(place, step, strict=True)) for step in steps]
    return [p for p in places if all(0 <= i < length for i, length in zip(p, size, strict=True))]


class Oracle:
    """One sample, position by position, in float64."""

    def __init__(self, x: np.ndarray, count: int, compactness: float) -> None:
        self.size, self.rank = x.shape[1:], x.ndim - 1
        self.places = list(product(*(range(length) for length in self.size)))
        self.x = np.round((x - x.min()) / (x.max() - x.min()) * 65535)
        self.x /= math.sqrt(self.x.reshape(len(x), -1).var(1).sum())
        self.box = boxes(self.size, count).numpy()
        lines = [sorted({self.box[p] for p in self.places if not any(p[:a] + p[a + 1 :])}) for a in range(self.rank)]
        self.pieces = [len(line) for line in lines]
        self.step = [length / pieces for length, pieces in zip(self.size, self.pieces, strict=True)]
        self.grid = list(product(*(range(k) for k in self.pieces)))
        self.compactness = compactness

    def start(self) -> list[tuple[np.ndarray, np.ndarray]]:
        centres = []
        for number in range(len(self.grid)):
            inside = [p for p in self.places if self.box[p] == number]
            first, last = np.min(inside, 0), np.max(inside, 0)
            seed = tuple((first + last) // 2)
            choices = [seed] + [tuple(seed + np.array(o)) for o in product((-1, 0, 1), repeat=self.rank)]
            best = min((p for p in choices if p in inside), key=self.gradient)
            centres.append((self.x[(slice(None), *best)], (first + last) / 2 + np.array(best) - seed))
        return centres

    def gradient(self, place: tuple[int, ...]) -> float:
        total = 0.0
        for axis, length in enumerate(self.size):
            ends = [(*place[:axis], min(max(place[axis] + s, 0), length - 1), *place[axis + 1 :]) for s in (-1, 1)]
            total += ((self.x[(slice(None), *ends[1])] - self.x[(slice(None), *ends[0])]) ** 2).sum()
        return total

    def distance(self, place: tuple[int, ...], centre: tuple[np.ndarray, np.ndarray]) -> float:
        away = (np.array(place) - centre[1]) / self.step
        values = self.x[(slice(None), *place)] - centre[0]
        return float((values**2).sum() + self.compactness**2 * (away**2).sum())

    def nearest(self, centres: list[Any]) -> dict[tuple[int, ...], int]:
        owners = {}
        for place in self.places:
            home = np.array(self.grid[self.box[place]])
            near = [i for i, cell in enumerate(self.grid) if np.abs(np.array(cell) - home).max() <= 1]
            owners[place] = min(near, key=lambda i: (self.distance(place, centres[i]), i != self.box[place]))
        return owners

    def joined(self, labels: dict[tuple[int, ...], int], centres: list[Any]) -> np.ndarray:
        whole = np.array([labels[p] for p in self.places]).reshape(self.size)
        held = np.full(self.size, -1)
        for number in np.unique(whole):
            inside = [p for p in self.places if labels[p] == number]
            seed = min(inside, key=lambda p: self.distance(p, centres[number]))
            pieces, _ = label(whole == number)
            held[pieces == pieces[seed]] = number
        while (held < 0).any():
            before = held.copy()
            for place in self.places:
                near = [before[p] for p in neighbours(place, self.size) if before[p] >= 0]
                if before[place] < 0 and near:
                    held[place] = min(near, key=lambda i: self.distance(place, centres[i]))
        return np.unique(held, return_inverse=True)[1].reshape(self.size)

    def labels(self, iterations: int) -> np.ndarray:
        centres = self.start()
        for _ in range(iterations - 1):
            owners = self.nearest(centres)
            for number in set(owners.values()):
                inside = [p for p in self.places if owners[p] == number]
                centres[number] = (np.mean([self.x[(slice(None), *p)] for p in inside], 0), np.mean(inside, 0))
        return self.joined(self.nearest(centres), centres)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [(5, 1.0, 10), (9, 0.4, 3), (20, 0.5, 1)])
def test_labels_are_those_of_the_oracle(size: tuple[int, ...], options: tuple[int, float, int]) -> None:
    count, compactness, iterations = options
    x = smooth(size)
    batch = segments(x, count, compactness=compactness, iterations=iterations)
    for one, labels in zip(x, batch, strict=True):
        want = Oracle(one.double().numpy(), count, compactness).labels(iterations)
        assert labels.tolist() == want.tolist()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 13), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 60),
    st.sampled_from([0.05, 0.5, 1.0, 5.0]),
    st.sampled_from(["noise", "levels", "spikes", "constant"]),
    st.integers(0, 2**16),
)
def test_every_label_is_one_connected_piece(
    size: list[int], channels: int, count: int, compactness: float, kind: str, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(3, channels, *size, generator=draw)
    x = {"noise": x, "levels": x.round(), "spikes": 1e4 * (x > 2), "constant": x * 0 + 7}[kind].float()
    batch = segments(x, count, compactness=compactness, iterations=4)
    most = int(boxes(size, count).max()) + 1
    for labels in batch.numpy():
        numbers = np.unique(labels)
        assert numbers.tolist() == list(range(len(numbers)))
        assert len(numbers) <= most
        assert all(label(labels == number)[1] == 1 for number in numbers)
    order = torch.tensor([2, 0, 1])
    assert segments(x[order], count, compactness=compactness, iterations=4).equal(batch[order])
    assert segments(x[1:2], count, compactness=compactness, iterations=4).equal(batch[1:2])
    if kind == "constant":
        assert batch.equal(boxes(size, count).expand(3, *size))


@pytest.mark.parametrize("size", [(1,), (1, 1), (2, 1), (1, 1, 1), (3, 2), (40,), (3, 1, 2)])
def test_where_there_are_no_more_positions_than_segments_each_is_one(size: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *size)
    want = torch.arange(math.prod(size)).reshape(size)
    assert segments(x, 60).equal(want.expand(2, *size))


def planted(size: tuple[int, ...], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Patches of random shape and colour with noise, and which patch each position belongs to."""
    draw = np.random.default_rng(seed)
    points = draw.random((count, len(size))) * size
    places = np.stack(np.meshgrid(*(np.arange(length) for length in size), indexing="ij"), -1)
    patch = ((places[..., None, :] - points) ** 2).sum(-1).argmin(-1)
    colours = draw.random((count, 3))[patch] + 0.05 * draw.normal(size=(*size, 3))
    return torch.tensor(colours).movedim(-1, 0)[None], torch.tensor(patch)


def purity(labels: Tensor, truth: Tensor) -> float:
    """The share of the positions that lie in the patch most of their segment lies in."""
    table = torch.zeros(int(labels.max()) + 1, int(truth.max()) + 1)
    table.index_put_((labels.flatten(), truth.flatten()), torch.ones(truth.numel()), accumulate=True)
    return float(table.amax(1).sum() / truth.numel())


@pytest.mark.parametrize(("size", "least"), [((300,), 0.98), ((80, 60), 0.97), ((24, 20, 22), 0.93)])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 255.0])
def test_planted_patches_are_found_at_any_range_of_values(size: tuple[int, ...], least: float, scale: float) -> None:
    for seed in range(3):
        x, truth = planted(size, 12, seed)
        share = purity(segments(x * scale - scale / 3, 40)[0], truth)
        assert share > least
        assert share > purity(boxes(size, 40), truth) + 0.02


def test_the_type_and_the_layout_of_the_input_do_not_matter() -> None:
    x = (smooth((20, 17), n=3, channels=3) * 256).round() / 256
    want = segments(x, 12)
    for same in (x.half(), x.double(), x.bfloat16().float() * 0 + x, x.to(memory_format=torch.channels_last), x * 4):
        assert segments(same, 12).equal(want)
    assert segments(x.clone().requires_grad_(), 12).equal(want)
    assert want.dtype == torch.int64


def test_a_long_batch_is_worked_on_in_parts() -> None:
    x = smooth((90,), n=1).repeat(6000, 1, 1)
    batch = segments(x, 5, iterations=2)
    assert batch.equal(batch[:1].expand_as(batch))
    assert segments(x[:0], 5).shape == (0, 90)


def test_more_compactness_comes_closer_to_boxes() -> None:
    x = smooth((40, 40), n=1, width=2.0)
    alike = [purity(segments(x, 16, compactness=c)[0], boxes((40, 40), 16)) for c in (0.1, 1.0, 10.0, 1000.0)]
    assert alike == sorted(alike)
    assert alike[0] < 0.8
    assert alike[-1] > 0.95


def test_bad_input_is_refused() -> None:
    x = torch.zeros(1, 1, 5)
    with pytest.raises(InputError, match="got 0, expected at least 1"):
        segments(x, 0)
    with pytest.raises(InputError, match="got 0, expected at least 1"):
        boxes((5,), 0)
    with pytest.raises(InputError, match="compactness 0"):
        segments(x, 2, compactness=0)
    with pytest.raises(InputError, match="0 iterations"):
        segments(x, 2, iterations=0)
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError, match="NaN or infinite"):
            segments(torch.tensor([[[0.0, bad, 1.0]]]), 2)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 40))
def test_boxes_cover_everything(size: list[int], count: int) -> None:
    labels = boxes(size, count)
    numbers = labels.unique().tolist()
    assert numbers == list(range(len(numbers)))
    for number in numbers:
        inside = (labels == number).nonzero()
        assert len(inside) == int((inside.amax(0) - inside.amin(0) + 1).prod())


class Reads(torch.nn.Module):
    """The score depends on the mean of some positions."""

    def __init__(self, *places: int) -> None:
        super().__init__()
        self.places = list(places)
        self.weight = torch.nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        z = self.weight * x[:, 0, self.places].mean(1)
        return torch.stack([z, torch.zeros_like(z)], dim=1)


def test_irof_removes_a_structure_as_a_whole() -> None:
    x = torch.zeros(1, 1, 12)
    x[..., 4:7] = 1
    high = float(torch.tensor(4.0).sigmoid())
    arguments = {"x": x, "map": x[:, 0], "target": 0, "fill": "black"}
    probe = Probe(Reads(4, 5, 6))
    by_segments = float(score(probe, metric="irof:segments=4", **arguments))
    count = int(segments(x, 4).max()) + 1
    # Gone with the first segment: the ratio falls from 1 to 0.5 / high within the first share.
    assert count == 4
    assert by_segments == pytest.approx((1 - 0.5 / high) * (1 - 0.5 / count), abs=1e-6)
    assert float(score(probe, metric="irof:segments=4,by=boxes", **arguments)) < by_segments - 0.03


def test_irof_does_not_depend_on_how_many_segments_other_samples_have() -> None:
    """Where all values lie at two levels, some centres are left with nothing."""
    x = (torch.randn(200, 1, 16, 16, generator=torch.Generator().manual_seed(0)) > 2).float()
    counts = segments(x, 30).flatten(1).amax(1) + 1
    x = torch.stack([x[counts == count][0] for count in counts.unique()])
    assert len(x) > 1
    probe = Probe(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3)))
    map = torch.randn(len(x), 16, 16, generator=torch.Generator().manual_seed(1))
    whole = score(probe, x, map, "irof:segments=30")
    for i in range(len(x)):
        alone = score(probe, x[i : i + 1], map[i : i + 1], "irof:segments=30", index=torch.tensor([i]))
        torch.testing.assert_close(alone, whole[i : i + 1], rtol=1e-5, atol=1e-6)
