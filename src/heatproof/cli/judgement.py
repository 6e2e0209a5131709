"""A study on the terminal: scores by metric, the methods with their standing, the verdict and its findings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from heatproof.cli.messages import out, place, say
from heatproof.cli.tables import estimate, fitting

if TYPE_CHECKING:
    from heatproof.pipeline.run import Outcome
    from heatproof.results.record import Results
    from heatproof.verdict import Judgement

FINDINGS = 5  # that are shown; the others are in the report
REASONS = 4  # why cells were skipped


def outcome(finished: Outcome) -> None:
    """The short summary at the end of a run."""
    from heatproof.performance.wording import headline

    measured = finished.performance
    study(finished.judgement)
    say(f"Test set: {headline(measured.task, measured.intervals, len(measured))}.")
    place("Report", finished.report)


def study(judgement: Judgement) -> None:
    """The best method by each metric, the methods with their standing, the verdict, and the findings beside it."""
    results = judgement.results
    scores(results)
    for reason, metrics in _skipped(results).items():
        say(f"Skipped {', '.join(metrics)}: {reason}")
    methods(judgement)
    out().print(Text(judgement.verdict.text, style="bold"), soft_wrap=True)
    statements = judgement.statements
    say(*(statement.text for statement in statements[:FINDINGS]))
    more = len(statements) - FINDINGS
    if more > 0:
        say(f"{more} more {'finding is' if more == 1 else 'findings are'} in the report.")
    data(results.about.get("data_about", {}))


def methods(judgement: Judgement) -> None:
    """A row a method: its standing, its scores for both questions, and for which of them it is named."""
    checks = [check for check in judgement.verdict.by_score if check.overall.n]
    if not checks:
        return
    from heatproof.verdict import wording

    rows = []
    for check in checks:
        answers = [" ".join(estimate(score, 2)) if score.n else "-" for score in (check.where, check.how_much)]
        rows.append(
            [check.method, check.standing, *answers, wording.questions(judgement.verdict.named_for(check.method))]
        )
    title = (
        f"Methods on {len(judgement.results):,} samples: mean scores with {judgement.level_text} intervals; 0 is "
        "chance, 1 a perfect map"
    )
    heads = ("Method", "Standing", "Where", "How much", "Named for")
    out().print(fitting(title, heads, rows, right=("Where", "How much")))


def scores(results: Results) -> None:
    """A row a metric: the best method and the best control by it, with their mean scores."""
    estimates = results.estimates()
    rows = []
    for metric in results.metrics:
        row = [metric, results.better(metric)]
        for names in (results.methods, results.controls):
            means = {name: estimates[name, metric].mean for name in names if (name, metric) in estimates}
            defined = [name for name in means if not math.isnan(means[name])]
            best = sorted(defined, key=lambda name: means[name], reverse=results.better(metric) == "higher")[:1]
            row += [best[0], f"{means[best[0]]:.3f}"] if best else ["", ""]
        rows.append(row)
    heads = ("Metric", "Better", "Best method", "Mean", "Best reference", "Mean")
    out().print(fitting("The best method and the best reference map by each metric", heads, rows, right=("Mean",)))


def _skipped(results: Results) -> dict[str, list[str]]:
    """The metrics (or cells) that were not computed, by the reason."""
    everyone = len(results.methods) + len(results.controls)
    cells: dict[tuple[str, str], list[str]] = {}
    for skip in results.skips:
        cells.setdefault((skip.reason.removeprefix(f"{skip.metric}: "), skip.metric), []).append(skip.method)
    reasons: dict[str, list[str]] = {}
    for (reason, metric), methods in cells.items():
        whom = "" if len(methods) >= everyone else f" of {', '.join(methods[:3])}{' …' * (len(methods) > 3)}"
        reasons.setdefault(reason, []).append(metric + whom)
    if len(reasons) > REASONS:
        others = {"their reasons are in the report": [f"{len(reasons) - REASONS + 1} more groups of scores"]}
        return dict([*reasons.items()][: REASONS - 1]) | others
    return reasons


def data(about: Mapping[str, Any]) -> None:
    """Files that were skipped, and under which licence the data may be used."""
    bad = about.get("bad", {})
    for file, why in [*bad.items()][:3]:
        say(f"Skipped {file}: {why}")
    if len(bad) > 3:
        say(f"Skipped {len(bad) - 3} more files; the report lists them.")
    if "licence" in about:
        say(f"Data under {about['licence']}; please cite {about.get('citation', about.get('source', ''))}.")
