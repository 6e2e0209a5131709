"""Several runs on the terminal: what differs, the classifiers, the scores, and tests on the same samples."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from heatproof.cli.messages import out, say
from heatproof.cli.tables import cell, estimate, fitting, spoken

if TYPE_CHECKING:
    from heatproof.pipeline.comparison import Comparison, Paired


def show(compared: Comparison) -> None:
    """Runs as columns: what differs, the classifiers' numbers, each method's scores; then paired tests."""
    runs = compared.runs
    names = [run.name for run in runs]
    rows = [[key, *values] for key, values in compared.differing.items()]
    if rows:
        out().print(fitting("What differs between the runs", ("Setting", *names), rows))
    else:
        say("The runs have the same settings.")
    keys = dict.fromkeys(key for run in runs for key in run.numbers)
    rows = [[spoken(key), *(cell(run.numbers.get(key)) for run in runs)] for key in keys]
    if rows:
        out().print(fitting("Classifiers, with 95 % intervals", ("Number", *names), rows))
    _scores(compared)
    for first, second in compared.unpaired:
        say(f"{first} and {second} judged different samples: their scores cannot be paired, compare the intervals.")
    for pair in dict.fromkeys((test.first, test.second) for test in compared.paired):
        _tests(pair, [test for test in compared.paired if (test.first, test.second) == pair], len(compared.paired))


def _scores(compared: Comparison) -> None:
    """By each metric the methods that more than one run has, with their mean scores."""
    runs = compared.runs
    estimates = [run.results.estimates() for run in runs]
    shared = [pair for pair, count in Counter(itertools.chain(*estimates)).items() if count > 1]
    rows = []
    for metric in dict.fromkeys(metric for _, metric in sorted(shared, key=lambda pair: pair[1])):
        better = next(run.results.better(metric) for run in runs if metric in run.results.metrics)
        rows.append([f"{metric} ({better} is better)", *("" for _ in runs)])
        methods = [method for method, name in shared if name == metric]
        rows += [[f"  {method}", *(cell(means.get((method, metric))) for means in estimates)] for method in methods]
    if rows:
        title = "Explanations: mean scores with their intervals"
        out().print(fitting(title, ("Metric and method", *(run.name for run in runs)), rows))
    else:
        say("The runs share no method and metric.")


def _tests(pair: tuple[str, str], tests: list[Paired], count: int) -> None:
    """The paired differences of two runs."""
    first, second = pair
    rows = [[test.metric, test.method, *estimate(test.difference), f"{test.p:.2g}"] for test in tests]
    heads = ("Metric", "Method", "Difference", "Interval", "p")
    title = f"{second} less {first} on the same samples"
    out().print(fitting(title, heads, rows, right=("Difference", "Interval", "p")))
    say(f"p: Wilcoxon's signed-rank test, adjusted by Holm's rule for the {count} comparisons shown.")
