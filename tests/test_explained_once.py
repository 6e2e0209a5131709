"""A run makes every map once: the study keeps them, an interrupt loses none, and what they cost is told as it was."""

from __future__ import annotations

import pkgutil
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import heatproof as hp
from heatproof import draws, pipeline, spatial
from heatproof.errors import FileError, Interrupted, NotApplicable
from heatproof.methods.engine import method, methods
from heatproof.models.card import Card
from heatproof.models.folder import save
from heatproof.nets import build
from heatproof.pipeline import MAPS, STUDY, Outcome, Plan, Step
from heatproof.pipeline import cases as worked
from heatproof.pipeline.stages import KEPT
from heatproof.records import Samples
from heatproof.registry import Spec
from heatproof.results.record import Results
from heatproof.studies import plan as planning
from heatproof.studies.maps import kept_maps
from heatproof.studies.plan import CONTROLS

from .toys import SIZE as TOY
from .toys import Plain, inputs, ready

N, SIZE = 20, {1: 24, 2: 12}  # test samples
METHODS = ("edge", "counting-map", "layer-cam")
METRICS = ("deletion:steps=3", "gini-sparseness")
EVERYONE = [*METHODS, "random", "absolute-input", "centre"]
PARTS = f"{STUDY}/{KEPT}"


def drawn(seeds: Tensor, x: Tensor) -> Tensor:
    return draws.uniform(seeds, x.shape[2:]).to(x)


@pytest.fixture(scope="module", autouse=True)
def made() -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Chunks of five; what reports are made of instead of the reports, whose figures take most of a small run's time.

    And what a method named counting-map has explained, and how long that took.
    """
    pages: list[dict[str, Any]] = []
    spent: dict[str, Any] = {}

    def write(_: Results, path: Path, **given: Any) -> Path:
        pages.append(given)
        path.write_text("a page", encoding="utf-8")
        return path

    @method("counting-map")
    def counting_map(probe: hp.Probe, x: Tensor, goal: Any, seeds: Tensor) -> Tensor:
        start = time.perf_counter()
        found = x[:, 0] * drawn(seeds, x) * spatial.like(probe.scored(x, goal), x[:, 0])
        spent["samples"] += len(x)
        spent["seconds"] += time.perf_counter() - start
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "CHUNK", 5)
        patch.setattr("heatproof.report.write", write)
        yield pages, spent
    del methods._entries["counting-map"]


@pytest.fixture
def pages(made: tuple[list[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    made[0].clear()
    return made[0]


@pytest.fixture
def count(made: tuple[list[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    made[1].update(samples=0, seconds=0.0)
    return made[1]


@pytest.fixture(scope="module")
def whole(made: tuple[list[dict[str, Any]], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run that nothing stopped."""
    made[1].update(samples=0, seconds=0.0)
    folder = tmp_path_factory.mktemp("whole")
    return pipeline.run(plan_for(folder), folder / "run")


def plan_for(folder: Path, rank: int = 1, **more: Any) -> Plan:
    """A run of a network with drawn weights, in four chunks."""
    net = Spec("small-cnn", (("rank", rank),))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save(build(net).eval(), folder / "net", Card(net, (1,) + (None,) * rank, ("fine", "middle", "coarse")))
    plan = Plan(
        data=f"synthetic-{rank}d:samples={5 * N},size={SIZE[rank]}",
        model=str(folder / "net"),
        methods=METHODS,
        metrics=METRICS,
        fill=("mean", "black"),
        trials=False,
    )
    return replace(plan, **more)


def same(one: Outcome, other: Outcome) -> None:
    for name in (MAPS, "scores.csv"):
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()
    for mine, theirs in zip((one.results, *one.others), (other.results, *other.others), strict=True):
        assert list(mine.scores) == list(theirs.scores)
        for cell in mine.scores:
            np.testing.assert_array_equal(mine.scores[cell], theirs.scores[cell])
        assert mine.skips == theirs.skips
        assert mine.about["passes"] == theirs.about["passes"]
        assert set(mine.about["seconds"]["methods"]) == set(theirs.about["seconds"]["methods"])


def press(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("rank", "limit"), [(1, 13), (2, None)])
def test_each_sample_is_explained_once(
    count: dict[str, Any], pages: list[dict[str, Any]], tmp_path: Path, rank: int, limit: int | None
) -> None:
    plan, steps = plan_for(tmp_path, rank, limit=limit), list[Step]()
    found = pipeline.run(plan, tmp_path / "run", watch=steps.append)
    model, samples = pipeline.classifier(plan), pipeline.splits(plan).test
    few = pipeline.chosen(plan, samples)
    assert count["samples"] == len(few) == (limit or N)
    (page,) = pages
    assert (page["pictures"].cases is not None) == (rank == 2)
    assert set(page["pictures"].maps) == set(EVERYONE)
    maps = load_file(found.folder / MAPS)
    assert set(maps) == set(EVERYONE)
    for name, want in hp.explain(model, few.x[:], EVERYONE).items():
        torch.testing.assert_close(maps[name], want)
        scores = hp.score(model, few.x[:], want, METRICS[0], fill="black").numpy()
        np.testing.assert_allclose(found.others[0].scores[name, METRICS[0]], scores, atol=1e-6)
    assert not (found.folder / PARTS).exists()
    for stage, total in (("explaining", len(few)), ("judging", len(few) * len(EVERYONE) * len(METRICS) * 2)):
        told = [(step.done, step.total) for step in steps if step.stage == stage]
        assert told == sorted(told)
        assert told[-1] == (total, total)


STOPS = {  # who is stopped, at which call
    "explaining": (f"{__name__}.drawn", 3),
    "judging": ("heatproof.studies.chunk.judged", 2),
    "keeping a chunk": ("heatproof.studies.checkpoint.Journal.write", 4),
    "keeping it with the other fill": ("heatproof.studies.checkpoint.Journal.write", 5),
    "gathering": ("heatproof.studies.run.gathered", 2),
    "writing the maps": ("heatproof.pipeline.stages.map_writer", 1),
    "writing the report": ("heatproof.report.write", 1),
}


@pytest.mark.parametrize("doing", STOPS)
def test_an_interrupt_loses_no_map(
    whole: Outcome, count: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    plan, (place, last) = plan_for(tmp_path), STOPS[doing]
    work: Callable[..., Any] = pkgutil.resolve_name(place)
    calls: list[int] = []

    def stopping(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == last:
            raise KeyboardInterrupt
        return work(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(place, stopping)
        with pytest.raises(Interrupted):
            pipeline.run(plan, tmp_path / "stopped")
    assert len(calls) == last
    assert not (tmp_path / "stopped" / "done.json").exists()
    found = pipeline.run(plan, tmp_path / "stopped")
    same(whole, found)
    assert count["samples"] == N
    for study in (found.results, *found.others):
        assert study.about["seconds"]["methods"]["counting-map"] >= count["seconds"] - 1e-5
    assert not (found.folder / PARTS).exists()


def test_workers_explain_once_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(tmp_path, methods=("rise:masks=5", "layer-cam"), trials=True)
    want = pipeline.run(plan, tmp_path / "serial")
    refused = [f"heatproof.{name}" for name in ("methods.engine._attribute", "pipeline.stages.maps")]
    for name in refused:  # in this process
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("explained once more"))
    same(want, pipeline.run(plan, tmp_path / "workers", workers="processes:2"))


def test_a_method_that_does_not_apply_is_a_skip(count: dict[str, Any], tmp_path: Path) -> None:
    @method("never-here")
    def never_here(probe: hp.Probe, x: Tensor, goal: Any) -> Tensor:
        raise NotApplicable("it has no meaning here")

    try:
        plan = plan_for(tmp_path, 2, methods=("counting-map", "never-here", "layer-cam"))
        found = pipeline.run(plan, tmp_path / "run")
        assert count["samples"] == N
        before = (found.folder / MAPS).read_bytes()
        (found.folder / MAPS).unlink()
        pipeline.run(plan, tmp_path / "run")
        assert (found.folder / MAPS).read_bytes() == before
    finally:
        del methods._entries["never-here"]
    assert {(skip.method, skip.reason) for skip in found.results.skips} == {("never-here", "it has no meaning here")}
    assert set(load_file(found.folder / MAPS)) == {*CONTROLS, "counting-map", "layer-cam"}


def test_maps_alone_are_made_again_where_they_are_missing(
    whole: Outcome, count: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(whole.folder, tmp_path / "run"))
    (folder / MAPS).unlink()
    monkeypatch.setattr("heatproof.studies.run._chunk", lambda *_: pytest.fail("judged once more"))
    same(whole, pipeline.run(pipeline.plan_of(folder), folder))
    assert count["samples"] == N


@pytest.mark.parametrize("keep", [0, 20, -5])
def test_a_damaged_chunk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int) -> None:
    plan = plan_for(tmp_path, methods=("layer-cam",))
    with monkeypatch.context() as patch:
        patch.setattr("heatproof.studies.chunk.judged", press)
        with pytest.raises(Interrupted):
            pipeline.run(plan, tmp_path / "run")
    (part,) = kept_maps(tmp_path / "run" / PARTS)
    part.write_bytes(part.read_bytes()[:keep])
    with pytest.raises(FileError, match="damaged"):
        pipeline.run(plan, tmp_path / "run")
    part.unlink()
    assert len(pipeline.run(plan, tmp_path / "run").results) == N


def test_a_study_by_itself_keeps_no_maps(count: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    samples = pipeline.splits(plan).test
    hp.study(pipeline.classifier(plan), samples, ["counting-map"], [*METRICS], out=tmp_path / "study", trials=False)
    assert count["samples"] == N
    assert not list(tmp_path.glob("study/**/*.safetensors"))


def test_cases_take_the_maps_that_are_known(count: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_for(tmp_path, 2, methods=("counting-map",))
    model, samples = pipeline.classifier(plan), pipeline.splits(plan).test
    performance = pipeline.assess(model, samples)
    own = worked.cases(plan, model, samples, performance)
    assert own is not None
    rows = [int(name.removeprefix("#")) for name in own.ids]
    assert count["samples"] == len(rows) == 3
    known = torch.full((2, *samples.x.shape[2:]), 7.0)
    places = torch.tensor([rows[2], rows[0]])
    found = worked.cases(plan, model, samples, performance, maps={"counting-map": known}, rows=places)
    assert found is not None
    assert count["samples"] == 3 + 1
    maps = found.maps["counting-map"]
    assert (maps[[0, 2]] == 7).all()
    np.testing.assert_allclose(maps[1], own.maps["counting-map"][1], rtol=1e-5)


def test_what_does_not_depend_on_the_fill_is_tried_once() -> None:
    model, made, told = ready(Plain(1)), [], []
    mask = torch.zeros(6, *TOY[1], dtype=torch.bool)
    mask[:, 2:6] = True
    samples = Samples(inputs(1, 6), torch.arange(6) % 4, mask, classes=tuple("abcd"))
    fixed = ["road:steps=3", "deletion:steps=3,fill=black", "pointing-game"]
    for fills in (["mean"], ["mean", "black", "noise"]):
        probe = hp.Probe(model)
        told = hp.study(probe, samples, ["layer-cam"], fixed, fill=fills)
        made.append(dict(probe.passes))
    assert made[0] == made[1]
    first, *others = [study.about["seconds"] for study in told]
    assert all(seconds == first for seconds in others)
    alone = hp.study(model, samples, ["layer-cam"], [*fixed, "insertion:steps=3"], fill="noise")
    _, _, last = hp.study(model, samples, ["layer-cam"], [*fixed, "insertion:steps=3"], fill=["mean", "black", "noise"])
    assert alone.trials is not None
    assert last.trials is not None
    for kind in ("inverted", "noisy"):
        ours, theirs = getattr(last.trials, kind), getattr(alone.trials, kind)
        assert {metric for _, metric in ours} == {*map(str, alone.metrics)}
        assert list(ours) == list(theirs)
        for cell in ours:
            np.testing.assert_array_equal(ours[cell], theirs[cell])
