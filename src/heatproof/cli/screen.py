"""What the command line shows: tables and results on stdout; progress, notes and errors on stderr."""

from __future__ import annotations

import errno
import itertools
import math
import re
import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from torch import Tensor, nn

    from heatproof.performance import Performance
    from heatproof.pipeline import Compared, Outcome, Step, Watch
    from heatproof.records import Estimate
    from heatproof.registry import Entry, Registry
    from heatproof.report.facts import Told
    from heatproof.results.record import Results

_HEADS = {"methods": "Attribution methods", "metrics": "Metrics", "data": "Data sets"}
_HEADS |= {"recipes": "Training recipes", "nets": "Networks", "fills": "Fills for removed positions"}


def out() -> Console:
    """Standard output."""
    return Console(highlight=False)


def err() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False)


def error(line: str) -> None:
    """One red line on stderr."""
    err().print(Text(f"error: {line}", style="bold red"), soft_wrap=True)


def traceback() -> None:
    """The traceback of the error at hand."""
    err().print_exception(width=None, suppress=["typer"])


@contextmanager
def notes(*, debug: bool) -> Iterator[None]:
    """Heatproof's own warnings shown as one line each, and those of other packages only with ``debug``."""
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = str(message)
        if text in seen or not (debug or category.__module__.startswith("heatproof")):
            return
        seen.add(text)
        err().print(Text(f"note: {text}", style="yellow"), soft_wrap=True)

    with warnings.catch_warnings():
        if not debug and not sys.warnoptions:
            warnings.simplefilter("default")
        warnings.showwarning = show
        yield


def usage(error: Any) -> str:
    """What Typer says about a wrong call, and where to read more."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message[:1].lower()}{message[1:]}; see {context.command_path if context else 'heatproof'} --help"


def resume(words: Sequence[str]) -> str:
    """How to go on after an interrupt, where the command keeps what it has finished."""
    if words and words[0] in ("run", "train", "study"):
        return f"; go on with: {shlex.join(['heatproof', *words])}"
    return "; nothing was kept"


def disk(error: OSError) -> str:
    """A failed read or write in one line."""
    where = f" {error.filename!r}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left to write{where}; free some, then run the same command again"
    return f"cannot use{where or ' a file'}: {error.strerror or error}"


@contextmanager
def progress(*, quiet: bool) -> Iterator[Watch | None]:
    """A callback that draws a bar a stage, with rate and estimated time left; None where quiet."""
    if quiet:
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    live = Progress(*columns, console=err())
    try:
        yield _drawn(live)
    finally:
        live.stop()


def _drawn(live: Any) -> Callable[[Step], None]:
    lines: dict[str, Any] = {}

    def watch(step: Step) -> None:
        live.start()  # not before there is something to show: training draws a bar of its own
        if step.stage not in lines:
            lines[step.stage] = live.add_task(step.stage, total=step.total, rate="", note="")
        line = lines[step.stage]
        live.update(line, completed=step.done, total=step.total, note=step.note)
        task = next(t for t in live.tasks if t.id == line)
        speed = task.finished_speed or task.speed
        live.update(line, rate=f"{speed:,.0f} {step.unit}/s" if speed else "")

    return watch


def table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table in the house style; the columns named in ``right`` hold numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", pad_edge=False, box=None)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=name in right)
    return made


def catalogue(kind: str, registry: Registry) -> Table:
    """A row an entry: its name, what it is, its options with their defaults, and its source."""
    made = table(f"{_HEADS[kind]} ({len(registry)})", "Name", "What it is; options and their defaults; source")
    made.columns[0].no_wrap = True
    for entry in (registry[name] for name in registry):
        details = "; ".join(part for part in (options(entry), source(entry.paper)) if part)
        about = Text.assemble(_what(entry), ("\n" + details if details else "", "dim"))
        made.add_row(Text(entry.name, style="cyan"), about)
    return made


def _what(entry: Entry) -> str:
    facts = entry.facts
    marks = ["control"] if facts.get("control") else []
    marks += [facts["family"]] if "better" in facts else []
    marks += [f"better {facts['better']}"] if "better" in facts else []
    return entry.summary.replace("``", "") + (f" ({', '.join(marks)})" if marks else "")


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
    """The network's layers, and what its training led to."""
    from heatproof.models.card import card_of
    from heatproof.nets import summary

    card = card_of(model)
    if card is None:
        return
    say(str(summary(model, [size or 1 for size in card.input_shape])))
    made = table("Training", "Number", "Value", right=["Value"])
    for key, value in card.metrics.items():
        made.add_row(_spoken(key), f"{value:.4g}")
    out().print(made)


def performance(found: Performance) -> None:
    """The classifier's single numbers, one row a class, and the findings."""
    columns = ("Number", "Value", "95 % interval")
    made = table(f"Classifier on {len(found)} samples of {found.name}", *columns, right=columns[1:])
    for key, interval in found.intervals.items():
        made.add_row(_spoken(key), *_estimate(interval))
    out().print(made)
    rows = ("accuracy", "precision", "f1", "auc")
    made = table("Class by class", "Class", "Samples", *map(_spoken, rows), right=["Samples", *map(_spoken, rows)])
    for k, name in enumerate(found.classes):
        numbers = (_number(found.class_intervals[row][k].mean) for row in rows)
        made.add_row(escape(name), str(found.support[k]), *numbers)
    out().print(made)
    say(*found.findings)


def maps(found: Mapping[str, Tensor]) -> None:
    """A row a method: how many maps, of which size, and their range."""
    made = table(
        "Maps", "Method", "Maps", "Size", "Least", "Mean", "Largest", right=["Maps", "Least", "Mean", "Largest"]
    )
    for name, tensor in found.items():
        size = " x ".join(map(str, tensor.shape[1:]))
        row = (f"{float(n):.3g}" for n in (tensor.min(), tensor.mean(), tensor.max()))
        made.add_row(escape(name), str(len(tensor)), size, *row)
    out().print(made)


def _spoken(key: str) -> str:
    words = key.replace("_", " ")
    for short in ("auc", "ece", "f1"):
        words = re.sub(rf"\b{short}\b", short.upper(), words)
    return words[:1].upper() + words[1:]


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _estimate(found: Estimate, digits: int = 3) -> tuple[str, str]:
    known = math.isfinite(found.low) and math.isfinite(found.high)
    return _number(found.mean, digits), f"{found.low:.{digits}f} to {found.high:.{digits}f}" if known else "-"


def outcome(found: Outcome) -> None:
    """The short summary at the end of a run."""
    accuracy, count = found.performance.intervals["accuracy"], len(found.performance)
    results(found.results, *found.others)
    ends = f" ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})" if math.isfinite(accuracy.low) else ""
    say(f"{100 * accuracy.mean:.1f} %{ends} of {count:,} samples are classified rightly.")
    place("Report", found.report)


def results(found: Results, *others: Results) -> None:
    """Where every method stands over all metrics that count, the best by each metric, and what it comes to."""
    from heatproof.report.facts import Told

    told = Told(found, others)
    ranking(told)
    scores(found)
    for reason, metrics in _skipped(found).items():
        say(f"Skipped {', '.join(metrics)}: {reason}")
    if others:
        say(told.dependence.text)
    out().print(Text(told.verdict.text, style="bold"), soft_wrap=True)
    say(*told.verdict.findings[:5])
    if len(told.verdict.findings) > 5:
        say(f"So it goes on for {len(told.verdict.findings) - 5} more; the report has them all.")
    data(found.about.get("data_about", {}))


def ranking(told: Told) -> None:
    """A row a method: its mean rank, who it is tied with, how often it leads, and which controls it does not beat."""
    basis = f"{len(told.results):,} samples and {len(told.results.ranked)} metrics"
    columns = ("Place", "Method", "Mean rank", "95 % interval", "Group", "First in", "Not better than")
    made = table(
        f"Ranking over {basis}; who shares a letter is tied", *columns, right=("Place", "Mean rank", "First in")
    )
    made.columns[1].no_wrap = made.columns[3].no_wrap = True
    for row in told.rows:
        lost = ", ".join(told.unbeaten[row.method]) or "-"
        share = f"{100 * row.share:.0f} %" if row.rank.n else "-"
        made.add_row(str(row.place), escape(row.method), *_estimate(row.rank, 2), row.letters, share, lost)
    out().print(made)


def _skipped(found: Results, most: int = 4) -> dict[str, list[str]]:
    """The metrics (or cells) that were not computed, by the reason."""
    everyone = len(found.methods) + len(found.controls)
    cells: dict[tuple[str, str], list[str]] = {}
    for skip in found.skips:
        cells.setdefault((skip.reason.removeprefix(f"{skip.metric}: "), skip.metric), []).append(skip.method)
    reasons: dict[str, list[str]] = {}
    for (reason, metric), methods in cells.items():
        whom = "" if len(methods) >= everyone else f" of {', '.join(methods[:3])}{' …' * (len(methods) > 3)}"
        reasons.setdefault(reason, []).append(metric + whom)
    if len(reasons) > most:
        rest = {"the reasons are in the report": [f"{len(reasons) - most + 1} more kinds"]}
        return dict([*reasons.items()][: most - 1]) | rest
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


def scores(found: Results) -> None:
    """A row a metric: the best method and the best control by it, with their mean scores."""
    estimates = found.estimates()
    rows = []
    for metric in found.metrics:
        row = [metric, found.better(metric)]
        for names in (found.methods, found.controls):
            known = {name: estimates[name, metric].mean for name in names if (name, metric) in estimates}
            defined = [name for name in known if not math.isnan(known[name])]
            best = sorted(defined, key=lambda name: known[name], reverse=found.better(metric) == "higher")[:1]
            row += [best[0], f"{known[best[0]]:.3f}"] if best else ["", ""]
        rows.append(row)
    heads = ("Metric", "Better", "Best method", "Mean", "Best control", "Mean")
    out().print(_fitting("The best method and the best control by each metric", heads, rows, right=("Mean",)))


def _fitting(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A table in which, where it is wider than the terminal, names in the first column break before their options."""
    console = out()

    def filled(between: str) -> Table:
        made = table(title, *heads, right=right)
        for first, *rest in rows:
            made.add_row(escape(first.replace(":", between)), *map(escape, rest))
        return made

    made = filled(":")
    fits = Measurement.get(console, console.options.update(max_width=1000), made).maximum <= console.width
    return made if fits else filled("\n  :")


def comparison(runs: Sequence[Compared]) -> None:
    """Runs as columns: the classifiers' numbers, then by each metric the methods that more than one of them has."""
    keys, names = dict.fromkeys(key for run in runs for key in run.numbers), [run.name for run in runs]
    rows = [[_spoken(key), *(_or_nothing(run.numbers.get(key)) for run in runs)] for key in keys]
    out().print(_fitting("Classifiers, with 95 % intervals", ("Number", *names), rows))
    found = [run.results.estimates() for run in runs]
    shared = [cell for cell, count in Counter(itertools.chain(*found)).items() if count > 1]
    rows = []
    for metric in dict.fromkeys(metric for _, metric in sorted(shared, key=lambda cell: cell[1])):
        better = next(run.results.better(metric) for run in runs if metric in run.results.metrics)
        rows.append([f"{metric} ({better} is better)", *("" for _ in runs)])
        for method in (method for method, name in shared if name == metric):
            rows.append([f"  {method}", *(_or_nothing(estimates.get((method, metric))) for estimates in found)])
    out().print(_fitting("Explanations: mean scores with their intervals", ("Metric and method", *names), rows))


def _or_nothing(found: Estimate | None) -> str:
    return "" if found is None else str(found) if math.isfinite(found.mean) else "-"


def say(*lines: str) -> None:
    """Plain lines on stdout, as long as they are."""
    for line in lines:
        out().print(Text(line), soft_wrap=True)


def place(what: str, path: Path) -> None:
    """Where something lies."""
    out().print(Text.assemble((f"{what} ", "bold"), str(path)), soft_wrap=True)
