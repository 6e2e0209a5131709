"""The evidence in the report: checks, planted truth, power, agreement, cost, baselines; right numbers, clear words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from heatproof import stats
from heatproof.cli import screen
from heatproof.metrics.similarity import ssim
from heatproof.records import Estimate, Skip
from heatproof.report import facts as findings
from heatproof.report.parts import Finding, Listing, Picture, Section, Share, Table, counted, percent, text
from heatproof.report.sections import agreement, checks, cost, planted, slices
from heatproof.report.sections import fills as baselines
from heatproof.report.sections import scores as explanations
from heatproof.results.record import Band, Results

from .test_report import CONTROLS, METHODS, judged, study

SANITY = "parameter-randomisation"


def told(results: Results, *others: Results) -> findings.Told:
    return findings.Told(results, others)


def table(section: Section | None, name: str) -> Table:
    assert section is not None
    found = [part for part in section.parts if isinstance(part, Table) and part.name == name]
    assert len(found) == 1, f"{len(found)} tables {name}"
    return found[0]


def said(section: Section | None) -> list[Finding]:
    assert section is not None
    return [item for part in section.parts if isinstance(part, Listing) for item in part.items]


def column(found: Table, head: str) -> dict[Any, Any]:
    place = found.columns.index(head)
    return {row[0]: row[place] for row in found.rows}


def with_metric(results: Results, name: str, values: Sequence[float], family: str, better: str = "lower") -> Results:
    """The results with one more metric that gives each method and control one value, and a little noise."""
    generator = np.random.default_rng(5)
    scores = dict(results.scores)
    for method, value in zip((*results.methods, *results.controls), values, strict=True):
        scores[method, name] = value + 0.01 * generator.normal(size=len(results))
    facts = {**results.about["metrics"], name: {"better": better, "family": family, "summary": "", "paper": ""}}
    return replace(results, scores=scores, metrics=(*results.metrics, name), about={**results.about, "metrics": facts})


# What passed its checks


def test_metrics_that_fail_their_check_are_told_with_the_reason() -> None:
    results = study()
    for name in METHODS:
        results.scores[name, "pointing-game"][:] = results.scores["random", "pointing-game"]
    found = table(checks.checks(told(results)), "metric-checks")
    assert column(found, "Counts") == {"deletion": "yes", "insertion": "yes", "pointing-game": "no", "entropy": "no"}
    assert column(found, "Told from random") == {
        "deletion": "all 3", "insertion": "all 3", "pointing-game": "none", "entropy": None,
    }  # fmt: skip
    why = column(found, "Why")
    assert why["deletion"] == "passes"
    assert why["pointing-game"] == "it cannot tell any method's maps from random ones on these samples"
    assert why["entropy"] == "cannot tell which map is true"
    assert found.faint == {2, 3}
    assert "2 of 3 metrics that can tell which map is true pass their checks." in [
        item.text for item in said(checks.checks(told(results)))
    ]


def test_trials_of_metrics_are_shown_as_shares() -> None:
    from heatproof.results.self_checks import Trials

    results = study()
    rows = np.arange(len(results))
    cells = {cell: values for cell, values in results.scores.items() if cell[0] in METHODS}
    inverted = {cell: 1 - values for cell, values in cells.items()}
    inverted["bad-cam", "deletion"] = cells["bad-cam", "deletion"]
    moved = {cell: values + 0.01 for cell, values in cells.items()}
    found = table(checks.checks(told(replace(results, trials=Trials(rows, inverted, moved)))), "metric-checks")
    assert column(found, "Told from inverted")["deletion"] == "2 of 3"
    share = column(found, "Moved by noise")["deletion"]
    own = np.mean([np.abs(cells[m, "deletion"] - results.scores["random", "deletion"]) for m in METHODS])
    assert isinstance(share, Share)
    assert share.value == pytest.approx(0.01 / own)
    assert text(share) == percent(share.value)


def test_methods_are_told_which_checks_they_pass() -> None:
    results = with_metric(study(quality=(0.9, 0.7, 0.4, 0.1, 0.4)), SANITY, (0.1, 0.8, 0.2, 1.0, 1.0), "randomisation")
    section = checks.checks(told(results))
    found = table(section, "method-checks")
    assert column(found, "Counts") == {"good-cam": "yes", "fair-cam": "no", "bad-cam": "no"}
    assert column(found, "Not better than") == {"good-cam": "none", "fair-cam": "none", "bad-cam": "edge"}
    assert column(found, "Sanity checks failed") == {"good-cam": "none", "fair-cam": SANITY, "bad-cam": "none"}
    assert column(found, "Sanity checks passed") == {"good-cam": SANITY, "fair-cam": "none", "bad-cam": SANITY}
    alike = table(section, "sanity")
    assert {name: round(e.mean, 1) for name, e in column(alike, SANITY).items()} == {
        "good-cam": 0.1, "fair-cam": 0.8, "bad-cam": 0.2, "edge": 1.0, "random": 1.0,
    }  # fmt: skip
    assert "above 0.5 for parameter-randomisation" in alike.caption


def test_without_sanity_checks_the_page_says_which_to_add() -> None:
    section = checks.checks(told(study()))
    assert any("No sanity check was among the metrics" in item.text for item in said(section))
    assert "Sanity checks passed" not in table(section, "method-checks").columns
    assert section is not None
    assert not any(isinstance(part, Table) and part.name == "sanity" for part in section.parts)


def test_curves_of_sanity_checks_stand_with_the_checks() -> None:
    results = with_metric(study(), SANITY, (0.1, 0.8, 0.2, 1.0, 1.0), "randomisation")
    curves = {**results.curves, **{(m, SANITY): Band(np.array([0.5, 1.0]), np.zeros((40, 2))) for m in METHODS}}
    found = told(replace(results, curves=curves))
    shown = checks.checks(found)
    assert shown is not None
    assert [part.name for part in shown.parts if isinstance(part, Picture)] == ["curve-parameter-randomisation"]
    other = slices.curves(found)
    assert other is not None
    assert [part.name for part in other.parts if isinstance(part, Picture)] == ["curve-deletion", "curve-insertion"]


@pytest.mark.parametrize(
    ("hits", "kind", "words"),
    [
        ({"samples": 40, "model": 28, "twins": [9, 12]}, "good", "gets 28 of 40 samples right, the best of 2 copies"),
        ({"samples": 40, "model": 12, "twins": [9, 12]}, "bad", "cannot be said to have learnt anything: a copy with"),
    ],
)
def test_the_model_is_compared_with_its_copies(hits: dict[str, Any], kind: str, words: str) -> None:
    results = study()
    first = said(checks.checks(told(replace(results, about={**results.about, "hits": hits}))))[0]
    assert first.kind == kind
    assert words in first.text


# Planted truth


def test_calibration_is_shown_as_it_was_computed() -> None:
    results = study(quality=(0.9, 0.7, 0.5, 0.1, 0.3))
    for name, good in zip((*METHODS, *CONTROLS), (0.1, 0.3, 0.5, 0.9, 0.7), strict=True):
        results.scores[name, "insertion"][:] = good
    section, expected = planted.planted(told(results)), results.calibration()
    found = table(section, "calibration")
    assert column(found, "Over methods") == {row.metric: row.methods for row in expected.rows}
    assert column(found, "Within samples") == {row.metric: row.samples for row in expected.rows}
    assert column(found, "Agrees") == {"deletion": "yes", "insertion": "no, it contradicts"}
    assert said(section) == [Finding("note", expected.text)]
    short = [item.text for item in findings.findings(told(results))]
    assert "1 of 2 metrics that need no mask agree with the planted truth; insertion contradicts it." in short


def test_without_masks_the_page_says_that_nothing_can_be_compared() -> None:
    results = study()
    bare = replace(
        results, gallery=None, scores={cell: v for cell, v in results.scores.items() if cell[1] != "pointing-game"}
    )
    section = planted.planted(told(bare))
    assert section is not None
    assert section.parts == (Listing((said(section)[0],)),)
    assert said(section)[0].text.startswith("These data have no masks")
    masked = planted.planted(told(replace(bare, gallery=results.gallery)))
    assert "The data have masks, but no metric of localisation" in said(masked)[0].text


# How many samples


def test_samples_needed_are_those_of_the_ranks_that_count() -> None:
    results = study(quality=(0.7, 0.695, 0.4, 0.1, 0.3))
    found = table(explanations.ranking(told(results)), "samples-needed")
    (row,) = found.rows
    assert {row[0], row[1]} == {"good-cam", "fair-cam"}
    better, worse = METHODS.index(str(row[0])), METHODS.index(str(row[1]))
    voices = results.voices(controls=False)
    ranks = rankdata(voices, axis=1)
    assert isinstance(row[2], Estimate)
    assert row[2].mean == pytest.approx((ranks[:, worse] - ranks[:, better]).mean())
    assert row[2].mean >= 0
    needed = stats.samples_needed(voices[:, worse] - voices[:, better])
    assert needed == results.needed()["good-cam", "fair-cam"]
    assert row[3] == pytest.approx(needed, rel=0.06)
    ranked = column(table(explanations.ranking(told(results)), "ranking"), "Samples needed")
    first = told(results).rows[0].method
    assert ranked[first] is None
    assert ranked[({"good-cam", "fair-cam"} - {first}).pop()] == row[3]


def test_methods_that_are_all_told_apart_need_no_more_samples() -> None:
    section = explanations.ranking(told(study()))
    assert section is not None
    assert "Every two methods are told apart by these 40 samples, in paired tests." in section.parts


# Agreement


def test_concordance_is_kendalls_w_of_mean_ranks() -> None:
    results = study(quality=(0.6, 0.58, 0.5, 0.4, 0.5))
    section = agreement.agreement(told(results), {})
    found = column(table(section, "concordance"), "Kendall's W")
    judges = np.stack(
        [
            stats.ranks(results.table(m, controls=False), better=results.better(m)).mean(axis=0)
            for m in ("deletion", "insertion", "pointing-game")
        ]
    )
    ranked = np.argsort(np.argsort(judges, axis=1), axis=1) + 1.0
    sums = ranked.sum(axis=0)
    w = 12 * ((sums - sums.mean()) ** 2).sum() / (3**2 * (3**3 - 3))
    assert found["all that count"] == pytest.approx(w)
    assert set(found) == {"all that count", "faithfulness"}, "one metric alone agrees with nobody"


def test_maps_are_compared_by_ssim_too() -> None:
    maps = {name: np.random.default_rng(i).random((5, 12)) for i, name in enumerate("ab")}
    maps["flat"] = np.zeros((5, 12))
    matrix, count = agreement.maps_agree(maps, "ssim")
    assert count == 5
    assert matrix[0, 1] == pytest.approx(float(ssim(torch.tensor(maps["a"]), torch.tensor(maps["b"])).mean()))
    np.testing.assert_allclose(np.diag(matrix)[:2], 1.0)
    assert np.isnan(matrix[2]).all()
    section = agreement.agreement(told(study()), maps)
    assert section is not None
    names = [part.name for part in section.parts if isinstance(part, Picture)]
    assert names == ["metric-agreement", "method-agreement", "method-agreement-ssim"]


# Cost


def test_cost_counts_passes_a_sample_and_tells_where_the_time_went() -> None:
    results = study()
    seconds = {"methods": {"good-cam": 2.0, "bad-cam": 0.5}, "metrics": {"deletion": 5.0}, "trials": 0.5}
    section = cost.cost(replace(results, about={**results.about, "seconds": seconds}))
    assert section is not None
    assert section.lead == "Explaining and judging took 8.0 s, 200 ms a sample."
    assert [row[1:] for row in table(section, "passes").rows] == [(1200, 30.0), (40, 1.0)]
    rows = table(section, "seconds").rows
    assert [row[:3] for row in rows] == [
        ("deletion", "metric", 5.0), ("good-cam", "method", 2.0), ("bad-cam", "method", 0.5),
        ("all checks of metrics", "check", 0.5),
    ]  # fmt: skip
    assert [text(row[3]) for row in rows] == ["62.5 %", "25.0 %", "6.2 %", "6.2 %"]


def test_cost_without_times_has_the_passes_alone() -> None:
    section = cost.cost(study())
    assert section is not None
    assert [part.name for part in section.parts if isinstance(part, (Table, Picture))] == ["passes"]
    assert cost.cost(replace(study(), about={**study().about, "passes": {}})) is None


# Baselines


def test_what_another_baseline_takes_away_is_not_praised() -> None:
    first = study()
    blur = study(quality=(0.9, 0.7, 0.4, 0.1, 0.4))
    blur = replace(blur, about={**blur.about, "fill": "blur"})
    both = told(first, blur)
    found = table(baselines.baselines(both), "baselines-controls")
    assert column(found, "mean") == {"good-cam": "none", "fair-cam": "none", "bad-cam": "none"}
    assert column(found, "blur") == {"good-cam": "none", "fair-cam": "none", "bad-cam": "edge"}
    ranks = table(baselines.baselines(both), "baselines")
    assert ranks.columns == ("Method", "mean", "Group", "blur", "Group")
    assert column(ranks, "blur")["good-cam"] == blur.ranking().rows[0].rank
    ranking = table(explanations.ranking(both), "ranking")
    assert column(ranking, "Not better than")["bad-cam"] == "edge"
    assert not any("better than" in item.text for item in findings.findings(both) if item.kind == "good")
    alone = [item.text for item in findings.findings(told(first)) if item.kind == "good"]
    assert any(words.startswith("All 3 methods are better than random noise") for words in alone)


def test_the_page_says_once_who_leads_with_every_baseline() -> None:
    first, other = study(), study(quality=(0.7, 0.9, 0.5, 0.1, 0.3))
    other = replace(other, about={**other.about, "fill": "blur"})
    both = told(first, other)
    sentence = "Another baseline changes who leads: fair-cam and good-cam."
    assert sentence in both.verdict.findings
    assert both.dependence.leaders == {"mean": "good-cam", "blur": "fair-cam"}
    (finding,) = said(baselines.baselines(both))
    assert finding.text == both.dependence.text
    assert finding.kind == "bad"
    barred = study(quality=(0.1, 0.1, 0.1, 0.9, 0.9))
    (finding,) = said(baselines.baselines(told(barred, replace(barred, about={**barred.about, "fill": "blur"}))))
    assert "though no method counts" in finding.text
    assert finding.kind == "note"


def test_the_ranking_has_the_numbers_of_the_verdict() -> None:
    results = study(quality=(0.72, 0.7, 0.4, 0.1, 0.3))
    found = results.verdict()
    rows = {row.method: row for row in told(results).rows}
    first, second = (row.method for row in results.ranking().by_rank[:2])
    assert found.counting == results.methods
    assert found.margin is not None
    assert rows[second].rank.mean - rows[first].rank.mean == pytest.approx(found.margin.mean)
    assert rows[first].share == pytest.approx(found.confidence)


# Words


def test_what_is_said_of_several_is_said_once() -> None:
    found = findings._together(
        [
            "a is left out: it cannot tell any method's maps from random ones on these samples.",
            "b is left out: it cannot tell any method's maps from random ones on these samples.",
            "c disagrees: it puts x first.",
            "Another baseline changes who leads: x and y.",
        ]
    )
    assert [item.text for item in found] == [
        "a and b are left out: they cannot tell any method's maps from random ones on these samples.",
        "c disagrees: it puts x first.",
        "Another baseline changes who leads: x and y.",
    ]


def test_findings_that_say_the_same_by_several_metrics_are_one() -> None:
    results = study()
    for metric in ("deletion", "insertion"):
        results.scores["edge", metric][:] = 0.0 if metric == "deletion" else 1.0
    texts = [item.text for item in findings.findings(told(results))]
    assert "By deletion and insertion, no method beats an edge filter (edge)." in texts


def test_shares_have_one_form() -> None:
    assert (percent(0.978, 1), percent(1.0), counted(2, 3)) == ("97.8 %", "100 %", "2 of 3")
    for line in judged().findings:
        assert not re.search(r"\d%", line), line
    assert re.search(r"\(\d+\.\d %, 95 % interval", judged().findings[0])


def test_the_terminal_shows_whole_names_and_the_ranking_of_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    results = study()
    skips = tuple(Skip(m, "relevance-mass", "relevance-mass: needs planted truth") for m in (*METHODS, *CONTROLS))
    screen.results(replace(results, skips=skips))
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if " good-cam " in line)
    best = told(results).rows[0]
    assert f"{best.rank.mean:.2f}" in row
    assert f"{100 * best.share:.0f} %" in row
    assert not any("%" in line and re.search(r"\d%", line) for line in lines)
    assert "Skipped relevance-mass: needs planted truth" in lines
