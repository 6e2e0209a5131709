"""Which metrics agree with the planted truth, for this model."""

from __future__ import annotations

from heatproof import plots
from heatproof.report.facts import Told
from heatproof.report.parts import Cell, Finding, Listing, Part, Picture, Section, Table, listed, section
from heatproof.verdict.agreement import Agreement

TITLE = "Which metrics agree with the planted truth?"


def planted(told: Told) -> Section | None:
    """How metrics that need no mask order the maps, compared with the masks; a sentence where there are none."""
    if not told.results.methods or not told.results.metrics:
        return None
    found = told.calibration
    if not found.rows:
        return section("planted", TITLE, "Planted truth", "", [Listing((Finding("note", _silent(told)),))])
    lead = (
        "In these data it is known which positions decide the class, so metrics that do without a mask can be checked: "
        f"do they order methods and controls as {listed(found.truth)} do{'es' if len(found.truth) == 1 else ''}?"
    )
    parts: list[Part | None] = [Listing((told.calibrated,)), _drawn(told), _table(told)]
    return section("planted", TITLE, "Planted truth", lead, parts)


def _silent(told: Told) -> str:
    results = told.results
    if told.calibration.truth:
        return told.calibration.text
    if results.gallery is not None and results.gallery.mask is not None:
        return (
            "The data have masks, but no metric of localisation was computed for every method, so the other metrics "
            "cannot be compared with the planted truth; ``relevance-mass`` would do."
        )
    return (
        "These data have no masks that tell which positions decide the class, so no metric can be compared with the "
        "truth here. The verdict rests on how the model reacts to changed inputs."
    )


def _drawn(told: Told) -> Picture:
    rows = told.calibration.rows
    caption = (
        f"Kendall's tau between the order of methods and controls by each metric and by the masks, with {told.level} "
        "intervals: 1 is the same order, 0 says nothing (orange line), below 0 the metric misleads."
    )
    label = "Agreement with the planted truth: " + "; ".join(f"{r.metric} {r.methods.mean:.2f}" for r in rows)
    figure = plots.intervals(
        [row.metric for row in rows], [row.methods for row in rows], label="Kendall's tau with the planted truth",
        quiet=[not row.agrees for row in rows], line=0.0,
    )  # fmt: skip
    return Picture("calibration", caption, label, figure)


def _table(told: Told) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (row.metric, row.methods, row.samples, _agrees(row)) for row in told.calibration.rows
    )
    caption = (
        "Over methods: Kendall's tau of their mean ranks. Within samples: Spearman's correlation of the methods' ranks "
        "in one sample, averaged. A metric agrees where both intervals lie above 0."
    )
    heads = ("Metric", "Over methods", "Within samples", "Agrees")
    return Table("calibration", caption, heads, rows, digits=2)


def _agrees(row: Agreement) -> str:
    return "yes" if row.agrees else "no, it contradicts" if row.methods.high < 0 else "not beyond doubt"
