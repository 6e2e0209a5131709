"""A figure as compact inline SVG, as PNG, and as files for a paper; the same figure gives the same bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from matplotlib.figure import Figure

from heatproof.errors import InputError
from heatproof.files import writing
from heatproof.plots.style import INK, styled

SVG = "http://www.w3.org/2000/svg"
HREF = "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", SVG)
DIGITS = {"d": 2, "transform": 4, "x": 2, "y": 2, "width": 2, "height": 2}
ENDINGS = (".svg", ".pdf", ".png")
BYTES = 3000  # embedded images above this size are tried as JPEG


def svg(figure: Figure, *, label: str = "") -> str:
    """The figure as one ``<svg>`` element to put into a page: it scales, and takes the page's text colour and font.

    Ids are unique to the figure's content, so that many figures share a page. ``label`` is read out by screen readers.
    """
    root = ElementTree.fromstring(_drawn(figure, "svg"))
    for parent in list(root.iter()):
        for child in [child for child in parent if _idle(child)]:
            parent.remove(child)
    for element in root.iter():
        _tidy(element)
    _unwrap(root)
    _rename(root)
    width = root.attrib.pop("width", "100%").removesuffix("pt")
    root.attrib.pop("height", None)
    root.attrib.pop("version", None)
    pixels = f"{float(width) * 4 / 3:.0f}px" if width.replace(".", "").isdigit() else width
    lines = "stroke-linejoin:round;stroke-linecap:butt"
    root.set("style", f"width:100%;max-width:{pixels};height:auto;font-family:inherit;{lines}")
    root.set("role", "img")
    if label:
        root.set("aria-label", label)
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub(r">\s+<", "><", text).replace(INK, "currentColor").replace(" />", "/>").strip()


def png(figure: Figure, *, dpi: int = 150, background: str = "white") -> bytes:
    """The figure as PNG, on a background of the given colour."""
    return _drawn(figure, "png", dpi=dpi, background=background)


def save(figure: Figure, path: str | os.PathLike[str], *, vector: str | None = None) -> Path:
    """Write the figure under the given name, as its ending says: .svg, .pdf or .png; returns the path.

    SVG and PDF are black on transparent. ``vector`` is what `svg` returned, where that was called before.

    Raises: InputError for another ending; FileError where the file cannot be written.
    """
    place = Path(path)
    ending = place.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"cannot save a figure as {place.name!r}; expected a name that ends in {', '.join(ENDINGS)}")
    if ending == ".svg":
        text = svg(figure) if vector is None else vector
        content = text.replace("font-family:inherit", "font-family:sans-serif").encode()
    else:
        content = png(figure, dpi=200) if ending == ".png" else _drawn(figure, "pdf")
    with writing(place) as part:
        part.write_bytes(content)
    return place


@styled
def _drawn(figure: Figure, kind: str, *, dpi: int = 72, background: str = "none") -> bytes:
    stream = io.BytesIO()
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    figure.savefig(stream, format=kind, dpi=dpi, facecolor=background, metadata=dated)
    return stream.getvalue()


def _idle(element: ElementTree.Element) -> bool:
    """Metadata, style sheets (in a page they would reach beyond the figure), and paths that paint nothing."""
    name = element.tag.removeprefix(f"{{{SVG}}}")
    if name == "defs":
        return all(child.tag == f"{{{SVG}}}style" for child in element)
    return name == "metadata" or (name == "path" and element.get("style", "").strip() == "fill: none")


def _tidy(element: ElementTree.Element) -> None:
    """Shorten one element in place: numbers, styles, links and images."""
    if HREF in element.attrib:
        element.set("href", _smaller(element.attrib.pop(HREF)))
    for key, digits in DIGITS.items():
        if key in element.attrib:
            element.set(key, _rounded(element.attrib[key], digits))
    if re.fullmatch(r"rotate\(-?0 [^)]*\)", element.get("transform", "")):
        del element.attrib["transform"]
    if "d" in element.attrib:
        path = re.sub(r"\s*([MLCQZz])\s*", r"\1", element.attrib["d"]).strip()
        element.set("d", _rounded(path, 1) if re.search(r"\d\d(?:\.|\b)", path) else path)
    parts = [part.strip() for part in element.get("style", "").split(";")]
    kept = [re.sub(r":\s+", ":", part) for part in parts if part and not part.startswith("font-family")]
    element.attrib.pop("style", None)
    if kept:
        element.set("style", ";".join(re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", part) for part in kept))
    if element.text is not None and not element.text.strip():
        element.text = None
    if element.tail is not None and not element.tail.strip():
        element.tail = None


def _rounded(text: str, digits: int) -> str:
    return re.sub(r"-?\d+\.\d+(?:e-?\d+)?", lambda m: f"{float(m[0]):.{digits}f}".rstrip("0").rstrip("."), text)


def _smaller(link: str) -> str:
    """The embedded PNG as JPEG where it is opaque and that is shorter."""
    link, head = link.replace(" ", ""), "data:image/png;base64,"
    if not link.startswith(head) or len(link) < BYTES:
        return link
    from PIL import Image

    image: Image.Image = Image.open(io.BytesIO(base64.b64decode(link[len(head) :])))
    if image.mode == "RGBA":
        if image.getchannel("A").getextrema() != (255, 255):
            return link
        image = image.convert("RGB")
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=88, optimize=True)
    shorter = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    return min(link, shorter, key=len)


def _references(root: ElementTree.Element) -> Iterator[str]:
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "href" and value.startswith("#"):
                yield value[1:]
            else:
                yield from re.findall(r"url\(#([^)]+)\)", value)


def _rename(root: ElementTree.Element) -> None:
    """Ids that nothing refers to go; the others are numbered behind a hash of the figure."""
    used = dict.fromkeys(_references(root))
    digest = hashlib.sha256(ElementTree.tostring(root)).hexdigest()[:8]
    names = {old: f"h{digest}-{i}" for i, old in enumerate(used)}
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in names:
            element.set("id", names[name])
        for key, value in element.attrib.items():
            if key == "href" and value.startswith("#"):
                element.set(key, f"#{names[value[1:]]}")
            elif "url(#" in value:
                element.set(key, re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{names[m[1]]})", value))


def _unwrap(element: ElementTree.Element) -> None:
    """Groups that carry nothing but an unused id are replaced by their content."""
    used = set(_references(element))

    def visit(parent: ElementTree.Element) -> None:
        children: list[ElementTree.Element] = []
        for child in list(parent):
            visit(child)
            plain = child.tag == f"{{{SVG}}}g" and all(k == "id" and v not in used for k, v in child.attrib.items())
            children += list(child) if plain else [child]
        parent[:] = children

    visit(element)
