"""The report: one page that stands alone, from any part of the evidence, with every foreign string escaped."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from heatproof import performance
from heatproof.errors import FileError, InputError
from heatproof.models.card import Card
from heatproof.records import Estimate, Samples, Skip
from heatproof.registry import Spec
from heatproof.report import Pictures, parts, tables, write
from heatproof.report import facts as findings
from heatproof.report.parts import Table
from heatproof.report.sections import agreement, heatmaps, settings
from heatproof.results.record import Band, Gallery, Results
from heatproof.training.history import Epoch

NASTY = '<script>alert("x")</script>&\'_%$#{}~^\\|*`'
METHODS, CONTROLS = ("good-cam", "fair-cam", "bad-cam"), ("random", "edge")
FACTS = {
    "deletion": ("lower", "faithfulness", "1806.07421"),
    "insertion": ("higher", "faithfulness", "1806.07421"),
    "pointing-game": ("higher", "localisation", "10.1000/some.paper"),
    "entropy": ("lower", "complexity", ""),
}
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "rect", "circle", "image", "line"}


def study(
    *,
    count: int = 40,
    classes: tuple[str, ...] = ("cat", "dog"),
    shape: tuple[int, ...] = (1, 16),
    quality: tuple[float, ...] = (0.9, 0.7, 0.5, 0.1, 0.3),
    controls: tuple[str, ...] = CONTROLS,
    wrong: int = 12,
    name: str = "toy",
) -> Results:
    """A study in which each method has a known quality; no model is involved."""
    generator = np.random.default_rng(0)
    everyone = (*METHODS, *controls)
    scores, curves = {}, {}
    for method, good in zip(everyone, quality, strict=False):
        for metric, (better, _, _) in FACTS.items():
            values = np.clip(good + 0.05 * generator.normal(size=count), 0, 1)
            scores[method, metric] = values if better == "higher" else 1 - values
        at = np.linspace(0, 1, 6)
        curves[method, "deletion"] = Band(at, scores[method, "deletion"][:, None] * (1 - at))
        curves[method, "insertion"] = Band(at, scores[method, "insertion"][:, None] * at)
    y = np.arange(count) % len(classes)
    predictions = y.copy()
    predictions[:wrong] = (y[:wrong] + 1) % len(classes)
    index = np.array([0, count - 1]) if count > 1 else np.array([0])
    maps = {m: generator.random((len(index), *shape[1:])) for m in everyone}
    truth = np.ones((len(index), *shape[1:]), dtype=bool)
    return Results(
        scores=scores,
        methods=METHODS,
        controls=controls,
        metrics=tuple(FACTS),
        y=y,
        predictions=predictions,
        confidence=np.full(count, 0.9),
        classes=classes,
        ids=tuple(f"file {i} {NASTY}" for i in range(count)),
        curves=curves,
        gallery=Gallery(index, generator.random((len(index), *shape)), maps, truth),
        about={
            "data": name,
            "data_about": {"licence": "CC BY 4.0", "citation": "Nobody et al. (2020)"},
            "score": "probability",
            "layer": "conv3: the last convolution",
            "fill": "mean",
            "fill_summary": "The mean of each sample.",
            "target": "None",
            "seed": 3,
            "level": 0.95,
            "passes": {"forward": 1200, "backward": 40},
            "versions": {"heatproof": "0.1.0", "torch": "2.0"},
            "metrics": {
                m: {"summary": f"What {m} measures with ``keep``.", "better": b, "family": f, "paper": p}
                for m, (b, f, p) in FACTS.items()
            },
            "method_facts": {m: {"summary": f"How {m} works.", "family": "cam", "paper": ""} for m in everyone},
        },
    )  # fmt: skip


def judged(classes: tuple[str, ...] = ("cat", "dog"), count: int = 40) -> performance.Performance:
    generator = np.random.default_rng(1)
    y = np.arange(count) % len(classes)
    p = generator.dirichlet(np.ones(len(classes)), size=count) * 0.5
    p[np.arange(count), y] += 0.5
    return performance.measure(p, y, classes, name="toy", resamples=200)


HISTORY = (Epoch(1, 1.0, 0.5, 1.1, 0.4, 0.1, 1.0), Epoch(2, 0.5, 0.8, 0.6, 0.7, 0.1, 1.0))


class Outline(HTMLParser):
    """The tags of a page, checked to be nested; its ids, headings and what it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.loads: list[str] = []
        self.anchors: list[str] = []
        self.seen: list[str] = []
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [str(facts["id"])] if "id" in facts else []
        self.loads += [str(facts[k]) for k in ("src", "data", "srcset", "poster") if k in facts]
        if tag in ("link", "image", "use"):
            self.loads += [str(facts.get("href"))]
        if tag == "a":
            self.anchors.append(str(facts.get("href")))
        if tag in ("svg", "button"):
            assert tag == "button" or (facts.get("role") == "img" and facts.get("aria-label"))
        if tag == "th":
            assert facts.get("scope") == "col"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words += data
        if self.open and re.fullmatch(r"h\d", self.open[-1]):
            self.headings.append((self.open[-1], data.strip()))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all there can be, nasty strings included, and the files beside it."""
    names = (f"cat {NASTY}", "dog")
    results = replace(study(classes=names), skips=(Skip("bad-cam", "entropy", f"no {NASTY}"),))
    samples = Samples(torch.rand(40, 1, 16), torch.arange(40) % 2, classes=names, name="toy", about={"licence": NASTY})
    maps = {m: torch.rand(40, 16) for m in (*METHODS, *CONTROLS)}
    maps["bad-cam"][:5] = 0.0
    card = Card(Spec("net"), (1, 16), names, data="toy", recipe={"name": "fast"}, seed=1, date="2026-01-01")
    return write(
        results,
        tmp_path_factory.mktemp("report") / "report.html",
        performance=judged(names),
        history=HISTORY,
        card=card,
        pictures=Pictures(samples, samples, maps),
        command=f"heatproof run --data '{NASTY}'",
        files=True,
    )


# The page


def test_a_page_is_well_formed_and_loads_nothing(everything: Path) -> None:
    page = everything.read_text(encoding="utf-8")
    found = Outline(page)
    assert not found.open
    assert len(found.ids) == len(set(found.ids))
    assert all(link.startswith(("data:image/", "#")) for link in found.loads)
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert {link[1:] for link in found.anchors if link.startswith("#")} <= set(found.ids)
    assert all(link.startswith(("#", "https://arxiv.org/", "https://doi.org/")) for link in found.anchors)
    assert len(page) < 3_000_000


def test_the_verdict_comes_first_and_every_section_is_there(everything: Path) -> None:
    found = Outline(everything.read_text(encoding="utf-8"))
    assert [text for level, text in found.headings if level == "h1"] == ["toy: which heatmaps can be trusted?"]
    assert [text for level, text in found.headings if level == "h2"] == [
        "Verdict",
        "Findings",
        "Ranking of the methods",
        "Heatmaps",
        "Scores by metric",
        "Do the judges pass their own tests?",
        "Which metrics agree with the planted truth?",
        "Curves",
        "Right and wrong, class by class",
        "Who agrees with whom",
        "Worst explained samples",
        "The classifier",
        "What it cost",
        "Settings",
        "How to reproduce this",
    ]


def test_foreign_strings_are_escaped(everything: Path) -> None:
    page = everything.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert Outline(page).seen.count("script") == 1
    assert Outline(page).words.count(NASTY) > 5


def test_what_decided_the_numbers_is_told(everything: Path) -> None:
    words = Outline(everything.read_text(encoding="utf-8")).words
    for told in (
        "conv3: the last convolution", "probability", "mean: The mean of each sample.", "1,200", "Licence",
        "heatproof run --data", "hp.study(", "no " + NASTY, "What deletion measures with keep.", "lower ↓",
        "bad-cam says nothing about 5 samples of 40",
    ):  # fmt: skip
        assert told in words


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write(study(), tmp_path / name) for name in ("a.html", "b.html"))
    assert first.read_bytes() == second.read_bytes()


def test_a_bare_study_and_a_bare_classifier_have_a_page(tmp_path: Path) -> None:
    headings = [text for _, text in Outline(study().report(tmp_path / "a.html").read_text("utf-8")).headings]
    assert "The classifier" not in headings
    assert "Ranking of the methods" in headings
    page = write(None, tmp_path / "b.html", performance=judged()).read_text("utf-8")
    headings = [text for _, text in Outline(page).headings]
    assert headings == ["toy: how good is the classifier?", "Verdict", "The classifier"]
    assert "of 40 samples" in page
    assert "Loss and accuracy" in write(None, tmp_path / "c.html", history=HISTORY).read_text("utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html", "c.html"]


def test_nothing_to_report_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to report on"):
        write(None, tmp_path / "page.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        write(study(), tmp_path / "file" / "page.html")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "results",
    [
        pytest.param(study(count=1, wrong=0), id="one sample"),
        pytest.param(study(wrong=40), id="all wrong"),
        pytest.param(study(controls=(), quality=(0.5, 0.5, 0.5)), id="no controls"),
        pytest.param(replace(study(), gallery=None, curves={}, ids=()), id="no pictures"),
        pytest.param(replace(study(), scores={}, curves={}), id="no scores"),
        pytest.param(replace(study(), methods=()), id="controls alone"),
        pytest.param(replace(study(), methods=METHODS[:1]), id="one method"),
        pytest.param(replace(study(), metrics=("entropy",)), id="complexity alone"),
        pytest.param(study(shape=(3, 8, 8)), id="images"),
        pytest.param(study(shape=(1, 4, 8, 8)), id="volumes"),
        pytest.param(study(classes=tuple(f"class {i}" for i in range(60)), count=90), id="many classes"),
        pytest.param(replace(study(), scores={k: np.full(40, np.nan) for k in study().scores}), id="all undefined"),
    ],
)
def test_every_section_copes_with_what_is_missing(results: Results, tmp_path: Path) -> None:
    page = write(results, tmp_path / "page.html").read_text("utf-8")
    assert not Outline(page).open
    assert ">nan<" not in page
    assert "NaN" not in Outline(page).words


# The verdict and the findings


def test_a_method_no_better_than_an_edge_filter_leads_the_page(tmp_path: Path) -> None:
    results = study(quality=(0.9, 0.7, 0.4, 0.1, 0.4))
    found = findings.banner(findings.Told(results))
    assert found.fails[0].text == "bad-cam is no better than an edge filter (edge)."
    page = Outline(write(results, tmp_path / "page.html").read_text("utf-8")).words
    assert page.index("no better than an edge filter") < page.index("Ranking of the methods")


def test_the_banner_tells_how_good_the_news_are() -> None:
    assert findings.banner(findings.Told(study())).kind == "good"
    assert "good-cam" in findings.banner(findings.Told(study())).headline
    worse = findings.banner(findings.Told(study(quality=(0.1, 0.1, 0.1, 0.9, 0.9))))
    assert worse.kind == "bad"
    assert "good-cam, fair-cam and bad-cam are no better than" in worse.fails[0].text
    assert findings.banner(findings.Told(study(quality=(0.7, 0.7, 0.5, 0.1, 0.2)))).kind == "note"


def test_findings_put_bad_news_first_and_name_the_metric() -> None:
    results = study()
    results.scores["edge", "pointing-game"][:] = 1.0
    found = findings.findings(findings.Told(results))
    assert found[0] == parts.Finding("bad", "By pointing-game, no method beats an edge filter (edge).")
    assert [f.kind for f in found] == sorted((f.kind for f in found), key=("bad", "note", "good").index)


def test_the_ranking_rests_on_the_metrics_that_the_verdict_lets_count() -> None:
    results = study()
    for name in METHODS:
        results.scores[name, "pointing-game"][:] = results.scores["random", "pointing-game"]
    told = findings.Told(results)
    assert results.counting == results.ranked == told.verdict.ranked == ("deletion", "insertion")
    assert set(told.reasons) == {"pointing-game"}
    assert told.families == {"faithfulness": ("deletion", "insertion")}
    voices = results.voices(controls=False, metrics=("deletion", "insertion"))
    expected = rankdata(voices, axis=1).mean(axis=0)
    assert [row.rank.mean for row in told.rows] == pytest.approx(sorted(expected))
    assert not any("pointing-game" in f.text for f in findings.findings(told))


def test_unknown_sizes_and_settings_are_told_in_words(tmp_path: Path) -> None:
    card = Card(Spec("net"), (1, None, 16), ("a", "b"), recipe={"name": "own", "nesterov": True, "patience": None})
    results = replace(study(), about={**study().about, "data_about": {"shuffle": False, "split_by": None}})
    page = Outline(write(results, tmp_path / "page.html", card=card).read_text("utf-8")).words
    assert "1 × any × 16" in page
    assert "shuffle no; split by none" in page
    assert "nesterov yes" in page
    unknown = settings.settings(None, replace(card, input_shape=()), {})
    assert unknown is not None
    model = next(part for part in unknown.parts if isinstance(part, Table) and part.name == "model")
    assert ("Input of one sample", "not recorded") in model.rows


def test_findings_tell_what_the_numbers_cannot() -> None:
    few = [f.text for f in findings.findings(findings.Told(study(wrong=2)))]
    assert any(text.startswith("Only 2 samples of 40 are misclassified") for text in few)
    alone = [f.text for f in findings.findings(findings.Told(study(controls=(), quality=(0.9, 0.7, 0.5))))]
    assert any(text.startswith("No control was run") for text in alone)
    holes = study()
    holes.scores["good-cam", "deletion"][:10] = np.nan
    assert any("up to 25 % of the samples" in f.text for f in findings.findings(findings.Told(holes)))


# What is computed for the page


def test_agreement_between_metrics_is_the_mean_rank_correlation() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    results = study(quality=(0.6, 0.5, 0.5, 0.4, 0.5))
    matrix, names = agreement.metrics_agree(results)
    assert names == results.metrics
    tables = {m: results.table(m) * (1 if results.better(m) == "higher" else -1) for m in names}
    pairs = zip(tables["deletion"], tables["insertion"], strict=True)
    expected = np.mean([scipy_stats.spearmanr(a, b).statistic for a, b in pairs])
    assert matrix[0, 1] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(np.diag(matrix), 1.0)


def test_agreement_between_maps_ignores_scale_and_sees_reversal() -> None:
    maps = np.random.default_rng(0).random((5, 4, 4))
    matrix, count = agreement.maps_agree({"a": maps, "b": np.exp(3 * maps), "c": -maps, "flat": np.zeros((5, 4, 4))})
    assert count == 5
    np.testing.assert_allclose(matrix[0, :3], [1.0, 1.0, -1.0])
    assert np.isnan(matrix[3]).all()


def test_the_worst_explained_samples_have_the_lowest_scores() -> None:
    results = study()
    for metric, (better, _, _) in FACTS.items():
        results.scores["good-cam", metric][7] = -1.0 if better == "higher" else 2.0
    standing = heatmaps.standings(findings.Told(results), "good-cam")
    assert int(standing.argmin()) == 7
    assert standing[7] == 0.0
    assert (standing <= 1.0).all()


# Tables


TABLE = Table("t", f"Caption {NASTY}", ("Name", "Score"), ((NASTY, Estimate(0.5, 0.25, 0.75, 4)), ("b", None)))


def test_markdown_escapes_what_would_break_it() -> None:
    lines = tables.markdown(TABLE).splitlines()
    assert lines[1] == "| --- | ---: |"
    assert "\\<script\\>" in lines[2]
    assert len(re.findall(r"(?<!\\)\|", lines[2])) == 3
    assert lines[2].endswith("| 0.500 \\[0.250, 0.750\\] |")


def test_latex_escapes_what_would_break_it() -> None:
    page = tables.latex(TABLE)
    assert r"\textless{}script\textgreater{}" in page
    assert r"\&'\_\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}\textbar{}*" in page
    assert page.count(r"\begin{") == page.count(r"\end{") == 2
    assert r"\begin{tabular}{lr}" in page


def test_csv_keeps_all_digits_and_spreads_intervals() -> None:
    table = replace(TABLE, rows=((NASTY, Estimate(1 / 3, 0.25, 0.75, 4)), ('a,"b"\n', None)))
    rows = list(csv.reader(io.StringIO(tables.comma_separated(table))))
    assert rows[0] == ["Name", "Score", "Score low", "Score high"]
    assert rows[1] == [NASTY, str(1 / 3), "0.25", "0.75"]
    assert rows[2] == ['a,"b"\n', "", "", ""]


def test_figures_and_tables_lie_beside_the_page(everything: Path) -> None:
    figures = {p.name for p in (everything.parent / "figures").iterdir()}
    assert {
        "ranking.svg",
        "ranking.pdf",
        "critical-difference.pdf",
        "scores.svg",
        "roc.pdf",
        "curve-deletion.svg",
    } <= figures
    names = {p.name for p in (everything.parent / "tables").iterdir()}
    assert {"ranking.csv", "ranking.md", "ranking.tex", "scores.csv", "classes.tex", "classifier.md"} <= names
    page = (everything.parent / "tables" / "ranking.csv").read_text(encoding="utf-8")
    ranking = list(csv.DictReader(io.StringIO(page)))
    assert [row["Method"] for row in ranking][:3] == ["good-cam", "fair-cam", "bad-cam"]
    assert float(ranking[0]["Mean rank low"]) <= float(ranking[0]["Mean rank"]) <= float(ranking[0]["Mean rank high"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, "0.500"),
        (0.0, "0.000"),
        (1e-5, "1 × 10⁻⁵"),
        (-0.0002, "−0.0002"),
        (31234.5, "31,234"),
        (float("nan"), "–"),
        (float("inf"), "∞"),
    ],
)
def test_numbers_are_short(value: float, expected: str) -> None:
    assert parts.number(value) == expected
