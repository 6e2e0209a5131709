"""Execution time: seconds by method and metric, and passes through the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heatproof import plots
from heatproof.phrases import plural
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Picture, Section, Share, Table, compose
from heatproof.results.record import Results

PASSES = {
    "forward": "Forward passes",
    "backward": "Gradients (a forward and a backward pass)",
    "tail": "Passes through the layers behind the explained one",
}
STEPS = {"methods": "method", "metrics": "metric", "self_checks": "self-check"}
BARS = 16


def section(content: Content) -> Section | None:
    """The passes by kind, and the seconds by method and metric where they were taken."""
    results = content.results
    if results is None or not len(results):
        return None
    seconds = _seconds(results.about)
    lead = ""
    if seconds:
        total = sum(seconds.values())
        lead = f"The study took {_duration(total)}, {_duration(total / len(results))} a sample."
    return compose("cost", "Execution time", "Time", lead, [_passes(results), _bars(seconds), _table(seconds)])


def _seconds(about: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Seconds by (step, name), the longest first; empty where they were not taken."""
    seconds: dict[tuple[str, str], float] = {}
    taken = about.get("seconds", {})
    for key, step in STEPS.items():
        spent = taken.get(key, {})
        if isinstance(spent, Mapping):
            seconds |= {(step, str(name)): float(s) for name, s in spent.items()}
        else:
            seconds[step, "all self-checks"] = float(spent)
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _passes(results: Results) -> Table | None:
    passes = {str(name): int(count) for name, count in results.about.get("passes", {}).items() if count}
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (PASSES.get(name, name.capitalize()), count, count / len(results)) for name, count in passes.items()
    )
    cells = (len(results.methods) + len(results.controls)) * len(results.metrics)
    caption = (
        f"Inputs passed through the model for {plural(len(results), 'sample')}, "
        f"{plural(cells, 'combination')} of method and metric, and the self-checks."
    )
    return Table("passes", caption, ("Passes", "Inputs", "Per sample"), rows, digits=1) if rows else None


def _bars(seconds: Mapping[tuple[str, str], float]) -> Picture | None:
    if not any(seconds.values()):
        return None
    shown = dict([*seconds.items()][:BARS])
    caption = "Seconds by method (blue), metric (orange) and self-check (grey)."
    if len(shown) < len(seconds):
        caption += f" Only the {BARS} longest of {len(seconds)} are drawn."
    label = "Seconds: " + ", ".join(f"{name} {s:.2f}" for (_, name), s in [*shown.items()][:5])
    return Picture("seconds", caption, label, plots.times([(step, name, s) for (step, name), s in shown.items()]))


def _table(seconds: Mapping[tuple[str, str], float]) -> Table | None:
    total = sum(seconds.values())
    if not total:
        return None
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, step, s, Share(s / total, 1)) for (step, name), s in seconds.items()
    )
    caption = (
        "Wall-clock time. What several methods or metrics share is counted once: for CAMs in equal parts, for metrics "
        "where it was first needed."
    )
    short = "Wall-clock time by method, metric and self-check"
    return Table("seconds", caption, ("Name", "Step", "Seconds", "Share"), rows, folded=True, short=short)


def _duration(seconds: float) -> str:
    """A time in words.

    >>> _duration(0.0123), _duration(4.26), _duration(312.0)
    ('12 ms', '4.3 s', '5.2 min')
    """
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else "less than 1 ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
