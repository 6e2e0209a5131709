"""Table, terminal, README, verdict.json and report name the same methods, whatever the answer is."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from heatproof.cli import judgement as terminal
from heatproof.facade import Results
from heatproof.report import Content, summary
from heatproof.report.parts import Table
from heatproof.report.sections import questions
from heatproof.verdict import files
from heatproof.verdict.decision import Kind

from .judged import of_kind

KINDS = get_args(Kind)
NAMED = {
    "use": (("good",), ("good",)),
    "interchangeable": (("one", "other"), ("one", "other")),
    "by question": (("pointer",), ("ruler",)),
    "none": ((), ()),
    "cannot tell yet": ((), ()),
}
README = Path(__file__).parent.parent / "README.md"


def in_cells(cells: dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The methods named for each question, by the words in a column."""
    where = tuple(name for name, words in cells.items() if words in ("both", "where"))
    return tuple(sorted(where)), tuple(sorted(name for name, words in cells.items() if words in ("both", "how much")))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def results(kind: Kind) -> Results:
    return of_kind(kind)


def test_the_answer_is_of_this_kind(kind: Kind, results: Results) -> None:
    verdict = results.verdict()
    assert verdict.kind == kind
    assert (tuple(sorted(verdict.where)), tuple(sorted(verdict.how_much))) == NAMED[kind]
    assert set(verdict.trusted) == {*verdict.where, *verdict.how_much}


def test_the_frame_names_the_same_methods(kind: Kind, results: Results) -> None:
    frame = results.verdict().to_frame().set_index("method")
    assert tuple(sorted(frame.index[frame["named where"]])) == NAMED[kind][0]
    assert tuple(sorted(frame.index[frame["named how much"]])) == NAMED[kind][1]


def test_the_report_names_the_same_methods(kind: Kind, results: Results, tmp_path: Path) -> None:
    content = Content(results)
    section = questions.section(content)
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, Table) and part.name == "methods-verdict")
    place = table.columns.index("Named for")
    assert in_cells({str(row[0]): str(row[place]) for row in table.rows}) == NAMED[kind]
    banner = summary.banner(content)
    assert banner is not None
    assert banner.headline == results.verdict().text
    page = html.unescape(results.report(tmp_path / "report.html").read_text("utf-8"))
    assert results.verdict().text in page.replace("\u00a0", " ")


def test_the_terminal_names_the_same_methods(kind: Kind, results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.study(results.judgement)
    out = capsys.readouterr().out
    lines = out[out.index("Methods on") : out.index(results.verdict().text)].splitlines()
    rows = {line.split()[0]: re.split(r"\s{2,}", line.strip())[-1] for line in lines if line[:1].islower()}
    assert in_cells({name: rows[name] for name in results.methods}) == NAMED[kind]
    assert results.verdict().text in out


def test_the_file_names_the_same_methods(kind: Kind, results: Results, tmp_path: Path) -> None:
    page = json.loads(files.save(results.judgement, tmp_path).read_text("utf-8"))
    assert page["kind"] == kind
    assert (tuple(sorted(page["where"])), tuple(sorted(page["how_much"]))) == NAMED[kind]
    assert set(page["trusted"]) == {*page["where"], *page["how_much"]}
    verdict = results.verdict()
    assert page["samples_needed"] == verdict.samples_needed
    assert [m["standing"] for m in page["methods"]] == [check.standing for check in verdict.methods]


def test_what_the_readme_types_names_the_same_methods(kind: Kind, results: Results) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL))
    lines = [line.partition("  #")[0] for line in code.splitlines() if "verdict" in line]
    assert len(lines) >= 3
    scope: dict[str, object] = {"results": results}
    answers: dict[str, object] = {}
    for line in lines:
        name, is_set, value = line.partition(" = ")
        if is_set:
            scope[name] = eval(value, scope)
        else:
            answers[line] = eval(line, scope)
    assert answers["verdict.text"] == results.verdict().text
    assert tuple(sorted(answers["verdict.where"])) == NAMED[kind][0]  # type: ignore[call-overload]
    assert tuple(sorted(answers["verdict.how_much"])) == NAMED[kind][1]  # type: ignore[call-overload]


def test_every_name_of_the_answer_is_in_its_text(kind: Kind, results: Results) -> None:
    verdict = results.verdict()
    assert all(name in verdict.text for name in verdict.trusted)
    if not verdict.trusted:
        assert not re.search(r"\b[Uu]se\b", verdict.text)


def test_the_picture_marks_those_that_are_named(kind: Kind, results: Results) -> None:
    section = questions.section(Content(results))
    assert section is not None
    (picture,) = (part for part in section.parts if not isinstance(part, (Table, str)) and hasattr(part, "figure"))
    panels = picture.figure.axes
    names = [check.method for check in results.verdict().by_score]
    for axes, named in zip(panels, NAMED[kind], strict=True):
        full = {
            names[int(line.get_ydata()[0])]
            for line in axes.lines
            if line.get_marker() == "o"
            and line.get_markersize() > 5
            and line.get_markerfacecolor() == line.get_markeredgecolor()
        }
        assert tuple(sorted(full)) == named
        means = {names[int(line.get_ydata()[0])] for line in axes.lines if line.get_marker() == "o"}
        assert means == set(names)
        strokes = [len(line.get_ydata()) for line in axes.lines if line.get_marker() == "|"]
        assert strokes == [4] * len(names)
        assert np.isclose(
            min(line.get_xdata()[0] for line in axes.lines if line.get_linestyle() != "None"), 0.0, atol=0.2
        )
