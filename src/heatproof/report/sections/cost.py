"""What the study cost: passes through the model, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heatproof import plots
from heatproof.report.parts import Cell, Picture, Section, Share, Table, plural, section
from heatproof.results.record import Results

KINDS = {
    "forward": "Forward passes",
    "backward": "Gradients (a pass forward and one back)",
    "tail": "Passes through the layers behind the explained one",
}
SHOWN = 16  # bars


def cost(results: Results | None) -> Section | None:
    """The passes by kind, and the seconds by method and metric where they were taken."""
    if results is None or not len(results):
        return None
    seconds = _seconds(results.about)
    lead = ""
    if seconds:
        total = sum(seconds.values())
        lead = f"Explaining and judging took {_long(total)}, {_long(total / len(results))} a sample."
    return section("cost", "What it cost", "Cost", lead, [_passes(results), _bars(seconds), _times(seconds)])


def _seconds(about: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Seconds by (kind, name), the longest first; empty where they were not taken."""
    found: dict[tuple[str, str], float] = {}
    taken = about.get("seconds")
    for kind, spent in taken.items() if isinstance(taken, Mapping) else ():
        if isinstance(spent, Mapping):
            found |= {(str(kind).removesuffix("s"), str(name)): float(s) for name, s in spent.items()}
        elif isinstance(spent, (int, float)):
            found["check", "all checks of metrics"] = float(spent)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _passes(results: Results) -> Table | None:
    passes = {str(kind): int(count) for kind, count in results.about.get("passes", {}).items() if count}
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (KINDS.get(kind, kind.capitalize()), count, count / len(results)) for kind, count in passes.items()
    )
    cells = (len(results.methods) + len(results.controls)) * len(results.metrics)
    caption = (
        f"Inputs that went through the model, for {plural(len(results), 'sample')}, "
        f"{plural(cells, 'combination')} of map and metric, and the checks."
    )
    return Table("passes", caption, ("Kind", "Inputs", "A sample"), rows, digits=1) if rows else None


def _bars(seconds: Mapping[tuple[str, str], float]) -> Picture | None:
    if not any(seconds.values()):
        return None
    shown = dict([*seconds.items()][:SHOWN])
    caption = "Where the time went: methods (blue), metrics (orange), checks (grey)."
    if len(shown) < len(seconds):
        caption += f" Only the {SHOWN} longest of {len(seconds)} are drawn."
    label = "Seconds: " + ", ".join(f"{name} {s:.2f}" for (_, name), s in [*shown.items()][:5])
    return Picture("seconds", caption, label, plots.times([(kind, name, s) for (kind, name), s in shown.items()]))


def _times(seconds: Mapping[tuple[str, str], float]) -> Table | None:
    total = sum(seconds.values())
    if not total:
        return None
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, kind, s, Share(s / total, 1)) for (kind, name), s in seconds.items()
    )
    caption = (
        "Wall-clock time. What several methods or metrics share is counted once: for CAMs in equal parts, for metrics "
        "where it was first asked for."
    )
    return Table("seconds", caption, ("Name", "Kind", "Seconds", "Share"), rows, folded=True)


def _long(seconds: float) -> str:
    """A time in words.

    >>> _long(0.0123), _long(4.26), _long(312.0)
    ('12 ms', '4.3 s', '5.2 min')
    """
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else "less than 1 ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
