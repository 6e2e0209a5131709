"""Curves: a figure for each metric that is computed from one."""

from __future__ import annotations

from collections.abc import Sequence

from heatproof import plots
from heatproof.report import facts
from heatproof.report.content import Content
from heatproof.report.parts import Part, Picture, Section, compose
from heatproof.verdict.judgement import Judgement

LINES = 7  # methods in a figure of curves
OPEN = 4  # figures of curves that are shown without being opened


def section(content: Content) -> Section | None:
    """The curves of the best methods and of all controls, a figure a metric; sanity checks have theirs elsewhere."""
    judgement = content.judgement
    if judgement is None:
        return None
    results, count = judgement.results, len(judgement.results.methods)
    shown = [*judgement.everyone[:count][:LINES], *judgement.everyone[count:]]
    sanity = facts.sanity_checks(results)
    parts: list[Part | None] = []
    for metric in results.metrics:
        if metric not in sanity and any((name, metric) in results.curves for name in shown):
            parts.append(curve(judgement, metric, shown, folded=len(parts) >= OPEN))
    lead = (
        "Positions are removed (or put back) step by step in the order of their relevance, and the score is recorded. "
        "The difference between a method and a reference map is clear only where their bands do not overlap."
    )
    if count > LINES:
        lead += f" Of {count} methods the {LINES} best are drawn."
    return compose("curves", "Curves", "Curves", lead, parts)


def curve(judgement: Judgement, metric: str, shown: Sequence[str], *, folded: bool) -> Picture:
    """The curves of these methods by one metric."""
    results, declared = judgement.results, facts.metric_facts(judgement.results, metric)
    bands = {name: results.curves[name, metric] for name in shown if (name, metric) in results.curves}
    figure = plots.curves(
        next(iter(bands.values())).at,
        {name: band.values for name, band in bands.items()},
        controls=results.controls,
        xlabel=declared.axis,
        ylabel=declared.values,
    )
    good = "high" if results.better(metric) == "higher" else "low"
    caption = f"{metric}: line, the mean over samples; band, its 95 % interval. A good map has a {good} curve."
    if declared.must_change_with:
        caption += f" A map that barely changes does not depend on the model's {declared.must_change_with}."
    means = {name: judgement.estimates.get((name, metric)) for name in bands}
    ends = "; ".join(f"{name} {e.mean:.3f}" for name, e in means.items() if e is not None)
    stem = "".join(c if c.isalnum() else "-" for c in metric).strip("-")
    return Picture(
        f"curve-{stem}", caption, f"Curves of {metric}. Mean scores: {ends}", figure, folded, f"Curves of {metric}"
    )
