"""The verdict on constructed scores: a winner is named where the evidence carries one, and refused elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatproof.errors import InputError
from heatproof.studying import Results, Verdict, verdict

N = 60
FAMILIES = {"deletion": "faithfulness", "aopc": "faithfulness", "pointing": "localisation"}


def built(levels: dict[str, float | dict[str, float]], *, noise: float = 0.3, seed: int = 0, **extra: Any) -> Results:
    """Scores around a level for each method (or method and metric); names with a star are controls."""
    rng = np.random.default_rng(seed)
    families = {**FAMILIES, **extra.pop("families", {})}
    base, n = rng.normal(size=extra.get("n", N)) * 0.5, extra.pop("n", N)
    scores = {}
    for name, level in levels.items():
        for metric in families:
            centre = level.get(metric, level.get("*", 0.0)) if isinstance(level, dict) else level
            scores[name.strip("*"), metric] = base + centre + rng.normal(size=n) * noise
    facts = {k: {"better": "higher", "family": f, "range": [None, None], "summary": ""} for k, f in families.items()}
    zero = np.zeros(n, dtype=np.int64)
    return Results(
        scores,
        tuple(name for name in levels if "*" not in name),
        tuple(name.strip("*") for name in levels if "*" in name),
        tuple(families),
        zero,
        zero,
        np.ones(n),
        ("a",),
        about={"metrics": facts, **extra.pop("about", {})},
        **extra,
    )


CONTROLS = {"*random": -2.0, "*edge": -1.0}


def test_a_clear_winner_is_named() -> None:
    found = verdict(built({"good": 1.0, "fair": 0.0, **CONTROLS}))
    assert found.winner == "good"
    assert found.group == ("good",)
    assert found.confidence == pytest.approx(1.0)
    assert found.margin is not None
    assert found.margin.low > 0
    assert found.agreement == pytest.approx(1.0)
    assert found.text.startswith("Trust good")
    assert not found.findings


def test_equals_are_a_group_and_no_winner_is_named() -> None:
    found = verdict(built({"one": 0.5, "two": 0.5, "poor": -0.5, **CONTROLS}))
    assert found.winner is None
    assert set(found.group) == {"one", "two"}
    assert "cannot be told apart" in found.text


def test_no_better_than_an_edge_filter_leads_the_findings_and_bars_the_method() -> None:
    found = verdict(built({"good": 0.0, "poor": -1.0, "*random": -2.0, "*edge": -1.0}))
    assert found.winner == "good"
    assert found.findings[0] == "poor is no better than edge."
    assert [check.counts for check in found.methods] == [True, False]


def test_where_nothing_beats_the_controls_nothing_is_trusted() -> None:
    found = verdict(built({"a": 0.0, "b": -0.1, "*random": -2.0, "*edge": 0.5}))
    assert found.winner is None
    assert found.group == ()
    assert "No method can be trusted" in found.text
    assert "edge" in found.text


def test_a_metric_that_cannot_tell_random_maps_is_left_out() -> None:
    blind = {"deletion": 0.0, "aopc": 0.0}
    levels = {
        "good": {"pointing": 1.0, **blind},
        "bad": {"pointing": 0.0, **blind},
        "*random": {"pointing": -1.0, **blind},
    }
    found = verdict(built(levels))
    assert [check.counts for check in found.metrics] == [False, False, True]
    assert found.winner == "good"
    assert "deletion is left out" in " ".join(found.findings)
    nothing = verdict(built({"a": 0.0, "b": 0.0, "*random": 0.0}))
    assert nothing.winner is None
    assert "no metric can tell" in nothing.text


def test_a_method_whose_maps_do_not_move_with_the_model_is_barred() -> None:
    families = {"parameter-randomisation": "randomisation", "random-logit": "randomisation"}
    levels = {
        "still": {"*": 2.0, "parameter-randomisation": 0.9, "random-logit": 0.2},
        "moved": {"*": 1.0, "parameter-randomisation": 0.1, "random-logit": 0.2},
        **{name: {"*": level} for name, level in CONTROLS.items()},
    }
    found = verdict(built(levels, families=families, noise=0.05))
    assert found.winner == "moved"
    assert found.methods[0].unmoved == ("parameter-randomisation",)
    assert "hardly changes" in found.findings[0]


def test_cousins_are_one_voice() -> None:
    levels = {
        "a": {"deletion": 1.0, "aopc": 1.0, "pointing": 0.0},
        "b": {"deletion": 0.0, "aopc": 0.0, "pointing": 1.0},
        **CONTROLS,
    }
    found = verdict(built(levels, noise=0.05))
    assert found.winner is None
    assert set(found.group) == {"a", "b"}


def test_a_metric_that_disagrees_is_named() -> None:
    families = {"energy": "localisation", "road": "faithfulness", "auc": "localisation"}
    levels = {"a": {"*": 1.0, "pointing": 0.0}, "b": {"*": 0.0, "pointing": 1.0}, **CONTROLS}
    levels["a"].update(dict.fromkeys(["deletion", "aopc", "energy", "road", "auc"], 1.0))
    found = verdict(built(levels, families=families, noise=0.2))
    assert found.winner == "a"
    assert "pointing disagrees: it puts b first." in found.findings
    assert found.agreement < 1


def test_another_baseline_that_turns_the_order_takes_the_confidence() -> None:
    first = built({"a": 1.0, "b": 0.0, **CONTROLS})
    second = built({"a": 0.0, "b": 1.2, **CONTROLS}, seed=1)
    assert verdict(first).winner == "a"
    found = verdict(first, second)
    assert found.winner is None
    assert found.confidence < 0.95
    assert any("Another baseline changes" in finding for finding in found.findings)
    with pytest.raises(InputError, match="differ"):
        verdict(first, built({"a": 1.0, "c": 0.0, **CONTROLS}))


def test_too_few_samples_name_nobody() -> None:
    for n in (1, 2, 4):
        found = verdict(built({"a": 5.0, "b": 0.0, **CONTROLS}, n=n, noise=0.01))
        assert found.winner is None


def test_the_only_method_that_passes_is_the_winner() -> None:
    found = verdict(built({"good": 1.0, "poor": -2.0, **CONTROLS}))
    assert found.winner == "good"
    assert "alone beats every control" in found.text


def test_robustness_cannot_be_tested_by_a_random_map_and_does_not_speak_against_controls() -> None:
    levels = {
        "a": {"deletion": 1.0, "aopc": 1.0, "pointing": 1.0, "max-sensitivity": 0.0},
        "b": {"deletion": 0.0, "aopc": 0.0, "pointing": 0.0, "max-sensitivity": -1.0},
        "*random": {"deletion": -2.0, "aopc": -2.0, "pointing": -2.0, "max-sensitivity": 9.0},
    }
    found = verdict(built(levels, families={"max-sensitivity": "robustness"}))
    assert found.winner == "a"
    assert all(check.counts for check in found.metrics)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_a_random_map_never_wins_and_the_verdict_is_deterministic(seed: int) -> None:
    levels = {"noise": -2.0, "other": -2.0, "*random": -2.0, "*edge": -1.9}
    results = built(levels, seed=seed, noise=1.0)
    found = results.verdict()
    assert isinstance(found, Verdict)
    assert found.winner is None
    assert found.text == results.verdict().text
