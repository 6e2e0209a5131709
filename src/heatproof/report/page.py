"""From content to the file: the sections in their order are gathered, rendered and written."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from heatproof import plots, version
from heatproof.errors import InputError
from heatproof.files import writing
from heatproof.report import html, summary, tables
from heatproof.report.content import Content
from heatproof.report.parts import Picture, Section, Table
from heatproof.report.sections import (
    agreement,
    cases,
    checks,
    classifier,
    cost,
    curves,
    evidence,
    fills,
    gallery,
    questions,
    reproduce,
    scores,
    settings,
    similarity,
    strata,
    truth,
    worst,
)

SECTIONS: tuple[Callable[[Content], Section | None], ...] = (
    questions.section,
    evidence.section,
    gallery.section,
    cases.section,
    scores.section,
    checks.section,
    truth.section,
    fills.section,
    curves.section,
    strata.section,
    agreement.section,
    similarity.section,
    worst.section,
    classifier.section,
    cost.section,
    settings.section,
    reproduce.section,
)
FORMATS = {".md": tables.markdown, ".csv": tables.comma_separated, ".tex": tables.latex}


def write(content: Content, path: str | os.PathLike[str], *, files: bool = False) -> Path:
    """The report as one HTML file at ``path`` that needs no other file and no network.

    Args:
        files: whether figures (SVG, PDF) and tables (Markdown, CSV, LaTeX) are written too, into ``figures`` and
            ``tables`` beside the page.

    Raises: InputError where there is nothing to report on, FileError where a file cannot be written.
    """
    if content.empty:
        raise InputError("got neither results nor a performance nor a history; there is nothing to report on")
    sections = [section for make in SECTIONS if (section := make(content)) is not None]
    page = html.render(
        title=summary.title(content),
        subtitle=summary.subtitle(content),
        banner=summary.banner(content),
        findings=summary.findings(content),
        sections=sections,
        version=version.__version__,
    )
    path = Path(path)
    with writing(path) as part:
        part.write_text(page, encoding="utf-8")
    if files:
        _files(sections, path.parent)
    return path


def _files(sections: Sequence[Section], folder: Path) -> None:
    """Every figure as SVG and PDF, every table as Markdown, CSV and LaTeX."""
    for section in sections:
        for part in section.parts:
            if isinstance(part, Picture):
                plots.save(part.figure, folder / "figures" / f"{part.name}.svg", vector=part.svg)
                plots.save(part.figure, folder / "figures" / f"{part.name}.pdf")
            if isinstance(part, Table):
                for ending, form in FORMATS.items():
                    with writing(folder / "tables" / f"{part.name}{ending}") as temporary:
                        temporary.write_text(form(part), encoding="utf-8")
