"""A study: the same numbers each time and after an interrupt, honest rankings, controls apart, skips with a reason."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof import metrics as judging
from heatproof.errors import FileError, FolderInUse, InputError, Interrupted, NotApplicable, UnknownName, UsageError
from heatproof.facade import Results
from heatproof.methods import control, default_controls, method, methods
from heatproof.metrics import follows_fill
from heatproof.probe import Probe
from heatproof.records import Samples
from heatproof.registry import Spec
from heatproof.results import storage as store
from heatproof.results.storage import folders
from heatproof.studies import plan as planning
from heatproof.studies.checkpoint import Journal
from heatproof.studies.plan import METRICS
from heatproof.studies.scores import explainer
from heatproof.verdict import Judgement

from .small_study import options, stopped, studies, study
from .toys import SIZE, Plain, inputs, ready

METRIC = ["deletion:steps=4", "insertion:steps=4", "relevance-mass"]
QUESTIONS = ("window-localisation", "window-correlation")
N = 12


def samples(n: int = N, *, mask: bool = True, rank: int = 1) -> Samples:
    truth = torch.zeros(n, *SIZE[rank], dtype=torch.bool)
    truth[..., 2:6] = True
    y = torch.arange(n) % 4
    return Samples(inputs(rank, n), y, truth if mask else None, classes=("a", "b", "c", "d"), name="toy")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return ready(Plain(1))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CHUNK", 5)


@pytest.fixture(scope="module")
def results(model: nn.Module) -> Results:
    return study(model, samples(), ["grad-cam", "ablation-cam"], METRIC)


def same(a: Results, b: Results) -> None:
    assert list(a.scores) == list(b.scores)
    for cell in a.scores:
        np.testing.assert_array_equal(a.scores[cell], b.scores[cell])
    assert list(a.curves) == list(b.curves)
    for cell in a.curves:
        np.testing.assert_array_equal(a.curves[cell].values, b.curves[cell].values)
    assert a.skips == b.skips


def test_scores_are_those_of_explain_and_score(model: nn.Module, results: Results) -> None:
    data = samples()
    maps = hp.explain(model, data.x, ["grad-cam", "random"])
    for name in ("grad-cam", "random"):
        for metric in METRIC:
            want = hp.score(model, data.x, maps[name], metric, mask=data.mask)
            np.testing.assert_allclose(results.scores[name, metric], want.numpy(), atol=1e-6)


def test_defaults_are_three_cams_four_controls_and_nine_metrics(model: nn.Module) -> None:
    results = study(model, samples(4))
    assert results.methods == ("grad-cam", "grad-cam-plus-plus", "ablation-cam")
    assert results.controls == default_controls()
    assert results.metrics == tuple(m + ":keep=0.3" * (m in METRICS[:2]) for m in METRICS)
    assert len(results.scores) + len(results.skips) == 7 * 9
    assert {check.method for check in results.verdict().methods} == set(results.methods)


@pytest.mark.usefixtures("small_chunks")
def test_two_runs_give_the_same_files(model: nn.Module, tmp_path: Path) -> None:
    for name in ("one", "two"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path / name)
    assert (tmp_path / "one" / "scores.csv").read_bytes() == (tmp_path / "two" / "scores.csv").read_bytes()


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_study_continues_with_the_same_numbers(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study(model, samples(), ["grad-cam"], METRIC)
    measure, calls, limit = judging.measure, list[int](), 0

    def stopping(*arguments: Any) -> Tensor:
        calls.append(1)
        if len(calls) == limit:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(judging, "measure", stopping)
    study(model, samples(5), ["grad-cam"], METRIC, self_checks=False)
    per_chunk, limit = len(calls), len(calls) + 1
    calls.clear()
    with pytest.raises(Interrupted, match="kept in"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path / "run", self_checks=False)
    assert stopped(tmp_path / "run") == ["000000", "predictions"]
    limit, calls[:] = 0, []
    again = study(model, samples(), ["grad-cam"], METRIC, out=tmp_path / "run", self_checks=False)
    assert len(calls) == 2 * per_chunk
    same(whole, again)
    assert not (tmp_path / "run" / "chunks").exists()
    same(whole, study(model, samples(), ["grad-cam"], METRIC, out=tmp_path / "run", self_checks=False))
    assert len(calls) == 2 * per_chunk


@pytest.mark.usefixtures("small_chunks")
def test_a_model_is_compared_with_its_copies_once(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study(model, samples(), ["grad-cam"], METRIC)

    def press(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(judging, "measure", press)
        with pytest.raises(Interrupted):
            study(model, samples(), ["grad-cam"], METRIC, out=tmp_path)
    assert stopped(tmp_path) == ["predictions"]
    monkeypatch.setattr("heatproof.studies.skill.randomised", lambda *_, **__: pytest.fail("copied again"))
    again = study(model, samples(), ["grad-cam"], METRIC, out=tmp_path)
    same(whole, again)
    assert again.about["skill"] == whole.about["skill"]
    assert len(again.about["skill"]["copies"]) == 19


def test_a_folder_of_another_study_is_refused(model: nn.Module, tmp_path: Path) -> None:
    study(model, samples(), ["grad-cam"], METRIC, out=tmp_path)
    with pytest.raises(FolderInUse, match=r"seed: . there, . here"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path, seed=1)
    with pytest.raises(FolderInUse, match=r"model: .* there"):
        study(ready(Plain(1), seed=5), samples(), ["grad-cam"], METRIC, out=tmp_path)
    with pytest.raises(FolderInUse, match="this very study"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path, resume=False)
    (tmp_path / "study.json").unlink()
    with pytest.raises(FolderInUse, match="other results"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderInUse, match="is a file"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path / "file")


class Tempered(Plain):
    """What a state dict does not hold decides its outputs too."""

    temperature, noise = 1.0, 0.0

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x) / self.temperature
        return z + self.noise * torch.randn(z.shape)


@pytest.mark.filterwarnings("ignore:the model draws random numbers")
@pytest.mark.parametrize("change", ["temperature", "eps", "hook", "activation", "code"])
def test_a_folder_is_not_continued_after_a_change_outside_the_weights(change: str, tmp_path: Path) -> None:
    model: Any = ready(Tempered(1))
    study(model, samples(), ["occlusion"], METRIC, out=tmp_path)
    study(model, samples(), ["occlusion"], METRIC, out=tmp_path)
    if change == "temperature":
        model.temperature = -0.5
    elif change == "eps":
        model.norm.eps = 3.0
    elif change == "hook":
        model.conv2.register_forward_hook(lambda module, arguments, output: -output)
    elif change == "activation":
        model.relu1 = nn.LeakyReLU(-1.0)
    else:
        model.forward = lambda x: -Tempered.forward(model, x)
    with pytest.raises(FolderInUse, match="model: its outputs for the same samples differ"):
        study(model, samples(), ["occlusion"], METRIC, out=tmp_path)
    page = json.loads((tmp_path / "study.json").read_text())
    page.pop("witness")  # as the version before wrote it
    (tmp_path / "study.json").write_text(json.dumps(page))
    study(model, samples(), ["occlusion"], METRIC, out=tmp_path)
    (tmp_path / "study.json").write_text(json.dumps(page | {"witness": {"answers": 3}}))
    with pytest.raises(FileError, match="damaged"):
        study(model, samples(), ["occlusion"], METRIC, out=tmp_path)


def test_a_folder_is_not_continued_with_any_other_value(model: nn.Module, tmp_path: Path) -> None:
    x = torch.randn(200, *samples().x.shape[1:], generator=torch.Generator().manual_seed(0))
    data = Samples(x, torch.arange(200) % 3, classes=tuple("abcd"))
    study(model, data, ["grad-cam"], ["deletion"], out=tmp_path, self_checks=False, controls=False)
    other = replace(data, x=x.clone())
    other.x[1] *= -3
    with pytest.raises(FolderInUse, match="samples: values"):
        study(model, other, ["grad-cam"], ["deletion"], out=tmp_path, self_checks=False, controls=False)


@pytest.mark.filterwarnings("ignore:the model draws random numbers")
@pytest.mark.filterwarnings("ignore:the model's output for a sample depends")
def test_a_model_that_draws_is_continued(tmp_path: Path) -> None:
    model: Any = ready(Tempered(1))
    model.noise = 0.5
    probe = Probe(model, outputs="logits")
    study(probe, samples(), ["occlusion"], ["deletion"], out=tmp_path, self_checks=False)
    torch.manual_seed(5)
    study(probe, samples(), ["occlusion"], ["deletion"], out=tmp_path, self_checks=False)


def test_a_model_with_other_outputs_than_classes_is_refused(model: nn.Module) -> None:
    data = Samples(inputs(1, N), torch.arange(N) % 3)
    with pytest.raises(InputError, match="the model has 4 outputs, the samples have 3 classes"):
        study(model, data, ["grad-cam"], ["deletion"])


class Wordless(Exception):
    """Fails to say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("fault", ["nan", "infinite", "wordless"])
def test_a_method_that_fails_on_one_sample_is_skipped(fault: str, model: nn.Module, small_chunks: None) -> None:
    def faulty(probe: Any, x: Tensor, goal: Any) -> Tensor:
        """A map of zeros, or worse."""
        map = torch.zeros(len(x), *x.shape[2:])
        if torch.equal(x[-1], samples().x[4]):
            if fault == "wordless":
                raise Wordless
            map[-1, 3] = float("nan" if fault == "nan" else "inf")
        return map

    with methods.temporarily():
        method("faulty")(faulty)
        results = study(model, samples(), ["saliency", "faulty"], METRIC, controls=False, self_checks=False)
    assert results.methods == ("saliency",)
    said = "Wordless" if fault == "wordless" else r"NaN or infinite maps for 1 of 5 samples (the first is number 4)"
    assert {(skip.method, said in skip.reason) for skip in results.skips} == {("faulty", True)}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("traced", [True, False])
def test_a_scripted_model_is_studied_without_cams(traced: bool) -> None:
    net = ready(nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 4)))
    model = torch.jit.trace(net, samples().x[:1]) if traced else torch.jit.script(net)  # type: ignore[no-untyped-call]
    metrics = ["deletion:steps=4", "parameter-randomisation:stages=2"]
    results = study(model, samples(), ["saliency", "occlusion", "grad-cam"], metrics)
    assert results.methods == ("saliency", "occlusion")
    assert {skip.method for skip in results.skips} == {"grad-cam"}
    assert all("TorchScript" in skip.reason for skip in results.skips)
    plain = study(net, samples(), ["saliency", "occlusion"], metrics)
    assert results.about["skill"] == plain.about["skill"]
    for cell in plain.scores:
        np.testing.assert_allclose(results.scores[cell], plain.scores[cell], atol=1e-4)


def test_cells_that_cannot_apply_are_skipped_with_a_reason(model: nn.Module) -> None:
    results = study(model, samples(mask=False), ["grad-cam"], [*METRIC, "average-gain"])
    assert {skip.metric for skip in results.skips} == {"relevance-mass"}
    assert len(results.skips) == 5
    assert "planted truth" in results.skips[0].reason
    assert ("grad-cam", "relevance-mass") not in results.scores
    assert results.judgement.comparable == ("deletion:steps=4", "insertion:steps=4", "average-gain:keep=0.3")
    logit = study(hp.Probe(model, score="logit"), samples(), ["grad-cam"], ["average-gain", "deletion"])
    assert {skip.metric for skip in logit.skips} == {"average-gain:keep=0.3"}


def test_a_metric_that_raises_is_skipped_with_the_reason(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = judging.measure

    def broken(case: Any, metric: Any) -> Tensor:
        if metric.name == "deletion":
            raise ZeroDivisionError("broken")
        return measure(case, metric)

    monkeypatch.setattr(judging, "measure", broken)
    results = study(model, samples(), ["grad-cam"], ["deletion", "insertion"])
    assert {skip.metric for skip in results.skips} == {"deletion"}
    assert "ZeroDivisionError: broken" in results.skips[0].reason
    assert ("grad-cam", "insertion") in results.scores


def test_a_method_that_does_not_apply_is_skipped(model: nn.Module) -> None:
    with methods.temporarily():

        @method("never-here")
        def never_here(probe: hp.Probe, x: Tensor, goal: Any) -> Tensor:
            raise NotApplicable("it has no meaning here")

        results = study(model, samples(4), ["grad-cam", "never-here"], METRIC)
    assert {skip.method for skip in results.skips} == {"never-here"}
    assert len(results.skips) == len(METRIC)
    assert ("grad-cam", "relevance-mass") in results.scores


def test_equal_maps_are_scored_once(model: nn.Module) -> None:
    probe = hp.Probe(model)
    study(probe, samples(4), ["centre"], METRIC, controls=False)
    once = probe.passes["forward"]
    other = hp.Probe(model)
    study(other, samples(4), ["centre", "centre:width=0.25"], METRIC, controls=False)
    assert other.passes["forward"] == once


def test_controls_are_never_candidates(results: Results) -> None:
    for metric in (None, *METRIC):
        ranking = results.ranking(metric)
        assert {row.method for row in ranking.rows} == {"grad-cam", "ablation-cam"}
        assert {row.method for row in ranking.controls} == set(default_controls())
        assert all(row.place == 0 and row.control for row in ranking.controls)
        assert ranking.rows[0].place == 1
        assert ranking.top
    named = study(hp.Probe(ready(Plain(1))), samples(4), ["random", "grad-cam"], METRIC)
    assert named.methods == ("grad-cam",)
    assert named.controls == default_controls()


def test_strata_split_correct_from_incorrect(results: Results) -> None:
    correct, incorrect = (results.estimates(s)["grad-cam", "deletion:steps=4"] for s in ("correct", "incorrect"))
    assert correct.n + incorrect.n == N
    values = results.scores["grad-cam", "deletion:steps=4"]
    assert correct.mean == pytest.approx(values[results.predictions == results.y].mean())


def test_the_frame_is_tidy(results: Results) -> None:
    frame = results.to_frame()
    assert len(frame) == N * 6 * len(METRIC)
    assert list(frame.columns) == [
        "sample", "id", "label", "prediction", "probability", "method", "control", "metric", "value",
    ]  # fmt: skip
    one = frame[(frame["method"] == "edge") & (frame["metric"] == "relevance-mass")]
    np.testing.assert_array_equal(one["value"], results.scores["edge", "relevance-mass"])
    assert one["control"].all()
    assert set(frame["label"]) == {"a", "b", "c", "d"}


def test_the_gallery_shows_correct_and_incorrect_samples_of_each_class(results: Results) -> None:
    shown = results.gallery
    assert shown is not None
    assert {int(results.y[i]) for i in shown.index} == {0, 1, 2, 3}
    assert shown.x.shape == (len(shown.index), 2, *SIZE[1])
    maps = hp.explain(ready(Plain(1)), samples().x, "grad-cam")
    np.testing.assert_allclose(shown.maps["grad-cam"], maps[torch.from_numpy(shown.index)].numpy(), atol=1e-6)


def test_what_is_explained_can_be_the_label_or_given(model: nn.Module) -> None:
    data = samples()
    label = study(model, data, ["grad-cam"], METRIC, target="label", controls=False)
    listed = study(model, data, ["grad-cam"], METRIC, target=data.y, controls=False)
    one = study(model, data, ["grad-cam"], METRIC, target=2, controls=False)
    assert not np.array_equal(one.scores["grad-cam", METRIC[0]], label.scores["grad-cam", METRIC[0]])
    for cell in label.scores:
        np.testing.assert_array_equal(label.scores[cell], listed.scores[cell])


def test_fills_with_donors_draw_from_the_samples(model: nn.Module) -> None:
    results = study(model, samples(), ["grad-cam"], METRIC, fill="donor", controls=False)
    assert np.isfinite(results.scores["grad-cam", "deletion:steps=4"]).all()


@pytest.mark.usefixtures("small_chunks")
def test_progress_reaches_the_end(model: nn.Module) -> None:
    steps: list[tuple[str, int, int]] = []
    study(model, samples(), ["grad-cam"], METRIC, progress=lambda *step: steps.append(step))
    for stage, total in (("explaining", N), ("judging", N * 5 * 3)):
        counts = [(done, whole) for name, done, whole in steps if name == stage]
        assert counts[-1] == (total, total)
        assert counts == sorted(counts)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_samples_are_enough_to_run(model: nn.Module, n: int) -> None:
    results = study(model, samples(n), ["grad-cam", "ablation-cam"], METRIC)
    assert len(results.ranking().rows) == 2


def test_bad_input(model: nn.Module) -> None:
    with pytest.raises(InputError, match="no samples"):
        study(model, samples().take([]))
    with pytest.raises(UnknownName, match="grad-cam"):
        study(model, samples(), ["grad-cm"])
    with pytest.raises(UnknownName, match="noise"):
        study(model, samples(), fill="nois")
    with pytest.raises(UsageError, match="level: got 95"):
        study(model, samples(), level=95.0)
    with pytest.raises(UsageError, match="keep: got 30"):
        study(model, samples(), keep=30)
    with pytest.raises(InputError, match="one class for each of 12"):
        study(model, samples(), target=[0, 1])
    with pytest.raises(UnknownName, match="unknown class 'z'"):
        study(model, samples(), target="z")
    with pytest.raises(UsageError, match="workers"):
        study(model, samples(), workers="threads", progress=lambda *_: pytest.fail("begun"))


@pytest.mark.parametrize("rank", [2, 3])
def test_images_and_volumes(rank: int) -> None:
    results = study(ready(Plain(rank)), samples(4, rank=rank), ["grad-cam"])
    assert results.metrics[0] == {2: "average-drop:keep=0.9", 3: "average-drop"}[rank]
    assert len(results.scores) + len(results.skips) == 5 * 9


@pytest.mark.usefixtures("small_chunks")
def test_the_seconds_of_every_method_and_metric_are_counted(model: nn.Module, tmp_path: Path) -> None:
    results = study(model, samples(), ["grad-cam", "ablation-cam"], [*METRIC, "random-logit"], out=tmp_path)
    spent = results.about["seconds"]
    assert set(spent["methods"]) == {*results.methods, *results.controls}
    assert set(spent["metrics"]) == set(results.metrics)
    assert all(s > 0 for kind in ("methods", "metrics") for s in spent[kind].values())
    assert spent["self_checks"] > 0
    again = hp.load(tmp_path)
    assert isinstance(again, Results)
    assert again.about["seconds"] == spent


FILLS = ["mean", "black", "noise"]


@contextmanager
def counted() -> Iterator[list[int]]:
    """A method that counts the samples it explains."""
    seen: list[int] = []

    with methods.temporarily():

        @method("counting-cam")
        def counting_cam(probe: hp.Probe, x: Tensor, goal: Any) -> Tensor:
            seen.append(len(x))
            return x[:, 0]

        yield seen


class TestSeveralFills:
    EVERY = (*METRIC, "max-sensitivity:runs=2", "random-logit", "gini-sparseness", *QUESTIONS)

    def test_are_the_studies_with_each_of_them(self, model: nn.Module) -> None:
        results = studies(model, samples(), ["grad-cam", "rise:masks=5"], self.EVERY, FILLS, target=0)
        assert [one.about["fill"] for one in results] == FILLS
        for one, fill in zip(results, FILLS, strict=True):
            alone = study(model, samples(), ["grad-cam", "rise:masks=5"], self.EVERY, fill=fill, target=0)
            same(one, alone)
            assert list(one.own_controls) == list(alone.own_controls)
            assert one.own_controls
            for key, values in one.own_controls.items():
                np.testing.assert_array_equal(values, alone.own_controls[key])
            assert one.evidence is not None
            assert alone.evidence is not None
            np.testing.assert_array_equal(one.evidence.values, alone.evidence.values)
        assert not np.array_equal(results[0].scores["grad-cam", METRIC[0]], results[1].scores["grad-cam", METRIC[0]])

    def test_cost_no_explanation_but_the_first(self, model: nn.Module) -> None:
        with counted() as seen:
            study(model, samples(), ["counting-cam"], self.EVERY)
            alone, seen[:] = list(seen), []
            studies(model, samples(), ["counting-cam"], self.EVERY, FILLS)
            assert seen == alone

    def test_cost_no_pass_through_the_model_that_removes_nothing(self, model: nn.Module) -> None:
        metrics = ["max-sensitivity:runs=2", "random-logit", "pointing-game"]
        passes = []
        for fills in (["mean"], FILLS):
            probe = hp.Probe(copy.deepcopy(model))
            studies(probe, samples(), ["ablation-cam"], metrics, fills, self_checks=False)
            passes.append(dict(probe.passes))
        assert passes[0] == passes[1]

    @pytest.mark.usefixtures("small_chunks")
    def test_go_on_after_an_interrupt_with_the_same_numbers(
        self, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = studies(model, samples(), ["grad-cam"], METRIC, FILLS)
        write, writes = Journal.write, list[Any]()

        def stopping(self: Journal, part: int | str, arrays: Any) -> None:
            writes.append(part)
            if len(writes) == 6:  # the second chunk is kept with one fill only
                raise KeyboardInterrupt
            write(self, part, arrays)

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "write", stopping)
            with pytest.raises(Interrupted, match=r"of 540 scores"):
                studies(model, samples(), ["grad-cam"], METRIC, FILLS, out=tmp_path)
        steps: list[tuple[str, int, int]] = []
        again = studies(
            model, samples(), ["grad-cam"], METRIC, FILLS, out=tmp_path, progress=lambda *step: steps.append(step)
        )
        for one, other in zip(whole, again, strict=True):
            same(one, other)
        assert steps[-1] == ("judging", 540, 540)
        assert [path.name for path in folders(tmp_path)] == [tmp_path.name, "1-black", "2-noise"]
        assert not (tmp_path / "chunks").exists()

    def test_another_fill_joins_a_finished_study(self, model: nn.Module, tmp_path: Path) -> None:
        first = study(model, samples(), ["grad-cam"], METRIC, out=tmp_path)
        both = studies(model, samples(), ["grad-cam"], METRIC, ["mean", "black"], out=tmp_path)
        same(first, both[0])
        same(study(model, samples(), ["grad-cam"], METRIC, fill="black"), both[1])

    def test_are_judged_once_and_are_the_mean_by_default(self, model: nn.Module) -> None:
        for fills in (["mean", "mean"], []):
            (results,) = studies(model, samples(2), ["grad-cam"], METRIC, fills)
            assert results.about["fill"] == "mean"


def test_metrics_that_remove_nothing_do_not_depend_on_the_fill(model: nn.Module) -> None:
    x, mask = inputs(1, 4), torch.zeros(4, *SIZE[1], dtype=torch.bool)
    mask[:, 3:8] = True
    explain = explainer(Spec("grad-cam"))
    fixed = [name for name in judging.metrics if not follows_fill(judging.metrics.spec(name))]
    # These need networks trained from scratch, or samples to draw from.
    fixed = [
        name for name in fixed if not {"relearnt", "retrained", "donors", "evidence"} & {*judging.metrics[name].needs}
    ]
    map = hp.explain(model, x, "grad-cam")
    one, other = (hp.score(model, x, map, fixed, fill=fill, mask=mask, explain=explain) for fill in ("mean", "noise"))
    for name in fixed:
        np.testing.assert_array_equal(one[name].numpy(), other[name].numpy(), err_msg=name)
    assert follows_fill(Spec("deletion"))
    assert not follows_fill(Spec("deletion", (("fill", "black"),)))
    assert {"road", "monotonicity-correlation"} <= set(fixed)


def test_self_checks_can_be_left_out(model: nn.Module, tmp_path: Path) -> None:
    probes = hp.Probe(model), hp.Probe(model)
    full, bare = (
        study(probe, samples(), ["grad-cam"], [*METRIC, *QUESTIONS], self_checks=self_checks, target=0)
        for probe, self_checks in zip(probes, (True, False), strict=True)
    )
    same(full, bare)
    assert full.own_controls
    assert not bare.own_controls
    assert bare.evidence is not None
    assert bare.about["skill"] is None
    assert bare.verdict().text
    assert probes[1].passes["forward"] < probes[0].passes["forward"]
    assert bare.about["passes"] == dict(probes[1].passes)
    bare.save(tmp_path)
    assert not store.load(tmp_path).own_controls


def test_a_study_of_controls_alone_has_an_empty_ranking(model: nn.Module) -> None:
    results = studies(model, samples(), ["random", "edge"], METRIC, ["mean", "black"])
    for ranking in (results[0].ranking(), results[0].ranking(METRIC[0])):
        assert ranking.rows == ()
        assert ranking.top == ()
        assert {row.method for row in ranking.controls} == set(default_controls())
    assert results[0].estimates()["edge", METRIC[0]].n == N
    verdict = Judgement(results[0], results[1:]).verdict
    assert (verdict.kind, verdict.decision.reason, verdict.trusted) == ("none", "no-methods", ())


def test_a_plan_completes_the_options(model: nn.Module) -> None:
    plan = planning.plan_of(model, samples(), options(["grad-cam"], ["average-drop", "average-drop:keep=0.5"]))
    assert list(map(str, plan.metrics)) == ["average-drop:keep=0.3", "average-drop:keep=0.5"]
    own = planning.plan_of(model, samples(), options(["grad-cam"], ["average-drop", "deletion"], keep=0.2))
    assert list(map(str, own.metrics)) == ["average-drop:keep=0.2", "deletion"]
    assert list(map(str, plan.controls)) == list(default_controls())
    assert planning.plan_of(model, samples(), options(controls=False)).controls == ()


def test_only_what_decides_numbers_is_part_of_a_study(model: nn.Module) -> None:
    plans = [
        planning.plan_of(model, samples(), options(["grad-cam"], METRIC, **more))
        for more in ({}, {"seed": 1}, {"level": 0.9}, {"self_checks": False}, {"layer": ("conv1",)}, {"target": 1})
    ]
    first, *others = [plan.identity(plan.fills[0]) for plan in plans]
    changed = [{name for name in first if first[name] != other[name]} for other in others]
    assert changed == [{"seed"}, {"level"}, {"self_checks"}, {"layer"}, {"target"}]
    assert not set(first) & {"workers", "out", "progress", "resume", "maps"}


@pytest.mark.parametrize("metric", ["deletion:fill=donor,steps=4", "deletion:steps=4"])
def test_donors_are_gathered_where_a_fill_draws_from_them(model: nn.Module, metric: str) -> None:
    plan = planning.plan_of(model, samples(), options(["grad-cam"], [metric]))
    assert (plan.pool is None) == ("fill" not in Spec.parse(metric).kwargs)


def test_a_registered_control_joins_the_others(model: nn.Module) -> None:
    with methods.temporarily():

        @control("corner", description="a ramp", by_default=True)
        def corner(probe: hp.Probe, x: Tensor, goal: Any) -> Tensor:
            return torch.arange(x.shape[2]).expand(len(x), -1)

        results = study(model, samples(4), ["grad-cam"], METRIC)
    assert results.controls == (*default_controls(), "corner")
