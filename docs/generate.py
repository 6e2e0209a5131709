"""Writes the pages that are made from the registries and the command line: methods.md, metrics.md, data.md, cli.md.

Run it with `make docs` after adding a method, a metric, a data set or an option; a test compares the pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from heatproof import methods as attribution
from heatproof import metrics as judging
from heatproof.cli import app, tables
from heatproof.data.catalogue import datasets
from heatproof.fills import fills
from heatproof.metrics import MetricEntry
from heatproof.nets.catalogue import nets
from heatproof.registry import Entry, Registry
from heatproof.training.recipes import recipes

HERE = Path(__file__).parent
NOTE = "<!-- Made by docs/generate.py; change the docstrings, then run `make docs`. -->\n"
Row = Sequence[str]


def table(head: Row, rows: Iterable[Row]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def link(paper: str) -> str:
    """A paper's arXiv number or DOI as a link."""
    shown = tables.source(paper)
    kind, _, number = shown.partition(":")
    host = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}.get(kind)
    return f"[{shown}]({host}{number})" if host else shown


def row(entry: Entry, *extra: str) -> Row:
    """Name, summary, anything else, options, paper."""
    options = tables.options(entry)
    return (
        f"`{entry.name}`",
        plain(entry.summary),
        *extra,
        f"`{options}`" if options else "",
        link(entry.paper),
    )


def plain(text: str) -> str:
    """The text of a docstring, as Markdown."""
    return text.replace("``", "`")


def methods() -> str:
    """The page of attribution methods."""
    entries = [attribution.methods[name] for name in attribution.methods]
    head = ("Method", "What it is", "Range", "Needs", "Scale of the logits", "Options", "Source")
    titles = {"cam": "Class activation maps", "method": "Other methods"}
    parts = []
    for family, title in titles.items():
        rows = [
            row(e, span(e.range), ", ".join(e.needs), "matters" if e.scaled else "")
            for e in entries
            if e.family == family and not e.control
        ]
        parts.append(f"## {title}\n\n{table(head, rows)}")
    controls = [
        row(e, e.description, "yes" if e.by_default else "on request", span(e.range)) for e in entries if e.control
    ]
    parts.append(
        "## Controls\n\nA control ignores the model. A method is eligible only where it scores significantly better; "
        "a control itself is never ranked.\n\n"
        + table(("Control", "What it is", "In a sentence", "In every study", "Range", "Options", "Source"), controls)
    )
    return (
        "# Attribution methods\n\nEvery method gives raw, signed maps (N, *S) for signals, images and volumes. Options "
        "are written after the name: `centre:width=0.5`. Names are understood in other spellings too: `GradCAM`, "
        "`grad_cam`, `Grad-CAM++`. *Needs*: `layer` is a layer with positions, `gradient` a backward pass, `attention` "
        "a model with global attention.\n\nMethods that compare scores have the option `score`: the `margin` (the "
        "logit of a class less the largest other one; the logit of a label; the output of a regression), the "
        "`probability` or the `logit`. `occlusion:score=probability` compares what its paper does. *Scale of the "
        "logits*: where it matters, logits multiplied by a factor (a temperature) give a map that marks other "
        "positions, by the method's definition. The maps of all other methods keep their order; those that compare "
        "scores do so with the margin.\n\n" + "\n".join(parts)
    )


def metrics() -> str:
    """The page of metrics: a table a family, and of each metric what it can and cannot tell."""
    head = ("Metric", "What it is", "Better", "Range", "Unit", "Needs", "Options", "Source")
    parts = []
    for family in judging.families.declared:
        entries = [judging.metrics[name] for name in judging.names(family=family.name)]
        rows = [row(e, e.better, span(e.range), e.unit, ", ".join(e.needs)) for e in entries]
        about = "\n".join(map(what_it_tells, entries))
        parts.append(f"## {family.name.capitalize()}\n\n{plain(family.summary)}\n\n{table(head, rows)}\n{about}")
    return (
        "# Metrics\n\nEvery metric gives one number a sample; NaN where it is undefined, which is counted and never "
        "averaged. *Needs*: `mask` is planted truth, `explain` the method itself (to explain other inputs), "
        "`relearnt` a model trained on shuffled labels, `retrained` models trained from other seeds, `probability` a "
        "probe whose score is a probability, `class` a class or label, `donors` other samples of the data. How the metrics are weighed is written in [verdict.md](verdict.md).\n\n"
        + "\n".join(parts)
    )


def what_it_tells(entry: MetricEntry) -> str:
    """What a metric can and cannot tell, and what to mind."""
    lines = (("Tells", entry.tells), ("Cannot tell", entry.cannot), ("Mind", entry.mind))
    check = ""
    if entry.must_change_with is not None:
        other = {"parameters": "random weights", "labels": "shuffled labels", "class": "another class"}
        check = (
            "- **Sanity check:** a method fails where the whole interval of the similarity to its map with "
            f"{other[entry.must_change_with]} lies above {entry.unchanged_above:g}.\n"
        )
    return f"### `{entry.name}`\n\n" + "".join(f"- **{head}:** {plain(text)}\n" for head, text in lines) + check


def span(ends: tuple[float | None, float | None]) -> str:
    """A range, open where an end is None."""
    low, high = ("" if end is None else f"{end:g}" for end in ends)
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else "any"


def data() -> str:
    """The page of data sets, fills, recipes and networks."""
    titles: dict[str, Registry[Any]] = {
        "Data sets": datasets,
        "Networks": nets,
        "Training recipes": recipes,
        "Fills": fills,
    }
    head = ("Name", "What it is", "Options", "Source")
    parts = [f"## {title}\n\n{table(head, [row(reg[name]) for name in reg])}" for title, reg in titles.items()]
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
        "stderr; `--debug` adds the traceback.\n\n`run` and `study` take their options from the command line, from a "
        "YAML file (`--config`), or from both; command-line values take precedence. `--write-config FILE` writes the "
        "options in force to such a file and stops:\n\n    heatproof run --methods grad-cam,ablation-cam --seed 1 "
        "--write-config first.yaml\n    heatproof run --config first.yaml --seed 2\n\n" + "\n".join(parts)
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
    shown = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return f"`{shown} {parameter.metavar}`" if parameter.metavar else f"`{shown}`"


def default(parameter: Any) -> str:
    """The default, where there is one worth showing."""
    shown = getattr(parameter, "show_default", False)
    value = shown if isinstance(shown, str) else parameter.default
    return f"`{value}`" if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


PAGES = {"methods.md": methods, "metrics.md": metrics, "data.md": data, "cli.md": cli}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (HERE / name).write_text(NOTE + page(), encoding="utf-8")


if __name__ == "__main__":
    main()
