"""Findings are data and sentences are made of them in one place: every kind has one, and nothing reads it."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

import heatproof
from heatproof.facade import Results
from heatproof.records import Finding
from heatproof.verdict import Judgement, files, wording
from heatproof.verdict.decision import Kind

from .test_verdict import CONTROLS, built, checked, learnt, tried

SOURCE = Path(heatproof.__file__).parent
EXAMPLES = {
    "model-has-not-learnt": Finding(
        "model-has-not-learnt", "bad", reason="random-weights",
        numbers={"correct": 20, "samples": 60, "best": 20, "copies": 19},
    ),
    "model-has-learnt": Finding(
        "model-has-learnt", "good", reason="random-weights",
        numbers={"correct": 50, "samples": 60, "best": 20, "copies": 19},
    ),
    "no-control": Finding("no-control", "note"),
    "not-better-than-controls": Finding("not-better-than-controls", "bad", ("a", "b"), objects=("edge",)),
    "better-than-controls": Finding(
        "better-than-controls", "good", ("a", "b"), objects=("edge",), numbers={"fills": 2}
    ),
    "no-sanity-check": Finding("no-sanity-check", "note"),
    "maps-do-not-change": Finding("maps-do-not-change", "bad", ("a",), "random-logit", "class"),
    "eligible-methods": Finding("eligible-methods", "good", ("a",), numbers={"eligible": 1, "methods": 2}),
    "no-comparable-metric": Finding("no-comparable-metric", "bad"),
    "metric-not-valid": Finding("metric-not-valid", "note", metric="deletion", reason="random"),
    "valid-metrics": Finding("valid-metrics", "note", ("deletion",), numbers={"valid": 1, "metrics": 3}),
    "metric-ranks-otherwise": Finding("metric-ranks-otherwise", "note", ("b",), "deletion"),
    "leader-depends-on-fill": Finding(
        "leader-depends-on-fill", "bad", ("mean", "blur"), reason="eligible-methods", objects=("a", "b")
    ),
    "leader-does-not-depend-on-fill": Finding(
        "leader-does-not-depend-on-fill", "good", ("mean", "blur"), reason="eligible-methods", objects=("a",)
    ),
    "top-with-every-fill": Finding("top-with-every-fill", "note", ("a",), numbers={"fills": 2}),
    "metric-no-better-than-controls": Finding(
        "metric-no-better-than-controls", "note", ("a",), "deletion", "some-methods", {"methods": 2}, ("edge",)
    ),
    "families-disagree": Finding("families-disagree", "note", ("region", "faithfulness"), objects=("a", "b")),
    "agrees-with-planted-truth": Finding(
        "agrees-with-planted-truth", "note", ("deletion",), numbers={"agreeing": 1, "metrics": 2}, objects=("aopc",)
    ),
    "few-incorrect": Finding("few-incorrect", "note", numbers={"incorrect": 1, "samples": 200}),
    "other-leader-on-incorrect": Finding(
        "other-leader-on-incorrect", "note", ("b",), numbers={"incorrect": 20, "samples": 200}, objects=("a",)
    ),
    "more-samples-needed": Finding("more-samples-needed", "note", ("a", "b"), numbers={"needed": 2903, "samples": 60}),
    "more-samples-will-not-separate": Finding("more-samples-will-not-separate", "note", ("a", "b")),
    "rows-are-pairs": Finding("rows-are-pairs", "note", numbers={"pairs": 30, "samples": 20, "left_out": 1}),
    "undefined-scores": Finding("undefined-scores", "note", metric="deletion", numbers={"share": 0.2}),
    "skipped": Finding("skipped", "note", numbers={"combinations": 3}),
    "constant-maps": Finding("constant-maps", "note", ("a",), numbers={"constant": 3, "maps": 60}),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(wording._SENTENCES))
def test_every_kind_of_finding_has_a_sentence(kind: str) -> None:
    sentence = wording.sentence(EXAMPLES[kind])
    assert re.fullmatch(r"[A-Z0-9].*\.|[a-z-]+ .*\.", sentence), sentence
    assert "  " not in sentence
    assert "{" not in sentence


def test_kinds_that_the_findings_use_have_sentences_and_no_others() -> None:
    kinds = set()
    for module in ("verdict/findings.py", "verdict/checks.py", "report/sections/gallery.py"):
        tree = ast.parse((SOURCE / module).read_text(encoding="utf-8"))
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "Finding"]
        kinds |= {ast.literal_eval(call.args[0]) for call in calls}
    assert kinds == set(wording._SENTENCES) == set(EXAMPLES)


def test_every_kind_of_decision_has_a_text() -> None:
    assert set(wording._DECISIONS) == set(Kind.__args__)


def test_findings_that_differ_in_their_metric_alone_share_a_sentence() -> None:
    rows = [Finding("metric-not-valid", "note", metric=m, reason="random") for m in ("deletion", "road")]
    rows.append(Finding("metric-not-valid", "note", metric="irof", reason="noise"))
    together, alone = wording.statements(rows)
    assert together.text.startswith("deletion and road are left out: they do not separate")
    assert together.findings == tuple(rows[:2])
    assert alone.text.startswith("irof is left out: small noise on the input changes it more")


@cache
def studies() -> tuple[Results, ...]:
    """Studies of very different outcomes."""
    clear = built({"good": 1.0, "fair": 0.0, **CONTROLS})
    lucky = {"measure": "correct", "samples": 60, "model": 20, "copies": [3, 20, 5]}
    return (
        clear,
        built({"one": 0.5, "two": 0.5, "poor": -0.5, **CONTROLS}),
        built({"a": 0.0, "b": -0.1, "*random": -2.0, "*edge": 0.5}),
        built({"a": 0.0, "b": 0.0, "*random": 0.0}),
        checked({"good": 1.0, "poor": -2.0, **CONTROLS}),
        checked({"good": 1.0, "poor": -2.0, **CONTROLS}, likeness=3.0),
        learnt(clear, correct=0.3, hits=lucky),
        tried(clear, {"aopc": 0.0}),
        built({"*random": 0.0}),
        built({"a": 5.0, "b": 0.0, **CONTROLS}, n=4),
    )


@pytest.mark.parametrize("place", range(10))
def test_the_verdict_is_said_in_whole_sentences(place: int) -> None:
    results = studies()[place]
    judgement = results.judgement
    texts = [judgement.verdict.text, *(statement.text for statement in judgement.statements)]
    for text in texts:
        assert text.endswith(".")
        assert not re.search(r"\bnan\b|  |, \.|but \.|None(?! of)|\{", text), text
        for word in ("beyond doubt", "told apart", "baseline", "counts", "voice", "rightly", "twin"):
            assert word not in text


@pytest.mark.parametrize("place", range(10))
def test_the_file_holds_the_same_findings_as_the_verdict(place: int, tmp_path: Path) -> None:
    judgement = studies()[place].judgement
    page = json.loads(files.save(judgement, tmp_path).read_text(encoding="utf-8"))
    assert page["winner"] == judgement.verdict.winner
    assert page["decision"] == judgement.verdict.decision.kind
    assert page["text"] == judgement.verdict.text
    assert sorted(f["kind"] for f in page["findings"]) == sorted(f.kind for f in judgement.findings)
    assert {f["text"] for f in page["findings"]} == {s.text for s in judgement.statements}
    assert [m["valid"] for m in page["metrics"]] == [check.valid for check in judgement.metric_checks]


def test_other_words_change_nothing_but_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [r.verdict() for r in studies()]
    monkeypatch.setattr(wording, "_SENTENCES", dict.fromkeys(wording._SENTENCES, lambda *_: "Xyzzy."))
    monkeypatch.setattr(wording, "_DECISIONS", dict.fromkeys(wording._DECISIONS, lambda *_: "Plugh."))
    after = [Judgement(r).verdict for r in studies()]
    for old, new in zip(before, after, strict=True):
        assert (old.winner, old.group, old.findings) == (new.winner, new.group, new.findings)
        assert old.decision.kind == new.decision.kind
        assert new.text == "Plugh."
