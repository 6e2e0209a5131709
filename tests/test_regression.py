"""Samples and models of a real number, from the records to the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn import metrics as sk
from tests.small_study import study
from tests.toys import seeded
from torch import Tensor, nn

import heatproof as hp
from heatproof.data.arrays import arrays
from heatproof.errors import InputError, UsageError
from heatproof.performance import RegressionPerformance, measure_regression
from heatproof.performance.wording import headline, sentence
from heatproof.records import Samples, Splits
from heatproof.report import Content, write
from heatproof.studies.targets import explained

X = np.zeros((4, 1, 8), dtype=np.float32)
LENGTH = 12


class Linear(nn.Module):
    """The sum of the second half of a signal, weighted 1 to 6, less 3."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([torch.zeros(LENGTH // 2), torch.arange(1.0, LENGTH // 2 + 1)]))

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, 0] @ self.weight - 3.0)[:, None]


def values(n: int = 40, seed: int = 0) -> Samples:
    """Signals with the value that the linear model gives, and a little noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.2, 0.5, (n, 1, LENGTH)).astype(np.float32)
    y = Linear()(torch.tensor(x)).detach().numpy()[:, 0] + rng.normal(0, 0.3, n)
    return Samples(x, y, classes=["depth"], name="signals", about={"unit": "mm"})


class TestSamples:
    def test_real_numbers(self) -> None:
        samples = Samples(X, [0.5, 1.0, 2.0, 3.25])
        assert samples.task == "regression"
        assert samples.y.dtype == torch.float64
        assert samples.classes == ("value",)
        assert repr(samples.take([1, 2])) == (
            "Samples('samples', 2 inputs of shape (1, 8), float32, value from 1 to 2, without planted truth)"
        )
        assert "value, mean</th><td>1.688" in samples._repr_html_()
        assert "value, range</th><td>0.5 to 3.25" in samples._repr_html_()
        assert len(samples.take(slice(0, 0))) == 0
        assert Samples(X, [30.0, 40.0, 50.0, 60.0], classes=["age"]).task == "regression"

    @pytest.mark.parametrize(
        ("y", "classes", "message"),
        [
            ([0.5, 1, 2, 3], ("a", "b", "c"), "labels are real numbers and 3 classes are named: pass integers, or no "),
            ([0.0, 1, 2, 1], (), "got whole numbers as float64; pass integers for classes, or name what a regression"),
            ([0.5, np.nan, 2, 3], (), "NaN or infinite values, first in sample 1"),
            ([30, 40, 50, 60], ("age",), r"for a regression pass real numbers, y.astype\(float\)"),
        ],
    )
    def test_what_is_no_regression(self, y: list[float], classes: tuple[str, ...], message: str) -> None:
        with pytest.raises(InputError, match=message):
            Samples(X, np.array(y), classes=classes)


class TestReaders:
    def test_npz(self, tmp_path: Path) -> None:
        part = values()
        np.savez(tmp_path / "t.npz", x=part.x.numpy(), depth=part.y.numpy())
        splits = hp.data.load("arrays:y=depth", tmp_path / "t.npz")
        assert splits.task == "regression"
        assert splits.classes == ("depth",)
        assert (len(splits.train), len(splits.test)) == (30, 10)  # of ten ranges of values, at least one each

    def test_csv(self, tmp_path: Path) -> None:
        for cell, says in (
            ("", "value or leave"),
            ("NA", "value or leave"),
            ("nan", "value"),
            ('"1,5"', "decimal point"),
        ):
            rows = [f"{i},1,{cell if i == 3 else i + 0.5}\n" for i in range(6)]
            (tmp_path / "t.csv").write_text("a,b,age\n" + "".join(rows))
            with pytest.raises(InputError, match=f"line 5, column age has .* among fractional numbers; .*{says}"):
                arrays(tmp_path / "t.csv", y="age")
        (tmp_path / "t.csv").write_text("a,b,age\n" + "".join(f"{i},1,{i}\n" for i in range(6)))
        whole = arrays(tmp_path / "t.csv", y="age", task="regression")
        assert (whole.task, whole.classes) == ("regression", ("age",))
        assert arrays(tmp_path / "t.csv", y="age", test=0.5, task="regression").train.y.dtype == torch.float64
        (tmp_path / "t.csv").write_text("a,b,age\n" + "".join(f"{i},1,{'x' if i == 2 else i}\n" for i in range(6)))
        with pytest.raises(InputError, match="label of sample 2 is 'x'; expected one number"):
            arrays(tmp_path / "t.csv", y="age", task="regression")
        (tmp_path / "t.csv").write_text("a,b,age\n" + "".join(f"{i},1,{i + 0.5}\n" for i in range(6)))
        splits = arrays(tmp_path / "t.csv", y="age")
        assert splits.classes == ("age",)
        assert sorted(torch.cat([s.y for s in splits]).tolist()) == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]

    def test_whole_numbers_by_the_option(self) -> None:
        mapping = {"x": np.zeros((6, 1, 8)), "y": np.array([30, 41, 52, 30, 52, 41])}
        assert arrays(mapping).train.task == "classes"
        assert arrays(mapping, task="regression").train.task == "regression"
        with pytest.raises(InputError, match="for task=labels"):
            arrays(mapping, task="labels")


class TestPerformance:
    def test_numbers_are_those_of_scikit_learn(self) -> None:
        rng = np.random.default_rng(0)
        y = rng.normal(50, 10, 120)
        predictions = y + rng.normal(2, 4, 120)
        measured = measure_regression(predictions[:, None], y, quantity="age", unit="years", resamples=400)
        expected = {
            "r2": sk.r2_score(y, predictions),
            "mae": sk.mean_absolute_error(y, predictions),
            "rmse": sk.root_mean_squared_error(y, predictions),
            "bias": float((predictions - y).mean()),
        }
        for name, value in expected.items():
            estimate = measured.intervals[name]
            assert estimate.mean == pytest.approx(value)
            assert estimate.low < value < estimate.high
        assert [f.kind for f in measured.findings] == ["regression-fit", "regression-bias"]
        assert "The outputs are too high on average: bias 1." in sentence(measured.findings[1])
        assert "years" in sentence(measured.findings[0])
        assert headline("regression", measured.intervals, 120).startswith("R2 0.")

    def test_the_mean_explains_nothing_and_equal_values_define_nothing(self) -> None:
        y = np.arange(20.0)
        measured = measure_regression(np.full(20, y.mean()), y, resamples=200)
        assert measured.r2.mean == 0.0
        for scale in (1e-8, 1.0, 1e8):  # whatever the unit
            noisy = measure_regression(scale * y, scale * (y + np.arange(20) % 3), resamples=200)
            assert_allclose(noisy.r2.mean, measure_regression(y, y + np.arange(20) % 3, resamples=200).r2.mean)
            assert np.isfinite(noisy.r2.low)
        assert "regression-no-better-than-mean" in [f.kind for f in measured.findings]
        assert np.isnan(measure_regression(y, np.ones(20), resamples=200).r2.mean)

    @pytest.mark.parametrize(
        ("predictions", "y", "message"),
        [
            (np.zeros((3, 2)), np.zeros(3), "the model has 2 outputs, the samples have one value each"),
            (np.zeros(3), np.zeros(2), "expected .N,. for both"),
            (np.array([0.0, np.nan]), np.zeros(2), "the model returns NaN or infinite values for 1 samples"),
        ],
    )
    def test_what_does_not_fit(self, predictions: np.ndarray, y: np.ndarray, message: str) -> None:
        with pytest.raises(InputError, match=message):
            measure_regression(predictions, y)

    def test_evaluate_never_applies_a_sigmoid(self) -> None:
        samples = values()
        measured = hp.evaluate(Linear().eval(), samples)
        assert isinstance(measured, RegressionPerformance)
        assert_allclose(measured.predictions, Linear()(samples.x)[:, 0].detach(), atol=1e-5)
        assert measured.r2.mean > 0.95
        assert (measured.quantity, measured.unit) == ("depth", "mm")

    def test_a_classifier_is_refused(self) -> None:
        with pytest.raises(InputError, match="the samples have one real number each"):
            hp.evaluate(nn.Sequential(nn.Flatten(), nn.Linear(LENGTH, 3), nn.Softmax(1)).eval(), values())


class TestMaps:
    def test_a_linear_model_is_explained_by_its_output(self) -> None:
        x = values(6).x
        probe = hp.Probe(Linear(), outputs="regression")
        expected = x[:, 0] * Linear().weight.detach()
        assert_allclose(hp.explain(probe, x, "input-x-gradient"), expected, atol=1e-5)
        assert_allclose(probe.scores(x), Linear()(x)[:, 0].detach(), atol=1e-5)

    def test_a_target_is_refused(self) -> None:
        with pytest.raises(InputError, match="regression with one output"):
            hp.explain(hp.Probe(Linear(), outputs="regression"), values(2).x, "saliency", target=0)
        with pytest.raises(InputError, match="leave the target out"):
            explained(1, values())
        with pytest.raises(InputError, match="leave the target out"):
            explained("label", values())


class TestStudy:
    METRICS = ("deletion", "average-drop", "increase-in-confidence", "mosaic-localisation", "random-logit",
               "faithfulness-correlation", "max-sensitivity:runs=2", "average-gain")  # fmt: skip

    def test_the_output_is_the_score(self, tmp_path: Path) -> None:
        samples = values()
        results = study(Linear(), samples, ("input-x-gradient", "occlusion"), self.METRICS, out=tmp_path)
        assert results.task == "regression"
        assert_allclose(results.predictions, Linear()(samples.x)[:, 0].detach(), atol=1e-5)
        assert_allclose(results.y, samples.y)
        assert np.isnan(results.probability).all()
        skipped = {skip.metric.partition(":")[0]: skip.reason for skip in results.skips}
        assert set(skipped) == {
            "average-drop", "increase-in-confidence", "mosaic-localisation", "random-logit", "average-gain",
        }  # fmt: skip
        assert "the output of a regression may be 0 or negative" in skipped["average-drop"]
        assert "no other class" in skipped["random-logit"]
        assert results.scores["input-x-gradient", "faithfulness-correlation"].mean() > 0.9
        assert results.about["skill"]["measure"] == "correlation"
        assert results.groups is None
        with pytest.raises(InputError, match="a regression has no correct and incorrect predictions"):
            results.rows("correct")
        again = hp.load(tmp_path)
        assert isinstance(again, hp.Results)
        text = " ".join(s.text for s in again.judgement.statements)
        assert "The model has learnt from its data (correlation with the truth" in text
        page = again.report(tmp_path / "r.html").read_text()
        assert "true → predicted" in page
        for words in ("lassified correctly", "Confusion matrix", "by class"):
            assert words not in page

    def test_a_model_that_knows_nothing_is_seen(self) -> None:
        samples = values()
        shuffled = Samples(samples.x, samples.y.flip(0), classes=["depth"])
        results = study(Linear(), shuffled, ("saliency",), ("deletion",), self_checks=False)
        kinds = [f.kind for f in hp.Results.of([results]).verdict().findings]
        assert "model-has-not-learnt" in kinds

    def test_two_outputs_are_refused(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(LENGTH, 2))
        with pytest.raises(InputError, match="the model has 2 outputs, the samples have one value each"):
            study(hp.Probe(model, outputs="regression"), values(), ("saliency",), ("deletion",))


def test_training_by_the_squared_error() -> None:
    with seeded():
        net = nn.Sequential(nn.Flatten(), nn.Linear(LENGTH, 1))
    model = hp.train(values(300), net=net, recipe="fast:shift=0,learning_rate=0.1", epochs=60, quiet=True)
    measured = hp.evaluate(model, values(60, seed=1))
    assert measured.intervals["r2"].mean > 0.8
    assert model.card.metrics["train_mae"] < 1.0
    assert np.isnan(model.history[-1].train_accuracy)
    with pytest.raises(UsageError, match=r"expected one number a sample, shape \(N, 1\)"):
        hp.train(values(), net=nn.Sequential(nn.Flatten(), nn.Linear(LENGTH, 2)), epochs=1, quiet=True)


def test_the_report_of_a_regression(tmp_path: Path) -> None:
    performance = hp.evaluate(Linear().eval(), values(60))
    page = write(Content(performance=performance), tmp_path / "r.html").read_text()
    for words in ("R2, share of the variance explained", "Outputs against true values", "Mean absolute error",
                  "How good is the model?", "The largest errors"):  # fmt: skip
        assert words.casefold() in page.casefold()
    for words in ("Confusion matrix", "ROC", "Accuracy", "The classifier"):
        assert words not in page


def test_splits_of_a_regression() -> None:
    samples = values()
    assert Splits(samples, samples.take(range(3))).classes == ("depth",)
