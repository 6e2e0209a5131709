"""Tables of trials as Markdown, with the shares that are required."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from benchmarks.bed.tasks import TASKS
from benchmarks.bed.trials import QUESTIONS, Record

from heatproof import stats

PAGE = Path(__file__).parents[2] / "docs" / "verdict-trials.md"
COMMAND = "python -m benchmarks.bed trials --write"
RIGHT = {"where": 0.80, "how_much": 0.85}
NAMED = 0.95
TITLES = {"where": "where", "how_much": "how much"}
INTRODUCTION = """# Trials of the verdict

In each trial a small network is trained on a planted task, and the verdict is computed without the masks
([verdict.md](verdict.md)). Two truths are computed beside it, for the same samples and methods.

- **Where**: the mean of pointing, mass share, rank share and average precision in the planted mask, each as
  (v - a) / (1 - a), a the area of the mask.
- **How much**: the correlation, over eight irregular cells of the input, of the map's mean in a cell with the exact
  Shapley value of the cell for the margin, a position. Cells that are absent show a sample that is predicted otherwise.

A method is right for a question if its truth is within 0.05 of the best method's. A verdict is *right* if every method
that it names is right, *wrong* if one is not, and *silent* if it names none, as no method is shown to be best or the
question is not asked. No listed task and no listed seed was used to develop the rule: tasks whose results were
looked at while the rule could still be changed became tasks of the design, and are not listed. Networks whose test
accuracy is less than 80 % of the way from chance to 1 are dropped, and listed as dropped. Candidates are eleven real
methods, nine fakes and two copies with noise."""


def share(hits: Sequence[bool], bound: float | None = None, *, most: bool = False) -> tuple[str, bool]:
    """A share with its Wilson interval and what is required, and whether that holds."""
    if not hits:
        return "none of 0", bound is None
    e = stats.proportion(np.array(hits, dtype=float))
    text = f"{100 * e.mean:.0f} % ({sum(hits)} of {len(hits)}; 95 % CI {100 * e.low:.0f} to {100 * e.high:.0f} %"
    if bound is None:
        return text + ")", True
    word = "at most" if most else "at least"
    return f"{text}; required: {word} {100 * bound:.0f} %)", (e.mean <= bound) if most else (e.mean >= bound)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def summary(records: Sequence[Record]) -> tuple[str, bool]:
    """Every trial, then the shares, and whether what is required holds."""
    names = list(TASKS)
    ordered = sorted(records, key=lambda r: (names.index(r["task"]), r["seed"]))
    head = ["task", "seed", "network", "accuracy", "where", "named", "right by the mask", "how much", "named",
            "right by Shapley values"]  # fmt: skip
    text = table(head, [_row(record) for record in ordered])
    counted = [record for record in ordered if not record["dropped"]]
    lines, held = [], True
    for question in QUESTIONS:
        asked = [r for r in counted if question in r["verdict"]]
        named = [r for r in asked if r["verdict"][question] != "silent"]
        hit, fine = share([r["verdict"][question] == "right" for r in named], RIGHT[question])
        spoken, _ = share([r["verdict"][question] != "silent" for r in asked])
        many = np.mean([len(r["named"][question]) for r in named]) if named else 0.0
        fit = np.mean([len(r["right"][question]) for r in asked]) if asked else 0.0
        held &= fine
        lines.append(
            f"- **{TITLES[question].capitalize()}**: where a method is named, all named ones are right in {hit}. At "
            f"least one is named in {spoken}. On average {many:.1f} methods are named, and {fit:.1f} of the real ones "
            "are right."
        )
    either, enough = share([bool(r["answer"]["trusted"]) for r in counted], NAMED)
    lines.append(f"- **Either**: a method is named for at least one of the questions in {either}.")
    held &= enough
    dropped = [f"{r['task']} {r['seed']} ({r['net']}, accuracy {r['accuracy']:.2f})" for r in ordered if r["dropped"]]
    tasks = len({r["task"] for r in counted})
    lead = f"{len(counted)} networks on {tasks} tasks; {len(dropped)} dropped"
    lead += f": {', '.join(dropped)}." if dropped else "."
    return "\n".join([text, "", lead, "", *lines]), held


def _row(record: Record) -> list[str]:
    cells = [record["task"], str(record["seed"]), record["net"], f"{record['accuracy']:.2f}"]
    if record["dropped"]:
        return [*cells, "dropped", *[""] * 5]
    for question in QUESTIONS:
        if question in record["verdict"]:
            cells += [record["verdict"][question], ", ".join(record["named"][question]),
                      ", ".join(record["right"][question])]  # fmt: skip
        else:
            says = record["answer"]["everywhere"]
            cells += ["everywhere" if says else "not said", ", ".join(record["named"].get(question, [])), "no mask"]
    return cells


def fakes(records: Sequence[Record]) -> tuple[str, bool]:
    """How often each fake was eligible, by the number of axes; none must be."""
    counted = [record for record in records if not record["dropped"]]
    names = sorted({name for r in counted for name in r["truths"] if name.startswith("fake-")})
    rows = [
        [name, *(
            f"{sum(name in r['fakes'] for r in counted if r['rank'] == rank)} of "
            f"{sum(name in r['truths'] for r in counted if r['rank'] == rank)}"
            for rank in (1, 2, 3)
        )]
        for name in names
    ]  # fmt: skip
    never = not any(r["fakes"] for r in counted)
    return table(["fake", "signals", "images", "volumes"], rows) + "\n\nNo fake may be eligible.", never


def twins(records: Sequence[Record]) -> tuple[str, bool]:
    """Whether a copy with noise of 1 % shares the fate of its method: named together, eligible together."""
    named, eligible = [], []
    for record in records:
        if record["dropped"]:
            continue
        for name in record["truths"]:
            if not name.startswith("twin:of="):
                continue
            original, reply = name.removeprefix("twin:of="), record["answer"]
            eligible.append((name in reply["eligible"]) == (original in reply["eligible"]))
            named += [
                (name in said) == (original in said)
                for said in record["named"].values() if name in said or original in said
            ]  # fmt: skip
    first, fine = share(named, 0.95)
    second, alike = share(eligible, 0.95)
    return f"A copy is named together with its method in {first}; eligible with it in {second}.", fine and alike


def everywhere(records: Sequence[Record]) -> tuple[str, bool]:
    """How often a verdict says that the evidence is everywhere, where it is and where it is not."""
    counted = [record for record in records if not record["dropped"]]
    hits, fine = share([r["answer"]["everywhere"] for r in counted if r["everywhere"]], 0.9)
    false, few = share([r["answer"]["everywhere"] for r in counted if not r["everywhere"]], 0.1, most=True)
    return f"Evidence everywhere is said in {hits} where it is so, and in {false} where it is in one place.", (
        fine and few
    )


def cost(records: Sequence[Record]) -> tuple[str, bool]:
    """The seconds of a trial: training, truths, study."""
    rows = []
    for rank in (1, 2, 3):
        seconds = [r["seconds"] for r in records if not r["dropped"] and r["rank"] == rank]
        if seconds:
            mean = np.array(seconds).mean(0)
            rows.append([rank, len(seconds), *(f"{value:.0f}" for value in mean), f"{mean.sum():.0f}"])
    return table(["axes", "trials", "training", "truths", "study", "all"], rows), True


READ: dict[str, Callable[[Sequence[Record]], tuple[str, bool]]] = {
    "fakes": fakes, "twins": twins, "everywhere": everywhere, "cost": cost,
}  # fmt: skip


def write(text: str) -> None:
    """The page in docs."""
    PAGE.write_text(f"<!-- {COMMAND} -->\n\n{INTRODUCTION}\n\n{text}\n", encoding="utf-8")
