"""Findings are data and sentences are made of them in one place: every kind has one, and nothing reads it."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import heatproof
from heatproof.facade import Results
from heatproof.records import Finding
from heatproof.verdict import Judgement, files, wording
from heatproof.verdict.decision import Kind

from .judged import HOW_MUCH, OWN, judged, of_kind

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
    "barred": Finding("barred", "note", ("a", "b"), reason="another class"),
    "not-yet-shown": Finding("not-yet-shown", "note", ("a",), reason="moved forward", numbers={"needed": 210.0}),
    "maps-do-not-change": Finding("maps-do-not-change", "note", ("a", "b"), "random-logit", "class"),
    "eligible-methods": Finding("eligible-methods", "good", ("a",), numbers={"eligible": 1, "methods": 2}),
    "no-question": Finding("no-question", "bad"),
    "no-own-controls": Finding("no-own-controls", "bad"),
    "evidence-everywhere": Finding("evidence-everywhere", "note", numbers={"concentration": 0.02, "least": 0.15}),
    "class-has-few-samples": Finding("class-has-few-samples", "note", ("cat", "dog"), numbers={"least": 10}),
    "class-evidence-unreliable": Finding("class-evidence-unreliable", "note", ("cat",)),
    "metric-ranks-otherwise": Finding("metric-ranks-otherwise", "note", ("b",), "deletion"),
    "families-disagree": Finding("families-disagree", "note", ("evidence", "faithfulness"), objects=("a", "b")),
    "agrees-with-planted-truth": Finding(
        "agrees-with-planted-truth", "note", ("deletion",), numbers={"agreeing": 1, "metrics": 2}, objects=("aopc",)
    ),
    "few-incorrect": Finding("few-incorrect", "note", numbers={"incorrect": 1, "samples": 200}),
    "other-leader-on-incorrect": Finding(
        "other-leader-on-incorrect", "note", ("b",), numbers={"incorrect": 20, "samples": 200}, objects=("a",)
    ),
    "rows-are-pairs": Finding("rows-are-pairs", "note", numbers={"pairs": 30, "samples": 20, "left_out": 1}),
    "samples-are-grouped": Finding("samples-are-grouped", "note", numbers={"samples": 30, "groups": 4}),
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
    assert set(wording._DECISIONS) == set(get_args(Kind))


def test_findings_that_differ_in_their_metric_alone_share_a_sentence() -> None:
    rows = [Finding("metric-ranks-otherwise", "note", ("b",), metric) for metric in ("deletion", "road")]
    rows.append(Finding("metric-ranks-otherwise", "note", ("c",), "irof"))
    together, alone = wording.statements(rows)
    assert together.text == "By deletion and road, b ranks first."
    assert together.findings == tuple(rows[:2])
    assert alone.text == "By irof, c ranks first."


def test_what_bars_a_method_is_said_with_the_reason() -> None:
    blind = Finding("barred", "note", ("a", "b"), reason="another class")
    assert wording.sentence(blind) == (
        "a and b do not beat their own maps of another class: the map hardly depends on the class that is explained."
    )
    open_ = Finding("not-yet-shown", "note", ("a",), reason="another sample", numbers={"needed": 210.0})
    assert wording.sentence(open_) == (
        "a is not yet shown to beat its own maps of other samples. About 210 samples would decide."
    )


def half_answered() -> Results:
    """A study in which one question has one best method, and the other is open."""
    rng, results = np.random.default_rng(3), of_kind("by question")
    scores = {k: v + (2.5 * rng.normal(size=len(v)) if k[1] == HOW_MUCH else 0) for k, v in results.scores.items()}
    return replace(results, scores=scores)


@cache
def studies() -> tuple[Results, ...]:
    """Studies of very different outcomes."""
    clear = of_kind("use")
    lucky = {"measure": "correct", "samples": 60, "model": 20, "copies": [3, 20, 5]}
    return (
        *(of_kind(kind) for kind in get_args(Kind)),
        replace(clear, about={**clear.about, "skill": lucky}),
        replace(clear, own_controls={}),
        replace(clear, metrics=("deletion",)),
        replace(clear, methods=()),
        replace(clear, methods=clear.methods[:1]),
        judged({"one": 0.6, "other": 0.6}, own={name: {OWN[0]: 0.012} for name in ("one", "other")}),
        judged({"one": 0.6, "other": 0.6}, noise=0.6, own={"one": {OWN[1]: 0.3}, "other": {OWN[1]: 0.3}}),
        judged({"blind": 0.5}, own={"blind": {OWN[1]: 0.0}}),
        replace(clear, groups=np.arange(len(clear)) // 4),
        half_answered(),
    )


COUNT = 15


def test_the_studies_give_every_kind_of_answer_and_no_other_place_is_left() -> None:
    assert len(studies()) == COUNT
    assert {results.verdict().kind for results in studies()} == set(get_args(Kind))


@pytest.mark.parametrize("place", range(COUNT))
def test_the_verdict_is_said_in_whole_sentences(place: int) -> None:
    results = studies()[place]
    judgement = results.judgement
    texts = [judgement.verdict.text, *(statement.text for statement in judgement.statements)]
    for text in texts:
        assert text.endswith(".")
        assert not re.search(r"\bnan\b|\binf\b|  |, \.|but \.|None(?! of)|\{", text), text
        for word in ("beyond doubt", "told apart", "told", "baseline", "counts", "voice", "rightly", "twin", "winner"):
            assert not re.search(rf"\b{word}\b", text), text


@pytest.mark.parametrize("place", range(COUNT))
def test_the_file_holds_the_same_findings_as_the_verdict(place: int, tmp_path: Path) -> None:
    judgement = studies()[place].judgement
    page = json.loads(files.save(judgement, tmp_path).read_text(encoding="utf-8"))
    assert page["kind"] == page["decision"]["kind"] == judgement.verdict.kind
    assert page["trusted"] == list(judgement.verdict.trusted)
    assert page["text"] == judgement.verdict.text
    assert sorted(f["kind"] for f in page["findings"]) == sorted(f.kind for f in judgement.findings)
    assert {f["text"] for f in page["findings"]} == {s.text for s in judgement.statements}
    checks = {m["method"]: (m["standing"], m["overall"]["mean"]) for m in page["methods"]}
    for check in judgement.method_checks:
        standing, mean = checks[check.method]
        assert standing == check.standing
        assert mean is None if not check.overall.n else mean == pytest.approx(check.overall.mean)


def test_other_words_change_nothing_but_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [r.verdict() for r in studies()]
    monkeypatch.setattr(wording, "_SENTENCES", dict.fromkeys(wording._SENTENCES, lambda *_: "Xyzzy."))
    monkeypatch.setattr(wording, "_DECISIONS", dict.fromkeys(wording._DECISIONS, lambda *_: "Plugh."))
    after = [Judgement(r).verdict for r in studies()]
    for old, new in zip(before, after, strict=True):
        assert (old.kind, old.trusted, old.findings) == (new.kind, new.trusted, new.findings)
        assert new.text == "Plugh."
