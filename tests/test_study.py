"""A study: the same numbers each time and after an interrupt, honest rankings, controls apart, skips with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from heatproof.errors import FolderInUse, InputError, Interrupted, NotApplicable, UnknownName, UsageError
from heatproof.methods.engine import method, methods
from heatproof.records import Samples
from heatproof.registry import Spec
from heatproof.report.facts import Told
from heatproof.results import storage as store
from heatproof.results.record import Results
from heatproof.studies import plan as planning
from heatproof.studies import run as running
from heatproof.studies.checkpoint import Journal, folders
from heatproof.studies.chunk import explainer, removes
from heatproof.studies.plan import CONTROLS, METRICS
from heatproof.studies.run import study
from heatproof.verdict.fill_dependence import dependence

from .toys import SIZE, Plain, inputs, ready

METRIC = ["deletion:steps=4", "insertion:steps=4", "relevance-mass"]
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
    given = samples()
    maps = hp.explain(model, given.x, ["grad-cam", "random"])
    for name in ("grad-cam", "random"):
        for metric in METRIC:
            want = hp.score(model, given.x, maps[name], metric, mask=given.mask)
            np.testing.assert_allclose(results.scores[name, metric], want.numpy(), atol=1e-6)


def test_defaults_are_three_cams_four_controls_and_sixteen_metrics(model: nn.Module) -> None:
    found = study(model, samples(4))
    assert found.methods == ("grad-cam", "grad-cam-plus-plus", "ablation-cam")
    assert found.controls == CONTROLS
    assert found.metrics == tuple(m + ":keep=0.3" * (m in METRICS[:2]) for m in METRICS)
    assert len(found.scores) == 7 * 16
    checks = {check.method: (*check.passed, *check.unmoved) for check in found.verdict().methods}
    assert checks == dict.fromkeys(found.methods, ("random-logit",))


@pytest.mark.usefixtures("small_chunks")
def test_two_runs_give_the_same_files(model: nn.Module, tmp_path: Path) -> None:
    for name in ("one", "two"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path / name)
    assert (tmp_path / "one" / "scores.csv").read_bytes() == (tmp_path / "two" / "scores.csv").read_bytes()


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_study_goes_on_with_the_same_numbers(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study(model, samples(), ["grad-cam"], METRIC)
    calls: list[int] = []
    chunk: Callable[..., Any] = running._chunk

    def stopping(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return chunk(*given)

    monkeypatch.setattr(running, "_chunk", stopping)
    with pytest.raises(Interrupted, match="kept in"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path / "run")
    assert {path.stem for path in (tmp_path / "run" / "chunks").iterdir()} == {"begun", "000000", "000001"}
    monkeypatch.setattr("heatproof.studies.self_checks.hits", lambda *_: pytest.fail("twins were asked again"))
    calls[:] = [0] * 10
    again = study(model, samples(), ["grad-cam"], METRIC, out=tmp_path / "run")
    assert len(calls) == 11
    same(whole, again)
    assert not (tmp_path / "run" / "chunks").exists()
    same(whole, study(model, samples(), ["grad-cam"], METRIC, out=tmp_path / "run"))
    assert len(calls) == 11


def test_a_folder_of_another_study_is_refused(model: nn.Module, tmp_path: Path) -> None:
    study(model, samples(), ["grad-cam"], METRIC, out=tmp_path)
    with pytest.raises(FolderInUse, match="differs in seed"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path, seed=1)
    with pytest.raises(FolderInUse, match="differs in model"):
        study(ready(Plain(1), seed=5), samples(), ["grad-cam"], METRIC, out=tmp_path)
    with pytest.raises(FolderInUse, match="this very study"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path, resume=False)
    (tmp_path / "study.json").unlink()
    with pytest.raises(FolderInUse, match="other results"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderInUse, match="is a file"):
        study(model, samples(), ["grad-cam"], METRIC, out=tmp_path / "file")


def test_cells_that_cannot_apply_are_skipped_with_a_reason(model: nn.Module) -> None:
    found = study(model, samples(mask=False), ["grad-cam"], [*METRIC, "average-gain"])
    assert {skip.metric for skip in found.skips} == {"relevance-mass"}
    assert len(found.skips) == 5
    assert "planted truth" in found.skips[0].reason
    assert ("grad-cam", "relevance-mass") not in found.scores
    assert found.speaking == ("deletion:steps=4", "insertion:steps=4", "average-gain")
    logit = study(hp.Probe(model, score="logit"), samples(), ["grad-cam"], ["average-gain", "deletion"])
    assert {skip.metric for skip in logit.skips} == {"average-gain"}


def test_other_failures_are_loud(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Tensor:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(judging, "measure", broken)
    with pytest.raises(ZeroDivisionError):
        study(model, samples(), ["grad-cam"], ["deletion"])


def test_a_method_that_does_not_apply_is_skipped(model: nn.Module) -> None:
    @method("never-here")
    def never_here(probe: hp.Probe, x: Tensor, goal: Any) -> Tensor:
        raise NotApplicable("it has no meaning here")

    try:
        found = study(model, samples(4), ["grad-cam", "never-here"], METRIC)
    finally:
        del methods._entries["never-here"]
    assert {skip.method for skip in found.skips} == {"never-here"}
    assert len(found.skips) == len(METRIC)
    assert ("grad-cam", "relevance-mass") in found.scores


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
        assert {row.method for row in ranking.controls} == set(CONTROLS)
        assert all(row.place == 0 and row.control for row in ranking.controls)
        assert ranking.rows[0].place == 1
        assert ranking.top
    named = study(hp.Probe(ready(Plain(1))), samples(4), ["random", "grad-cam"], METRIC)
    assert named.methods == ("grad-cam",)
    assert named.controls == CONTROLS


def synthetic(scores: dict[tuple[str, str], np.ndarray], families: dict[str, str], **extra: Any) -> Results:
    methods = tuple(dict.fromkeys(m for m, _ in scores if not m.startswith("c:")))
    controls = tuple(dict.fromkeys(m for m, _ in scores if m.startswith("c:")))
    n = len(next(iter(scores.values())))
    facts = {k: {"better": "higher", "family": f, "range": [None, None], "summary": ""} for k, f in families.items()}
    zero = np.zeros(n, dtype=np.int64)
    return Results(
        scores, methods, controls, tuple(families), zero, zero, np.ones(n), ("a",), about={"metrics": facts}, **extra
    )


def test_cousins_of_one_metric_are_one_voice() -> None:
    good, bad = np.linspace(1, 2, 40), np.linspace(0, 1, 40)
    scores = {("a", f"d{i}"): good for i in range(5)} | {("b", f"d{i}"): bad for i in range(5)}
    scores |= {("a", "p"): bad, ("b", "p"): good}
    families = {f"d{i}": "faithfulness" for i in range(5)} | {"p": "localisation"}
    found = synthetic(scores, families)
    np.testing.assert_allclose(found.voices(), 1.5)
    assert found.ranking().top == ("a", "b")
    assert found.ranking("p").top == ("b",)


def test_complexity_and_sanity_do_not_speak() -> None:
    good, bad = np.linspace(1, 2, 40), np.linspace(0, 1, 40)
    scores = {("a", "d"): good, ("b", "d"): bad, ("a", "g"): bad, ("b", "g"): good, ("a", "r"): bad, ("b", "r"): good}
    found = synthetic(scores, {"d": "faithfulness", "g": "complexity", "r": "randomisation"})
    assert found.speaking == ("d",)
    assert found.ranking().top == ("a",)
    assert found.ranking().rows[0].share == 1


def test_beating_a_control_needs_evidence() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=60)
    scores = {
        ("a", "d"): base + 1,
        ("b", "d"): base + rng.normal(size=60) * 0.01,
        ("c:edge", "d"): base,
        ("c:random", "d"): base - 1,
    }
    ranking = synthetic(scores, {"d": "faithfulness"}).ranking("d")
    assert ranking.unbeaten == {"a": (), "b": ("c:edge",)}
    assert ranking.controls[0].method == "c:edge"


def test_nan_is_counted_and_never_averaged() -> None:
    values = np.array([1.0, np.nan, 3.0, 2.0])
    found = synthetic({("a", "d"): values}, {"d": "faithfulness"})
    estimate = found.estimates()["a", "d"]
    assert (estimate.mean, estimate.n, estimate.undefined) == (2.0, 3, 1)


def test_strata_split_right_from_wrong(results: Results) -> None:
    right, wrong = (results.estimates(s)["grad-cam", "deletion:steps=4"] for s in ("right", "wrong"))
    assert right.n + wrong.n == N
    values = results.scores["grad-cam", "deletion:steps=4"]
    assert right.mean == pytest.approx(values[results.predictions == results.y].mean())


def test_the_frame_is_tidy(results: Results) -> None:
    frame = results.to_frame()
    assert len(frame) == N * 6 * len(METRIC)
    assert list(frame.columns) == [
        "sample", "id", "label", "prediction", "confidence", "method", "control", "metric", "value",
    ]  # fmt: skip
    one = frame[(frame["method"] == "edge") & (frame["metric"] == "relevance-mass")]
    np.testing.assert_array_equal(one["value"], results.scores["edge", "relevance-mass"])
    assert one["control"].all()
    assert set(frame["label"]) == {"a", "b", "c", "d"}


def test_the_gallery_shows_each_class_right_and_wrong(results: Results) -> None:
    shown = results.gallery
    assert shown is not None
    assert {int(results.y[i]) for i in shown.index} == {0, 1, 2, 3}
    assert shown.x.shape == (len(shown.index), 2, *SIZE[1])
    maps = hp.explain(ready(Plain(1)), samples().x, "grad-cam")
    np.testing.assert_allclose(shown.maps["grad-cam"], maps[torch.from_numpy(shown.index)].numpy(), atol=1e-6)


def test_what_is_explained_can_be_the_label_or_given(model: nn.Module) -> None:
    given = samples()
    label = study(model, given, ["grad-cam"], METRIC, target="label", controls=False)
    listed = study(model, given, ["grad-cam"], METRIC, target=given.y, controls=False)
    for cell in label.scores:
        np.testing.assert_array_equal(label.scores[cell], listed.scores[cell])


def test_fills_with_donors_draw_from_the_samples(model: nn.Module) -> None:
    found = study(model, samples(), ["grad-cam"], METRIC, fill="donor", controls=False)
    assert np.isfinite(found.scores["grad-cam", "deletion:steps=4"]).all()


@pytest.mark.usefixtures("small_chunks")
def test_progress_reaches_the_end(model: nn.Module) -> None:
    seen: list[tuple[int, int]] = []
    study(model, samples(), ["grad-cam"], METRIC, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (N * 5 * 3, N * 5 * 3)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_samples_are_enough_to_run(model: nn.Module, n: int) -> None:
    found = study(model, samples(n), ["grad-cam", "ablation-cam"], METRIC)
    assert len(found.ranking().rows) == 2


def test_bad_input(model: nn.Module) -> None:
    with pytest.raises(InputError, match="no samples"):
        study(model, samples().take([]))
    with pytest.raises(UnknownName, match="grad-cam"):
        study(model, samples(), ["grad-cm"])
    with pytest.raises(UsageError, match="empty list of metrics"):
        study(model, samples(), metrics=[])
    with pytest.raises(UnknownName, match="noise"):
        study(model, samples(), fill="nois")
    with pytest.raises(InputError, match="confidence"):
        study(model, samples(), confidence=95.0)


@pytest.mark.parametrize("rank", [2, 3])
def test_images_and_volumes(rank: int) -> None:
    found = study(ready(Plain(rank)), samples(4, rank=rank), ["grad-cam"])
    assert found.metrics[0] == {2: "average-drop:keep=0.9", 3: "average-drop"}[rank]
    assert len(found.scores) == 5 * 16


@pytest.mark.usefixtures("small_chunks")
def test_the_seconds_of_every_method_and_metric_are_told(model: nn.Module, tmp_path: Path) -> None:
    found = study(model, samples(), ["grad-cam", "ablation-cam"], [*METRIC, "random-logit"], out=tmp_path)
    spent = found.about["seconds"]
    assert set(spent["methods"]) == {*found.methods, *found.controls}
    assert set(spent["metrics"]) == set(found.metrics)
    assert all(s > 0 for kind in ("methods", "metrics") for s in spent[kind].values())
    assert spent["trials"] > 0
    again = hp.load(tmp_path)
    assert isinstance(again, Results)
    assert again.about["seconds"] == spent


FILLS = ["mean", "black", "noise"]


@contextmanager
def counted() -> Iterator[list[int]]:
    """A method that counts the samples it explains."""
    seen: list[int] = []

    @method("counting-cam")
    def counting_cam(probe: hp.Probe, x: Tensor, goal: Any) -> Tensor:
        seen.append(len(x))
        return x[:, 0]

    try:
        yield seen
    finally:
        del methods._entries["counting-cam"]


class TestSeveralFills:
    EVERY = (*METRIC, "max-sensitivity:runs=2", "random-logit", "gini-sparseness")

    def test_are_the_studies_with_each_of_them(self, model: nn.Module) -> None:
        found = study(model, samples(), ["grad-cam", "rise:masks=5"], self.EVERY, fill=FILLS)
        assert [one.about["fill"] for one in found] == FILLS
        for one, fill in zip(found, FILLS, strict=True):
            alone = study(model, samples(), ["grad-cam", "rise:masks=5"], self.EVERY, fill=fill)
            same(one, alone)
            assert one.trials is not None
            assert alone.trials is not None
            for kind in ("inverted", "noisy"):
                ours, theirs = getattr(one.trials, kind), getattr(alone.trials, kind)
                assert list(ours) == list(theirs)
                for cell in ours:
                    np.testing.assert_array_equal(ours[cell], theirs[cell])
        assert not np.array_equal(found[0].scores["grad-cam", METRIC[0]], found[1].scores["grad-cam", METRIC[0]])

    def test_cost_no_explanation_but_the_first(self, model: nn.Module) -> None:
        with counted() as seen:
            study(model, samples(), ["counting-cam"], self.EVERY)
            alone, seen[:] = list(seen), []
            study(model, samples(), ["counting-cam"], self.EVERY, fill=FILLS)
            assert seen == alone

    def test_cost_no_pass_through_the_model_that_removes_nothing(self, model: nn.Module) -> None:
        metrics = ["max-sensitivity:runs=2", "random-logit", "pointing-game"]
        made = []
        for fill in (["mean"], FILLS):
            probe = hp.Probe(model)
            study(probe, samples(), ["ablation-cam"], metrics, fill=fill, trials=False)
            made.append(dict(probe.passes))
        assert made[0] == made[1]

    @pytest.mark.usefixtures("small_chunks")
    def test_go_on_after_an_interrupt_with_the_same_numbers(
        self, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = study(model, samples(), ["grad-cam"], METRIC, fill=FILLS)
        write, writes = Journal.write, list[Any]()

        def stopping(self: Journal, part: int | str, arrays: Any) -> None:
            writes.append(part)
            if len(writes) == 6:  # the second chunk is kept with one fill only
                raise KeyboardInterrupt
            write(self, part, arrays)

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "write", stopping)
            with pytest.raises(Interrupted, match=r"of 540 scores"):
                study(model, samples(), ["grad-cam"], METRIC, fill=FILLS, out=tmp_path)
        seen: list[tuple[int, int]] = []
        again = study(
            model, samples(), ["grad-cam"], METRIC, fill=FILLS, out=tmp_path, progress=lambda *now: seen.append(now)
        )
        for one, other in zip(whole, again, strict=True):
            same(one, other)
        assert seen[-1] == (540, 540)
        assert [path.name for path in folders(tmp_path)] == [tmp_path.name, "1-black", "2-noise"]
        assert not (tmp_path / "chunks").exists()

    def test_another_fill_joins_a_finished_study(self, model: nn.Module, tmp_path: Path) -> None:
        first = study(model, samples(), ["grad-cam"], METRIC, out=tmp_path)
        both = study(model, samples(), ["grad-cam"], METRIC, out=tmp_path, fill=["mean", "black"])
        same(first, both[0])
        same(study(model, samples(), ["grad-cam"], METRIC, fill="black"), both[1])

    def test_are_named_once_and_at_least_one(self, model: nn.Module) -> None:
        assert len(study(model, samples(2), ["grad-cam"], METRIC, fill=["mean", "mean"])) == 1
        with pytest.raises(UsageError, match="empty list of fills"):
            study(model, samples(2), ["grad-cam"], METRIC, fill=[])


def test_metrics_that_remove_nothing_do_not_depend_on_the_fill(model: nn.Module) -> None:
    x, mask = inputs(1, 4), torch.zeros(4, *SIZE[1], dtype=torch.bool)
    mask[:, 3:8] = True
    explain = explainer(Spec("grad-cam"))
    fixed = [name for name in judging.metrics if not removes(judging.metrics.spec(name))]
    fixed.remove("label-randomisation")
    given = {"mask": mask, "explain": explain}
    map = hp.explain(model, x, "grad-cam")
    one, other = (hp.score(model, x, map, fixed, fill=fill, **given) for fill in ("mean", "noise"))
    for name in fixed:
        np.testing.assert_array_equal(one[name].numpy(), other[name].numpy(), err_msg=name)
    assert removes(Spec("deletion"))
    assert not removes(Spec("deletion", (("fill", "black"),)))
    assert {"road", "monotonicity-correlation"} <= set(fixed)


def test_trials_can_be_left_out(model: nn.Module, tmp_path: Path) -> None:
    probes = hp.Probe(model), hp.Probe(model)
    full, bare = (
        study(probe, samples(), ["grad-cam"], METRIC, trials=trials)
        for probe, trials in zip(probes, (True, False), strict=True)
    )
    same(full, bare)
    assert bare.trials is None
    assert bare.about["hits"] is None
    assert bare.verdict().text
    assert probes[1].passes["forward"] < probes[0].passes["forward"]
    assert bare.about["passes"] == dict(probes[1].passes)
    bare.save(tmp_path)
    assert store.load(tmp_path).trials is None


def test_a_study_of_controls_alone_has_an_empty_ranking(model: nn.Module) -> None:
    found = study(model, samples(), ["random", "edge"], METRIC, fill=["mean", "black"])
    for ranking in (found[0].ranking(), found[0].ranking(METRIC[0])):
        assert ranking.rows == ()
        assert ranking.top == ()
        assert {row.method for row in ranking.controls} == set(CONTROLS)
    assert found[0].estimates()["edge", METRIC[0]].n == N
    assert found[0].verdict().text == "No verdict: no method was judged, only controls."
    assert "Only controls" in dependence(found, ()).text


def test_the_ranking_rests_on_the_metrics_that_count() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=60)
    scores = {("a", "d"): base + 2, ("b", "d"): base + 1, ("c:random", "d"): base}
    scores = {(m.replace("c:", ""), k): v for (m, k), v in scores.items()}
    scores |= {("a", "f"): rng.normal(size=60), ("b", "f"): rng.normal(size=60) + 3, ("random", "f"): base + 9}
    facts = {k: {"better": "higher", "family": "faithfulness", "range": [None, None], "summary": ""} for k in "df"}
    zero = np.zeros(60, dtype=np.int64)
    found = Results(
        scores, ("a", "b"), ("random",), ("d", "f"), zero, zero, np.ones(60), ("a",), about={"metrics": facts}
    )
    assert found.speaking == ("d", "f")
    assert found.counting == ("d",)
    assert found.ranking().top == ("a",)
    assert found.ranking() is found.ranking()
    assert found.verdict().ranked == found.ranked == ("d",)
    assert Told(found).ranking is found.ranking()
    assert [check.counts for check in found.verdict().metrics] == [True, False]
    regions = {**facts, "f": {**facts["f"], "family": "region"}, "d": {**facts["d"], "family": "robustness"}}
    assert replace(found, about={"metrics": regions}).ranked == ("d",)
    assert replace(found, scores={**scores, ("a", "d"): base + 0.5}).ranking().top == ("b",)
