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
from heatproof import plots
from heatproof.errors import InputError
from heatproof.performance import Performance, measure
from heatproof.performance.evaluation import BINS
from heatproof.performance.label_evaluation import measure_labels
from heatproof.performance.resamples import CLASS_NUMBERS, NUMBERS, Resampled
from heatproof.performance.wording import SENTENCES, sentence
from heatproof.records import Estimate, Finding, Samples


class Stub:
    """Returns the probabilities that its input holds."""

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
    performance = measure(p, y, list("abcd"), resamples=200)
    predicted = p.argmax(axis=1)
    assert float(performance.accuracy) == pytest.approx(sk.accuracy_score(y, predicted))
    assert float(performance.balanced_accuracy) == pytest.approx(sk.balanced_accuracy_score(y, predicted))
    np.testing.assert_array_equal(performance.confusion, sk.confusion_matrix(y, predicted))
    np.testing.assert_allclose(performance.confusion_normalised, sk.confusion_matrix(y, predicted, normalize="true"))
    np.testing.assert_allclose(performance.class_accuracy, sk.recall_score(y, predicted, average=None))
    np.testing.assert_allclose(performance.precision, sk.precision_score(y, predicted, average=None))
    np.testing.assert_allclose(performance.f1, sk.f1_score(y, predicted, average=None))
    np.testing.assert_allclose(performance.auc, sk.roc_auc_score(y, p, multi_class="ovr", average=None))
    assert float(performance.auc_macro) == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr", average="macro"))
    assert float(performance.auc_micro) == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr", average="micro"))
    assert float(performance.log_loss) == pytest.approx(sk.log_loss(y, p))
    for average in ("macro", "weighted"):
        for key, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
            mean = performance.averages[f"{key}_{average}"].mean
            assert mean == pytest.approx(score(y, predicted, average=average)), key
    for name, curve in performance.roc.items():
        assert np.trapezoid(curve.true_positive, curve.false_positive) == pytest.approx(curve.auc), name


@pytest.mark.parametrize("seed", [0, 1])
def test_resampled_numbers_equal_the_numbers_of_the_resample(seed: int) -> None:
    p, y = _data(n=80, k=3, seed=seed, decimals=2)
    drawn = np.random.default_rng(seed).integers(0, 80, (5, 80))
    weights = np.stack([np.bincount(row, minlength=80) for row in drawn]).astype(float)
    table = Resampled(p, y, BINS)(weights)
    for row, values in zip(drawn, table, strict=True):
        performance = measure(p[row], y[row], list("abc"), resamples=100)
        expected = [performance.intervals[key].mean for key in NUMBERS]
        expected += [*performance.class_accuracy, *performance.precision, *performance.f1, *performance.auc]
        np.testing.assert_allclose(values, expected)


def test_every_single_number_has_an_interval_that_holds_it() -> None:
    performance = _measured()
    assert tuple(performance.intervals) == NUMBERS
    for key, interval in performance.intervals.items():
        assert interval is (getattr(performance, key) if hasattr(performance, key) else performance.averages[key])
        assert interval.low < interval.mean < interval.high, key
        assert interval.n == len(performance)
    assert tuple(performance.class_intervals) == CLASS_NUMBERS
    for key, values in (("accuracy", performance.class_accuracy), ("auc", performance.auc), ("f1", performance.f1)):
        assert [e.mean for e in performance.class_intervals[key]] == pytest.approx(list(values))


def test_accuracy_interval_is_exact() -> None:
    p, y = _data(n=120)
    accuracy = measure(p, y, list("abcd"), seed=3, resamples=99).accuracy
    exact = scipy.stats.binomtest(int((p.argmax(axis=1) == y).sum()), 120).proportion_ci(0.95, method="exact")
    assert (accuracy.low, accuracy.high) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_micro_auc_interval_is_that_of_resampled_samples() -> None:
    p, y = _data(n=60, k=3)
    area = measure(p, y, list("abc"), seed=1, resamples=300).auc_micro

    def micro(index: np.ndarray) -> float:
        return float(sk.roc_auc_score(np.eye(3)[y[index]].ravel(), p[index].ravel()))

    options = {"n_resamples": 300, "vectorized": False, "rng": np.random.default_rng(1)}
    expected = scipy.stats.bootstrap((np.arange(60),), micro, **options).confidence_interval
    assert (area.low, area.high) == pytest.approx(tuple(expected))


def test_calibration_by_a_loop() -> None:
    p, y = _data()
    performance = measure(p, y, list("abcd"), resamples=100)
    probability, correct, expected = p.max(axis=1), p.argmax(axis=1) == y, 0.0
    for b, (low, high) in enumerate(
        zip(performance.reliability.edges[:-1], performance.reliability.edges[1:], strict=True)
    ):
        members = (probability > low) & (probability <= high)
        assert performance.reliability.count[b] == members.sum()
        if members.any():
            assert performance.reliability.probability[b] == pytest.approx(probability[members].mean())
            assert performance.reliability.accuracy[b] == pytest.approx(correct[members].mean())
            expected += abs(probability[members].mean() - correct[members].mean()) * members.mean()
        else:
            assert math.isnan(performance.reliability.accuracy[b])
    assert float(performance.ece) == pytest.approx(expected)


def test_a_perfect_classifier() -> None:
    y = np.arange(40) % 4
    performance = measure(np.eye(4)[y], y, list("abcd"), resamples=100)
    ones = ("accuracy", "auc_macro", "auc_micro", "f1_macro")
    assert [performance.intervals[key].mean for key in ones] == [1.0] * 4
    assert performance.ece.mean == 0.0
    assert performance.intervals["accuracy"].low == pytest.approx(0.025 ** (1 / 40))
    for key in ("accuracy", "precision"):
        assert performance.class_intervals[key][0].low == pytest.approx(0.025 ** (1 / 10))
    assert performance.confusions() == ()
    assert performance.findings[1] == Finding("classifier-no-errors", "good")
    assert sentence(performance.findings[1]) == "No sample is classified incorrectly."


def test_a_class_without_samples_is_undefined_and_left_out() -> None:
    p, y = _data(k=4)
    keep = y != 2
    performance = measure(p[keep], y[keep], ["a", "b", "missing", "d"], resamples=200)
    assert math.isnan(performance.auc[2])
    assert math.isnan(performance.class_accuracy[2])
    assert len(performance.roc["missing"].false_positive) == 0
    assert np.isnan(performance.confusion_normalised[2]).all()
    assert performance.auc_macro.mean == pytest.approx(np.nanmean(performance.auc))
    assert math.isnan(performance.class_intervals["auc"][2].low)
    assert math.isfinite(performance.intervals["auc_macro"].low)
    absent = performance.findings[-1]
    assert absent == Finding("classifier-absent-classes", "bad", ("missing",))
    assert sentence(absent) == "There are no samples of missing, so nothing is measured for this class."
    assert performance.examples()[2] == hp.performance.Examples("missing", (), (), ())


def test_one_sample() -> None:
    one = measure([[0.3, 0.7]], [1], ["no", "yes"], resamples=100)
    assert float(one.accuracy) == 1.0
    assert math.isnan(one.auc_macro.mean)
    assert one.intervals["accuracy"].low == pytest.approx(0.025)
    assert one.findings
    json.dumps(one.to_dict(), allow_nan=False)
    assert len(one.to_frame()) == 2


def test_two_classes() -> None:
    p, y = _data(k=2)
    performance = measure(p, y, ["no", "yes"], resamples=100)
    assert performance.auc[0] == pytest.approx(sk.roc_auc_score(y, p[:, 1]))
    assert performance.auc[0] == pytest.approx(performance.auc[1])


def test_evaluate_reads_the_input_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    p, y = _data(n=50)
    whole = hp.evaluate(Stub(), _samples(p, y), seed=4)
    monkeypatch.setattr("heatproof.performance.evaluation.CHUNK", 64)
    stub = Stub()
    performance = hp.evaluate(stub, _samples(p, y), seed=4)
    assert stub.sizes == [16, 16, 16, 2]
    assert performance.intervals == whole.intervals
    np.testing.assert_array_equal(performance.probabilities, whole.probabilities)
    np.testing.assert_array_equal(performance.predictions, p.argmax(axis=1))


def test_evaluate_takes_a_module_or_a_probe() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 3, 3), nn.Flatten(), nn.Linear(18, 3))
    samples = Samples(torch.randn(20, 1, 8), torch.arange(20) % 3)
    expected = model(samples.x).softmax(1).detach()
    for predictor in (model, hp.Probe(model)):
        performance = hp.evaluate(predictor, samples, batch=7)
        torch.testing.assert_close(torch.tensor(performance.probabilities, dtype=torch.float32), expected)
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


def test_examples_are_the_most_and_the_least_confident() -> None:
    cat, dog = _by_hand().examples(2)
    assert (cat.name, cat.correct, cat.incorrect, cat.unsure) == ("cat", (0, 1), (5, 4), (4, 3))
    assert (dog.correct, dog.incorrect, dog.unsure) == ((6, 7), (11,), (9, 10))


def test_confusions_and_findings() -> None:
    performance = _by_hand()
    first, second = performance.confusions()
    assert (first.true, first.predicted, first.count, first.share) == ("cat", "dog", 2, pytest.approx(1 / 3))
    assert (second.true, second.predicted, second.count) == ("dog", "cat", 1)
    assert performance.confusions(1) == (first,)
    overall, lowest, pair, calibration = performance.findings
    assert overall == Finding(
        "classifier-accuracy",
        "note",
        numbers={
            "correct": 9,
            "samples": 12,
            "accuracy": 0.75,
            "low": overall.numbers["low"],
            "high": pytest.approx(0.945, abs=1e-3),
        },
    )
    assert (lowest.kind, lowest.subjects) == ("classifier-lowest-class", ("cat", "dog"))
    assert lowest.numbers == {
        "samples": 6, "accuracy": pytest.approx(2 / 3), "count": 2, "errors": 2,
        "low": lowest.numbers["low"], "high": lowest.numbers["high"],
    }  # fmt: skip
    assert pair == Finding("classifier-confused-pair", "note", ("cat", "dog"), numbers={"count": 3, "errors": 3})
    assert (calibration.severity, calibration.reason) == ("good", "calibrated")
    assert [sentence(finding) for finding in performance.findings] == [
        "9 of 12 samples (75.0 %, 95 % CI 42.8 to 94.5) are classified correctly.",
        (
            "No class is significantly harder than the rest; the lowest accuracy is that of cat "
            "(66.7 %, 95 % CI 22.3 to 95.7), mostly classified as dog (2 of 6)."
        ),
        "The most confused pair is cat and dog: 3 of the 3 errors.",
        (
            f"Calibration: consistent with the accuracy (ECE {performance.ece:.2f}; "
            "mean probability 74.2 %, accuracy 75.0 %)."
        ),
    ]


def test_findings_name_a_hard_class_and_over_confidence() -> None:
    y = np.repeat([0, 1, 2], 100)
    predicted = y.copy()
    predicted[:60] = 1
    performance = measure(0.01 + 0.97 * np.eye(3)[predicted], y, ["three", "eight", "one"], resamples=300)
    _, hard, _, calibration = performance.findings
    assert (hard.kind, hard.subjects) == ("classifier-hard-class", ("three", "eight"))
    assert (hard.numbers["count"], hard.numbers["samples"]) == (60, 100)
    assert (calibration.severity, calibration.reason) == ("bad", "over-confident")
    assert sentence(hard) == (
        "Class three is harder than the rest (accuracy 40.0 %, 95 % CI 30.3 to 50.3), "
        "mostly classified as eight (60 of 100)."
    )
    assert sentence(calibration) == (
        "Calibration: strongly over-confident (ECE 0.18; mean probability 98.0 %, accuracy 80.0 %)."
    )


@pytest.mark.parametrize(
    ("ece", "reason", "words"),
    [
        (0.02, "under-confident", "slightly under-confident"),
        (0.07, "over-confident", "moderately over-confident"),
        (0.15, "over-confident", "strongly over-confident"),
    ],
)
def test_calibration_is_worded_by_its_size(ece: float, reason: str, words: str) -> None:
    numbers = {"ece": ece, "probability": 0.9, "accuracy": 0.8}
    finding = Finding("classifier-calibration", "note", reason=reason, numbers=numbers)
    assert sentence(finding).startswith(f"Calibration: {words} (ECE {ece:.2f}; ")


def test_many_hard_classes_are_shortened_and_every_kind_has_a_sentence() -> None:
    y = np.repeat(np.arange(10), 40)
    predicted = np.where((y < 5) & (np.arange(400) % 40 > 2), 9, y)
    performance = measure(0.01 + 0.9 * np.eye(10)[predicted], y, list("abcdefghij"), resamples=200)
    kinds = [finding.kind for finding in performance.findings]
    assert kinds.count("classifier-hard-class") == 3
    more = next(f for f in performance.findings if f.kind == "classifier-more-hard-classes")
    assert sentence(more) == "2 more classes are harder than the rest: d and e."
    assert set(kinds) <= set(SENTENCES)


def test_estimates_read_as_numbers() -> None:
    accuracy = Estimate(0.954, 0.9412, 0.9644, 1000)
    assert float(accuracy) == 0.954
    assert f"{accuracy:.3f} {accuracy:.0%} {accuracy}" == "0.954 95% 0.954 (95 % CI 0.941 to 0.964)"
    assert repr(accuracy) == "0.954 (95 % CI 0.941 to 0.964, n=1,000)"


def test_a_performance_prints_briefly() -> None:
    performance = _measured()
    accuracy = performance.accuracy
    assert repr(performance) == (
        f"Performance(samples: 300 samples, 4 classes, accuracy {accuracy:.3f} "
        f"({accuracy.low:.3f} to {accuracy.high:.3f}), ECE {performance.ece:.3f})"
    )
    page = performance._repr_html_()
    assert page.count("<tr>") == 1 + len(NUMBERS)
    assert f"<td>accuracy</td><td>{accuracy:.3f}</td>" in page


def test_tables() -> None:
    performance = _measured()
    table = performance.to_frame()
    assert list(table["class"]) == ["0", "1", "2", "3"]
    assert table["samples"].sum() == len(performance) == 300
    assert (table["accuracy low"] <= table["accuracy"]).all()
    rows = performance.to_frame("samples")
    assert rows["correct"].mean() == pytest.approx(performance.accuracy.mean)
    np.testing.assert_array_equal(rows["probability"], performance.probabilities.max(axis=1))
    assert len(rows.columns) == 8
    plain = json.loads(json.dumps(performance.to_dict(), allow_nan=False))
    assert plain["numbers"]["accuracy"]["mean"] == pytest.approx(performance.accuracy.mean)
    assert plain["findings"][0]["kind"] == "classifier-accuracy"
    assert plain["findings"][0]["numbers"]["samples"] == 300
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


def test_classes_called_like_averages_keep_their_own_curves() -> None:
    generator = np.random.default_rng(0)
    y, names = generator.integers(0, 3, 60), ("macro", "micro", "c")
    p = generator.dirichlet(np.ones(3), 60)
    labels = generator.integers(0, 2, (60, 3))
    usual, odd = (measure(p, y, classes, resamples=200) for classes in ("abc", names))
    several, labelled = (measure_labels(p, labels, classes, resamples=200) for classes in ("abc", names))
    for one, other in ((usual, odd), (several, labelled)):
        np.testing.assert_array_equal(one.auc, other.auc)
        assert one.roc["macro"].auc == other.roc["macro"].auc != other.roc["macro (class)"].auc == other.auc[0]
        assert one.roc["micro"].auc == other.roc["micro"].auc
        plots.roc(other)
    plots.precision_recall(labelled)
    with pytest.raises(InputError, match="'a' stands more than once"):
        measure(p, y, ("a", "a", "c"))


def test_bad_samples() -> None:
    p, y = _data(n=10)
    with pytest.raises(InputError, match="no samples"):
        hp.evaluate(Stub(), _samples(p, y, tuple("abcd")).take([]))
    with pytest.raises(InputError, match="4 outputs, the samples have 6 classes"):
        hp.evaluate(Stub(), _samples(p, y, tuple("abcdef")))
