"""The report: one page that stands alone, from any part of the evidence, with every foreign string escaped."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import heatproof as hp
from heatproof import performance
from heatproof.errors import FileError, InputError
from heatproof.models.card import Card
from heatproof.phrases import number
from heatproof.records import Estimate, Samples, Skip, Splits
from heatproof.registry import Spec
from heatproof.report import Content, Pictures, summary, tables, write
from heatproof.report.parts import Code, Table
from heatproof.report.sections import agreement, reproduce, settings, similarity, worst
from heatproof.results.record import Band, Gallery, Results
from heatproof.settings import create
from heatproof.studies.options import StudyOptions
from heatproof.training.history import Epoch
from heatproof.verdict import Judgement, wording

from .judged import HOW_MUCH, OWN, SIZE, WHERE, evidence

NASTY = '<script>alert("x")</script>&\'_%$#{}~^\\|*`'
METHODS, CONTROLS = ("good-cam", "fair-cam", "bad-cam"), ("random", "edge")
FACTS = {
    "deletion": ("lower", "faithfulness", "1806.07421"),
    "insertion": ("higher", "faithfulness", "1806.07421"),
    "pointing-game": ("higher", "localisation", "10.1000/some.paper"),
    "entropy": ("lower", "complexity", ""),
    WHERE: ("higher", "evidence", ""),
    HOW_MUCH: ("higher", "evidence", ""),
}
QUESTIONS = {WHERE: "where", HOW_MUCH: "how much"}
PLAIN = {"random": "random noise", "edge": "an edge filter"}
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "rect", "circle", "image", "line"}


def study(
    *,
    count: int = 60,
    classes: tuple[str, ...] = ("cat", "dog"),
    shape: tuple[int, ...] = (1, SIZE),
    quality: tuple[float, ...] = (0.9, 0.7, 0.5, 0.1, 0.3),
    controls: tuple[str, ...] = CONTROLS,
    own_levels: dict[str, float] | None = None,
    wrong: int = 12,
    name: str = "toy",
) -> Results:
    """A study in which each method has a known quality; no model is involved."""
    generator = np.random.default_rng(0)
    everyone = (*METHODS, *controls)
    scores, curves, own = {}, {}, {}
    for method, good in zip(everyone, quality, strict=False):
        for metric, (better, _, _) in FACTS.items():
            values = np.clip(good + 0.05 * generator.normal(size=count), 0, 1)
            scores[method, metric] = values if better == "higher" else 1 - values
            for control in OWN if metric in QUESTIONS and method in METHODS else ():
                own[control, method, metric] = np.clip(
                    (own_levels or {}).get(method, 0.1) + 0.05 * generator.normal(size=count), 0, 1
                )
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
        own_controls=own,
        evidence=evidence(count) if shape[1:] == (SIZE,) else None,
        methods=METHODS,
        controls=controls,
        metrics=tuple(FACTS),
        y=y,
        predictions=predictions,
        probability=np.full(count, 0.9),
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
            "size": list(shape[1:]),
            "seed": 3,
            "level": 0.95,
            "passes": {"forward": 1200, "backward": 40},
            "versions": {"heatproof": "0.1.0", "torch": "2.0"},
            "metrics": {
                m: {"summary": f"What {m} measures with ``keep``.", "better": b, "family": f, "paper": p,
                    "question": QUESTIONS.get(m)}
                for m, (b, f, p) in FACTS.items()
            },
            "method_facts": {
                m: {"summary": f"How {m} works.", "description": PLAIN.get(m, "")}
                for m in everyone
            },
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
    samples = Samples(
        torch.rand(60, 1, SIZE), torch.arange(60) % 2, classes=names, name="toy", about={"licence": NASTY}
    )
    maps = {m: torch.rand(60, SIZE) for m in (*METHODS, *CONTROLS)}
    maps["bad-cam"][:5] = 0.0
    card = Card(Spec("net"), (1, SIZE), names, data="toy", recipe={"name": "fast"}, seed=1, date="2026-01-01")
    content = Content(
        results,
        performance=judged(names),
        history=HISTORY,
        card=card,
        pictures=Pictures(samples, samples, maps),
        command=f"heatproof run --data '{NASTY}'",
    )
    return write(content, tmp_path_factory.mktemp("report") / "report.html", files=True)


# The page


def test_a_page_is_well_formed_and_loads_nothing(everything: Path) -> None:
    page = everything.read_text(encoding="utf-8")
    outline = Outline(page)
    assert not outline.open
    assert len(outline.ids) == len(set(outline.ids))
    assert all(link.startswith(("data:image/", "#")) for link in outline.loads)
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert {link[1:] for link in outline.anchors if link.startswith("#")} <= set(outline.ids)
    assert all(link.startswith(("#", "https://arxiv.org/", "https://doi.org/")) for link in outline.anchors)
    assert len(page) < 3_000_000


def test_the_verdict_comes_first_and_every_section_is_there(everything: Path) -> None:
    outline = Outline(everything.read_text(encoding="utf-8"))
    assert [text for level, text in outline.headings if level == "h1"] == ["toy: which heatmaps can be trusted?"]
    assert [text for level, text in outline.headings if level == "h2"] == [
        "Verdict",
        "Findings",
        "Verdict: the evidence",
        "The evidence in single samples",
        "Heatmaps",
        "Scores by metric",
        "Checks of the model and the methods",
        "Agreement with the planted truth",
        "Curves",
        "Correctly and incorrectly classified samples, and classes",
        "Agreement between metrics",
        "Similarity of the maps",
        "Samples with the lowest scores",
        "The classifier",
        "Execution time",
        "Settings",
        "How to reproduce this",
    ]


def test_foreign_strings_are_escaped(everything: Path) -> None:
    page = everything.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert Outline(page).seen.count("script") == 1
    assert Outline(page).words.count(NASTY) > 5


def test_what_decided_the_numbers_is_reported(everything: Path) -> None:
    words = Outline(everything.read_text(encoding="utf-8")).words
    for phrase in (
        "conv3: the last convolution", "probability", "mean: The mean of each sample.", "1,200", "Licence",
        "heatproof run --data", "hp.study(", "no " + NASTY, "What deletion measures with keep.", "lower ↓",
        "bad-cam gives a constant map for 5 of 60 samples",
    ):  # fmt: skip
        assert phrase in words


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write(Content(study()), tmp_path / name) for name in ("a.html", "b.html"))
    assert first.read_bytes() == second.read_bytes()


def test_the_python_of_the_page_asks_for_the_same_study(monkeypatch: pytest.MonkeyPatch) -> None:
    first = study()
    other = replace(first, about={**first.about, "fill": "blur"})
    card = Card(Spec("net"), (1, 16), ("cat", "dog"), data="toy")
    samples = Samples(torch.rand(90, 1, 16), torch.arange(90) % 2, classes=("cat", "dog"))
    section = reproduce.section(Content(first, (other,), card=card, pictures=Pictures(samples)))
    assert section is not None
    (code,) = (part for part in section.parts if isinstance(part, Code))
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(hp, "load", lambda _: None, raising=False)
    monkeypatch.setattr(hp, "Probe", lambda _, **__: None, raising=False)
    monkeypatch.setattr(hp, "study", lambda *args, **options: calls.append({"args": args, **options}), raising=False)
    monkeypatch.setattr(hp.data, "load", lambda _: Splits(samples, samples))
    monkeypatch.setattr(hp, "StudyOptions", lambda **options: create(StudyOptions, options), raising=False)
    exec(code.text.rpartition("\n")[0], {})  # the last line writes a report
    (call,) = calls
    assert len(call["args"][1]) == len(first)
    assert (tuple(call["methods"]), tuple(call["metrics"])) == (first.methods, first.metrics)
    expected = StudyOptions(fills=(Spec("mean"), Spec("blur")), level=first.level, seed=first.seed)
    assert call["options"] == expected


def test_a_bare_study_and_a_bare_classifier_have_a_page(tmp_path: Path) -> None:
    page = write(Content(study()), tmp_path / "a.html").read_text("utf-8")
    headings = [text for _, text in Outline(page).headings]
    assert "The classifier" not in headings
    assert "Verdict: the evidence" in headings
    page = write(Content(performance=judged()), tmp_path / "b.html").read_text("utf-8")
    headings = [text for _, text in Outline(page).headings]
    assert headings == ["toy: how good is the classifier?", "Verdict", "The classifier"]
    assert "of 40 samples" in page
    assert "Loss and accuracy" in write(Content(history=HISTORY), tmp_path / "c.html").read_text("utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html", "c.html"]


def test_nothing_to_report_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to report on"):
        write(Content(), tmp_path / "page.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        write(Content(study()), tmp_path / "file" / "page.html")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "results",
    [
        pytest.param(study(count=1, wrong=0), id="one sample"),
        pytest.param(study(wrong=60), id="all wrong"),
        pytest.param(study(controls=(), quality=(0.5, 0.5, 0.5)), id="no controls"),
        pytest.param(replace(study(), gallery=None, curves={}, ids=()), id="no pictures"),
        pytest.param(replace(study(), scores={}, curves={}), id="no scores"),
        pytest.param(replace(study(), methods=()), id="controls alone"),
        pytest.param(replace(study(), methods=METHODS[:1]), id="one method"),
        pytest.param(replace(study(), metrics=("entropy",)), id="complexity alone"),
        pytest.param(replace(study(), own_controls={}), id="no own controls"),
        pytest.param(replace(study(), evidence=None), id="no evidence"),
        pytest.param(replace(study(), groups=np.zeros(60, dtype=np.int64)), id="one group"),
        pytest.param(study(count=40, wrong=0), id="few samples"),
        pytest.param(study(shape=(3, 8, 8)), id="images"),
        pytest.param(study(shape=(1, 4, 8, 8)), id="volumes"),
        pytest.param(study(classes=tuple(f"class {i}" for i in range(60)), count=90), id="many classes"),
        pytest.param(replace(study(), scores={k: np.full(60, np.nan) for k in study().scores}), id="all undefined"),
    ],
)
def test_every_section_copes_with_what_is_missing(results: Results, tmp_path: Path) -> None:
    page = write(Content(results), tmp_path / "page.html").read_text("utf-8")
    assert not Outline(page).open
    assert ">nan<" not in page
    assert "NaN" not in Outline(page).words


# The verdict and the findings


def banner(results: Results) -> summary.Banner:
    top = summary.banner(Content(results))
    assert top is not None
    return top


def test_methods_that_do_not_beat_their_own_controls_lead_the_page_where_none_does(tmp_path: Path) -> None:
    results = study(own_levels={"good-cam": 0.9, "fair-cam": 0.7, "bad-cam": 0.5})
    first = banner(results).items[0]
    assert first.findings[0].kind == "barred"
    assert set(first.findings[0].subjects) <= set(METHODS)
    page = Outline(write(Content(results), tmp_path / "page.html").read_text("utf-8")).words
    assert page.index(first.text) < page.index("Verdict: the evidence")


def test_the_banner_shows_whether_a_method_is_named() -> None:
    assert banner(study()).severity == "good"
    assert "good-cam" in banner(study()).headline
    assert banner(study(own_levels=dict.fromkeys(METHODS, 0.9))).severity == "bad"
    assert banner(study(count=30, wrong=4)).severity == "note"
    basis = banner(study()).basis
    assert "60 samples" in basis
    assert WHERE in basis
    assert "smallest difference that matters 0.05" in basis


def test_bad_news_stand_with_the_verdict_and_other_findings_below() -> None:
    results = study(own_levels={"bad-cam": 0.5})
    content = Content(results)
    assert not banner(results).items
    others = summary.findings(content)
    assert ("barred", ("bad-cam",)) in [(item.findings[0].kind, item.findings[0].subjects) for item in others]
    severities = [item.severity for item in others]
    assert severities == sorted(severities, key=("note", "good").index)


def structure(page: str) -> list[tuple[str, str]]:
    """Tags with their classes, the drawings left out."""
    bare = re.sub(r"<svg.*?</svg>|<title>.*?</title>", "", page, flags=re.DOTALL)
    return re.findall(r"<(\w+)(?:[^>]*? class=\"([^\"]*)\")?", bare)


def test_the_structure_of_the_page_does_not_depend_on_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = study(quality=(0.9, 0.7, 0.4, 0.1, 0.4))
    results = replace(results, skips=(Skip("bad-cam", "entropy", "no reason"),))
    content = [Content(results, performance=judged()) for _ in range(2)]
    before = write(content[0], tmp_path / "a.html").read_text("utf-8")
    monkeypatch.setattr(wording, "sentence", lambda *_, **__: "Nothing of it is the same as it was.")
    monkeypatch.setattr(wording, "decision", lambda *_, **__: "Nor is this paragraph.")
    monkeypatch.setattr(performance.wording, "sentence", lambda _: "Nor is this sentence.")
    after = write(content[1], tmp_path / "b.html").read_text("utf-8")
    assert "Nothing of it is the same" in after
    assert structure(before) == structure(after)


def renamed(results: Results) -> Results:
    """The results with methods, controls and metrics under names of the same length that tell nothing."""
    letters = {name: name[::-1] for name in (*results.methods, *results.controls, *results.metrics)}
    about = {**results.about}
    for key in ("metrics", "method_facts"):
        about[key] = {letters[name]: facts for name, facts in about[key].items()}
    assert results.gallery is not None
    return replace(
        results,
        scores={(letters[a], letters[b]): values for (a, b), values in results.scores.items()},
        curves={(letters[a], letters[b]): band for (a, b), band in results.curves.items()},
        own_controls={(c, letters[a], letters[b]): values for (c, a, b), values in results.own_controls.items()},
        methods=tuple(map(letters.__getitem__, results.methods)),
        controls=tuple(map(letters.__getitem__, results.controls)),
        metrics=tuple(map(letters.__getitem__, results.metrics)),
        gallery=replace(results.gallery, maps={letters[name]: maps for name, maps in results.gallery.maps.items()}),
        about=about,
    )


def test_the_structure_of_the_page_does_not_depend_on_a_name(tmp_path: Path) -> None:
    results = study(quality=(0.9, 0.7, 0.4, 0.1, 0.4))
    pages = [write(Content(r), tmp_path / "page.html").read_text("utf-8") for r in (results, renamed(results))]
    assert structure(pages[0]) == structure(pages[1])


def test_unknown_sizes_and_settings_are_shown_in_words(tmp_path: Path) -> None:
    card = Card(Spec("net"), (1, None, 16), ("a", "b"), recipe={"name": "own", "nesterov": True, "patience": None})
    results = replace(study(), about={**study().about, "data_about": {"shuffle": False, "split_by": None}})
    page = Outline(write(Content(results, card=card), tmp_path / "page.html").read_text("utf-8")).words
    assert "1 × any × 16" in page
    assert "shuffle no; split by none" in page
    assert "nesterov yes" in page
    unknown = settings.section(Content(card=replace(card, input_shape=())))
    assert unknown is not None
    model = next(part for part in unknown.parts if isinstance(part, Table) and part.name == "model")
    assert ("Input of one sample", "not recorded") in model.rows


# What is computed for the page


def test_agreement_between_metrics_is_the_mean_rank_correlation() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    results = study(quality=(0.6, 0.5, 0.5, 0.4, 0.5))
    matrix, names = agreement.metric_correlations(results)
    assert names == results.metrics
    tables = {m: results.table(m) * (1 if results.better(m) == "higher" else -1) for m in names}
    pairs = zip(tables["deletion"], tables["insertion"], strict=True)
    expected = np.mean([scipy_stats.spearmanr(a, b).statistic for a, b in pairs])
    assert matrix[0, 1] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(np.diag(matrix), 1.0)


def test_similarity_of_maps_ignores_scale_and_sees_reversal() -> None:
    maps = np.random.default_rng(0).random((5, 4, 4))
    matrix, count = similarity.map_similarities(
        {"a": maps, "b": np.exp(3 * maps), "c": -maps, "flat": np.zeros((5, 4, 4))}
    )
    assert count == 5
    np.testing.assert_allclose(matrix[0, :3], [1.0, 1.0, -1.0])
    assert np.isnan(matrix[3]).all()


def test_the_samples_shown_have_the_lowest_overall_scores() -> None:
    results = study()
    for metric in QUESTIONS:
        results.scores["good-cam", metric][7] = -1.0
        results.scores["good-cam", metric][9] = -0.5
    assert worst.best(Judgement(results)) == "good-cam"
    section = worst.section(Content(results))
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, Table))
    assert [row[0] for row in table.rows[:2]] == [results.ids[7], results.ids[9]]
    assert table.rows[0][table.columns.index("Overall")] == -1.0


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
        "questions.svg",
        "questions.pdf",
        "evidence-gallery-correct.svg",
        "scores.svg",
        "curve-deletion.svg",
    } <= figures
    names = {p.name for p in (everything.parent / "tables").iterdir()}
    assert {"methods-verdict.csv", "methods-verdict.md", "methods-verdict.tex", "scores.csv", "classes.tex"} <= names
    page = (everything.parent / "tables" / "methods-verdict.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(page)))
    assert [row["Method"] for row in rows][:3] == ["good-cam", "fair-cam", "bad-cam"]
    assert float(rows[0]["Where low"]) <= float(rows[0]["Where"]) <= float(rows[0]["Where high"])
    assert rows[0]["Named for"] == "both"


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
    assert number(value) == expected
