"""Tables on the terminal: their style, the entries of a registry, and what is known of a classifier and its maps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from heatproof.cli.messages import out, say

if TYPE_CHECKING:
    from torch import Tensor, nn

    from heatproof.performance import Assessment, LabelPerformance, Performance
    from heatproof.records import Estimate
    from heatproof.registry import Entry, Registry

_HEADS = {"methods": "Attribution methods", "metrics": "Metrics", "data": "Data sets"}
_HEADS |= {"recipes": "Training recipes", "nets": "Networks", "fills": "Fills for removed positions"}


def table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table in the house style; the columns named in ``right`` hold numbers."""
    empty = Table(title=title, title_justify="left", title_style="bold", header_style="bold", pad_edge=False, box=None)
    for name in columns:
        empty.add_column(name, justify="right" if name in right else "left", no_wrap=name in right)
    return empty


def fitting(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A table in which, where it is wider than the terminal, names in the first column break before their options."""
    console = out()

    def filled(between: str) -> Table:
        full = table(title, *heads, right=right)
        for first, *rest in rows:
            full.add_row(escape(first.replace(":", between)), *map(escape, rest))
        return full

    wide = filled(":")
    fits = Measurement.get(console, console.options.update(max_width=1000), wide).maximum <= console.width
    return wide if fits else filled("\n  :")


def catalogue(kind: str, registry: Registry[Any]) -> Table:
    """A row an entry: its name, what it is, its options with their defaults, and its source."""
    title = f"{_HEADS.get(kind, kind.capitalize())} ({len(registry)})"
    rows = table(title, "Name", "What it is; options and their defaults; source")
    rows.columns[0].no_wrap = True
    for entry in (registry[name] for name in registry):
        details = "; ".join(part for part in (options(entry), source(entry.paper)) if part)
        about = Text.assemble(_what(entry), ("\n" + details if details else "", "dim"))
        rows.add_row(Text(entry.name, style="cyan"), about)
    return rows


def _what(entry: Entry) -> str:
    return entry.summary.replace("``", "") + (f" ({', '.join(entry.marks)})" if entry.marks else "")


def options(entry: Entry) -> str:
    """The options with their defaults, as they are typed."""
    return ", ".join(f"{key}={_typed(value)}" for key, value in entry.options.items())


def _typed(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def source(paper: str) -> str:
    """Where a method comes from: an arXiv number or a DOI, marked as such."""
    if not paper or ":" in paper or " " in paper:
        return paper
    return f"doi:{paper}" if paper.startswith("10.") else f"arXiv:{paper}"


def trained(model: nn.Module) -> None:
    """The network's layers, and the numbers of its training."""
    from heatproof.models.card import card_of
    from heatproof.nets import summary

    card = card_of(model)
    if card is None:
        return
    say(str(summary(model, [size or 1 for size in card.input_shape])))
    rows = table("Training", "Number", "Value", right=["Value"])
    for key, value in card.metrics.items():
        rows.add_row(spoken(key), f"{value:.4g}")
    out().print(rows)


def performance(measured: Assessment) -> None:
    """The model's single numbers, one row a class or label, and the findings."""
    from heatproof.performance import LabelPerformance, Performance
    from heatproof.performance.wording import sentence

    columns = ("Number", "Value", "95 % interval")
    model = "Model" if measured.task == "regression" else "Classifier"
    rows = table(f"{model} on {len(measured):,} samples of {measured.name}", *columns, right=columns[1:])
    for key, interval in measured.intervals.items():
        rows.add_row(spoken(key), *estimate(interval))
    out().print(rows)
    if isinstance(measured, (Performance, LabelPerformance)):
        out().print(_classwise(measured))
    say(*map(sentence, measured.findings))


def _classwise(measured: Performance | LabelPerformance) -> Table:
    """A row a class or label."""
    heads = ["Class by class", "Class", "Samples"]
    keys = ["accuracy", "precision", "f1", "auc"]
    if measured.task == "labels":
        heads = ["Label by label", "Label", "Positive"]
        keys = ["auc", "average_precision", "precision", "recall", "f1"]
    title, *columns = *heads, *map(spoken, keys)
    rows = table(title, *columns, right=columns[1:])
    for k, name in enumerate(measured.classes):
        numbers = (number(measured.class_intervals[key][k].mean) for key in keys)
        rows.add_row(escape(name), str(measured.support[k]), *numbers)
    return rows


def maps(tensors: Mapping[str, Tensor]) -> None:
    """A row a method: how many maps, of which size, and their range."""
    numbers = ["Maps", "Minimum", "Mean", "Maximum"]
    rows = table("Maps", "Method", "Maps", "Size", *numbers[1:], right=numbers)
    for name, tensor in tensors.items():
        size = " x ".join(map(str, tensor.shape[1:]))
        ends = (f"{float(n):.3g}" for n in (tensor.min(), tensor.mean(), tensor.max()))
        rows.add_row(escape(name), str(len(tensor)), size, *ends)
    out().print(rows)


def spoken(key: str) -> str:
    """The name of a number as it heads a column."""
    words = key.replace("_", " ")
    for short in ("auc", "ece", "f1", "r2", "mae", "rmse"):
        words = re.sub(rf"\b{short}\b", short.upper(), words)
    return words[:1].upper() + words[1:]


def number(value: float, digits: int = 3) -> str:
    """A number, or a dash where it is undefined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def estimate(value: Estimate, digits: int = 3) -> tuple[str, str]:
    """A mean and its interval, each in a cell."""
    defined = math.isfinite(value.low) and math.isfinite(value.high)
    return number(value.mean, digits), f"{value.low:.{digits}f} to {value.high:.{digits}f}" if defined else "-"


def cell(value: Estimate | None) -> str:
    """A mean with its interval in one cell; empty where there is none."""
    return "" if value is None else str(value) if math.isfinite(value.mean) else "-"
