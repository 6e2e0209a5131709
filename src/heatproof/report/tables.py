"""Tables for papers: Markdown, CSV and LaTeX, each with what is special in it escaped."""

from __future__ import annotations

import csv
import io
import re

from heatproof.phrases import SUPERSCRIPTS
from heatproof.records import Estimate
from heatproof.report.parts import Cell, Share, Table, text

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
    "–": "--",
    "−": "$-$",
    "…": r"\ldots{}",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "∞": r"$\infty$",
    "×": r"$\times$",
    "±": r"$\pm$",
}
_LATEX |= {chr(raised): f"$^{{{chr(plain)}}}$" for plain, raised in SUPERSCRIPTS.items()}


def markdown(table: Table) -> str:
    """The table in Markdown (GitHub's), its caption below."""
    head = [_marked(name) for name in table.columns]
    rule = ["---:" if right else "---" for right in table.numeric]
    rows = [[_marked(text(cell, table.digits)) for cell in row] for row in table.rows]
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
    return "\n".join([*lines, "", _marked(table.caption), ""])


def latex(table: Table) -> str:
    """The table in LaTeX, for the booktabs package."""
    align = "".join("r" if right else "l" for right in table.numeric)
    rows = [" & ".join(_tex(text(cell, table.digits)) for cell in row) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(table.caption)}}}",
            rf"\label{{tab:{re.sub('[^a-z0-9-]+', '-', table.name)}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            " & ".join(_tex(name) for name in table.columns) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def comma_separated(table: Table) -> str:
    """The table as CSV with all digits; an estimate takes three columns: mean, low, high."""
    wide = [any(isinstance(row[j], Estimate) for row in table.rows) for j in range(len(table.columns))]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head: list[str] = []
    for name, three in zip(table.columns, wide, strict=True):
        head += [name, f"{name} low", f"{name} high"] if three else [name]
    writer.writerow(head)
    for row in table.rows:
        line: list[object] = []
        for cell, three in zip(row, wide, strict=True):
            line += _three(cell) if three else [_raw(cell)]
        writer.writerow(line)
    return stream.getvalue()


def _three(cell: Cell) -> list[object]:
    if isinstance(cell, Estimate):
        return [cell.mean, cell.low, cell.high]
    return [_raw(cell), "", ""]


def _raw(cell: Cell) -> object:
    return "" if cell is None else cell.value if isinstance(cell, Share) else cell


def _marked(words: str) -> str:
    words = re.sub(r"``(.+?)``", r"\1", words)
    return re.sub(r"([\\`*_|<>\[\]#])", r"\\\1", words.replace("\n", " "))


def _tex(words: str) -> str:
    words = re.sub(r"``(.+?)``", r"\1", words)
    return "".join(_LATEX.get(letter, letter) for letter in words.replace("\n", " "))
