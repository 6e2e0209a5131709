"""Properties that a verdict must have, each measured on a few networks: a table, and whether it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from benchmarks.bed.answers import Answer, answer
from benchmarks.bed.candidates import REAL, Scaled, declared, real
from benchmarks.bed.page import share, table
from benchmarks.bed.tasks import TASKS
from benchmarks.bed.trials import Ground, candidates, ground, judged, spent

from heatproof import Results
from heatproof.methods import methods

NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
FACTORS = (30.0, 1 / 3)
SIZES = (48, 96, 192)
PAIRS = 10
PASSES = {1: 150, 2: 400, 3: 900}
NAMING = ("use", "interchangeable", "by question")
Report = tuple[str, bool]


def alike(a: object, b: object, *, tolerance: float = 1e-4) -> bool:
    """Whether two texts are the same up to small differences of the numbers in them."""
    first, second = str(a), str(b)
    numbers = list(zip(NUMBER.findall(first), NUMBER.findall(second), strict=False))
    return NUMBER.sub("#", first) == NUMBER.sub("#", second) and all(
        abs(float(p) - float(q)) <= tolerance * max(1.0, abs(float(p))) for p, q in numbers
    )


def changes(before: Answer, after: Answer, *, rename: Callable[[str], str] = str) -> list[str]:
    """What differs between two answers, for the candidates that both have."""
    common = [name for name in before.numbers if rename(name) in after.numbers]
    return [
        name
        for name in common
        if (name in before.eligible) != (rename(name) in after.eligible)
        or not alike(before.numbers[name], after.numbers[rename(name)])
    ]


def irrelevant(grounds: Sequence[Ground]) -> Report:
    """A: candidates that are added or removed change neither eligibility nor a number of the others."""
    rows, held = [], True
    for one in grounds:
        with declared():
            everyone = candidates(len(one.task.size))
            whole = answer(judged(one.probe(), one.test, everyone, one.seed))
            for label, names in (
                ("without fakes and copies", real(len(one.task.size))),
                ("every other one", everyone[::2]),
            ):
                differing = changes(answer(judged(one.probe(), one.test, names, one.seed)), whole)
                held &= not differing
                rows.append([one.task.name, one.seed, label, ", ".join(differing) or "nothing"])
    return table(["task", "seed", "candidates", "changed"], rows), held


def temperature(grounds: Sequence[Ground]) -> Report:
    """B: logits times 30 and a third change nothing while the maps are held fixed."""
    names = [f"held:of={name}" for name in REAL if ":" not in name]
    rows, held = [], True
    for one in grounds:
        with declared():
            plain = answer(judged(one.probe(Scaled(one.model, 1.0)), one.test, names, one.seed))
            for factor in FACTORS:
                scaled = answer(judged(one.probe(Scaled(one.model, factor)), one.test, names, one.seed))
                differing = changes(plain, scaled)
                same = (plain.kind, plain.trusted, plain.where, plain.how_much) == (
                    scaled.kind, scaled.trusted, scaled.where, scaled.how_much
                )  # fmt: skip
                held &= same and not differing
                rows.append(
                    [one.task.name, one.seed, f"{factor:.3g}", "yes" if same else "no", ", ".join(differing) or "none"]
                )
    text = table(["task", "seed", "factor", "same answer", "methods whose numbers changed"], rows)
    return f"{text}\n\nMaps that depend on the scale of the logits by themselves: {', '.join(scale_dependent())}.", held


def scale_dependent() -> list[str]:
    """The methods that declare that their maps depend on the scale of the logits."""
    return [entry.name for entry in methods.declared if getattr(entry, "scaled", False)] or ["none declared"]


def power(task_grounds: Sequence[Ground]) -> Report:
    """C: with more samples more is decided, never less. The grounds hold 192 samples each."""
    rows, never_less, named = [], True, []
    for one in task_grounds:
        answers = [
            answer(judged(one.probe(), one.test.take(slice(0, size)), real(len(one.task.size)), one.seed))
            for size in SIZES
        ]
        decided = [reply.kind in NAMING for reply in answers]
        counts = [len(reply.eligible) for reply in answers]
        never_less &= all(later >= earlier for earlier, later in pairwise(decided))
        named += decided
        cells = [f"{reply.kind}, {count} eligible" for reply, count in zip(answers, counts, strict=True)]
        rows.append([one.task.name, one.seed, *cells])
    spoken, enough = share(named, 0.95)
    text = table(["task", "seed", *(f"{size} samples" for size in SIZES)], rows)
    return f"{text}\n\nFrom 48 samples on a method is named in {spoken}.", never_less and enough


def null(grounds: Sequence[Ground]) -> Report:
    """Two methods whose scores are equal in distribution are called different in at most 5 %."""
    differ: list[bool] = []
    alone: list[bool] = []
    for one in grounds:
        names = [f"equal:draw={k}" for k in range(2 * PAIRS)]
        with declared():
            results = judged(one.probe(), one.test, names, one.seed)
            for first, second in zip(results.methods[::2], results.methods[1::2], strict=True):
                reply = answer(only(results, (first, second)))
                differ += [k < reply.different for k in range(reply.compared)]
                alone += [len(reply.named(question)) == 1 for question in ("where", "how_much") if reply.compared]
    hit, held = share(differ, 0.05, most=True)
    lone, _ = share(alone)
    return (
        f"Two methods that are equal in distribution are called different in {hit}. Of two eligible ones, only one is "
        f"named in {lone}."
    ), held


def only(results: Results, names: Sequence[str]) -> Results:
    """The same study of a few of its methods."""
    return replace(results, methods=tuple(names))


def passes(grounds: Sequence[Ground]) -> Report:
    """H: passes a sample of a study, and what another method adds."""
    rows, held = [], True
    for one in grounds:
        counts = [
            sum(spent(judged(one.probe(), one.test, names, one.seed)).values())
            for names in (("grad-cam",), ("grad-cam", "saliency"))
        ]
        bound = PASSES[len(one.task.size)]
        held &= counts[0] <= bound
        rows.append([one.task.name, len(one.task.size), f"{counts[0]:.0f}", bound, f"{counts[1] - counts[0]:.0f}"])
    return table(["task", "axes", "passes a sample", "at most", "another method adds"], rows), held


MEASURED: dict[str, Callable[[Sequence[Ground]], Report]] = {
    "irrelevant": irrelevant, "temperature": temperature, "power": power, "null": null, "passes": passes,
}  # fmt: skip


def grounds(names: Sequence[tuple[str, int]], *, samples: int | None = None) -> list[Ground]:
    """The networks of some tasks and seeds; those that have not learnt their task are left out."""
    return [one for name, seed in names if (one := ground(TASKS[name], seed, samples)).learnt]
