"""Answers to several questions side by side: methods with their intervals, their own controls, lines of reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from heatproof.errors import InputError
from heatproof.plots.names import fold, spaced
from heatproof.plots.style import BLUE, DASHES, GREEN, GREY, INK, figure, styled
from heatproof.records import Estimate

Mark = Literal["named", "eligible", "faint"]
PALE = "#dcebf7"  # inside a ring, so that the interval does not cross it
MARKS: Mapping[Mark, tuple[str, str]] = {
    "named": ("named", BLUE), "eligible": ("eligible", BLUE), "faint": ("not yet shown, or barred", GREY),
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """The score of one method for one question.

    Attributes:
        score: the mean with its interval. mark: how it is drawn: named, eligible, or faint.
        controls: the mean scores of the method's own controls.
    """

    score: Estimate
    mark: Mark = "eligible"
    controls: Sequence[float] = field(default=())


@styled
def questions(
    names: Sequence[str],
    answers: Mapping[str, Sequence[Answer]],
    *,
    references: Mapping[str, Sequence[float]] | None = None,
    label: str = "mean score: 0 is chance, 1 is perfect",
) -> Figure:
    """Methods one below the other, a panel a question: scores with intervals, and small marks for their own controls.

    Args:
        answers: by question, one a name. references: by name, a mean score a question, drawn as faint lines.

    Raises: InputError where names, answers and references do not fit.
    """
    lines = dict(references or {})
    for question, rows in answers.items():
        if len(rows) != len(names):
            raise InputError(f"{question}: got {len(rows)} answers for {len(names)} names; expected one each")
    for name, values in lines.items():
        if len(values) != len(answers):
            raise InputError(f"{name}: got {len(values)} scores for {len(answers)} questions; expected one each")
    shown = [fold(name, 26) for name in names]
    drawn = figure(height=spaced(shown, 0.27) + 1.35)
    panels = drawn.subplots(1, max(1, len(answers)), sharey=True, squeeze=False)[0]
    for number, (axes, (question, rows)) in enumerate(zip(panels, answers.items(), strict=False)):
        for dash, values in zip(range(len(lines)), lines.values(), strict=True):
            if math.isfinite(values[number]):
                axes.axvline(values[number], color=GREEN, linestyle=DASHES[dash % len(DASHES)], linewidth=1, alpha=0.6)
        for y, answer in enumerate(rows):
            _row(axes, y, answer)
        axes.set_title(question)
        axes.margins(x=0.06)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
    panels[0].set_yticks(range(len(names)), shown)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    named = {y for rows in answers.values() for y, answer in enumerate(rows) if answer.mark == "named"}
    for y, tick in enumerate(panels[0].get_yticklabels()):
        tick.set_fontweight("bold" if y in named else "normal")
    drawn.supxlabel(label, fontsize=9)
    drawn.legend(handles=_legend(answers, [*lines]), loc="outside upper center", ncols=4, handlelength=1.8)
    return drawn


def _row(axes: Axes, y: int, answer: Answer) -> None:
    """A method's interval and mean, above it the marks of its own controls."""
    colour, score = MARKS[answer.mark][1], answer.score
    controls = [value for value in answer.controls if math.isfinite(value)]
    axes.plot(controls, [y] * len(controls), marker="|", color=INK, alpha=0.45, markersize=7, linestyle="none")
    axes.hlines(y, score.low, score.high, color=colour, linewidth=2.2, alpha=0.7)
    axes.plot(score.mean, y, **_marker(answer.mark), zorder=3)


def _marker(mark: Mark) -> dict[str, Any]:
    """A full disc for what is named, a ring for what is eligible, a small grey disc for the rest."""
    face = PALE if mark == "eligible" else MARKS[mark][1]
    return {
        "marker": "o", "markersize": 4.5 if mark == "faint" else 6.5, "markerfacecolor": face,
        "markeredgecolor": MARKS[mark][1], "markeredgewidth": 1.4, "linestyle": "none",
    }  # fmt: skip


def _legend(answers: Mapping[str, Sequence[Answer]], lines: Sequence[str]) -> list[Line2D]:
    """What the marks and lines stand for, of those that are drawn."""
    rows = [answer for part in answers.values() for answer in part]
    handles = [
        Line2D([], [], label=words, color=colour, **_marker(mark))
        for mark, (words, colour) in MARKS.items()
        if any(answer.mark == mark for answer in rows)
    ]
    if any(answer.controls for answer in rows):
        handles.append(Line2D([], [], marker="|", color=INK, alpha=0.45, linestyle="none", label="its own controls"))
    handles += [
        Line2D([], [], color=GREEN, linestyle=DASHES[i % len(DASHES)], linewidth=1, alpha=0.6, label=fold(name, 24))
        for i, name in enumerate(lines)
    ]
    return handles
