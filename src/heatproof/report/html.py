"""The page as HTML: the template with its filters; jinja2 lives here."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from heatproof.phrases import number
from heatproof.records import Estimate
from heatproof.report.parts import Cell, Picture, interval, text


def render(**values: object) -> str:
    """The page, with these values in the template."""
    return _environment().get_template("report.html").render(**values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"cell": _cell, "rich": _rich, "broken": _broken, "drawn": _drawn}
    environment.filters["kind"] = lambda part: type(part).__name__.lower()
    return environment


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
    unbroken = re.sub(r"(?<=\d) %", "\u00a0%", words)
    return Markup(re.sub(r"``(.+?)``", r"<code>\1</code>", str(escape(unbroken))))
