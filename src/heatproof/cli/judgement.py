"""A study on the terminal: the ranking, the best method by each metric, the verdict and its findings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.text import Text

from heatproof.cli.messages import out, place, say
from heatproof.cli.tables import estimate, fitting, table

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
    """The ranking, the best method by each metric, the verdict, and the findings beside it, most serious first."""
    results = judgement.results
    ranking(judgement)
    scores(results)
    for reason, metrics in _skipped(results).items():
        say(f"Skipped {', '.join(metrics)}: {reason}")
    out().print(Text(judgement.verdict.text, style="bold"), soft_wrap=True)
    statements = judgement.statements
    say(*(statement.text for statement in statements[:FINDINGS]))
    more = len(statements) - FINDINGS
    if more > 0:
        say(f"{more} more {'finding is' if more == 1 else 'findings are'} in the report.")
    data(results.about.get("data_about", {}))


def ranking(judgement: Judgement) -> None:
    """A row a method: its mean rank, its group, how often it leads, and which controls it is not better than."""
    columns = (
        "Place",
        "Method",
        "Mean rank",
        f"{judgement.level_text} interval",
        "Group",
        "Support",
        "Not better than",
    )
    title = (
        f"Ranking over {len(judgement.results):,} samples and {len(judgement.ranking_metrics)} metrics; "
        "methods that share a letter do not differ significantly"
    )
    rows = table(title, *columns, right=("Place", "Mean rank", "Support"))
    rows.columns[1].no_wrap = rows.columns[3].no_wrap = True
    for row in judgement.rows:
        controls = ", ".join(judgement.not_better_than[row.method]) or "-"
        support = f"{100 * row.support:.0f} %" if row.rank.n else "-"
        rows.add_row(str(row.place), escape(row.method), *estimate(row.rank, 2), row.letters, support, controls)
    out().print(rows)


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
    heads = ("Metric", "Better", "Best method", "Mean", "Best control", "Mean")
    out().print(fitting("The best method and the best control by each metric", heads, rows, right=("Mean",)))


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
