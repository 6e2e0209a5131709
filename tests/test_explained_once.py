"""A run computes every map once: the study keeps them, an interrupt loses none, and their cost is counted once."""

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
from heatproof import draws, spatial
from heatproof.errors import FileError, Interrupted, NotApplicable
from heatproof.methods import default_controls, method, methods
from heatproof.models.card import Card
from heatproof.models.folder import save
from heatproof.nets import build
from heatproof.pipeline import cases as worked
from heatproof.pipeline import stages
from heatproof.pipeline.manifest import read_plan
from heatproof.pipeline.plan import Plan
from heatproof.pipeline.run import KEPT, Outcome, run
from heatproof.pipeline.stages import MAPS, STUDY, Step
from heatproof.records import Samples
from heatproof.registry import Spec
from heatproof.settings import create
from heatproof.studies import plan as planning
from heatproof.studies.maps import kept_maps
from heatproof.studies.options import StudyOptions

from .small_study import studies, study
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
def recorded() -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """Chunks of five; what reports are made of instead of the reports, whose figures take most of a small run's time.

    And what a method named counting-map has explained, and how long that took.
    """
    pages: list[Any] = []
    spent: dict[str, Any] = {}

    def write(content: Any, path: Path, **_: Any) -> Path:
        pages.append(content)
        path.write_text("a page", encoding="utf-8")
        return path

    @method("counting-map")
    def counting_map(probe: hp.Probe, x: Tensor, goal: Any, seeds: Tensor) -> Tensor:
        start = time.perf_counter()
        map = x[:, 0] * drawn(seeds, x) * spatial.like(probe.scored(x, goal), x[:, 0])
        spent["samples"] += len(x)
        spent["seconds"] += time.perf_counter() - start
        return map

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "CHUNK", 5)
        patch.setattr("heatproof.report.write", write)
        yield pages, spent
    del methods._entries["counting-map"]


@pytest.fixture
def pages(recorded: tuple[list[Any], dict[str, Any]]) -> list[Any]:
    recorded[0].clear()
    return recorded[0]


@pytest.fixture
def count(recorded: tuple[list[Any], dict[str, Any]]) -> dict[str, Any]:
    recorded[1].update(samples=0, seconds=0.0)
    return recorded[1]


@pytest.fixture(scope="module")
def whole(recorded: tuple[list[Any], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run that nothing stopped."""
    recorded[1].update(samples=0, seconds=0.0)
    folder = tmp_path_factory.mktemp("whole")
    return run(plan_for(folder), folder / "run")


def plan_for(folder: Path, rank: int = 1, **more: Any) -> Plan:
    """A run of a network with drawn weights, in four chunks."""
    net = Spec("small-cnn", (("rank", rank),))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save(build(net).eval(), folder / "net", Card(net, (1,) + (None,) * rank, ("fine", "middle", "coarse")))
    values = {
        "data": f"synthetic-{rank}d:samples={5 * N},size={SIZE[rank]}",
        "model": str(folder / "net"),
        "methods": METHODS,
        "metrics": METRICS,
        "fills": ("mean", "black"),
        "self_checks": False,
    }
    return create(Plan, {**values, **more})


def near(mine: dict[str, int], theirs: dict[str, int]) -> None:
    """Equal but for the few rows that a process which has not seen the model yet looks at first."""
    assert {**mine, "forward": 0} == {**theirs, "forward": 0}
    assert abs(mine["forward"] - theirs["forward"]) <= 4


def same(one: Outcome, other: Outcome) -> None:
    for name in (MAPS, "scores.csv"):
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()
    for mine, theirs in zip((one.results, *one.others), (other.results, *other.others), strict=True):
        assert list(mine.scores) == list(theirs.scores)
        for cell in mine.scores:
            np.testing.assert_array_equal(mine.scores[cell], theirs.scores[cell])
        assert mine.skips == theirs.skips
        near(mine.about["passes"], theirs.about["passes"])
        assert set(mine.about["seconds"]["methods"]) == set(theirs.about["seconds"]["methods"])


def press(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("rank", "limit"), [(1, 13), (2, None)])
def test_each_sample_is_explained_once(
    count: dict[str, Any], pages: list[Any], tmp_path: Path, rank: int, limit: int | None
) -> None:
    plan, steps = plan_for(tmp_path, rank, limit=limit), list[Step]()
    outcome = run(plan, tmp_path / "run", watch=steps.append)
    model, samples = stages.classifier(plan), stages.splits(plan).test
    few = stages.chosen(plan, samples)
    assert count["samples"] == len(few) == (limit or N)
    (page,) = pages
    assert (page.pictures.cases is not None) == (rank == 2)
    assert set(page.pictures.maps) == set(EVERYONE)
    maps = load_file(outcome.folder / MAPS)
    assert set(maps) == set(EVERYONE)
    for name, want in hp.explain(model, few.x[:], EVERYONE).items():
        torch.testing.assert_close(maps[name], want)
        scores = hp.score(model, few.x[:], want, METRICS[0], fill="black").numpy()
        np.testing.assert_allclose(outcome.others[0].scores[name, METRICS[0]], scores, atol=1e-6)
    assert not (outcome.folder / PARTS).exists()
    for stage, total in (("explaining", len(few)), ("judging", len(few) * len(EVERYONE) * len(METRICS) * 2)):
        counts = [(step.done, step.total) for step in steps if step.stage == stage]
        assert counts == sorted(counts)
        assert counts[-1] == (total, total)


STOPS = {  # who is stopped, at which call
    "explaining": (f"{__name__}.drawn", 3),
    "judging": ("heatproof.metrics.measure", 20),
    "keeping a chunk": ("heatproof.studies.checkpoint.Journal.write", 4),
    "keeping it with the other fill": ("heatproof.studies.checkpoint.Journal.write", 5),
    "saving": ("heatproof.studies.run.save", 2),
    "gathering": ("heatproof.studies.run.results_of", 2),
    "writing the maps": ("heatproof.pipeline.run.map_writer", 1),
    "writing the report": ("heatproof.report.write", 1),
}


@pytest.mark.parametrize("doing", STOPS)
def test_an_interrupt_loses_no_map(
    whole: Outcome, count: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    plan, (place, last) = plan_for(tmp_path), STOPS[doing]
    work: Callable[..., Any] = pkgutil.resolve_name(place)
    calls: list[int] = []

    def stopping(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == last:
            raise KeyboardInterrupt
        return work(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(place, stopping)
        with pytest.raises(Interrupted):
            run(plan, tmp_path / "stopped")
    assert len(calls) == last
    assert not (tmp_path / "stopped" / "done.json").exists()
    outcome = run(plan, tmp_path / "stopped")
    same(whole, outcome)
    assert count["samples"] == N
    for results in (outcome.results, *outcome.others):
        assert results.about["seconds"]["methods"]["counting-map"] >= count["seconds"] - 1e-5
    assert not (outcome.folder / PARTS).exists()


def test_workers_explain_once_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(tmp_path, methods=("rise:masks=5", "layer-cam"), self_checks=True)
    want = run(plan, tmp_path / "serial")
    refused = [f"heatproof.{name}" for name in ("methods.engine._attribute", "pipeline.stages.maps")]
    for name in refused:  # in this process
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("explained once more"))
    same(want, run(replace(plan, workers="processes:2"), tmp_path / "workers"))


def test_a_method_that_does_not_apply_is_a_skip(count: dict[str, Any], tmp_path: Path) -> None:
    @method("never-here")
    def never_here(probe: hp.Probe, x: Tensor, goal: Any) -> Tensor:
        raise NotApplicable("it has no meaning here")

    try:
        plan = plan_for(tmp_path, 2, methods=("counting-map", "never-here", "layer-cam"))
        outcome = run(plan, tmp_path / "run")
        assert count["samples"] == N
        before = (outcome.folder / MAPS).read_bytes()
        (outcome.folder / MAPS).unlink()
        run(plan, tmp_path / "run")
        assert (outcome.folder / MAPS).read_bytes() == before
    finally:
        del methods._entries["never-here"]
    assert {(skip.method, skip.reason) for skip in outcome.results.skips} == {("never-here", "it has no meaning here")}
    assert set(load_file(outcome.folder / MAPS)) == {*default_controls(), "counting-map", "layer-cam"}


def test_maps_alone_are_made_again_where_they_are_missing(
    whole: Outcome, count: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(whole.folder, tmp_path / "run"))
    (folder / MAPS).unlink()
    monkeypatch.setattr("heatproof.studies.run.chunks_of", lambda *_: pytest.fail("judged once more"))
    same(whole, run(read_plan(folder), folder))
    assert count["samples"] == N


@pytest.mark.parametrize("keep", [0, 20, -5])
def test_a_damaged_chunk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int) -> None:
    plan = plan_for(tmp_path, methods=("layer-cam",))
    with monkeypatch.context() as patch:
        patch.setattr("heatproof.metrics.measure", press)
        with pytest.raises(Interrupted):
            run(plan, tmp_path / "run")
    (part,) = kept_maps(tmp_path / "run" / PARTS)
    part.write_bytes(part.read_bytes()[:keep])
    with pytest.raises(FileError, match="damaged"):
        run(plan, tmp_path / "run")
    part.unlink()
    assert len(run(plan, tmp_path / "run").results) == N


def test_a_study_by_itself_keeps_no_maps(count: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    samples = stages.splits(plan).test
    hp.study(
        stages.classifier(plan),
        samples,
        ["counting-map"],
        [*METRICS],
        out=tmp_path / "study",
        options=StudyOptions(self_checks=False),
    )
    assert count["samples"] == N
    assert not list(tmp_path.glob("study/**/*.safetensors"))


def test_cases_take_the_maps_that_are_known(count: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_for(tmp_path, 2, methods=("counting-map",))
    model, samples = stages.classifier(plan), stages.splits(plan).test
    performance = stages.assess(model, samples)
    own = worked.cases(plan, model, samples, performance)
    assert own is not None
    rows = [int(name.removeprefix("#")) for name in own.ids]
    assert count["samples"] == len(rows) == 3
    heat = torch.full((2, *samples.x.shape[2:]), 7.0)
    places = torch.tensor([rows[2], rows[0]])
    case = worked.cases(plan, model, samples, performance, maps={"counting-map": heat}, rows=places)
    assert case is not None
    assert count["samples"] == 3 + 1
    maps = case.maps["counting-map"]
    assert (maps[[0, 2]] == 7).all()
    np.testing.assert_allclose(maps[1], own.maps["counting-map"][1], rtol=1e-5)


def test_what_does_not_depend_on_the_fill_is_checked_once() -> None:
    model = ready(Plain(1))
    mask = torch.zeros(6, *TOY[1], dtype=torch.bool)
    mask[:, 2:6] = True
    samples = Samples(inputs(1, 6), torch.arange(6) % 4, mask, classes=tuple("abcd"))
    fixed = ["road:steps=3", "deletion:steps=3,fill=black", "pointing-game"]
    passes = []
    for fills in (["mean"], ["mean", "black", "noise"]):
        probe = hp.Probe(model)
        results = studies(probe, samples, ["layer-cam"], fixed, fills)
        passes.append(dict(probe.passes))
    near(*passes)
    first, *others = [one.about["seconds"] for one in results]
    assert all(seconds == first for seconds in others)
    metrics = [*fixed, "insertion:steps=3", "window-localisation", "window-correlation"]
    alone = study(model, samples, ["layer-cam"], metrics, "noise", target=0)
    _, _, last = studies(model, samples, ["layer-cam"], metrics, ["mean", "black", "noise"], target=0)
    assert last.own_controls
    assert list(last.own_controls) == list(alone.own_controls)
    for key, values in last.own_controls.items():
        np.testing.assert_array_equal(values, alone.own_controls[key])
