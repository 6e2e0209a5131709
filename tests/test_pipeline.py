"""A run from the data to the report for signals, images and volumes, small enough to be quick."""

from __future__ import annotations

import html
import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from heatproof import data, nets
from heatproof.cli import main
from heatproof.errors import FileError, FolderInUse, InputError, UnknownName
from heatproof.models.card import Card
from heatproof.models.folder import save
from heatproof.nets import build
from heatproof.pipeline import archive, completion, defaults, stages
from heatproof.pipeline import cases as worked
from heatproof.pipeline.manifest import read_plan
from heatproof.pipeline.plan import Plan
from heatproof.pipeline.run import Outcome, run
from heatproof.pipeline.stages import REPORT
from heatproof.probe import HeatproofWarning
from heatproof.registry import Spec
from heatproof.report import choose
from heatproof.settings import create

METHODS, METRICS = ("grad-cam", "layer-cam"), ("average-drop", "deletion")
LABELS = (Spec("label-randomisation", (("epochs", 1),)),)


def plan_for(name: str, **more: Any) -> Plan:
    values = {"data": name, "recipe": "fast:epochs=1", "net": "small-cnn", "methods": METHODS, "metrics": METRICS}
    return plan_of(**{**values, "limit": 6, **more})


def plan_of(**values: Any) -> Plan:
    return create(Plan, values)


@pytest.fixture(scope="module", autouse=True)
def no_figure_files() -> Iterator[None]:
    """Figures are drawn into the page only: as files beside it they take half of a small run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heatproof.report.page._files", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("image") / "run"
    outcome = run(plan_for("synthetic-2d:samples=40,size=16"), folder)
    shutil.copytree(folder, folder.parent / "as finished")
    return folder, outcome


@pytest.mark.parametrize(("rank", "size"), [(1, 24), (3, 12)])
def test_signals_and_volumes_run_from_data_to_report(rank: int, size: int, tmp_path: Path) -> None:
    outcome = run(plan_for(f"synthetic-{rank}d:samples=40,size={size}", self_checks=False), tmp_path / "run")
    page = outcome.report.read_text(encoding="utf-8")
    assert outcome.results.about["fill"] == "mean"
    assert outcome.others == ()
    assert not outcome.results.own_controls
    assert outcome.results.metrics[0] == {1: "average-drop:keep=0.3", 3: "average-drop"}[rank]
    assert outcome.results.gallery is not None
    assert outcome.results.gallery.x.shape[2:] == (size,) * rank
    assert 'id="heatmaps"' in page
    assert 'id="fills"' not in page
    assert 'id="cases"' not in page
    assert all(math.isfinite(e.mean) for e in outcome.results.estimates().values() if e.n)


class TestImages:
    def test_are_judged_with_three_fills_at_nine_tenths(self, image_run: tuple[Path, Outcome]) -> None:
        _, outcome = image_run
        studies = (outcome.results, *outcome.others)
        assert [study.about["fill"] for study in studies] == ["black", "blur", "mean"]
        assert all(study.metrics == ("average-drop:keep=0.9", "deletion") for study in studies)
        cell = (outcome.results.methods[0], "deletion")
        assert not np.array_equal(studies[0].scores[cell], studies[1].scores[cell])

    def test_maps_are_the_same_with_every_fill(self, image_run: tuple[Path, Outcome]) -> None:
        _, outcome = image_run
        assert outcome.results.gallery is not None
        for other in outcome.others:
            assert other.gallery is not None
            for name, maps in outcome.results.gallery.maps.items():
                np.testing.assert_array_equal(maps, other.gallery.maps[name])

    def test_report_shows_fills_findings_and_worked_cases(self, image_run: tuple[Path, Outcome]) -> None:
        folder, outcome = image_run
        page = (folder / REPORT).read_text(encoding="utf-8")
        assert 'id="fills"' in page
        assert 'id="cases"' in page
        for statement in outcome.judgement.statements:
            assert statement.text in html.unescape(page).replace("\xa0", " ")
        (folder / REPORT).unlink()
        assert archive.report(folder).read_text(encoding="utf-8").count("<figure") == page.count("<figure")

    def test_labels_can_be_shuffled(self, image_run: tuple[Path, Outcome]) -> None:
        folder, _ = image_run
        plan = replace(read_plan(folder), metrics=LABELS, fills=(Spec("mean"),), self_checks=False)
        model = stages.classifier(plan, out=folder)
        (study,) = stages.judge(plan, model, stages.splits(plan, model))
        assert study.skips == ()
        assert np.isfinite(study.scores["edge", "label-randomisation:epochs=1"]).all()
        (again,) = stages.judge(plan, model, stages.splits(plan, model).test)  # by the model's card
        for cell, scores in study.scores.items():
            np.testing.assert_array_equal(again.scores[cell], scores)

    def test_cases_keep_exactly_the_most_relevant_positions(self) -> None:
        samples = data.load("synthetic-2d:samples=40,size=16").test
        plan, model = plan_for("synthetic-2d:samples=40,size=16", fills=("black:value=7",)), build("small-cnn:rank=2")
        cases = worked.cases(replace(plan, case_class="coarse"), model, samples, stages.assess(model, samples))
        assert cases is not None
        assert cases.label == "coarse"
        assert list(cases.probability) == sorted(cases.probability, reverse=True)
        for name in METHODS:
            gone = (cases.kept[name] == 7).all(axis=1)
            assert gone.reshape(len(gone), -1).sum(axis=1).tolist() == [256 - round(0.9 * 256)] * len(gone)
            for removed, heat in zip(gone, cases.maps[name], strict=True):
                assert heat[removed].max() <= heat[~removed].min()

    @pytest.mark.parametrize(
        ("setting", "error", "message"),
        [
            ({"case_class": "course"}, UnknownName, "coarse"),
            ({"target": "course"}, UnknownName, "coarse"),
            ({"target": 3}, InputError, "expected 0 to 2 for 3 classes"),
            ({"layer": ("nowhere",)}, UnknownName, "unknown layer 'nowhere'"),
        ],
    )
    def test_what_is_not_there_is_refused_before_training(
        self, tmp_path: Path, setting: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            run(plan_for("synthetic-2d:samples=40,size=16", **setting), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_class_is_explained_by_its_name(self, image_run: tuple[Path, Outcome]) -> None:
        plan = replace(read_plan(image_run[0]), fills=(Spec("mean"),), self_checks=False, metrics=(Spec("deletion"),))
        model = stages.classifier(plan, out=image_run[0])
        samples = stages.chosen(plan, stages.splits(plan, model).test)
        (named,) = stages.judge(replace(plan, target="coarse"), model, samples)
        (numbered,) = stages.judge(replace(plan, target=samples.classes.index("coarse")), model, samples)
        np.testing.assert_array_equal(named.scores["grad-cam", "deletion"], numbered.scores["grad-cam", "deletion"])


class TestFinished:
    WORK = ("training.run._fit", "performance.evaluate", "studies.run.chunks_of", "report.write", "data.load")

    @pytest.fixture
    def folder(self, image_run: tuple[Path, Outcome], tmp_path: Path) -> Path:
        """A copy of the finished run."""
        return Path(shutil.copytree(image_run[0].parent / "as finished", tmp_path / "run"))

    @staticmethod
    def refuse(monkeypatch: pytest.MonkeyPatch, *work: str) -> None:
        for name in work:
            monkeypatch.setattr(f"heatproof.{name}", lambda *_, name=name, **__: pytest.fail(f"{name} once more"))

    def test_run_is_read_from_its_files(
        self, image_run: tuple[Path, Outcome], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.refuse(monkeypatch, *self.WORK)
        first, again = image_run[1], run(read_plan(folder), folder)
        assert again.report == folder / REPORT
        assert len(again.performance) == len(first.performance)
        assert dict(again.performance.intervals) == dict(first.performance.intervals)
        for old, new in zip((first.results, *first.others), (again.results, *again.others), strict=True):
            assert old.metrics == new.metrics
            for cell, scores in old.scores.items():
                np.testing.assert_array_equal(new.scores[cell], scores)

    def test_what_is_missing_alone_is_done_again(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuse(monkeypatch, "training.run._fit", "studies.run.chunks_of", "methods.explain")
        (folder / REPORT).write_text("changed", encoding="utf-8")
        monkeypatch.setattr("heatproof.pipeline.stages.cases", lambda *_, **__: None)
        assert "changed" not in run(read_plan(folder), folder).report.read_text(encoding="utf-8")[:20]
        self.refuse(monkeypatch, "report.write")
        run(read_plan(folder), folder)

    def test_what_only_displays_or_executes_continues_the_run(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.refuse(monkeypatch, "training.run._fit", "studies.run.chunks_of")
        plan = read_plan(folder)
        results = (folder / "study" / "results.json").stat().st_mtime_ns
        page = run(replace(plan, case_class="coarse"), folder).report.read_text(encoding="utf-8")
        assert "test samples of class coarse" in page
        assert read_plan(folder).case_class == "coarse"
        assert (folder / "study" / "results.json").stat().st_mtime_ns == results
        self.refuse(monkeypatch, *self.WORK)
        run(replace(plan, case_class="coarse", workers="processes:2"), folder)
        with pytest.raises(FolderInUse, match=r"other settings \(seed: 0 there, 1 here\)"):
            run(replace(plan, seed=1), folder)

    def test_another_version_trains_nothing_but_judges_anew(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.refuse(monkeypatch, "training.run._fit")
        monkeypatch.setattr("heatproof.version.__version__", "99")
        monkeypatch.setattr("heatproof.report.write", lambda _, path, **__: path)
        outcome = run(read_plan(folder), folder)
        assert {study.about["version"] for study in (outcome.results, *outcome.others)} == {"99"}
        assert json.loads((folder / completion.DONE).read_text(encoding="utf-8"))["version"] == "99"

    def test_files_that_it_was_made_from_are_watched(self, tmp_path: Path) -> None:
        (tmp_path / "tiles" / "a").mkdir(parents=True)
        tile = tmp_path / "tiles" / "a" / "1.png"
        tile.write_bytes(b"one")
        plan = plan_of(data="folder", path=str(tmp_path / "tiles"))
        before = completion.provenance(plan)
        assert completion.provenance(plan) == before
        os.utime(tile, ns=(1, 1))
        assert completion.provenance(plan) != before
        assert completion.provenance(replace(plan, seed=1))["plan"] != before["plan"]


def test_cases_are_the_surest_the_middle_and_the_least_sure() -> None:
    assert choose(np.array([0.2, 0.9, 0.55, 0.7])) == [1, 2, 0]
    assert choose(np.array([0.4])) == [0]
    assert choose(np.array([])) == []


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """A tree of two classes of small images, one file in each part damaged."""
    random = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 3)):
        for label, name in enumerate(("dark", "light")):
            folder = tmp_path / "tiles" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(100 * label, 100 * label + 100, size=(20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
        (tmp_path / "tiles" / part / "dark" / "broken.png").write_bytes(b"\x89PNG\r\n")
    return tmp_path / "tiles"


class TestFolder:
    WORDS = ("run", "--data", "folder:size=16", "--net", "small-cnn", "--recipe", "fast:epochs=1", "--methods",
             "grad-cam", "--metrics", "average-drop", "--fill", "black,blur", "--quiet")  # fmt: skip

    def test_bad_files_are_skipped_and_listed(
        self, tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*self.WORDS, "--path", str(tiles), "--out", str(tmp_path / "run")]) == 0
        shown = capsys.readouterr().out
        page = (tmp_path / "run" / REPORT).read_text(encoding="utf-8")
        for file in ("train/dark/broken.png", "test/dark/broken.png"):
            assert f"Skipped {file}: " in shown
            assert file in page

    def test_strict_stops_at_a_bad_file(self, tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*self.WORDS, "--path", str(tiles), "--out", str(tmp_path / "run"), "--strict"]) == 1
        assert "broken.png" in capsys.readouterr().err


class TestShipped:
    @pytest.fixture
    def shipped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """One shipped network, untrained."""
        card = Card(Spec("tissue-resnet"), (3, 128, 128), tuple("abcdefgh"), data="hmt:size=128")
        save(build("tissue-resnet"), tmp_path / "net", card)
        monkeypatch.setattr(nets, "shipped", lambda: ("net",))
        monkeypatch.setattr(nets, "weights", lambda name: tmp_path / name)
        return "net"

    def test_is_taken_where_nothing_else_is_asked_for(self, shipped: str) -> None:
        assert defaults.shipped_for(plan_of(data="hmt")) == shipped
        assert defaults.shipped_for(plan_of(data="hmt:size=96", strict=True)) == shipped
        assert defaults.shipped_for(plan_of(data="hmt", net="tissue-resnet")) == shipped
        assert stages.classifier(plan_of(data="hmt")).training is False

    @pytest.mark.parametrize(
        "plan",
        [
            Plan(),
            plan_of(data="synthetic-2d"),
            plan_of(data="hmt:test=3"),
            plan_of(data="hmt", recipe="fast"),
            plan_of(data="hmt", net="vgg-7"),
            plan_of(data="hmt", net="tissue-resnet:dropout=0.5"),
            plan_of(data="hmt", model="other"),
        ],
    )
    def test_is_not_taken_where_it_may_not_be_meant(self, plan: Plan, shipped: str) -> None:
        assert defaults.shipped_for(plan) is None

    def test_the_most_accurate_is_taken_unless_one_is_named(self) -> None:
        assert defaults.shipped_for(plan_of(data="hmt")) == "tissue-resnet"
        assert defaults.shipped_for(plan_of(data="hmt", net="vgg-7")) == "vgg-7"

    def test_says_so_where_test_samples_were_trained_on(self) -> None:
        samples = data.load("synthetic-2d:samples=10").test
        with pytest.warns(HeatproofWarning) as caught:
            defaults.announce_shipped("net", replace(samples, ids=("01_TUMOR/seen.tif",) * len(samples)))
        assert [f"trained on {len(samples)} of these" in str(w.message) for w in caught] == [False, True]


def test_recipes_suit_their_data() -> None:
    names = [None, Spec("mnist1d"), Spec.parse("hmt:size=64")]
    assert [str(defaults.recipe_for(name)) for name in names] == ["fast", "fast", "hmt"]


def test_networks_suit_their_inputs() -> None:
    nothing = data.load("synthetic-1d:samples=10").train
    for shape, name in (
        ((1, 40), None),
        ((3, 20, 20), "small-cnn"),
        ((3, 64, 80), "tissue-resnet"),
        ((1, 8, 8, 8), "small-cnn"),
    ):
        samples = replace(nothing, x=torch.zeros(len(nothing), *shape), mask=None)
        assert defaults.net_of(Plan(), samples) == (name and Spec(name))


def test_hmt_tiles_run_with_the_shipped_network(shared: Path, tmp_path: Path) -> None:
    if not (shared / "data" / "hmt").is_dir():
        pytest.skip("needs the HMT tiles in the shared data folder")
    if "tissue-resnet" not in nets.shipped():
        pytest.skip("needs the weights of the shipped network")
    (tmp_path / "hmt").mkdir()
    (tmp_path / "hmt" / "train").symlink_to(shared / "data" / "hmt" / "test")  # read once more rather than 4000 tiles
    (tmp_path / "hmt" / "test").symlink_to(shared / "data" / "hmt" / "test")
    plan = plan_of(data="hmt:size=64", path=str(tmp_path / "hmt"), methods=METHODS, metrics=METRICS, limit=8)
    with pytest.warns(HeatproofWarning, match="ships with heatproof"):
        outcome = run(plan, tmp_path / "run")
    page = outcome.report.read_text(encoding="utf-8")
    assert "CC BY 4.0" in page
    assert "Kather et al. (2016)" in page
    assert "test samples of class TUMOR" in page


def test_strict_is_an_error_for_the_data_itself(tiles: Path) -> None:
    with pytest.raises(FileError, match=r"broken\.png"):
        stages.splits(plan_of(data="folder", path=str(tiles), strict=True))


def test_a_run_knows_the_file_of_its_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "nets_of_mine.py"
    file.write_text("def small(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    plan = Plan(model="nets_of_mine:small")
    before = completion.provenance(plan)
    assert completion.provenance(plan) == before
    file.write_text("def small(): return 1\n")
    assert completion.provenance(plan) != before
