"""Planted tasks: what is planted is where the mask says, and small networks find it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from heatproof.data import load, synthetic
from heatproof.data.synthetic import WAVELENGTHS, Planted, generate
from heatproof.errors import UsageError
from heatproof.nets import build

SIZES = {1: 64, 2: 32, 3: 16}


@pytest.mark.parametrize("rank", [1, 2, 3])
class TestPlanted:
    def test_shapes_and_splits(self, rank: int) -> None:
        splits = load(f"synthetic-{rank}d:samples=30")
        shape = (SIZES[rank],) * rank
        assert splits.train.x.shape == (24, 1, *shape)
        assert splits.test.mask is not None
        assert splits.test.mask.shape == (6, *shape)
        assert splits.train.y.bincount().tolist() == [8, 8, 8]
        assert splits.train.about["rank"] == rank

    def test_without_noise_and_distractors_only_the_mask_is_filled(self, rank: int) -> None:
        samples = synthetic(rank, samples=12, noise=0.0, distractors=0).train
        assert samples.mask is not None
        x = torch.as_tensor(samples.x[:, 0])
        grown = F.max_pool3d(samples.mask.float().reshape(len(x), *(1,) * (4 - rank), *x.shape[1:]), 3, 1, 1)
        assert not x[grown.reshape(x.shape) == 0].any()
        assert float(x[samples.mask].abs().mean()) > 0.4

    def test_the_mask_is_a_ball_inside(self, rank: int) -> None:
        task = Planted(rank, SIZES[rank])
        samples = generate(task, torch.arange(6))
        assert samples.mask is not None
        for mask in samples.mask:
            where = mask.nonzero().double()
            centre = (where.amax(0) + where.amin(0)) / 2
            assert float((where - centre).norm(dim=1).max()) <= task.radius + 1
            ball = {1: 2, 2: math.pi, 3: 4 / 3 * math.pi}[rank] * task.radius**rank
            assert 0.6 * ball < len(where) < 1.25 * ball

    def test_a_sample_depends_on_its_number_alone(self, rank: int) -> None:
        task = Planted(rank, SIZES[rank], shortcut=0.5)
        many, few = generate(task, torch.arange(9)), generate(task, torch.tensor([7, 2]))
        torch.testing.assert_close(many.x[[7, 2]], few.x[:], rtol=0, atol=1e-6)
        other = generate(Planted(rank, SIZES[rank], shortcut=0.5, seed=1), torch.tensor([7, 2]))
        assert float((few.x[:] - other.x[:]).abs().max()) > 0.5

    def test_the_background_has_the_asked_deviation(self, rank: int) -> None:
        samples = generate(Planted(rank, SIZES[rank], distractors=0, noise=0.5), torch.arange(40))
        assert samples.mask is not None
        grown = F.max_pool3d(samples.mask.float().reshape(40, *(1,) * (4 - rank), *samples.mask.shape[1:]), 3, 1, 1)
        background = torch.as_tensor(samples.x[:, 0])[grown.reshape(samples.mask.shape) == 0]
        assert float(background.std()) == pytest.approx(0.5, rel=0.05)


def test_the_wavelength_is_the_class() -> None:
    samples = synthetic(1, samples=60, size=256, noise=0.0, distractors=0).train
    spectrum = torch.fft.rfft(torch.as_tensor(samples.x[:, 0]), n=4096).abs()
    wavelength = 4096 / spectrum.argmax(1).double()
    torch.testing.assert_close(wavelength, torch.tensor(WAVELENGTHS).double()[samples.y], rtol=0.02, atol=0)


def test_distractors_lie_apart_from_the_blob() -> None:
    plain, crowded = (generate(Planted(2, 32, noise=0.0, distractors=k), torch.arange(40)) for k in (0, 1))
    changed = torch.as_tensor(crowded.x[:, 0] != plain.x[:, 0]).flatten(1).any(1)
    assert changed.all()
    assert plain.mask is not None
    touched = (torch.as_tensor(crowded.x[:, 0] != plain.x[:, 0]) & plain.mask).flatten(1).float().mean(1)
    assert float((touched > 0).float().mean()) < 0.2


@pytest.mark.parametrize("share", [0.7, 1.0])
def test_the_shortcut_shows_the_class_in_training_alone(share: float) -> None:
    splits = synthetic(2, samples=1500, noise=0.0, distractors=0, shortcut=share)
    agreement = []
    for part in splits:
        level = torch.as_tensor(part.x[:, 0])[:, :2, :2].median(2).values.median(1).values
        agreement.append(float(((level / 3).round() == part.y - 1).float().mean()))
    assert agreement[0] == pytest.approx(share + (1 - share) / 3, abs=0.05)
    assert agreement[1] == pytest.approx(1 / 3, abs=0.09)


@pytest.mark.parametrize(
    "options", [{"size": 4}, {"samples": 3}, {"distractors": -1}, {"shortcut": 1.5}, {"noise": float("nan")}]
)
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"option {next(iter(options))} got"):
        synthetic(2, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="option rank got 4"):
        synthetic(4)


def learn(rank: int, *, epochs: int, shortcut: float = 0.0, samples: int = 1000) -> float:
    """The test accuracy of the small network after a few epochs."""
    splits = synthetic(rank, samples=samples, shortcut=shortcut)
    x, y, model = torch.as_tensor(splits.train.x[:]), splits.train.y, build(f"small-cnn:rank={rank}")
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    steps = epochs * -(-len(x) // 50)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(50):
            optimiser.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
            rate.step()
    with torch.inference_mode():
        return float((model.eval()(splits.test.x[:]).argmax(1) == splits.test.y).float().mean())


@pytest.mark.parametrize(("rank", "epochs", "samples"), [(1, 8, 1000), (2, 5, 800), (3, 6, 1000)])
def test_a_small_network_learns_it(rank: int, epochs: int, samples: int) -> None:
    assert learn(rank, epochs=epochs, samples=samples) >= 0.95


def test_a_network_falls_for_a_perfect_shortcut() -> None:
    assert learn(1, epochs=8, shortcut=1.0) < 0.7
