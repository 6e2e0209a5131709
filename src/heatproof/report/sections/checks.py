"""What was tested before anything was believed: the model, the metrics and the methods."""

from __future__ import annotations

from heatproof.report.facts import Told
from heatproof.report.parts import (
    Cell,
    Finding,
    Listing,
    Part,
    Picture,
    Section,
    Share,
    Table,
    counted,
    listed,
    plural,
    section,
    subject,
)
from heatproof.report.sections.slices import LINES, curve, sanity
from heatproof.results.ranking import TRUTH, VOICES
from heatproof.verdict.checks import LEAST, STILL, MetricCheck, ignorance


def checks(told: Told) -> Section | None:
    """Which metrics and methods passed their checks, and whether the model has learnt anything."""
    if not told.results.methods or not told.results.metrics:
        return None
    found = [*_model(told), *_metrics_say(told), *_methods_say(told)]
    lead = (
        "Before anything is believed it is tested itself: the model against copies of it with random weights, each "
        "metric with maps that are wrong on purpose, each method with maps that know nothing of the model."
    )
    parts: list[Part | None] = [Listing(tuple(found)), _metrics(told), _methods(told), _likeness(told), *_curves(told)]
    return section("checks", "Do the judges pass their own tests?", "Checks", lead, parts)


def _model(told: Told) -> list[Finding]:
    """Whether the model knows more than copies of it with random weights."""
    unknowing, hits = ignorance(told.results), told.results.about.get("hits")
    if unknowing:
        return [Finding("bad", f"The model cannot be said to have learnt anything: {unknowing}.")]
    if not hits:
        return []
    right = f"The model gets {hits['model']:,} of {plural(hits['samples'], 'sample')} right"
    copies = f"the best of {len(hits['twins'])} copies of it with random weights {max(hits['twins']):,}"
    return [Finding("good", f"{right}, {copies}.")]


def _metrics_say(told: Told) -> list[Finding]:
    """How many metrics count."""
    found = told.results.checks
    if not found:
        return [Finding("bad", "No metric that can tell which map is true was computed for every method.")]
    count = sum(check.counts for check in found)
    who = f"{subject(count, len(found), 'metric')} that can tell which map is true"
    if count == len(found):
        return [Finding("good", f"{who} pass their checks." if count > 1 else f"{found[0].metric} passes its checks.")]
    return [Finding("note" if count else "bad", f"{who} {'passes its' if count < 2 else 'pass their'} checks.")]


def _methods_say(told: Told) -> list[Finding]:
    """How many methods pass, and what was not tried."""
    found = told.verdict.methods
    good = [check.method for check in found if check.counts]
    said = []
    if any(check.passed or check.unmoved for check in found):
        verb = "passes" if len(good) < 2 else "pass"
        who = listed(good) if 0 < len(good) <= 3 else subject(len(good), len(found), "method")
        said.append(Finding("good" if good else "bad", f"{who} {verb} every check that was made of methods."))
    else:
        said.append(
            Finding(
                "note",
                "No sanity check was among the metrics, so nothing here shows that the maps depend on what the model "
                "has learnt; ``parameter-randomisation`` and ``random-logit`` would.",
            )
        )
    return said


def _metrics(told: Told) -> Table | None:
    """A row a metric: whether it counts, and why not."""
    results = told.results
    known = {check.metric: check for check in results.checks}
    rows = [_row(told, metric, known.get(metric)) for metric in results.metrics]
    noise = "Moved by noise"
    caption = (
        "Which metrics count. A metric has to tell some method's maps from random ones and from the same maps "
        f"inverted. {_ranking(told)}{noise}: how far a little noise on the input moves the score, as a share of "
        "the distance to a random map; beyond 100 % it would tell nothing."
    )
    heads = ("Metric", "Counts", "Told from random", "Told from inverted", noise, "Why")
    faint = frozenset(i for i, row in enumerate(rows) if row[1] == "no")
    return Table("metric-checks", caption, heads, tuple(rows), faint)


def _ranking(told: Told) -> str:
    """Which of the metrics that count rank the methods."""
    if len(told.results.ranked) == len(told.results.counting):
        return ""
    kinds = listed([*dict.fromkeys(told.results.family(m) for m in told.results.ranked)])
    return f"Those of {kinds} rank the methods; the others that count only check them. "


def _row(told: Told, metric: str, check: MetricCheck | None) -> tuple[Cell, ...]:
    results, count = told.results, len(told.results.methods)
    if check is None:
        voiced = results.family(metric) in VOICES
        why = "it was not computed for every method" if voiced else "cannot tell which map is true"
        return metric, "no", None, None, None, why
    counts = "yes" if check.counts else "no"
    why = check.reason or "passes"
    if check.counts and metric not in results.ranked:
        why += ", but does not rank"
    if results.family(metric) not in TRUTH:
        return metric, counts, None, None, None, why
    trials = results.trials
    tried = trials is not None and len(trials.rows) > LEAST and any(m == metric for _, m in trials.inverted)
    random = counted(len(check.beats_random), count) if any(c.startswith("random") for c in results.controls) else None
    inverted = counted(len(check.beats_inverted), count) if tried else None
    return metric, counts, random, inverted, Share(check.noise), why


def _methods(told: Told) -> Table:
    """A row a method: which controls it beats, which sanity checks it passes."""
    rows: list[tuple[Cell, ...]] = []
    made = any(check.passed or check.unmoved for check in told.verdict.methods)
    for check in sorted(told.verdict.methods, key=lambda c: told.everyone.index(c.method)):
        lost = listed(check.unbeaten) or ("none" if told.results.controls else "no control run")
        sanity = (listed(check.passed) or "none", listed(check.unmoved) or "none") if made else ()
        rows.append((check.method, "yes" if check.counts else "no", lost, *sanity))
    caption = (
        "Which methods count. A method has to beat every control by the metrics that count, under every baseline that "
        "was tried, and its maps have to change where the model or the explained class does."
    )
    sanity_heads = ("Sanity checks passed", "Sanity checks failed") if made else ()
    heads = ("Method", "Counts", "Not better than", *sanity_heads)
    faint = frozenset(i for i, row in enumerate(rows) if row[1] == "no")
    return Table("method-checks", caption, heads, tuple(rows), faint)


def _likeness(told: Told) -> Table | None:
    """How alike maps stay where they should change."""
    tried = {m: STILL[m.split(":")[0]] for m in told.results.metrics if m.split(":")[0] in STILL}
    if not tried:
        return None
    rows = tuple((name, *(told.estimates.get((name, m)) for m in tried)) for name in told.everyone)
    limits = listed([f"{limit} for {metric}" for metric, limit in tried.items()])
    caption = (
        f"How alike maps stay when they should change, 1 the same, with {told.level} intervals. A method fails where "
        f"the whole interval lies above {limits}. Controls know nothing of the model, so theirs stay."
    )
    faint = frozenset(range(len(told.results.methods), len(rows)))
    return Table("sanity", caption, ("Method", *tried), rows, faint, digits=2)


def _curves(told: Told) -> list[Picture]:
    """How alike maps stay while more and more layers have random weights."""
    known = [m for m in told.results.metrics if sanity(m) and any(metric == m for _, metric in told.results.curves)]
    shown = [name for name in told.everyone if name not in told.results.controls][:LINES]
    return [curve(told, metric, shown, folded=i > 0) for i, metric in enumerate(known)]
