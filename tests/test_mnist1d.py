"""MNIST-1D equals the published generator, and its mask says which points the digit decides."""

from __future__ import annotations

import random as python_random
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import heatproof as hp
from heatproof.data.mnist1d import CLASSES, Settings, _draw, _signals, generate
from heatproof.errors import UnknownName, UsageError

VARIANTS = [
    Settings(),
    Settings(seed=7, samples=300),
    Settings(samples=300, train=0.5, shuffle=True),
    Settings(samples=203, padding=(0, 8), translation=20, length=25),
    Settings(samples=100, padding=(40, 41), translation=1, scale=1.5, length=72),
    Settings(samples=100, correlated=0.0, noise=0.0, shear=0.0, scale=0.0),
    Settings(samples=100, padding=(5, 9), translation=60, correlated=1.0, noise=0.3, shear=3.0, length=100, seed=0),
    Settings(samples=100, padding=(0, 0)),
]


@cache
def reference(chosen: Settings) -> dict[str, np.ndarray]:
    """The published package's data, the global random states put back afterwards."""
    data = pytest.importorskip("mnist1d.data", reason="parity needs the mnist1d package")
    args = data.get_dataset_args()
    args.num_samples, args.train_split, args.padding = chosen.samples, chosen.train, list(chosen.padding)
    args.max_translation, args.scale_coeff, args.corr_noise_scale = chosen.translation, chosen.scale, chosen.correlated
    args.iid_noise_scale, args.shear_scale, args.shuffle_seq = chosen.noise, chosen.shear, chosen.shuffle
    args.final_seq_length, args.seed = chosen.length, chosen.seed
    states = np.random.get_state(), python_random.getstate()  # noqa: NPY002
    try:
        published: dict[str, np.ndarray] = data.make_dataset(args)
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        python_random.setstate(states[1])
    return published


@pytest.mark.parametrize("chosen", VARIANTS, ids=lambda s: f"seed{s.seed}-{s.samples}-{s.padding}-{s.length}")
def test_equal_to_the_published_package(chosen: Settings) -> None:
    expected, generated = reference(chosen), generate(chosen)
    np.testing.assert_allclose(generated.x, np.concatenate([expected["x"], expected["x_test"]]), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(generated.y, np.concatenate([expected["y"], expected["y_test"]]))


def test_templates_equal_the_published_ones() -> None:
    data = pytest.importorskip("mnist1d.data", reason="parity needs the mnist1d package")
    templates = hp.data.mnist1d_templates()
    np.testing.assert_allclose(templates, data.get_templates()["x"], rtol=0, atol=1e-15)
    assert templates.shape == (10, 12)
    assert not templates[:, 0].any()
    np.testing.assert_allclose(templates.std(1), 1 / 6)


def test_the_course_data() -> None:
    splits = hp.data.mnist1d()
    expected = reference(Settings())
    assert splits.train.x.shape == (4000, 1, 40)
    assert splits.test.x.shape == (1000, 1, 40)
    assert splits.classes == CLASSES
    torch.testing.assert_close(splits.train.x[:, 0], torch.from_numpy(expected["x"]).float(), rtol=0, atol=0)
    torch.testing.assert_close(splits.test.y, torch.from_numpy(expected["y_test"]), rtol=0, atol=0)
    assert splits.train.mask is not None
    assert splits.train.mask.shape == (4000, 40)
    assert torch.bincount(torch.cat([splits.train.y, splits.test.y])).tolist() == [500] * 10


def raw(chosen: Settings, templates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals in the generator's order, before they are standardised, digit by digit."""
    random = np.random.RandomState(chosen.seed)
    y = np.repeat(np.arange(10), chosen.samples // 10)
    draws = _draw(random, len(y), 12 + chosen.padding[1], chosen)
    return (*_signals(y, templates, draws, chosen), y)


@pytest.mark.parametrize("chosen", VARIANTS[1:7], ids=lambda s: f"seed{s.seed}-{s.padding}-{s.length}")
def test_the_mask_is_where_the_template_decides(chosen: Settings) -> None:
    templates = hp.data.mnist1d_templates()
    # Two sets of templates that differ in every point: what differs between the signals depends on the template.
    x, mask, _ = raw(chosen, templates)
    other, same, _ = raw(chosen, templates + 1.0)
    np.testing.assert_array_equal(mask, same)
    np.testing.assert_array_equal(np.abs(x - other) > 1e-9, mask)


def test_without_noise_the_masked_points_are_the_resampled_template() -> None:
    chosen = Settings(
        samples=10, padding=(60, 60), translation=1, scale=0.0, correlated=0.0, noise=0.0, shear=0.0, length=72
    )
    templates = hp.data.mnist1d_templates()
    x, mask, y = raw(chosen, templates)
    np.testing.assert_array_equal(np.flatnonzero(mask.any(0)), np.arange(12))
    np.testing.assert_allclose(x[:, :12], templates[y], atol=1e-7)
    assert not x[:, 12:].any()


def test_the_mask_is_one_stretch_of_the_expected_length() -> None:
    splits = hp.data.mnist1d()
    for samples in splits:
        mask = samples.mask
        assert mask is not None
        edges = (mask[:, 1:] != mask[:, :-1]).sum(1)
        assert int(edges.max()) <= 2
        # 12 to 13 of 48 to 72 points, stretched to 72 and then thinned to 40.
        assert 6 <= int(mask.sum(1).min()) <= int(mask.sum(1).max()) <= 12


def test_shuffling_moves_signal_and_mask_alike() -> None:
    plain, shuffled = generate(Settings(samples=200)), generate(Settings(samples=200, shuffle=True))
    places = [int(np.flatnonzero((plain.x == column[:, None]).all(0))[0]) for column in shuffled.x.T]
    assert sorted(places) == list(range(40))
    np.testing.assert_array_equal(shuffled.mask, plain.mask[:, places])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), samples=st.integers(10, 80), length=st.integers(2, 90))
def test_any_settings_give_standardised_balanced_data(seed: int, samples: int, length: int) -> None:
    np.random.seed(5)  # noqa: NPY002
    generated = generate(Settings(samples=samples, seed=seed, length=length))
    assert generated.x.shape == generated.mask.shape == (samples // 10 * 10, length)
    assert generated.x.mean() == pytest.approx(0, abs=1e-12)
    assert generated.x.std() == pytest.approx(1)
    assert set(np.bincount(generated.y).tolist()) == {samples // 10}
    drawn = np.random.random()  # noqa: NPY002
    assert drawn == np.random.RandomState(5).random_sample()


@pytest.mark.parametrize(
    "option",
    ["samples=9", "train=1.5", "padding=9+3", "translation=0", "length=1", "seed=-1", "scale=1e999"],
)
def test_options_out_of_range_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match=option.partition("=")[0]):
        hp.data.load(f"mnist1d:{option}")


def test_options_by_name() -> None:
    splits = hp.data.load("mnist1d:samples=50,padding=10+20,train=0.6,length=30")
    assert splits.train.x.shape == (30, 1, 30)
    assert splits.train.about["padding"] == (10, 20)
    with pytest.raises(UnknownName, match="noise"):
        hp.data.load("mnist1d:noize=1")
    with pytest.raises(UnknownName, match="mnist1d"):
        hp.data.load("mnist")
