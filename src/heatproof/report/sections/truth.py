"""Agreement with the planted truth: which metrics order the maps as the masks do, for this model."""

from __future__ import annotations

from heatproof import plots
from heatproof.phrases import listed
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Part, Picture, Section, Table, compose, listing
from heatproof.verdict.agreement import Agreement
from heatproof.verdict.judgement import Judgement
from heatproof.verdict.wording import Statement

TITLE, SHORT = "Agreement with the planted truth", "Planted truth"
KIND = "agrees-with-planted-truth"


def section(content: Content) -> Section | None:
    """How metrics that need no mask order the maps, compared with the masks; a sentence where there are none."""
    judgement = content.judgement
    if judgement is None or not judgement.results.methods or not judgement.results.metrics:
        return None
    calibration = judgement.calibration
    if not calibration.rows:
        return compose("planted", TITLE, SHORT, "", [listing([Statement("note", _absent(judgement))])])
    verb = "does" if len(calibration.truth) == 1 else "do"
    lead = (
        "In these data it is known which positions determine the class. The metrics that need no mask can therefore be "
        f"checked: do they order methods and reference maps as {listed(calibration.truth)} {verb}?"
    )
    conclusion = listing(item for item in judgement.statements if item.findings[0].kind == KIND)
    parts: list[Part | None] = [conclusion, _drawn(judgement), _table(judgement)]
    return compose("planted", TITLE, SHORT, lead, parts)


def _absent(judgement: Judgement) -> str:
    """Why nothing can be compared with the planted truth."""
    gallery = judgement.results.gallery
    if judgement.calibration.reason == "too-few":
        return "Too few methods, reference maps or metrics were studied to compare their orders with the planted truth."
    if gallery is not None and gallery.mask is not None:
        return (
            "The data have masks, but no localisation metric was computed for every method, so the other metrics "
            "cannot be compared with the planted truth; ``relevance-mass`` is one."
        )
    return (
        "The data have no masks of the positions that determine the class, so no metric can be compared with the "
        "planted truth. The verdict is based on how the model responds to changed inputs."
    )


def _drawn(judgement: Judgement) -> Picture:
    rows = judgement.calibration.rows
    caption = (
        "Kendall's tau between the order of methods and reference maps by each metric and by the masks, with "
        f"{judgement.level_text} intervals. 1: the same order; 0 (orange line): no relation; below 0: the opposite "
        "order. Grey: no significant agreement."
    )
    label = "Agreement with the planted truth: " + "; ".join(f"{r.metric} {r.methods.mean:.2f}" for r in rows)
    figure = plots.intervals(
        [row.metric for row in rows], [row.methods for row in rows], label="Kendall's tau with the planted truth",
        quiet=[not row.agrees for row in rows], line=0.0,
    )  # fmt: skip
    return Picture("calibration", caption, label, figure)


def _table(judgement: Judgement) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (row.metric, row.methods, row.samples, _agrees(row)) for row in judgement.calibration.rows
    )
    caption = (
        "Over methods: Kendall's tau of their mean ranks. Within samples: Spearman's correlation of the methods' ranks "
        "in one sample, averaged. A metric agrees where both intervals lie above 0."
    )
    columns = ("Metric", "Over methods", "Within samples", "Agrees")
    return Table("calibration", caption, columns, rows, digits=2)


def _agrees(row: Agreement) -> str:
    return "yes" if row.agrees else "no, opposite order" if row.methods.high < 0 else "not significantly"
