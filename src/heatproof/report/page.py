"""From results to the file: sections are gathered, rendered and written, with figures and tables beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup, escape

import heatproof
from heatproof import plots
from heatproof.errors import InputError
from heatproof.files import writing
from heatproof.models.card import Card
from heatproof.performance import Performance
from heatproof.records import Estimate
from heatproof.report import tables
from heatproof.report.facts import Banner, Told, banner, findings
from heatproof.report.parts import Cell, Finding, Picture, Section, Table, interval, number, percent, plural, text
from heatproof.report.sections import classifier, heatmaps, settings, slices
from heatproof.report.sections import scores as explanations
from heatproof.report.sections.agreement import agreement
from heatproof.report.sections.cases import cases
from heatproof.report.sections.checks import checks
from heatproof.report.sections.cost import cost
from heatproof.report.sections.fills import baselines
from heatproof.report.sections.heatmaps import Pictures
from heatproof.report.sections.planted import planted
from heatproof.results.record import Results
from heatproof.training.history import Epoch

FORMATS = {".md": tables.markdown, ".csv": tables.comma_separated, ".tex": tables.latex}


def write(
    results: Results | None,
    path: str | os.PathLike[str],
    *,
    others: Sequence[Results] = (),
    performance: Performance | None = None,
    history: Sequence[Epoch] = (),
    card: Card | None = None,
    pictures: Pictures | None = None,
    command: str = "",
    files: bool = False,
) -> Path:
    """The report as one HTML file at ``path`` that needs no other file and no network.

    Args:
        others: the same study with other fills.
        performance, history, card: what is known of the classifier. pictures: inputs and maps to draw.
        command: what was typed to get here. files: whether figures (SVG, PDF) and tables (Markdown, CSV, LaTeX) are
            written too, into ``figures`` and ``tables`` beside the page.

    Raises: InputError where there is nothing to report on, FileError where a file cannot be written.
    """
    if results is None and performance is None and not history:
        raise InputError("got neither results nor a performance nor a history; there is nothing to report on")
    pictures = pictures or Pictures()
    told = Told(results, others) if results is not None else None
    found = _sections(told, performance, history, card, pictures, command)
    page = _environment().get_template("report.html").render(
        title=_title(results, performance),
        subtitle=_subtitle(results, performance, card),
        banner=banner(told) if told is not None else _fallback(performance),
        findings=findings(told) if told is not None else (),
        sections=found,
        version=heatproof.__version__,
    )  # fmt: skip
    path = Path(path)
    with writing(path) as part:
        part.write_text(page, encoding="utf-8")
    if files:
        _files(found, path.parent)
    return path


def _sections(
    told: Told | None,
    performance: Performance | None,
    history: Sequence[Epoch],
    card: Card | None,
    pictures: Pictures,
    command: str,
) -> list[Section]:
    results = told.results if told is not None else None
    data: Mapping[str, object] = pictures.evaluated.about if pictures.evaluated is not None else {}
    found = [
        *(_judged(told, pictures) if told is not None else ()),
        classifier.classifier(performance, history, pictures.evaluated),
        cost(results),
        settings.settings(results, card, data),
        settings.reproduce(results, card, command),
    ]
    return [section for section in found if section is not None]


def _judged(told: Told, pictures: Pictures) -> list[Section | None]:
    """What the study found, the answers before the reasons for them."""
    maps = heatmaps.at_hand(told, pictures)
    return [
        explanations.ranking(told),
        heatmaps.gallery(told, pictures),
        cases(pictures.cases),
        explanations.scores(told),
        checks(told),
        planted(told),
        baselines(told),
        slices.curves(told),
        slices.strata(told),
        agreement(told, maps),
        heatmaps.worst(told, pictures),
    ]


def _title(results: Results | None, performance: Performance | None) -> str:
    name = str(results.about.get("data", "")) if results is not None else performance.name if performance else ""
    what = "Which heatmaps can be trusted?" if results is not None else "How good is the classifier?"
    return f"{name}: {what[0].lower()}{what[1:]}" if name else what


def _subtitle(results: Results | None, performance: Performance | None, card: Card | None) -> str:
    parts = []
    if results is not None:
        methods = plural(len(results.methods), "method")
        extra = f" and {plural(len(results.controls), 'control')}" if results.controls else ""
        judged = f"{methods}{extra} judged by {plural(len(results.metrics), 'metric')}"
        parts.append(f"{judged} on {plural(len(results), 'sample')}")
    if card is not None:
        parts.append(f"model {card.architecture}")
    if performance is not None:
        found = performance.intervals["accuracy"]
        ends = f" ({100 * found.low:.1f} to {100 * found.high:.1f})" if np.isfinite(found.low) else ""
        parts.append(f"{percent(found.mean, 1)}{ends} of {plural(len(performance), 'sample')} classified rightly")
    return "; ".join(parts) + "." if parts else ""


def _fallback(performance: Performance | None) -> Banner | None:
    if performance is None:
        return None
    return Banner(performance.findings[0], "note", " ".join(performance.findings[1:]))


def _files(sections: Sequence[Section], folder: Path) -> None:
    """Every figure as SVG and PDF, every table as Markdown, CSV and LaTeX."""
    for section in sections:
        for part in section.parts:
            if isinstance(part, Picture):
                plots.save(part.figure, folder / "figures" / part.name, vector=part.svg)
            if isinstance(part, Table):
                for ending, form in FORMATS.items():
                    with writing(folder / "tables" / f"{part.name}{ending}") as temporary:
                        temporary.write_text(form(part), encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {"cell": _cell, "rich": _rich, "broken": _broken, "drawn": _drawn}
    made.filters["kind"] = lambda part: type(part).__name__.lower()
    made.tests["finding"] = lambda part: isinstance(part, Finding)
    return made


def _drawn(picture: Picture) -> Markup:
    """A figure as inline SVG; the writer of it escapes what it holds."""
    return Markup(picture.svg)


def _cell(cell: Cell, digits: int, heading: str = "") -> Markup:
    """A cell as HTML: the interval beside its number, sources as links."""
    if isinstance(cell, Estimate):
        ends = interval(cell, digits).replace(", ", ",\u2009")
        return Markup('<b>{}</b> <span class="ends">{}</span>').format(number(cell.mean, digits), ends)
    words = text(cell, digits)
    link = _link(words) if heading == "Source" else ""
    return Markup('<a href="{}">{}</a>').format(link, link.removeprefix("https://")) if link else _rich(words)


def _broken(name: str) -> Markup:
    """A name that may be broken between its options."""
    return Markup(re.sub(r"(?<=\w)([:,])(?=\w)", r"\1<wbr>", str(escape(name))))


def _link(paper: str) -> str:
    if re.fullmatch(r"\d{4}\.\d{4,5}", paper):
        return f"https://arxiv.org/abs/{paper}"
    return f"https://doi.org/{paper}" if re.fullmatch(r"10\.\d{4,}/\S+", paper) else ""


def _rich(words: str) -> Markup:
    """Escaped text, with ``code`` set as such."""
    told = re.sub(r"(?<=\d) %", "\u00a0%", words)
    return Markup(re.sub(r"``(.+?)``", r"<code>\1</code>", str(escape(told))))
