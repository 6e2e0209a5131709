"""The verdict on constructed scores: the five kinds of answer, and what must and must not change them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatproof.errors import InputError
from heatproof.facade import Results
from heatproof.results.evidence import Evidence
from heatproof.verdict import Judgement, Verdict, verdict
from heatproof.verdict.decision import FEWEST
from heatproof.verdict.files import save

N = 120
QUESTIONS = {"window-localisation": "where", "window-correlation": "how much"}
OWN = ("another sample", "moved forward", "moved back", "another class")
Level = float | tuple[float, float]


def facts(name: str, family: str = "evidence", **others: Any) -> dict[str, Any]:
    """What a metric declares."""
    return {"better": "higher", "family": family, "range": [None, None], "summary": "", **others, "name": name}


def built(
    levels: Mapping[str, Level],
    *,
    lost: Mapping[str, Mapping[str, float]] | None = None,
    n: int = N,
    noise: float = 0.2,
    seed: int = 0,
    controls: Mapping[str, Level] | None = None,
    others: Mapping[str, Mapping[str, float]] | None = None,
    **extra: Any,
) -> Results:
    """A study whose methods score about a level for where and how much; their own controls score far less.

    Args:
        lost: by method and control, how much of the score the control loses; 0.4 by default.
        others: levels by further metrics of faithfulness.
    """
    own: dict[tuple[str, str, str], np.ndarray] = {}
    scores: dict[tuple[str, str], np.ndarray] = {}
    base = np.random.default_rng(seed).normal(size=n) * 0.1
    everyone = {**levels, **(controls or {})}
    for name, level in everyone.items():
        pair = level if isinstance(level, tuple) else (level, level)
        # Every draw belongs to its method alone, so that another candidate changes none of them.
        rng = np.random.default_rng([seed, *name.encode()])
        for (metric, _), centre in zip(QUESTIONS.items(), pair, strict=True):
            scores[name, metric] = base + centre + noise * rng.normal(size=n)
            for control in OWN if name in levels else ():
                less = (lost or {}).get(name, {}).get(control, 0.4)
                own[control, name, metric] = scores[name, metric] - less + 0.5 * noise * rng.normal(size=n)
        for metric, by in (others or {}).items():
            scores[name, metric] = by.get(name, 0.0) + noise * rng.normal(size=n)
    declared = {metric: facts(metric, question=question) for metric, question in QUESTIONS.items()}
    declared |= {metric: facts(metric, "faithfulness") for metric in others or {}}
    zero = np.zeros(n, dtype=np.int64)
    return Results(
        scores, tuple(levels), tuple(controls or ()), tuple(declared), zero, zero, np.ones(n), ("a",),
        about={"metrics": declared, **extra.pop("about", {})}, own_controls=own, **extra,
    )  # fmt: skip


def kinds(answer: Verdict) -> list[str]:
    """The kinds of the findings."""
    return [finding.kind for finding in answer.findings]


# The five kinds of answer


def test_a_method_that_is_best_at_both_questions_is_to_be_used() -> None:
    answer = verdict(built({"good": 0.8, "fair": 0.5, "poor": 0.2}))
    assert (answer.kind, answer.trusted) == ("use", ("good",))
    assert answer.where == answer.how_much == ("good",)
    assert answer.eligible == ("good", "fair", "poor")
    assert answer.text.startswith("Use good for this model and data.")
    assert answer.samples_needed is None


def test_methods_within_the_smallest_difference_are_interchangeable() -> None:
    answer = verdict(built({"one": 0.8, "two": 0.8, "poor": 0.2}, noise=0.05))
    assert (answer.kind, answer.trusted) == ("interchangeable", ("one", "two"))
    assert "interchangeable" in answer.text
    assert "0.05" in answer.text


def test_each_question_has_its_own_method_where_none_is_best_at_both() -> None:
    answer = verdict(built({"pointer": (0.9, 0.4), "weigher": (0.4, 0.9)}))
    assert (answer.kind, answer.where, answer.how_much) == ("by question", ("pointer",), ("weigher",))
    assert answer.trusted == ("pointer", "weigher")
    assert "pointer" in answer.text.split(".")[0]
    assert "weigher" in answer.text.split(".")[1]


def test_no_method_is_trusted_where_none_beats_its_own_controls() -> None:
    lost = {"blind": {"another class": 0.0}, "shifted": {"moved back": -0.3}}
    answer = verdict(built({"blind": 0.8, "shifted": 0.6}, lost=lost))
    assert (answer.kind, answer.trusted, answer.eligible) == ("none", (), ())
    assert answer.text.startswith("No method can be trusted")
    barred = {check.method: check.barred_by for check in answer.methods}
    assert barred == {"blind": ("another class",), "shifted": ("moved back",)}
    assert kinds(answer).count("barred") == 2


def test_nothing_is_told_yet_where_neither_method_is_shown_to_be_as_good_as_the_other() -> None:
    lost = dict.fromkeys(("one", "two"), dict.fromkeys(OWN, 2.0))
    answer = verdict(built({"one": 0.6, "two": 0.6}, noise=1.0, lost=lost, seed=1))
    assert (answer.kind, answer.trusted) == ("cannot tell yet", ())
    assert answer.decision.reason == "not-separated"
    assert answer.samples_needed is not None
    assert answer.samples_needed > N


def test_what_one_question_leaves_open_is_said() -> None:
    levels = {"one": (0.9, 0.5), "two": (0.4, 0.5)}
    results = built(levels, noise=0.05)
    # The answers to how much are made so noisy that the two cannot be compared.
    rng, metric = np.random.default_rng(1), "window-correlation"
    scores = {**results.scores, **{(m, metric): 0.6 + rng.normal(size=N) for m in levels}}
    own = {key: (scores[key[1], metric] - 3 if key[2] == metric else v) for key, v in results.own_controls.items()}
    answer = verdict(replace(results, scores=scores, own_controls=own))
    assert (answer.kind, answer.where, answer.how_much) == ("by question", ("one",), ())
    assert "is open" in answer.text
    assert answer.decision.open == ("how much",)


# What bars a method, and what does not


def test_a_method_that_may_or_may_not_beat_a_control_is_not_yet_shown_and_not_barred() -> None:
    answer = verdict(built({"maybe": 0.5}, lost={"maybe": {"moved back": 0.01}}, noise=0.3))
    (check,) = answer.methods
    assert (check.standing, check.open, check.barred_by) == ("not yet shown", ("moved back",), ())
    assert (answer.kind, answer.decision.reason) == ("cannot tell yet", "not-yet-shown")
    assert answer.samples_needed is not None


def test_the_map_of_another_class_must_be_worse_by_the_smallest_difference_that_matters() -> None:
    results = built({"weak": 0.5}, lost={"weak": {"another class": 0.03}}, noise=0.02)
    assert verdict(results).methods[0].barred_by == ("another class",)
    lenient = replace(results, about={**results.about, "smallest_difference": 0.01})
    assert verdict(lenient).methods[0].standing == "eligible"


def test_equal_controls_bar_without_any_spread() -> None:
    results = built({"constant": 0.0})
    zero = np.zeros(N)
    flat = replace(
        results,
        scores=dict.fromkeys(results.scores, zero),
        own_controls=dict.fromkeys(results.own_controls, zero),
    )
    (check,) = verdict(flat).methods
    assert check.standing == "barred"
    assert set(check.barred_by) == {"chance", *OWN}


def test_a_missing_control_leaves_a_method_unshown() -> None:
    results = built({"whole": 0.8, "lacking": 0.9})
    own = {key: v for key, v in results.own_controls.items() if key[:2] != ("another class", "lacking")}
    answer = verdict(replace(results, own_controls=own))
    assert {check.method: check.standing for check in answer.methods} == {
        "whole": "eligible", "lacking": "not yet shown",
    }  # fmt: skip
    assert answer.trusted == ("whole",)


# Properties A to C


@given(st.integers(0, 10_000), st.lists(st.floats(-0.5, 1.0), min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_another_candidate_changes_neither_eligibility_nor_intervals_nor_order(seed: int, added: list[float]) -> None:
    levels = {"a": 0.7, "b": 0.55, "c": 0.3}
    lost = {"c": {"another class": 0.0}}
    few = verdict(built(levels, lost=lost, seed=seed))
    more = verdict(built({**levels, **{f"new{i}": level for i, level in enumerate(added)}}, lost=lost, seed=seed))
    assert more.methods[:3] == few.methods
    assert more.decision.comparisons[0].ahead == few.decision.comparisons[0].ahead
    assert set(more.where) - {f"new{i}" for i in range(3)} <= set(few.where)


def test_a_barred_candidate_takes_nothing_from_the_others_however_high_it_scores() -> None:
    alone = verdict(built({"good": 0.7}))
    beside = verdict(built({"good": 0.7, "fake": 2.0}, lost={"fake": {"another sample": 0.0}}))
    assert (beside.kind, beside.trusted) == (alone.kind, alone.trusted) == ("use", ("good",))


def test_more_samples_decide_more() -> None:
    names = [
        len(verdict(built({"a": 0.7, "b": 0.65, "c": 0.4}, n=n, noise=0.3, seed=2)).methods) for n in (48, 96, 768)
    ]
    assert names == [3, 3, 3]
    few, many = (verdict(built({"a": 0.7, "b": 0.3}, n=n, noise=0.6, seed=4)) for n in (48, 2000))
    assert len(many.trusted) >= len(few.trusted)
    assert many.kind == "use"


@pytest.mark.parametrize("n", [4, FEWEST - 1])
def test_fewer_than_48_samples_name_nothing(n: int) -> None:
    answer = verdict(built({"good": 0.9, "poor": 0.1}, n=n))
    assert (answer.kind, answer.trusted) == ("cannot tell yet", ())
    assert answer.samples_needed == FEWEST
    assert str(FEWEST) in answer.text


def test_twins_are_interchangeable_and_equal_methods_are_not_called_different() -> None:
    rng, twins, different = np.random.default_rng(0), 0, 0
    for seed in range(100):
        results = built({"one": 0.6}, seed=seed)
        copies = {(f"{m} twin", k): v + 0.01 * rng.normal(size=N) for (m, k), v in results.scores.items()}
        own = {(c, f"{m} twin", k): v for (c, m, k), v in results.own_controls.items()}
        both = replace(
            results, methods=("one", "one twin"), scores={**results.scores, **copies},
            own_controls={**results.own_controls, **own},
        )  # fmt: skip
        twins += verdict(both).kind == "interchangeable"
        (first, *_) = verdict(built({"one": 0.6, "two": 0.6}, seed=seed)).decision.comparisons
        different += first.ahead.low > 0 or first.ahead.high < 0
    assert twins >= 95
    assert different <= 10  # of a hundred tests at 5 %, with room for chance


# Samples of one patient


def test_samples_of_one_patient_count_together() -> None:
    results = built({"good": 0.8, "fair": 0.7}, n=200, noise=0.05)
    patients = np.repeat(np.arange(5), 40)
    shift = np.random.default_rng(3).normal(size=5)[patients] * 0.1
    scores = {cell: v + (shift if cell[0] == "good" else 0) for cell, v in results.scores.items()}
    together = replace(results, scores=scores, groups=patients)
    apart = replace(results, scores=scores)
    wide, narrow = (verdict(r).decision.comparisons[0].ahead for r in (together, apart))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert "samples-are-grouped" in kinds(verdict(together))


def test_a_single_patient_shows_nothing() -> None:
    answer = verdict(replace(built({"good": 0.9}), groups=np.zeros(N, dtype=np.int64)))
    assert (answer.kind, answer.methods[0].standing) == ("cannot tell yet", "not yet shown")
    assert answer.decision.reason == "one-group"
    assert "one group" in answer.text


def test_groups_of_one_sample_each_are_no_groups() -> None:
    results = built({"good": 0.8, "fair": 0.5})
    each, none = verdict(replace(results, groups=np.arange(N))), verdict(results)
    assert each.trusted == none.trusted
    for one, other in zip(each.methods, none.methods, strict=True):
        assert one.standing == other.standing
        ends = [(e.low, e.high) for e in (one.overall, other.overall)]
        assert ends[0] == pytest.approx(ends[1], rel=0.05)


# What there may not be


def test_a_study_without_methods_says_so() -> None:
    answer = verdict(built({}, controls={"edge": 0.1}))
    assert (answer.kind, answer.decision.reason) == ("none", "no-methods")


def test_one_method_that_beats_its_controls_is_used() -> None:
    answer = verdict(built({"only": 0.5}))
    assert (answer.kind, answer.trusted) == ("use", ("only",))
    assert "only method" in answer.text


def test_without_evidence_or_own_controls_no_method_is_named() -> None:
    results = built({"good": 0.9})
    bare = replace(results, own_controls={})
    assert verdict(bare).decision.reason == "no-own-controls"
    assert "self_checks" in verdict(bare).text
    plain = {metric: {**declared, "question": None} for metric, declared in results.about["metrics"].items()}
    other = replace(results, about={**results.about, "metrics": plain})
    assert verdict(other).decision.reason == "no-evidence"
    assert "window-localisation" in verdict(other).text
    undefined = {cell: np.full(N, np.nan) for cell in results.scores}
    alike = replace(results, scores=undefined)
    assert verdict(alike).decision.reason == "no-donors"
    assert "predicted otherwise" in verdict(alike).text
    differing = replace(alike, predictions=np.arange(N) % 2)
    assert verdict(differing).decision.reason == "no-evidence"


def test_a_method_whose_interval_holds_the_limit_is_not_barred_even_if_its_mean_is_below() -> None:
    results = built({"weak": 0.5}, lost={"weak": {"moved back": -0.004}}, n=60)
    check = Judgement(results).method_checks[0]
    test = next(test for test in check.controls if test.control == "moved back")
    assert test.ahead.mean < test.least < test.ahead.high
    assert test.outcome == "open"
    assert check.standing == "not yet shown"


def test_undefined_scores_are_left_out() -> None:
    results = built({"good": 0.8, "fair": 0.4})
    scores = {cell: np.where(np.arange(N) < 30, np.nan, v) for cell, v in results.scores.items()}
    answer = verdict(replace(results, scores=scores))
    assert answer.trusted == ("good",)
    assert answer.methods[0].overall.undefined == 30
    assert "undefined-scores" in kinds(answer)


def test_a_model_that_has_not_learnt_names_nothing() -> None:
    rng = np.random.default_rng(0)
    y, predictions = rng.integers(0, 4, size=(2, N))
    answer = verdict(replace(built({"good": 0.9}), y=y, predictions=predictions, classes=tuple("abcd")))
    assert (answer.kind, answer.decision.reason) == ("none", "model-has-not-learnt")
    assert "model-has-not-learnt" in kinds(answer)


def test_studies_that_differ_in_more_than_their_fill_are_refused() -> None:
    with pytest.raises(InputError, match="differ in methods"):
        verdict(built({"a": 1.0}), built({"b": 1.0}))


# What else is said


def test_another_metric_that_puts_other_methods_first_is_a_finding() -> None:
    answer = verdict(built({"good": 0.8, "fair": 0.5}, others={"deletion": {"good": 0.0, "fair": 2.0}}))
    (finding,) = [f for f in answer.findings if f.kind == "metric-ranks-otherwise"]
    assert (finding.subjects, finding.metric) == (("fair",), "deletion")


def test_the_frame_and_the_file_hold_what_the_verdict_says(tmp_path: Path) -> None:
    results = built({"good": 0.8, "fair": 0.5, "blind": 0.9}, lost={"blind": {"another class": 0.0}})
    answer, frame = verdict(results), verdict(results).to_frame().set_index("method")
    assert frame["trusted"].to_dict() == {"good": True, "fair": False, "blind": False}
    assert frame.loc["blind", "barred by"] == "another class"
    page = json.loads(save(Judgement(results), tmp_path).read_text(encoding="utf-8"))
    assert (page["kind"], page["trusted"], page["text"]) == (answer.kind, list(answer.trusted), answer.text)
    assert [row["standing"] for row in page["methods"]] == ["eligible", "eligible", "barred"]
    assert page["samples_needed"] is None


def spread_out(results: Results, held: float) -> Results:
    """The study with evidence of which the best window holds so much more than its area."""
    rng, n, k = np.random.default_rng(0), len(results), 10
    area, widths = 0.1, np.full((k, 1), 4)
    share = np.full((n, 2, k), area) + 0.001 * rng.normal(size=(n, 2, k))
    share[:, :, 3] = area + held * (1 - area)
    starts = np.broadcast_to(4 * np.arange(k)[None, :, None], (n, k, 1))
    donors = np.tile([1, 2], (n, 1))
    evidence = Evidence(starts, widths, np.zeros(k, dtype=np.int64), 2 * share - 1, donors, np.ones((n, 2)))
    return replace(results, evidence=evidence, about={**results.about, "size": [40]})


def test_where_is_not_asked_where_the_evidence_is_all_over_the_input() -> None:
    results = built({"good": (0.1, 0.8), "fair": (0.4, 0.5)})
    everywhere, somewhere = verdict(spread_out(results, 0.02)), verdict(spread_out(results, 0.5))
    assert (everywhere.kind, everywhere.where, everywhere.how_much) == ("use", (), ("good",))
    assert everywhere.text.startswith("The evidence is spread over the input")
    assert "evidence-everywhere" in kinds(everywhere)
    assert (somewhere.kind, somewhere.where, somewhere.how_much) == ("by question", ("fair",), ("good",))
    assert "evidence-everywhere" not in kinds(somewhere)


def test_a_single_donor_says_nothing_of_how_concentrated_the_evidence_is() -> None:
    results = spread_out(built({"good": 0.8}), 0.5)
    assert results.evidence is not None
    assert Judgement(results).concentration.n == N  # type: ignore[union-attr]
    twice = replace(results.evidence, donors=np.ones((N, 2), dtype=np.int64))
    assert Judgement(replace(results, evidence=twice)).concentration.n == 0  # type: ignore[union-attr]
