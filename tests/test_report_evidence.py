"""The evidence in the report: checks, planted truth, power, agreement, time, fills; the numbers and the words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from heatproof.results.self_checks import SelfChecks
from scipy.stats import rankdata

from heatproof import stats
from heatproof.cli import judgement as terminal
from heatproof.metrics.similarity import ssim
from heatproof.phrases import percent
from heatproof.records import Estimate, Skip
from heatproof.report import Content, facts, summary
from heatproof.report.parts import Listing, Picture, Section, Share, Table, text
from heatproof.report.sections import agreement, checks, classifier, cost, curves, fills, ranking, similarity, truth
from heatproof.results.record import Band, Results
from heatproof.verdict import Judgement
from heatproof.verdict.wording import Statement

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


# Validity checks


def test_metrics_that_fail_their_check_are_shown_with_the_reason() -> None:
    results = study()
    for name in METHODS:
        results.scores[name, "pointing-game"][:] = results.scores["random", "pointing-game"]
    section = checks.section(content(results))
    metrics = table(section, "metric-checks")
    assert column(metrics, "Valid") == {"deletion": "yes", "insertion": "yes", "pointing-game": "no", "entropy": "no"}
    assert column(metrics, "Beats random maps") == {
        "deletion": "all 3", "insertion": "all 3", "pointing-game": "none", "entropy": None,
    }  # fmt: skip
    reasons = column(metrics, "Reason")
    assert reasons["deletion"] == "passed"
    assert "random maps" in reasons["pointing-game"]
    assert reasons["entropy"] == "does not measure which map is correct"
    assert metrics.faint == {2, 3}
    (valid,) = (item for item in statements(section) if item.findings[0].kind == "valid-metrics")
    assert valid.severity == "note"
    assert valid.findings[0].numbers == {"valid": 2, "metrics": 3}


def test_a_metric_without_a_score_for_every_method_says_so() -> None:
    results = study()
    scores = {cell: values for cell, values in results.scores.items() if cell != ("bad-cam", "insertion")}
    metrics = table(checks.section(content(replace(results, scores=scores))), "metric-checks")
    assert column(metrics, "Reason")["insertion"] == "not computed for every method"
    assert column(metrics, "Valid")["insertion"] == "no"


def test_self_checks_of_metrics_are_shown_as_shares() -> None:
    results = study()
    rows = np.arange(len(results))
    cells = {cell: values for cell, values in results.scores.items() if cell[0] in METHODS}
    inverted = {cell: 1 - values for cell, values in cells.items()}
    inverted["bad-cam", "deletion"] = cells["bad-cam", "deletion"]
    moved = {cell: values + 0.01 for cell, values in cells.items()}
    results = replace(results, self_checks=SelfChecks(rows, inverted, moved))
    metrics = table(checks.section(content(results)), "metric-checks")
    assert column(metrics, "Beats inverted maps")["deletion"] == "2 of 3"
    share = column(metrics, "Effect of noise")["deletion"]
    distance = np.mean([np.abs(cells[m, "deletion"] - results.scores["random", "deletion"]) for m in METHODS])
    assert isinstance(share, Share)
    assert share.value == pytest.approx(0.01 / distance)
    assert text(share) == percent(share.value)


def test_methods_are_shown_with_the_checks_they_pass() -> None:
    results = with_sanity_check(study(quality=(0.9, 0.7, 0.4, 0.1, 0.4)), (0.1, 0.8, 0.2, 1.0, 1.0))
    section = checks.section(content(results))
    methods = table(section, "method-checks")
    assert column(methods, "Eligible") == {"good-cam": "yes", "fair-cam": "no", "bad-cam": "no"}
    assert column(methods, "Not better than") == {"good-cam": "none", "fair-cam": "none", "bad-cam": "edge"}
    assert column(methods, "Sanity checks failed") == {"good-cam": "none", "fair-cam": SANITY, "bad-cam": "none"}
    assert column(methods, "Sanity checks passed") == {"good-cam": SANITY, "fair-cam": "none", "bad-cam": SANITY}
    similarities = table(section, "sanity")
    assert {name: round(e.mean, 1) for name, e in column(similarities, SANITY).items()} == {
        "good-cam": 0.1, "fair-cam": 0.8, "bad-cam": 0.2, "edge": 1.0, "random": 1.0,
    }  # fmt: skip
    assert "above 0.5 for parameter-randomisation" in similarities.caption


def test_without_sanity_checks_the_page_says_which_to_add() -> None:
    section = checks.section(content(study()))
    assert "no-sanity-check" in kinds(section)
    assert "Sanity checks passed" not in table(section, "method-checks").columns
    assert section is not None
    assert not any(isinstance(part, Table) and part.name == "sanity" for part in section.parts)


@pytest.mark.parametrize("name", [SANITY, "named-as-nobody-knows"])
def test_curves_of_sanity_checks_stand_with_the_checks(name: str) -> None:
    results = with_sanity_check(study(), (0.1, 0.8, 0.2, 1.0, 1.0), name)
    bands = {**results.curves, **{(m, name): Band(np.array([0.5, 1.0]), np.zeros((40, 2))) for m in METHODS}}
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
    assert column(metrics, "Agrees") == {"deletion": "yes", "insertion": "no, opposite order"}
    (item,) = statements(section)
    assert item.severity == "note"
    assert (item.findings[0].subjects, item.findings[0].objects) == (("deletion",), ("insertion",))


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


# How many samples


def test_samples_needed_are_those_of_the_ranking() -> None:
    results = study(quality=(0.7, 0.695, 0.4, 0.1, 0.3))
    section, judgement = ranking.section(content(results)), Judgement(results)
    (row,) = table(section, "samples-needed").rows
    assert {row[0], row[1]} == {"good-cam", "fair-cam"}
    better, worse = METHODS.index(str(row[0])), METHODS.index(str(row[1]))
    means = results.family_ranks(judgement.ranking_metrics, controls=False)
    ranks = rankdata(means, axis=1)
    assert isinstance(row[2], Estimate)
    assert row[2].mean == pytest.approx((ranks[:, worse] - ranks[:, better]).mean())
    assert row[2].mean >= 0
    needed = stats.samples_needed(means[:, worse] - means[:, better])
    first, second = (row.method for row in judgement.rows[:2])
    assert needed == judgement.samples_needed[first, second]
    assert row[3] == pytest.approx(needed, rel=0.06)
    methods = column(table(section, "ranking"), "Samples needed")
    assert methods[first] is None
    assert methods[({"good-cam", "fair-cam"} - {first}).pop()] == row[3]


def test_methods_that_all_differ_significantly_need_no_more_samples() -> None:
    section = ranking.section(content(study()))
    assert section is not None
    assert "Every two methods differ significantly on these 40 samples, in paired tests." in section.parts


# Agreement


def test_concordance_is_kendalls_w_of_mean_ranks() -> None:
    results = study(quality=(0.6, 0.58, 0.5, 0.4, 0.5))
    groups = column(table(agreement.section(content(results)), "concordance"), "Kendall's W")
    means = np.stack(
        [
            stats.ranks(results.table(m, controls=False), better=results.better(m)).mean(axis=0)
            for m in ("deletion", "insertion", "pointing-game")
        ]
    )
    ranked = np.argsort(np.argsort(means, axis=1), axis=1) + 1.0
    sums = ranked.sum(axis=0)
    w = 12 * ((sums - sums.mean()) ** 2).sum() / (3**2 * (3**3 - 3))
    assert groups["all valid metrics"] == pytest.approx(w)
    assert set(groups) == {"all valid metrics", "faithfulness"}, "a single metric has no agreement"


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
    assert section.lead == "The study took 8.0 s, 200 ms a sample."
    assert [row[1:] for row in table(section, "passes").rows] == [(1200, 30.0), (40, 1.0)]
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


def test_a_method_that_another_fill_bars_is_not_praised() -> None:
    first, blur = study(), with_fill(study(quality=(0.9, 0.7, 0.4, 0.1, 0.4)), "blur")
    both = content(first, blur)
    section = fills.section(both)
    lost = table(section, "fills-controls")
    assert column(lost, "mean") == {"good-cam": "none", "fair-cam": "none", "bad-cam": "none"}
    assert column(lost, "blur") == {"good-cam": "none", "fair-cam": "none", "bad-cam": "edge"}
    ranks = table(section, "fills")
    assert ranks.columns == ("Method", "mean", "Group", "blur", "Group")
    assert column(ranks, "blur")["good-cam"] == Judgement(blur).rows[0].rank
    assert column(table(ranking.section(both), "ranking"), "Not better than")["bad-cam"] == "edge"
    praise = "better-than-controls"
    assert praise not in [item.findings[0].kind for item in summary.findings(both)]
    assert praise in [item.findings[0].kind for item in summary.findings(content(first))]


def test_metrics_with_fills_of_their_own_do_not_depend_on_that_of_the_study() -> None:
    first, blur = study(), with_fill(study(), "blur")
    note = "use fills of their own"
    assert note not in table(fills.section(content(first, blur)), "fills").caption
    for metric in first.metrics:
        first.about["metrics"][metric]["follows_fill"] = False
    assert note in table(fills.section(content(first, blur)), "fills").caption


def test_the_page_says_who_leads_with_every_fill() -> None:
    first, other = study(), with_fill(study(quality=(0.7, 0.9, 0.5, 0.1, 0.3)), "blur")
    (item,) = statements(fills.section(content(first, other)))
    assert item.severity == "bad"
    finding = item.findings[0]
    assert finding.kind == "leader-depends-on-fill"
    assert (finding.subjects, finding.objects) == (("mean", "blur"), ("good-cam", "fair-cam"))
    barred = study(quality=(0.1, 0.1, 0.1, 0.9, 0.9))
    (item,) = statements(fills.section(content(barred, with_fill(barred, "blur"))))
    assert (item.severity, item.findings[0].reason) == ("note", "all-methods")


def test_the_ranking_has_the_numbers_of_the_verdict() -> None:
    judgement = Judgement(study(quality=(0.72, 0.7, 0.4, 0.1, 0.3)))
    verdict, rows = judgement.verdict, {row.method: row for row in judgement.rows}
    first, second = (row.method for row in judgement.ranking().by_rank[:2])
    assert verdict.eligible == judgement.results.methods
    assert verdict.margin is not None
    assert rows[second].rank.mean - rows[first].rank.mean == pytest.approx(verdict.margin.mean)
    assert rows[first].support == pytest.approx(verdict.support)


# Words


def test_shares_have_one_form() -> None:
    assert (percent(0.978, 1), percent(1.0)) == ("97.8 %", "100 %")
    section = classifier.section(Content(performance=judged()))
    sentences = [item.text for item in statements(section)]
    for line in sentences:
        assert not re.search(r"\d%", line), line
    assert re.search(r"\(\d+\.\d %, 95 % CI \d+\.\d to \d+\.\d\)", sentences[0])


def test_the_terminal_shows_whole_names_and_the_ranking_of_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    results = study()
    skips = tuple(Skip(m, "relevance-mass", "relevance-mass: needs planted truth") for m in (*METHODS, *CONTROLS))
    terminal.study(Judgement(replace(results, skips=skips)))
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if " good-cam " in line)
    best = Judgement(results).rows[0]
    assert f"{best.rank.mean:.2f}" in row
    assert f"{100 * best.support:.0f} %" in row
    assert not any("%" in line and re.search(r"\d%", line) for line in lines)
    assert "Skipped relevance-mass: needs planted truth" in lines
