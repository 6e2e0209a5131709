"""Multi-label samples and models, from the records to the report."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
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
from heatproof.cli import main
from heatproof.data.arrays import arrays
from heatproof.data.strata import strata
from heatproof.errors import FileError, InputError, UnknownName, UsageError
from heatproof.fingerprint import samples_digest
from heatproof.performance import LabelPerformance, measure_labels
from heatproof.performance.wording import headline, sentence
from heatproof.pipeline import stages
from heatproof.pipeline.match import matched
from heatproof.pipeline.plan import Plan
from heatproof.records import Samples, Splits
from heatproof.report import Content, write
from heatproof.studies.targets import explained

NAMES = ("left", "middle", "right")
X = np.zeros((4, 1, 8), dtype=np.float32)
MULTI = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]])
LENGTH = 12


class Thirds(nn.Module):
    """A label for each third of a signal: its logit is that third's sum, times a gain, less an offset."""

    def __init__(self, gain: float = 2.0, offset: float = 1.0) -> None:
        super().__init__()
        self.gain, self.offset = gain, offset
        self.weight = nn.Parameter(torch.eye(3).repeat_interleave(LENGTH // 3, dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x[:, 0] @ self.weight.T - self.offset


class Small(nn.Module):
    """A convolution and a dense layer over the thirds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 3, padding=1)
        self.dense = nn.Linear(4 * 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(nn.functional.adaptive_avg_pool1d(torch.relu(self.conv(x)), 3).flatten(1))


def thirds(n: int = 40, seed: int = 0, *, mask: bool = False) -> Samples:
    """Signals with a bump in each third whose label holds; every label combination occurs."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (n, 3))
    y[: min(8, n)] = [[i >> k & 1 for k in range(3)] for i in range(min(8, n))]
    x = rng.normal(0, 0.05, (n, 1, LENGTH)) + y.repeat(4, axis=1)[:, None] * np.tile([0.0, 1, 1, 0], 3)
    return Samples(x.astype(np.float32), y, y.repeat(4, axis=1) if mask else None, NAMES, "thirds")


def factory() -> nn.Module:
    """For the command line."""
    return Thirds()


class TestSamples:
    def test_labels_of_any_type(self) -> None:
        for y in (MULTI, MULTI.astype(bool), MULTI.astype(np.float32), MULTI.tolist(), torch.tensor(MULTI)):
            samples = Samples(X, y, classes=NAMES)
            assert samples.task == "labels"
            assert samples.y.dtype == torch.int64
            assert samples.y.tolist() == MULTI.tolist()
        assert repr(samples) == (
            "Samples('samples', 4 inputs of shape (1, 8), float32, 3 labels, 1.0 a sample, without planted truth)"
        )
        assert "label left</th><td>2" in samples._repr_html_()
        assert samples.take([1]).y.tolist() == [[1, 1, 0]]
        assert Splits(samples, samples.take(slice(0, 0))).task == "labels"
        assert Samples(X, MULTI).classes == ("0", "1", "2")

    @pytest.mark.parametrize(
        ("y", "classes", "message"),
        [
            (np.zeros((4, 1)), (), r"got shape \(4, 1\), expected \(N,\), or \(N, L\) with two labels or more"),
            (MULTI * 2, NAMES, "got 2 in sample 0, label 0; labels .N, L. are 0 or 1: choose a threshold"),
            (MULTI * 0.5, NAMES, "got 0.5 in sample 0, label 0"),
            (MULTI, ("a", "b"), "got 3 columns and 2 names"),
            (MULTI, ("a", "b", "a"), "classes: 'a' stands more than once"),
            ([0, 1, 2, 0], ("a", "a", "b"), "classes: 'a' stands more than once"),
            (np.where(MULTI, np.nan, 0.0), NAMES, "NaN or infinite values, first in sample 0"),
            (np.zeros((4, 2, 2)), (), "expected class numbers"),
        ],
    )
    def test_what_are_no_labels(self, y: np.ndarray, classes: tuple[str, ...], message: str) -> None:
        with pytest.raises(InputError, match=message):
            Samples(X, y, classes=classes)

    def test_both_parts_have_one_task(self) -> None:
        with pytest.raises(InputError, match="training samples with labels and test samples with classes"):
            Splits(Samples(X, MULTI), Samples(X, [0, 1, 1, 0]))

    def test_the_digest_depends_on_the_labels(self) -> None:
        one, other = Samples(X, MULTI), Samples(X, 1 - MULTI)
        assert samples_digest(one) != samples_digest(other)


class TestReaders:
    def test_npz(self, tmp_path: Path) -> None:
        part = thirds()
        np.savez(tmp_path / "t.npz", x=part.x.numpy(), y=part.y.numpy(), classes=np.array(NAMES))
        splits = arrays(tmp_path / "t.npz")
        assert splits.task == "labels"
        assert splits.classes == NAMES
        assert (len(splits.train), len(splits.test)) == (33, 7)  # a fifth of each combination
        again = arrays(tmp_path / "t.npz")
        assert torch.equal(again.test.y, splits.test.y)

    def test_csv_with_several_label_columns(self, tmp_path: Path) -> None:
        part = thirds(10)
        with (tmp_path / "t.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow([*(f"t{i}" for i in range(LENGTH)), *NAMES])
            table.writerows([*x[0].tolist(), *y.tolist()] for x, y in zip(part.x, part.y, strict=True))
        splits = hp.data.load("arrays:y=left+middle+right", tmp_path / "t.csv")
        assert splits.classes == NAMES
        assert splits.train.x.shape[1:] == (1, LENGTH)
        assert sorted(map(tuple, torch.cat([s.y for s in splits]).tolist())) == sorted(map(tuple, part.y.tolist()))
        with pytest.raises(InputError, match="has no column 'up'"):
            arrays(tmp_path / "t.csv", y=("left", "up"))
        with pytest.raises(UsageError, match="read from CSV files alone"):
            arrays({"x": X, "y": MULTI}, y=("a", "b"))

    def test_a_csv_needs_values_beside_its_labels(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("a,b\n0,1\n")
        with pytest.raises(FileError, match="has 2 columns; expected the values of a signal"):
            arrays(tmp_path / "t.csv", y=("a", "b"))

    def test_rare_combinations_share_a_stratum(self) -> None:
        y = torch.tensor([[1, 0]] * 20 + [[0, 1]] * 10 + [[1, 1]] + [[0, 0]])
        codes = strata(y)
        assert codes.bincount().tolist() == [10, 20, 2]


class TestPerformance:
    rng = np.random.default_rng(1)
    y = (rng.random((150, 3)) < [0.2, 0.5, 0.7]).astype(int)
    p = np.clip(0.4 * rng.random((150, 3)).round(2) + 0.6 * y * rng.random((150, 3)), 0, 1)
    measured = measure_labels(p, y, NAMES, resamples=200)

    def test_numbers_are_those_of_scikit_learn(self) -> None:
        y, p, hard = self.y, self.p, self.p >= 0.5
        expected = {
            "auc_macro": sk.roc_auc_score(y, p, average="macro"),
            "auc_micro": sk.roc_auc_score(y, p, average="micro"),
            "average_precision_macro": sk.average_precision_score(y, p, average="macro"),
            "average_precision_micro": sk.average_precision_score(y, p, average="micro"),
            "exact_match": sk.accuracy_score(y, hard),
            "hamming_loss": sk.hamming_loss(y, hard),
            "log_loss": np.mean([sk.log_loss(y[:, k], p[:, k]) for k in range(3)]),
        }
        for name, score in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
            expected |= {f"{name}_{average}": score(y, hard, average=average) for average in ("macro", "micro")}
        for name, value in expected.items():
            estimate = self.measured.intervals[name]
            assert estimate.mean == pytest.approx(value), name
            assert estimate.low <= value <= estimate.high
        classwise = self.measured.class_intervals
        for k in range(3):
            pair = y[:, k], hard[:, k]
            assert classwise["auc"][k].mean == pytest.approx(sk.roc_auc_score(y[:, k], p[:, k]))
            assert classwise["average_precision"][k].mean == pytest.approx(sk.average_precision_score(y[:, k], p[:, k]))
            assert classwise["f1"][k].mean == pytest.approx(sk.f1_score(*pair))
            assert classwise["precision"][k].mean == pytest.approx(sk.precision_score(*pair))
            assert classwise["recall"][k].mean == pytest.approx(sk.recall_score(*pair))
            assert classwise["accuracy"][k].mean == pytest.approx(sk.accuracy_score(*pair))
        assert self.measured.support.tolist() == y.sum(0).tolist()

    def test_calibration_by_hand(self) -> None:
        p, y = np.array([[0.95, 0.1], [0.95, 0.1], [0.05, 0.1], [0.05, 0.1]]), np.array([[1, 0]] * 2 + [[0, 0]] * 2)
        measured = measure_labels(p, y, ("a", "b"), resamples=200)
        assert [e.mean for e in measured.class_intervals["ece"]] == pytest.approx([0.05, 0.1])
        assert measured.intervals["ece"].mean == pytest.approx(0.075)
        bins = measured.reliability["a"]
        assert bins.count.sum() == 4
        assert_allclose(bins.accuracy[bins.count > 0], [0, 1])

    def test_a_label_nobody_has_is_undefined_and_left_out(self) -> None:
        y = self.y.copy()
        y[:, 1] = 0
        measured = measure_labels(self.p, y, NAMES, resamples=200)
        assert np.isnan(measured.auc[1])
        assert measured.intervals["auc_macro"].mean == pytest.approx(np.nanmean(measured.auc))
        absent = [f for f in measured.findings if f.kind == "labels-absent"]
        assert [f.subjects for f in absent] == [("middle",)]
        assert all(sentence(f) for f in measured.findings)

    def test_one_label_each_is_remarked(self) -> None:
        y = np.eye(3, dtype=int)[self.rng.integers(0, 3, 150)]
        kinds = [f.kind for f in measure_labels(self.p, y, NAMES, resamples=200).findings]
        assert "labels-exclusive" in kinds
        assert "labels-exclusive" not in [f.kind for f in self.measured.findings]

    @pytest.mark.parametrize(
        ("p", "y", "message"),
        [
            (np.zeros((2, 3)), np.zeros((2, 2)), "has 3 outputs"),
            (np.full((2, 3), 1.5), np.zeros((2, 3)), "apply a sigmoid"),
            (np.full((2, 3), np.nan), np.zeros((2, 3)), "NaN or infinite probabilities for 2 samples"),
            (np.zeros((2, 3)), np.full((2, 3), 2), "labels other than 0 and 1"),
        ],
    )
    def test_what_does_not_fit(self, p: np.ndarray, y: np.ndarray, message: str) -> None:
        with pytest.raises(InputError, match=message):
            measure_labels(p, y, NAMES)

    def test_evaluate_reads_a_sigmoid_a_label(self) -> None:
        samples = thirds()
        for model in (Thirds(), nn.Sequential(Thirds(), nn.Sigmoid())):
            measured = hp.evaluate(model.eval(), samples)
            assert isinstance(measured, LabelPerformance)
            assert_allclose(measured.probabilities, Thirds()(samples.x).sigmoid().detach(), atol=1e-6)
            assert measured.intervals["auc_macro"].mean == 1.0
        assert headline("labels", measured.intervals, len(measured)).startswith("mean AUC of the labels 1.000")

    def test_labels_for_a_model_of_classes_are_refused(self) -> None:
        with pytest.raises(InputError, match="the samples have 3 labels each"):
            hp.evaluate(nn.Sequential(Thirds(), nn.Softmax(1)).eval(), thirds())
        with pytest.raises(InputError, match="the samples have one of 3 classes each"):
            hp.evaluate(
                nn.Sequential(Thirds(), nn.Sigmoid()).eval(), Samples(thirds().x, torch.arange(40) % 3, classes=NAMES)
            )


class TestMaps:
    @pytest.mark.parametrize("label", range(3))
    def test_a_linear_model_is_explained_label_by_label(self, label: int) -> None:
        x = thirds(6).x
        probe = hp.Probe(Thirds(), outputs="label-logits")
        with torch.no_grad():
            expected = x[:, 0] * Thirds().weight[label] * 2.0
        assert_allclose(hp.explain(probe, x, "input-x-gradient", target=label), expected, atol=1e-6)
        weight = 2.0 * Thirds().weight[label].detach().expand(6, LENGTH)
        assert_allclose(hp.explain(probe, x, "saliency", target=label), weight, atol=1e-6)

    def test_scores_are_sigmoids_of_the_label_alone(self) -> None:
        samples = thirds(8)
        probe = hp.Probe(Thirds(), outputs="label-logits")
        for label in range(3):
            assert_allclose(probe.scores(samples.x, label), Thirds()(samples.x)[:, label].sigmoid().detach(), atol=1e-6)


class TestTargets:
    def test_positive_labels_become_rows(self) -> None:
        asked = explained("positive", Samples(X, MULTI, classes=NAMES, ids=list("wxyz")))
        assert asked.target.tolist() == [0, 0, 1, 2]
        assert asked.samples.ids == ("w [left]", "x [left]", "x [middle]", "y [right]")
        assert asked.pairs == {"samples": 3, "pairs": 4, "left_out": 1}
        assert explained("label", Samples(X, MULTI)).text == "positive"

    def test_by_name_and_by_number(self) -> None:
        samples = Samples(X, MULTI, classes=NAMES)
        assert (explained("middle", samples).target, explained(1, samples).text) == (1, "middle")
        with pytest.raises(UnknownName, match="unknown label 'midle'; did you mean 'middle'"):
            explained("midle", samples)
        with pytest.raises(InputError, match="got label 3, expected 0 to 2 for 3 labels"):
            explained(3, samples)
        with pytest.raises(InputError, match="has no sample with a positive label"):
            explained("positive", Samples(X, MULTI * 0))


class TestStudy:
    METHODS = ("input-x-gradient", "occlusion")
    METRICS = ("deletion", "average-drop", "relevance-mass", "random-logit", "max-sensitivity:runs=2")

    def test_the_most_probable_label_by_default(self) -> None:
        samples = thirds(mask=True)
        results = study(Thirds(), samples, self.METHODS, self.METRICS)
        z = Thirds()(samples.x).detach()
        assert results.task == "labels"
        assert results.explained is not None
        assert results.explained.tolist() == z.argmax(1).tolist()
        assert_allclose(results.probability, z.amax(1).sigmoid(), atol=1e-6)
        assert results.y.tolist() == samples.y.gather(1, z.argmax(1)[:, None])[:, 0].tolist()
        assert results.correct.tolist() == ((z.amax(1) >= 0).numpy() == (results.y == 1)).tolist()
        assert results.about["skill"]["measure"] == "auc"
        assert results.about["skill"]["model"] == 1.0
        drop = results.scores["input-x-gradient", "average-drop:keep=0.3"]
        assert ((drop >= 0) & (drop <= 1)).all()

    def test_every_positive_label(self, tmp_path: Path) -> None:
        samples = thirds(24)
        results = study(
            hp.Probe(Thirds(), outputs="label-logits"), samples, self.METHODS, self.METRICS[:2], target="positive",
            out=tmp_path,
        )  # fmt: skip
        rows, labels = samples.y.nonzero(as_tuple=True)
        assert len(results) == len(rows)
        assert results.explained is not None
        assert results.explained.tolist() == labels.tolist()
        assert (results.y == 1).all()
        left_out = int((samples.y.sum(1) == 0).sum())
        assert results.about["pairs"] == {"samples": 24 - left_out, "pairs": len(rows), "left_out": left_out}
        assert results.ids[0] == f"#{rows[0]} [{NAMES[labels[0]]}]"
        # Whether the model has learnt is seen on every sample once, those without a label among them.
        one = study(hp.Probe(Thirds(), outputs="label-logits"), samples, ("saliency",), ("deletion",), target="middle")
        assert results.about["skill"] == one.about["skill"]
        assert results.about["skill"]["samples"] == 24
        again = hp.load(tmp_path)
        assert isinstance(again, hp.Results)
        assert again.task == "labels"
        assert_allclose(again.explained, results.explained)
        frame = again.to_frame()
        assert set(frame["label"]) == set(NAMES)
        assert set(frame["true"]) == {1}
        text = " ".join(s.text for s in again.judgement.statements)
        assert f"{len(rows)} positive labels of {24 - left_out} samples" in text
        page = again.report(tmp_path / "r.html").read_text()
        for words in ("every positive label of every sample", "Explained label"):
            assert words in page
        assert "Confusion matrix" not in page

    def test_each_label_keeps_the_scores_of_a_study_of_its_own(self) -> None:
        samples = thirds(16)
        whole = study(Thirds(), samples, ("input-x-gradient",), ("deletion",), target="positive")
        single = study(Thirds(), samples, ("input-x-gradient",), ("deletion",), target="middle")
        rows, labels = samples.y.nonzero(as_tuple=True)
        cell = ("input-x-gradient", "deletion")
        chosen = (labels == 1).numpy()
        # Ties are ordered at random by the number of the row, which differs.
        assert_allclose(whole.scores[cell][chosen], single.scores[cell][rows[labels == 1]], atol=0.05)

    def test_robustness_keeps_draws_that_leave_the_label_as_it_is(self) -> None:
        x = torch.zeros(1, 1, LENGTH)
        x[0, 0, 0], x[0, 0, 4] = 1.0, 0.99
        probe = hp.Probe(Thirds(offset=0.2), outputs="label-logits")
        explain = lambda model, x, **more: hp.explain(model, x, "input-x-gradient", **more)  # noqa: E731
        map = hp.explain(probe, x, "input-x-gradient", target=1)
        value = hp.score(probe, x, map, "max-sensitivity:radius=0.05,runs=8", target=1, explain=explain)
        assert torch.isfinite(value).all()  # the most probable label changes, the one explained does not

    def test_a_model_with_other_labels_is_refused(self) -> None:
        samples = Samples(thirds().x, thirds().y[:, :2], classes=("a", "b"))
        with pytest.raises(InputError, match="the model has 3 outputs, the samples have 2 labels"):
            study(hp.Probe(Thirds(), outputs="label-logits"), samples, ("saliency",), ("deletion",))


class TestTraining:
    def test_binary_cross_entropy(self, tmp_path: Path) -> None:
        with seeded():
            net = Small()
        model = hp.train(thirds(200), net=net, recipe="fast:shift=0", epochs=40, quiet=True, out=tmp_path)
        measured = hp.evaluate(model, thirds(60, seed=1))
        assert measured.intervals["auc_macro"].mean > 0.95
        assert model.card.metrics["train_accuracy"] > 0.85
        assert model.card.classes == NAMES

    def test_a_final_sigmoid_is_refused(self) -> None:
        with pytest.raises(UsageError, match="leave out its sigmoid"):
            hp.train(thirds(), net=nn.Sequential(Small(), nn.Sigmoid()), epochs=1, quiet=True)

    def test_labels_are_shuffled_row_by_row(self) -> None:
        with seeded():
            model = Small().eval()
        samples = thirds(40)
        results = study(
            hp.Probe(model, outputs="label-logits"), Splits(samples, samples.take(range(8))), ("grad-cam",),
            ("label-randomisation:epochs=1",), self_checks=False, controls=False,
        )  # fmt: skip
        assert results.skips == ()


def test_labels_follow_the_order_of_the_model() -> None:
    with seeded():
        model = hp.train(thirds(20), net=Small(), epochs=1, quiet=True)
    part = thirds(12)
    mixed = replace(part, y=part.y[:, [2, 0, 1]], classes=("right", "left", "middle"))
    splits = matched(Splits(mixed, mixed), model)
    assert splits.classes == NAMES
    assert torch.equal(splits.test.y, part.y)
    fewer = replace(part, y=part.y[:, :2], classes=NAMES[:2])
    with pytest.raises(InputError, match="says nothing of the model's right"):
        matched(Splits(fewer, fewer), model)


def test_the_report_of_labels(tmp_path: Path) -> None:
    performance = hp.evaluate(Thirds(offset=2.0).eval(), thirds(80))
    page = write(Content(performance=performance), tmp_path / "r.html", files=True).read_text()
    for words in ("Precision against recall", "ROC curves: each label", "Measures by label", "Hamming loss",
                  "Exact match", "Reliability of each label", "The multi-label classifier"):  # fmt: skip
        assert words in page
    for words in ("Confusion matrix", "most often confused", "Balanced accuracy"):
        assert words not in page
    assert (tmp_path / "tables" / "labels.csv").exists()


def test_a_whole_run_of_labels(tmp_path: Path) -> None:
    part = thirds(30)
    np.savez(tmp_path / "t.npz", x=part.x.numpy(), y=part.y.numpy(), classes=np.array(NAMES))
    plan = Plan(data=hp.Spec("arrays"), path=str(tmp_path / "t.npz"), target="positive")
    model, splits = Thirds().eval(), stages.splits(plan)
    maps = stages.maps(replace(plan, methods=(hp.Spec("saliency"),)), model, splits.test, out=tmp_path)
    assert len(maps["saliency"]) == int(splits.test.y.sum())


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = thirds(30)
    np.savez(tmp_path / "t.npz", x=part.x.numpy(), y=part.y.numpy(), classes=np.array(NAMES))
    source = ["--data", "arrays", "--path", str(tmp_path / "t.npz"), "--model", "tests.test_labels:factory"]
    source += ["--outputs", "label-logits"]
    assert main(["evaluate", *source, "--out", str(tmp_path / "e")]) == 0
    shown = capsys.readouterr().out
    for words in ("AUC macro", "Hamming loss", "Label by label", "The mean AUC of 3 labels is 1.000"):
        assert words in shown
    page = json.loads((tmp_path / "e" / "performance.json").read_text())
    assert (page["task"], page["classes"]) == ("labels", list(NAMES))
    study = ["--methods", "saliency", "--metrics", "deletion", "--target", "positive", "--no-self-checks", "-q"]
    assert main(["study", *source, *study, "--out", str(tmp_path / "s")]) == 0
    assert "every positive label of every sample" in (tmp_path / "s" / "report.html").read_text()
    assert main(["report", str(tmp_path / "s")]) == 0
    assert main(["explain", *source, "--methods", "saliency", "--target", "up", "--out", str(tmp_path / "x")]) == 2
    assert "unknown label 'up'" in capsys.readouterr().err
