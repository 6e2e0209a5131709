"""Writes the pages that are made from the registries and the command line: methods.md, metrics.md, data.md, cli.md.

Run it with `make docs` after adding a method, a metric, a data set or an option; a test compares the pages. What each
metric can and cannot tell is written by hand, in metrics-what-they-tell.md; that it leaves none out is checked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from heatproof.cli import app, screen
from heatproof.pipeline import registry
from heatproof.registry import Entry

HERE = Path(__file__).parent
TOLD = "metrics-what-they-tell.md"
NOTE = "<!-- Made by docs/generate.py; change the docstrings, then run `make docs`. -->\n"
Row = Sequence[str]


def table(head: Row, rows: Iterable[Row]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def link(paper: str) -> str:
    """A paper's arXiv number or DOI as a link."""
    shown = screen.source(paper)
    kind, _, number = shown.partition(":")
    host = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}.get(kind)
    return f"[{shown}]({host}{number})" if host else shown


def row(entry: Entry, *extra: str) -> Row:
    """Name, summary, anything else, options, paper."""
    options = screen.options(entry)
    return (
        f"`{entry.name}`",
        entry.summary.replace("``", "`"),
        *extra,
        f"`{options}`" if options else "",
        link(entry.paper),
    )


def methods() -> str:
    """The page of attribution methods."""
    entries = [registry("methods")[name] for name in registry("methods")]
    head = ("Method", "What it is", "Options", "Source")
    families: dict[str, list[Entry]] = {}
    for entry in entries:
        title = "Controls" if entry.control else {"cam": "Class activation maps"}.get(entry.family, "Other methods")
        families.setdefault(title, []).append(entry)
    order = sorted(families, key=lambda title: (title == "Controls", title))
    parts = [f"## {title}\n\n{table(head, map(row, families[title]))}" for title in order]
    return (
        "# Attribution methods\n\nEvery method gives raw, signed maps (N, *S) for signals, images and volumes. Options "
        "are written after the name: `centre:width=0.5`. Controls know nothing of the model: they are what a real "
        "explanation has to beat, and are never ranked.\n\n" + "\n".join(parts)
    )


def metrics() -> str:
    """The page of metrics, a table a family."""
    entries = [registry("metrics")[name] for name in registry("metrics")]
    head = ("Metric", "What it is", "Better", "Range", "Needs", "Options", "Source")
    parts = []
    for family in dict.fromkeys(entry.family for entry in sorted(entries, key=lambda e: e.family)):
        rows = [row(e, e.better, span(e.range), ", ".join(e.needs)) for e in entries if e.family == family]
        parts.append(f"## {family.capitalize()}\n\n{table(head, rows)}")
    return (
        "# Metrics\n\nEvery metric gives one number a sample; NaN where it is undefined, which is counted and never "
        "averaged. *Needs*: `mask` is planted truth, `explain` the method itself (to explain other inputs), "
        "`probability` a probe whose score is a probability.\n\n" + "\n".join(parts)
    )


def span(ends: tuple[float | None, float | None]) -> str:
    """A range, open where an end is None."""
    low, high = ("" if end is None else f"{end:g}" for end in ends)
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else "any"


def data() -> str:
    """The page of data sets, fills, recipes and networks."""
    titles = {"data": "Data sets", "nets": "Networks", "recipes": "Training recipes", "fills": "Fills"}
    head = ("Name", "What it is", "Options", "Source")
    parts = [
        f"## {title}\n\n{table(head, [row(registry(kind)[name]) for name in registry(kind)])}"
        for kind, title in titles.items()
    ]
    return "# Data, networks, recipes and fills\n\n" + "\n".join(parts)


def cli() -> str:
    """The page of commands, from the command line's own help."""
    root: Any = typer.main.get_command(app)
    parts = []
    for name, command in commands(root, "heatproof"):
        text = " ".join((command.help or "").split())
        rows = [(option(p), " ".join((getattr(p, "help", "") or "").split()), default(p)) for p in command.params]
        example = (command.epilog or "").removeprefix("Example: ")
        parts.append(f"## {name}\n\n{text}\n\n    {example}\n\n{table(('Option', 'What it does', 'Default'), rows)}")
    return (
        "# Commands\n\nExit codes: 0, 1 where something failed, 2 where the call was wrong. Errors are one line on "
        "stderr; `--debug` adds the traceback.\n\n" + "\n".join(parts)
    )


def commands(group: Any, prefix: str) -> Iterable[tuple[str, Any]]:
    """Every command with its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def option(parameter: Any) -> str:
    """How an option or argument is typed."""
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    shown = ", ".join(o for o in parameter.opts)
    return f"`{shown} {parameter.metavar}`" if parameter.metavar else f"`{shown}`"


def default(parameter: Any) -> str:
    """The default, where there is one worth showing."""
    value = parameter.default
    return f"`{value}`" if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def untold(page: str) -> list[str]:
    """What is wrong with the hand-made page of metrics: each metric stands there once, under its family."""
    told: dict[str, list[str]] = {}
    family = ""
    for line in page.splitlines():
        family = line.removeprefix("## ").lower() if line.startswith("## ") else family
        if line.startswith("### "):
            told.setdefault(line.removeprefix("### ").strip("`"), []).append(family)
    known = {name: registry("metrics")[name].family for name in registry("metrics")}
    wrong = [f"{name}: no metric of that name" for name in told if name not in known]
    for name, home in known.items():
        found = told.get(name, [])
        if found != [home]:
            wrong.append(f"{name}: expected once, under {home}; found {', '.join(found) or 'nowhere'}")
    return wrong


PAGES = {"methods.md": methods, "metrics.md": metrics, "data.md": data, "cli.md": cli}


def main() -> None:
    """Write every page, and look whether the hand-made one tells of every metric."""
    for name, page in PAGES.items():
        (HERE / name).write_text(NOTE + page(), encoding="utf-8")
    wrong = untold((HERE / TOLD).read_text(encoding="utf-8"))
    if wrong:
        raise SystemExit(f"docs/{TOLD} needs a hand: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
