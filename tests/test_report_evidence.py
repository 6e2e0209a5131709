"""The evidence in the report: questions, own controls, worths, classes, planted truth, fills; numbers and words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from heatproof import stats
from heatproof.cli import judgement as terminal
from heatproof.metrics.similarity import ssim
from heatproof.phrases import percent
from heatproof.records import Estimate, Skip
from heatproof.report import Content, facts
from heatproof.report.parts import Listing, Picture, Section, Table, text
from heatproof.report.sections import (
    agreement,
    checks,
    classifier,
    cost,
    curves,
    evidence,
    fills,
    questions,
    similarity,
    strata,
    truth,
)
from heatproof.results.evidence import Evidence
from heatproof.results.record import Band, Results
from heatproof.verdict import Comparison, Judgement, wording
from heatproof.verdict.wording import Statement

from .judged import HOW_MUCH, OWN, WHERE
from .test_report import CONTROLS, METHODS, judged, study

SANITY = "parameter-randomisation"


def content(results: Results, *others: Results) -> Content:
    return Content(results, others)


def table(section: Section | None, name: str) -> Table:
    assert section is not None
    tables = [part for part in section.parts if isinstance(part, Table) and part.name == name]
    assert len(tables) == 1, f"{len(tables)} tables {name}"
    return tables[0]


def statements(section: Section | None) -> list[Statement]:
    assert section is not None
    return [item for part in section.parts if isinstance(part, Listing) for item in part.items]


def kinds(section: Section | None) -> list[str]:
    return [finding.kind for item in statements(section) for finding in item.findings]


def column(table: Table, head: str) -> dict[Any, Any]:
    place = table.columns.index(head)
    return {row[0]: row[place] for row in table.rows}


def with_sanity_check(results: Results, values: Sequence[float], name: str = SANITY) -> Results:
    """The results with one more metric that gives each method and control one similarity, and a little noise."""
    generator = np.random.default_rng(5)
    scores = dict(results.scores)
    for method, value in zip((*results.methods, *results.controls), values, strict=True):
        scores[method, name] = value + 0.01 * generator.normal(size=len(results))
    declared = {
        "better": "lower", "family": "randomisation", "must_change_with": "parameters", "unchanged_above": 0.5,
        "curve": {"along": "share of layers with random weights", "shows": "similarity to the true map"},
    }  # fmt: skip
    about = {**results.about, "metrics": {**results.about["metrics"], name: declared}}
    return replace(results, scores=scores, metrics=(*results.metrics, name), about=about)


# Checks of the model and the methods


def test_every_method_is_shown_with_each_of_its_own_controls() -> None:
    results = study(own_levels={"bad-cam": 0.5})
    judgement = Judgement(results)
    rows = table(checks.section(content(results)), "own-controls")
    assert [row[0] for row in rows.rows].count("bad-cam") == 1 + len(OWN)
    tests = {(c.method, wording.control(t.control)): t for c in judgement.method_checks for t in c.controls}
    assert {(row[0], row[1]) for row in rows.rows} == {*tests}
    for row in rows.rows:
        test = tests[str(row[0]), str(row[1])]
        assert row[2:5] == (test.ahead, test.least, test.outcome)
        assert (row[5] is None) == (test.outcome != "open" or not np.isfinite(test.needed))
    expected = results.scores["good-cam", WHERE] - results.own_controls[OWN[0], "good-cam", WHERE]
    expected = (
        expected + results.scores["good-cam", HOW_MUCH] - results.own_controls[OWN[0], "good-cam", HOW_MUCH]
    ) / 2
    ahead = {(row[0], row[1]): row[2] for row in rows.rows}["good-cam", wording.control(OWN[0])]
    assert isinstance(ahead, Estimate)
    assert ahead.mean == pytest.approx(expected.mean())
    assert {rows.rows[i][0] for i in rows.faint} == {"bad-cam"}


def test_what_bars_a_method_stands_with_its_name() -> None:
    results = study(own_levels={"bad-cam": 0.5})
    section = questions.section(content(results))
    methods = table(section, "methods-verdict")
    assert column(methods, "Standing")["bad-cam"] in ("barred", "not yet shown")
    assert column(methods, "Named for") == {
        "good-cam": "both", "fair-cam": "–", "bad-cam": "–", "edge (reference)": "", "random (reference)": "",
    }  # fmt: skip
    assert column(methods, "Controls not beaten")["good-cam"] == "none"
    assert OWN[1] in column(methods, "Controls not beaten")["bad-cam"]


def test_reference_maps_have_scores_and_no_standing() -> None:
    results = study()
    methods = table(questions.section(content(results)), "methods-verdict")
    where = column(methods, "Where")["edge (reference)"]
    assert isinstance(where, Estimate)
    assert where.mean == pytest.approx(results.scores["edge", WHERE].mean())
    assert column(methods, "Standing")["edge (reference)"] == ""
    assert {methods.rows[i][0] for i in methods.faint} == {"edge (reference)", "random (reference)"}


def test_pairs_of_eligible_methods_are_compared_in_words() -> None:
    results = study(quality=(0.9, 0.88, 0.5, 0.1, 0.3))
    pairs = table(questions.section(content(results)), "comparisons")
    rows = {(row[0], row[1], row[2]): row[3:] for row in pairs.rows}
    ahead, words = rows["where", "good-cam", "fair-cam"]
    assert isinstance(ahead, Estimate)
    difference = results.scores["good-cam", WHERE] - results.scores["fair-cam", WHERE]
    assert ahead.mean == pytest.approx(difference.mean())
    assert words == "within 0.05"
    assert rows["where", "good-cam", "bad-cam"][1] == "good-cam is better by 0.05 or more"


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.04, 0.04, "within 0.05"),
        (0.05, 0.2, "a is better by 0.05 or more"),
        (-0.2, -0.06, "b is better by 0.05 or more"),
        (0.01, 0.2, "a is better; by 0.05 or more is open"),
        (-0.2, -0.01, "b is better; by 0.05 or more is open"),
        (-0.04, 0.2, "a is not worse by 0.05 or more"),
        (-0.2, 0.04, "b is not worse by 0.05 or more"),
        (-0.2, 0.2, "open"),
    ],
)
def test_readings_of_a_comparison(low: float, high: float, words: str) -> None:
    one = Comparison("where", "a", "b", Estimate((low + high) / 2, low, high, 50))
    assert questions.reading(one, 0.05) == words


def test_similarities_of_maps_that_should_change_are_shown() -> None:
    results = with_sanity_check(study(), (0.1, 0.8, 0.2, 1.0, 1.0))
    similarities = table(checks.section(content(results)), "sanity")
    assert {name: round(e.mean, 1) for name, e in column(similarities, SANITY).items()} == {
        "good-cam": 0.1, "fair-cam": 0.8, "bad-cam": 0.2, "edge": 1.0, "random": 1.0,
    }  # fmt: skip
    assert "above 0.5 for parameter-randomisation" in similarities.caption


# The evidence in single samples


def test_the_worth_of_windows_is_shown_beside_the_maps_of_the_methods_named() -> None:
    results = study()
    section = evidence.section(content(results))
    assert section is not None
    pictures = [part for part in section.parts if isinstance(part, Picture)]
    assert [part.name for part in pictures] == ["evidence-gallery-correct", "evidence-gallery-incorrect"]
    assert "methods named: good-cam" in section.lead
    words = {t.get_text() for t in pictures[0].figure.findobj(lambda a: hasattr(a, "get_text"))}
    assert {"worth of windows", "good-cam"} <= words
    assert not {"fair-cam", "bad-cam"} & words


def test_where_no_method_is_named_the_best_are_shown() -> None:
    section = evidence.section(content(study(own_levels=dict.fromkeys(METHODS, 0.9))))
    assert section is not None
    assert "best overall scores: good-cam, fair-cam and bad-cam" in section.lead


def test_without_evidence_there_is_no_picture_of_it() -> None:
    assert evidence.section(content(replace(study(), evidence=None))) is None
    assert evidence.section(content(replace(study(), gallery=None))) is None
    few = study()
    assert few.evidence is not None
    missing = replace(few.evidence, values=np.full_like(few.evidence.values, np.nan))
    assert not any(
        isinstance(part, Picture)
        for part in getattr(evidence.section(content(replace(few, evidence=missing))), "parts", ())
    )


def test_windows_that_hold_nothing_are_clear_and_those_that_hold_all_are_deepest() -> None:
    held = np.array([[0.0, 1.0, 0.0, 0.0]])
    one = Evidence(
        np.array([[[0], [2], [4], [6]]]), np.array([[2]] * 4), np.zeros(4, dtype=np.int64),
        np.stack([2 * held - 1] * 2, axis=1), np.zeros((1, 2), dtype=np.int64), np.ones((1, 2)),
    )  # fmt: skip
    np.testing.assert_allclose(one.held, held)
    np.testing.assert_allclose(one.over((8,), 0), [0, 0, 1, 1, 0, 0, 0, 0])


# With and without the incorrectly classified, and by class


def test_scores_with_and_without_the_incorrectly_classified_stand_side_by_side() -> None:
    results = study()
    rows = table(strata.section(content(results)), "correct-and-incorrect")
    assert rows.columns == ("Method", "All (60)", "Correctly classified (48)", "Incorrectly classified (12)")
    values = (results.scores["fair-cam", WHERE] + results.scores["fair-cam", HOW_MUCH]) / 2
    for head, members in zip(rows.columns[1:], (results.rows(), results.correct, ~results.correct), strict=True):
        cell = column(rows, head)["fair-cam"]
        assert isinstance(cell, Estimate)
        assert cell.mean == pytest.approx(values[members].mean())


def test_classes_have_the_scores_and_the_evidence_of_their_samples() -> None:
    results = study(classes=("cat", "dog", "eel"), wrong=0)
    y = np.where(np.arange(60) < 4, 2, np.arange(60) % 2)
    results = replace(results, y=y, predictions=y)
    rows = table(strata.section(content(results)), "by-class")
    assert column(rows, "Samples") == {"cat": 28, "dog": 28, "eel": 4}
    assert {rows.rows[i][0] for i in rows.faint} == {"eel"}
    assert "by itself (grey): eel" in rows.caption
    overall = (results.scores["good-cam", WHERE] + results.scores["good-cam", HOW_MUCH]) / 2
    assert column(rows, "good-cam")["dog"].mean == pytest.approx(overall[y == 1].mean())
    by_class = {one.name: one for one in Judgement(results).class_evidence}
    assert column(rows, "Reliability")["cat"] == by_class["cat"].reliability.mean
    assert column(rows, "Concentration")["cat"] == by_class["cat"].concentration.mean


@pytest.mark.parametrize("name", [SANITY, "named-as-nobody-knows"])
def test_curves_of_sanity_checks_stand_with_the_checks(name: str) -> None:
    results = with_sanity_check(study(), (0.1, 0.8, 0.2, 1.0, 1.0), name)
    bands = {**results.curves, **{(m, name): Band(np.array([0.5, 1.0]), np.zeros((60, 2))) for m in METHODS}}
    report = content(replace(results, curves=bands))
    shown, others = checks.section(report), curves.section(report)
    assert shown is not None
    assert others is not None
    (picture,) = (part for part in shown.parts if isinstance(part, Picture))
    assert picture.name == f"curve-{name}"
    (axes,) = picture.figure.axes
    assert axes.get_xlabel() == "share of layers with random weights"
    assert axes.get_ylabel() == "similarity to the true map"
    assert [part.name for part in others.parts if isinstance(part, Picture)] == ["curve-deletion", "curve-insertion"]


def test_a_curve_holds_the_score_of_the_model_unless_declared_otherwise() -> None:
    results = study()
    results.about["metrics"]["insertion"]["curve"] = {"along": "share of positions put back", "shows": ""}
    assert facts.metric_facts(results, "insertion").values == "probability of the explained class"
    assert facts.metric_facts(results, "insertion").axis == "share of positions put back"
    assert facts.metric_facts(results, "deletion").axis == "share of positions removed"


@pytest.mark.parametrize(
    ("skill", "severity", "kind"),
    [
        ({"samples": 40, "measure": "correct", "model": 28, "copies": [9, 12]}, "good", "model-has-learnt"),
        ({"samples": 40, "measure": "correct", "model": 12, "copies": [9, 12]}, "bad", "model-has-not-learnt"),
    ],
)
def test_the_model_is_compared_with_its_copies(skill: dict[str, Any], severity: str, kind: str) -> None:
    results = study()
    items = statements(checks.section(content(replace(results, about={**results.about, "skill": skill}))))
    (item,) = (item for item in items if item.findings[0].kind == kind)
    assert item.severity == severity
    assert item.findings[0].numbers == {"correct": skill["model"], "samples": 40, "best": 12, "copies": 2}


# Planted truth


def test_calibration_is_shown_as_it_was_computed() -> None:
    results = study(quality=(0.9, 0.7, 0.5, 0.1, 0.3))
    for name, good in zip((*METHODS, *CONTROLS), (0.1, 0.3, 0.5, 0.9, 0.7), strict=True):
        results.scores[name, "insertion"][:] = good
    section, expected = truth.section(content(results)), Judgement(results).calibration
    metrics = table(section, "calibration")
    assert column(metrics, "Over methods") == {row.metric: row.methods for row in expected.rows}
    assert column(metrics, "Within samples") == {row.metric: row.samples for row in expected.rows}
    asked = dict.fromkeys(("window-localisation", "window-correlation"), "yes")
    assert column(metrics, "Agrees") == {**asked, "deletion": "yes", "insertion": "no, opposite order"}
    (item,) = statements(section)
    assert item.severity == "note"
    assert set(item.findings[0].subjects) == {*asked, "deletion"}
    assert item.findings[0].objects == ("insertion",)


def test_without_masks_the_page_says_that_nothing_can_be_compared() -> None:
    results = study()
    bare = replace(
        results, gallery=None, scores={cell: v for cell, v in results.scores.items() if cell[1] != "pointing-game"}
    )
    section = truth.section(content(bare))
    assert section is not None
    assert section.parts == (Listing((statements(section)[0],)),)
    assert statements(section)[0].text.startswith("The data have no masks")
    masked = truth.section(content(replace(bare, gallery=results.gallery)))
    assert "The data have masks, but no localisation metric" in statements(masked)[0].text


# Agreement


def test_concordance_is_kendalls_w_of_mean_ranks() -> None:
    results = study(quality=(0.6, 0.58, 0.5, 0.4, 0.5))
    groups = column(table(agreement.section(content(results)), "concordance"), "Kendall's W")
    means = np.stack(
        [
            stats.ranks(results.table(m, controls=False), better=results.better(m)).mean(axis=0)
            for m in ("deletion", "insertion", "pointing-game", WHERE, HOW_MUCH)
        ]
    )
    ranked = np.argsort(np.argsort(means, axis=1), axis=1) + 1.0
    sums = ranked.sum(axis=0)
    w = 12 * ((sums - sums.mean()) ** 2).sum() / (5**2 * (3**3 - 3))
    assert groups["all of these"] == pytest.approx(w)
    assert set(groups) == {"all of these", "faithfulness", "evidence"}, "a single metric has no agreement"


def test_maps_are_compared_by_ssim_too() -> None:
    maps = {name: np.random.default_rng(i).random((5, 12)) for i, name in enumerate("ab")}
    maps["flat"] = np.zeros((5, 12))
    matrix, count = similarity.map_similarities(maps, "ssim")
    assert count == 5
    assert matrix[0, 1] == pytest.approx(float(ssim(torch.tensor(maps["a"]), torch.tensor(maps["b"])).mean()))
    np.testing.assert_allclose(np.diag(matrix)[:2], 1.0)
    assert np.isnan(matrix[2]).all()
    section = similarity.section(content(study()))
    assert section is not None
    names = [part.name for part in section.parts if isinstance(part, Picture)]
    assert names == ["method-agreement", "method-agreement-ssim"]


# Execution time


def test_time_and_passes_are_shown_by_method_and_metric() -> None:
    results = study()
    seconds = {"methods": {"good-cam": 2.0, "bad-cam": 0.5}, "metrics": {"deletion": 5.0}, "self_checks": 0.5}
    section = cost.section(content(replace(results, about={**results.about, "seconds": seconds})))
    assert section is not None
    assert section.lead == "The study took 8.0 s, 133 ms a sample."
    assert [row[1:] for row in table(section, "passes").rows] == [(1200, 20.0), (40, 40 / 60)]
    rows = table(section, "seconds").rows
    assert [row[:3] for row in rows] == [
        ("deletion", "metric", 5.0), ("good-cam", "method", 2.0), ("bad-cam", "method", 0.5),
        ("all self-checks", "self-check", 0.5),
    ]  # fmt: skip
    assert [text(row[3]) for row in rows] == ["62.5 %", "25.0 %", "6.2 %", "6.2 %"]


def test_without_times_the_passes_are_shown_alone() -> None:
    section = cost.section(content(study()))
    assert section is not None
    assert [part.name for part in section.parts if isinstance(part, (Table, Picture))] == ["passes"]
    assert cost.section(content(replace(study(), about={**study().about, "passes": {}}))) is None


# Fills


def with_fill(results: Results, fill: str) -> Results:
    return replace(results, about={**results.about, "fill": fill})


def test_the_best_method_by_metrics_that_remove_positions_is_shown_with_each_fill() -> None:
    first, blur = study(), study()
    blur.scores["fair-cam", "deletion"][:] = 0.0
    section = fills.section(content(first, with_fill(blur, "blur")))
    (row,) = table(section, "fills-metrics").rows
    assert row[:2] == ("deletion", "lower")
    assert str(row[2]).startswith("good-cam")
    assert row[3] == "fair-cam 0.000"
    assert section is not None
    assert "The verdict does not depend on the fill" in section.lead


def test_where_no_score_changes_with_the_fill_that_is_said() -> None:
    section = fills.section(content(study(), with_fill(study(), "blur")))
    assert section is not None
    assert section.parts == ("No metric of this study changes with the fill.",)
    assert fills.section(content(study())) is None


# Words


def test_shares_have_one_form() -> None:
    assert (percent(0.978, 1), percent(1.0)) == ("97.8 %", "100 %")
    section = classifier.section(Content(performance=judged()))
    sentences = [item.text for item in statements(section)]
    for line in sentences:
        assert not re.search(r"\d%", line), line
    assert re.search(r"\(\d+\.\d %, 95 % CI \d+\.\d to \d+\.\d\)", sentences[0])


def test_the_terminal_shows_whole_names_and_the_scores_of_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    results = study()
    skips = tuple(Skip(m, "relevance-mass", "relevance-mass: needs planted truth") for m in (*METHODS, *CONTROLS))
    terminal.study(Judgement(replace(results, skips=skips)))
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("good-cam "))
    best = Judgement(results).verdict.by_score[0]
    assert f"{best.where.mean:.2f}" in row
    assert f"{best.how_much.low:.2f} to {best.how_much.high:.2f}" in row
    assert not any("%" in line and re.search(r"\d%", line) for line in lines)
    assert "Skipped relevance-mass: needs planted truth" in lines
