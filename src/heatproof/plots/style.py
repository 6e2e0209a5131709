"""How every figure looks: one palette, one ink, readable on white and on black, in colour and without.

Text and axes are drawn in `INK`, which an inline SVG turns into ``currentColor``; backgrounds stay transparent.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#1b1c1d"
FAINT = 0.3  # opacity of grids and secondary lines
BLUE, ORANGE, GREEN, PURPLE, GOLD, SKY, PINK = (
    "#2f83c5",
    "#d9622b",
    "#16997a",
    "#9467bd",
    "#c9961a",
    "#4fb3dc",
    "#d76fa4",
)
GREY = "#8c8c8c"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, GOLD, SKY, PINK)
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))
WIDTH = 7.2  # inches, the full text width of a page

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.4,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "heatproof",
    "pdf.fonttype": 42,
    "path.simplify_threshold": 0.3,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run under `STYLE`; the user's own settings return afterwards."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(STYLE)
            return function(*args, **kwargs)

    return run


class Page(Figure):
    """A figure that a notebook shows without pyplot."""

    @styled
    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=110, facecolor="white")
        return stream.getvalue()


def figure(width: float = WIDTH, height: float = 3.0) -> Figure:
    """An empty figure of the given size in inches that arranges its own margins."""
    return Page(figsize=(width, height), layout="constrained")


def page(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches whose margins are set by hand."""
    return Page(figsize=(width, height))


def line_style(index: int) -> dict[str, Any]:
    """Colour and dash of the index-th line; no two of the first 28 look alike."""
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index // len(PALETTE) % len(DASHES)]}


def bare(axes: Axes) -> None:
    """Remove ticks and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
