"""The classifier's numbers against scikit-learn, closed forms and scipy's bootstrap; findings and examples by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.errors import InputError
from heatproof.performance import Performance, measure
from heatproof.performance.evaluation import BINS
from heatproof.performance.resamples import CLASS_NUMBERS, NUMBERS, Resampled
from heatproof.records import Samples


class Stub:
    """Gives the probabilities it finds in its input."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def probabilities(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return x[:, :, 0]


def _data(n: int = 300, k: int = 4, seed: int = 0, decimals: int = 6) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = generator.integers(0, k, n)
    p = generator.dirichlet(np.full(k, 0.7), n) + 0.5 * np.eye(k)[y] * generator.random((n, 1))
    p = p.round(decimals) + 10.0**-decimals
    return p / p.sum(axis=1, keepdims=True), y


def _samples(p: np.ndarray, y: np.ndarray, classes: tuple[str, ...] = ()) -> Samples:
    return Samples(torch.tensor(p, dtype=torch.float32)[:, :, None], torch.tensor(y), classes=classes)


def _measured(**options: int) -> Performance:
    p, y = _data(**options)
    return measure(p, y, [str(i) for i in range(p.shape[1])], resamples=200)


@pytest.mark.parametrize("decimals", [6, 1])
def test_numbers_equal_scikit_learn(decimals: int) -> None:
    p, y = _data(decimals=decimals)
    found = measure(p, y, list("abcd"), resamples=200)
    predicted = p.argmax(axis=1)
    assert found.accuracy == pytest.approx(sk.accuracy_score(y, predicted))
    assert found.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(y, predicted))
    np.testing.assert_array_equal(found.confusion, sk.confusion_matrix(y, predicted))
    np.testing.assert_allclose(found.confusion_normalised, sk.confusion_matrix(y, predicted, normalize="true"))
    np.testing.assert_allclose(found.class_accuracy, sk.recall_score(y, predicted, average=None))
    np.testing.assert_allclose(found.precision, sk.precision_score(y, predicted, average=None))
    np.testing.assert_allclose(found.f1, sk.f1_score(y, predicted, average=None))
    np.testing.assert_allclose(found.auc, sk.roc_auc_score(y, p, multi_class="ovr", average=None))
    assert found.auc_macro == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr", average="macro"))
    assert found.auc_micro == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr", average="micro"))
    assert found.log_loss == pytest.approx(sk.log_loss(y, p))
    for average in ("macro", "weighted"):
        assert found.averages[f"f1_{average}"] == pytest.approx(sk.f1_score(y, predicted, average=average))
    for name, curve in found.roc.items():
        assert np.trapezoid(curve.true_positive, curve.false_positive) == pytest.approx(curve.auc), name


@pytest.mark.parametrize("seed", [0, 1])
def test_resampled_numbers_equal_the_numbers_of_the_resample(seed: int) -> None:
    p, y = _data(n=80, k=3, seed=seed, decimals=2)
    drawn = np.random.default_rng(seed).integers(0, 80, (5, 80))
    weights = np.stack([np.bincount(row, minlength=80) for row in drawn]).astype(float)
    table = Resampled(p, y, BINS)(weights)
    for row, values in zip(drawn, table, strict=True):
        found = measure(p[row], y[row], list("abc"), resamples=100)
        expected = [getattr(found, key, None) or found.averages[key] for key in NUMBERS]
        expected += [*found.class_accuracy, *found.precision, *found.f1, *found.auc]
        np.testing.assert_allclose(values, expected)


def test_every_single_number_has_an_interval_that_holds_it() -> None:
    found = _measured()
    assert tuple(found.intervals) == NUMBERS
    for key, interval in found.intervals.items():
        value = getattr(found, key) if hasattr(found, key) else found.averages[key]
        assert interval.mean == pytest.approx(value), key
        assert interval.low < value < interval.high, key
    assert tuple(found.class_intervals) == CLASS_NUMBERS
    for key, values in (("accuracy", found.class_accuracy), ("auc", found.auc), ("f1", found.f1)):
        assert [e.mean for e in found.class_intervals[key]] == pytest.approx(list(values))


def test_accuracy_interval_is_wilsons() -> None:
    p, y = _data(n=120)
    found = measure(p, y, list("abcd"), seed=3, resamples=99).intervals["accuracy"]
    share, z = float((p.argmax(axis=1) == y).mean()), 1.959964
    middle, width = (share + z**2 / 240) / (1 + z**2 / 120), math.sqrt(share * (1 - share) / 120 + (z / 240) ** 2)
    assert (found.low + found.high) / 2 == pytest.approx(middle, abs=1e-6)
    assert found.high - found.low == pytest.approx(2 * z * width / (1 + z**2 / 120), abs=1e-6)


def test_micro_auc_interval_is_that_of_resampled_samples() -> None:
    p, y = _data(n=60, k=3)
    found = measure(p, y, list("abc"), seed=1, resamples=300).intervals["auc_micro"]

    def micro(index: np.ndarray) -> float:
        return float(sk.roc_auc_score(np.eye(3)[y[index]].ravel(), p[index].ravel()))

    options = {"n_resamples": 300, "vectorized": False, "rng": np.random.default_rng(1)}
    expected = scipy.stats.bootstrap((np.arange(60),), micro, **options).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_calibration_by_a_loop() -> None:
    p, y = _data()
    found = measure(p, y, list("abcd"), resamples=100)
    confidence, right, expected = p.max(axis=1), p.argmax(axis=1) == y, 0.0
    for b, (low, high) in enumerate(zip(found.reliability.edges[:-1], found.reliability.edges[1:], strict=True)):
        members = (confidence > low) & (confidence <= high)
        assert found.reliability.count[b] == members.sum()
        if members.any():
            assert found.reliability.accuracy[b] == pytest.approx(right[members].mean())
            expected += abs(confidence[members].mean() - right[members].mean()) * members.mean()
        else:
            assert math.isnan(found.reliability.accuracy[b])
    assert found.ece == pytest.approx(expected)


def test_a_perfect_classifier() -> None:
    y = np.arange(40) % 4
    found = measure(np.eye(4)[y], y, list("abcd"), resamples=100)
    assert found.accuracy == found.auc_macro == found.auc_micro == found.averages["f1_macro"] == 1.0
    assert found.ece == 0.0
    assert found.intervals["accuracy"].low == pytest.approx(40 / (40 + 1.959964**2), abs=1e-6)  # Wilson's
    for key in ("accuracy", "precision"):
        assert found.class_intervals[key][0].low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)  # Wilson's
    assert found.confusions() == ()
    assert "No sample is classified wrongly." in found.findings


def test_a_class_without_samples_is_undefined_and_left_out() -> None:
    p, y = _data(k=4)
    keep = y != 2
    found = measure(p[keep], y[keep], ["a", "b", "missing", "d"], resamples=200)
    assert math.isnan(found.auc[2])
    assert math.isnan(found.class_accuracy[2])
    assert len(found.roc["missing"].false_positive) == 0
    assert np.isnan(found.confusion_normalised[2]).all()
    assert found.auc_macro == pytest.approx(np.nanmean(found.auc))
    assert math.isnan(found.class_intervals["auc"][2].low)
    assert math.isfinite(found.intervals["auc_macro"].low)
    assert any("No sample of missing" in text for text in found.findings)
    assert found.examples()[2] == hp.performance.Examples("missing", (), (), ())


def test_one_sample() -> None:
    one = measure([[0.3, 0.7]], [1], ["no", "yes"], resamples=100)
    assert one.accuracy == 1.0
    assert math.isnan(one.auc_macro)
    assert one.intervals["accuracy"].low == pytest.approx(1 / (1 + 1.959964**2), abs=1e-6)
    assert one.findings
    json.dumps(one.to_dict(), allow_nan=False)
    assert len(one.to_frame()) == 2


def test_two_classes() -> None:
    p, y = _data(k=2)
    found = measure(p, y, ["no", "yes"], resamples=100)
    assert found.auc[0] == pytest.approx(sk.roc_auc_score(y, p[:, 1]))
    assert found.auc[0] == pytest.approx(found.auc[1])


def test_evaluate_reads_the_input_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    p, y = _data(n=50)
    whole = hp.evaluate(Stub(), _samples(p, y), seed=4)
    monkeypatch.setattr("heatproof.performance.evaluation.CHUNK", 64)
    stub = Stub()
    found = hp.evaluate(stub, _samples(p, y), seed=4)
    assert stub.sizes == [16, 16, 16, 2]
    assert found.intervals == whole.intervals
    np.testing.assert_array_equal(found.probabilities, whole.probabilities)
    np.testing.assert_array_equal(found.predictions, p.argmax(axis=1))


def test_evaluate_takes_a_module_or_a_probe() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 3, 3), nn.Flatten(), nn.Linear(18, 3))
    samples = Samples(torch.randn(20, 1, 8), torch.arange(20) % 3)
    expected = model(samples.x).softmax(1).detach()
    for given in (model, hp.Probe(model)):
        found = hp.evaluate(given, samples, batch=7)
        torch.testing.assert_close(torch.tensor(found.probabilities, dtype=torch.float32), expected)
    assert model.training


def test_seed_decides_the_intervals() -> None:
    p, y = _data(n=60)
    first, again, other = (measure(p, y, list("abcd"), seed=s, resamples=200) for s in (1, 1, 2))
    assert first.intervals == again.intervals
    assert first.intervals != other.intervals


def _by_hand() -> Performance:
    y = [0] * 6 + [1] * 6
    sure = [0.9, 0.8, 0.7, 0.6, 0.45, 0.1, 0.05, 0.2, 0.3, 0.4, 0.35, 0.75]
    return measure([[q, 1 - q] for q in sure], y, ["cat", "dog"], resamples=200)


def test_examples_are_the_surest_and_the_least_sure() -> None:
    cat, dog = _by_hand().examples(2)
    assert (cat.name, cat.right, cat.wrong, cat.unsure) == ("cat", (0, 1), (5, 4), (4, 3))
    assert (dog.right, dog.wrong, dog.unsure) == ((6, 7), (11,), (9, 10))


def test_confusions_and_findings() -> None:
    found = _by_hand()
    first, second = found.confusions()
    assert (first.true, first.predicted, first.count, first.share) == ("cat", "dog", 2, pytest.approx(1 / 3))
    assert (second.true, second.predicted, second.count) == ("dog", "cat", 1)
    assert found.confusions(1) == (first,)
    text = " ".join(found.findings)
    assert text.startswith("9 of 12 samples (75.0 %")
    assert "lowest is cat" in text
    assert "mostly taken for dog (2 of 6)" in text
    assert "cat and dog: 3 of the 3 errors" in text
    assert "fits its accuracy" in text


def test_findings_name_a_class_that_is_hard_and_a_boast() -> None:
    y = np.repeat([0, 1, 2], 100)
    given = y.copy()
    given[:60] = 1
    found = measure(0.01 + 0.97 * np.eye(3)[given], y, ["three", "eight", "one"], resamples=300)
    text = " ".join(found.findings)
    assert "Harder than the rest is three (40.0 %" in text
    assert "mostly taken for eight (60 of 100)" in text
    assert "overconfident" in text


def test_tables() -> None:
    found = _measured()
    table = found.to_frame()
    assert list(table["class"]) == ["0", "1", "2", "3"]
    assert table["samples"].sum() == len(found) == 300
    assert (table["accuracy low"] <= table["accuracy"]).all()
    rows = found.to_frame("samples")
    assert rows["right"].mean() == pytest.approx(found.accuracy)
    assert len(rows.columns) == 8
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["numbers"]["accuracy"]["mean"] == pytest.approx(found.accuracy)
    assert plain["roc"]["micro"]["false_positive"][-1] == 1.0
    assert len(plain["roc"]["micro"]["false_positive"]) <= 200


@pytest.mark.parametrize(
    ("p", "y", "classes", "word"),
    [
        ([[0.5, 0.5]], [0], ["a", "b", "c"], "2 outputs, the samples have 3 classes"),
        ([[math.nan, 0.5]], [0], ["a", "b"], "NaN"),
        ([[2.5, -0.5]], [0], ["a", "b"], "softmax"),
        ([[1.0]], [0], ["a"], "at least two"),
        ([[0.5, 0.5]], [2], ["a", "b"], "labels"),
        ([[0.5, 0.5]], [0, 1], ["a", "b"], "labels"),
        (np.zeros((0, 2)), [], ["a", "b"], "at least 1"),
    ],
)
def test_bad_input(p: object, y: object, classes: list[str], word: str) -> None:
    with pytest.raises(InputError, match=word):
        measure(p, y, classes)  # type: ignore[arg-type]


def test_bad_samples() -> None:
    p, y = _data(n=10)
    with pytest.raises(InputError, match="no samples"):
        hp.evaluate(Stub(), _samples(p, y, tuple("abcd")).take([]))
    with pytest.raises(InputError, match="4 outputs, the samples have 6 classes"):
        hp.evaluate(Stub(), _samples(p, y, tuple("abcdef")))
