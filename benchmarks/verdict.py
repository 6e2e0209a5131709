"""Is the verdict right? Nets trained on planted tasks, judged without the mask and compared with what the mask says.

    python benchmarks/verdict.py [trials] [--out FOLDER] [--seeds 0-5] [--tasks signal,digits,image,volume] [--write]
    python benchmarks/verdict.py coverage [--out FOLDER] [--write]

A trial trains a network on data whose deciding region is known, computes the verdict on test samples whose masks were
removed, and ranks the same methods by localisation in the masks. Two candidates are controls in disguise. The folder
keeps a file a trial, so that a stopped benchmark goes on and several may run side by side, each with some tasks.
Exits with 1 where a bound is missed. Seeds below 100 are for reporting; the rule was developed on those from 100 on.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

import heatproof as hp
from heatproof import draws, spatial, stats
from heatproof.methods import method
from heatproof.probe import Probe
from heatproof.records import Samples, Splits
from heatproof.results.record import Results
from heatproof.training import Recipe

METHODS = (
    "grad-cam", "grad-cam-plus-plus", "layer-cam", "ablation-cam", "score-cam", "full-grad", "saliency",
    "input-x-gradient", "occlusion", "rise:masks=100", "chance", "contours",
)  # fmt: skip
LESSONS = ("signal", "digits")  # tasks whose first network is trained on shuffled labels too
DISGUISED = ("chance", "contours")
REGIONS = ("region-pointing-game", "region-relevance-mass", "region-relevance-rank")
JUDGES = (
    *(f"{name}:fill={fill}" for fill in ("mean", "noise", "donor") for name in REGIONS),
    "deletion:steps=10", "insertion:steps=10", "average-drop", "mu-fidelity:runs=50,segments=16",
    "average-sensitivity:runs=1", "parameter-randomisation:stages=2", "random-logit",
)  # fmt: skip
TRUTH = ("pointing-game", "relevance-mass", "relevance-rank")
RIGHT, NAMED = 0.9, 0.5  # least shares of the trials
COVERED = (0.93, 0.97)
DRAWS = 1000  # resamplings of a test set
DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True)
class Task:
    """A planted task: data, network, epochs, how many test samples are judged, and how many seeds from which on."""

    data: str
    net: str
    epochs: int
    samples: int
    seeds: int
    shift: int = 0
    first: int = 0

    @property
    def numbers(self) -> range:
        """The seeds that are reported."""
        return range(self.first, self.first + self.seeds)


TASKS: Mapping[str, Task] = {
    "signal": Task("synthetic-1d:samples=1500,seed={}", "small-cnn:rank=1", 12, 128, 6),
    "digits": Task("mnist1d:seed={}", "mnist1d-cnn", 15, 256, 6, shift=3, first=10),
    "image": Task("synthetic-2d:samples=1000,size=20,seed={}", "small-cnn:rank=2", 10, 96, 6),
    "volume": Task("synthetic-3d:samples=1000,size=12,seed={}", "small-cnn:rank=3,filters=8+16", 12, 48, 4),
}


@method("chance")
def chance(_probe: Probe, x: Float[Tensor, "n c *s"], _: object) -> Float[Tensor, "n *s"]:
    """A random map that passes for a method: noise drawn from the bytes of the input."""
    own = x.double().flatten(1).sum(1).mul(1e6).long()
    return draws.normal(draws.seeds(1, "chance", own), x.shape[2:])


@method("contours")
def contours(_probe: Probe, x: Float[Tensor, "n c *s"], _: object) -> Float[Tensor, "n *s"]:
    """An edge filter that passes for a method."""
    return spatial.blur(spatial.edges(x)[:, None], 0.7)[:, 0]


def trained(task: Task, seed: int, *, shuffled: bool = False) -> tuple[nn.Module, Samples]:
    """The network and the test samples of a trial, with their masks; with ``shuffled`` it learnt shuffled labels."""
    splits = hp.data.load(task.data.format(seed))
    learn = splits.train
    if shuffled:
        learn = replace(learn, y=learn.y[torch.randperm(len(learn), generator=torch.Generator().manual_seed(seed))])
    recipe = Recipe(
        "trial", task.epochs, 64, 0.01, schedule="one-cycle", weight_decay=0.01, shift=task.shift
    )  # fmt: skip
    model = hp.train(Splits(learn, splits.test), net=task.net, recipe=recipe, seed=seed, quiet=True)
    rows = torch.linspace(0, len(splits.test) - 1, task.samples).round().long()
    return model, splits.test.take(rows)


def only(results: Results, names: Sequence[str]) -> Results:
    """The same study of some of its methods."""
    return replace(results, methods=tuple(names))


def told(results: Results) -> dict[str, Any]:
    """What the verdict of a study says, in plain types."""
    found = results.verdict()
    return {
        "winner": found.winner,
        "group": list(found.group),
        "confidence": found.confidence,
        "text": found.text,
        "barred": [check.method for check in found.methods if not check.counts],
    }


def trial(name: str, seed: int) -> dict[str, Any]:
    """One trial: the verdict without the mask, and the ranking by it."""
    task = TASKS[name]
    model, test = trained(task, seed)
    blind = hp.study(model, replace(test, mask=None), METHODS, JUDGES, seed=seed)
    truth = hp.study(model, test, METHODS, TRUTH, seed=seed).ranking()
    found = told(blind)
    return {
        "task": name, "seed": seed, "accuracy": float(blind.right.mean()), **found,
        "top": list(truth.top),
        "order": [[row.method, row.rank.mean] for row in truth.rows],
        "disguised": told(only(blind, DISGUISED))["winner"],
    }  # fmt: skip


def outcome(item: Mapping[str, Any]) -> str:
    """Whether the method that a trial names is in the top group by the masks; silent where it names none."""
    return "silent" if item["winner"] is None else "right" if item["winner"] in item["top"] else "wrong"


def lesson(name: str, seed: int) -> dict[str, Any]:
    """A network that learnt shuffled labels: nothing must be named."""
    model, test = trained(TASKS[name], seed, shuffled=True)
    blind = hp.study(model, replace(test, mask=None), METHODS[:2] + METHODS[6:], JUDGES, seed=seed)
    return {"task": name, "seed": seed, "shuffled": True, "accuracy": float(blind.right.mean()), **told(blind)}


def kept(path: Path, make: Any) -> dict[str, Any]:
    """What ``make`` gives, kept at ``path``; read from there where it was made before."""
    if not path.exists():
        found = make()
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
        print(f"{path.stem}: {found['text']}", flush=True)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def trials(folder: Path, tasks: Sequence[str], seeds: Sequence[int] | None) -> list[dict[str, Any]]:
    """Every trial of the tasks, and the lessons of shuffled labels."""
    found = []
    for place in range(max(len(seeds or ()), *(TASKS[name].seeds for name in tasks))):
        for name in tasks:
            chosen = TASKS[name].numbers if seeds is None else seeds
            if place < len(chosen):
                seed = chosen[place]
                found.append(kept(folder / f"{name}-{seed}.json", functools.partial(trial, name, seed)))
            if name in LESSONS and place < len(chosen) and chosen[place] == TASKS[name].first:
                seed = chosen[place]
                found.append(kept(folder / f"{name}-{seed}-shuffled.json", functools.partial(lesson, name, seed)))
    return found


def summary(found: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """The table and the counts as Markdown, and whether every bound holds."""
    real = [item for item in found if "top" in item]
    lessons = [item for item in found if "shuffled" in item]
    lines = ["| task | seed | accuracy | verdict | leads | leader's share | top group by the masks |", "|---" * 7 + "|"]
    for item in sorted(real, key=lambda item: (list(TASKS).index(item["task"]), item["seed"])):
        sure = f"{item['confidence']:.2f}" if item["confidence"] == item["confidence"] else ""
        cells = [item["task"], str(item["seed"]), f"{item['accuracy']:.2f}", outcome(item)]
        leads = item["winner"] or f"({', '.join(item['group'])})"
        lines.append(f"| {' | '.join([*cells, leads, sure, ', '.join(item['top'])])} |")
    count = {kind: sum(outcome(item) == kind for item in real) for kind in ("right", "silent", "wrong")}
    groups = [set(item["group"]) <= set(item["top"]) for item in real if item["winner"] is None and item["group"]]
    total = max(len(real), 1)
    safe, named = (count["right"] + count["silent"]) / total, (count["right"] + count["wrong"]) / total
    lines.append(
        f"\nOf {len(real)} trials the verdict was right in {count['right']}, said that it cannot tell in "
        f"{count['silent']}, and was wrong in {count['wrong']}: right or silent in {100 * safe:.0f} % (at least "
        f"{100 * RIGHT:.0f} %), and a method was named in {100 * named:.0f} % (at least {100 * NAMED:.0f} %). Where it "
        f"could not tell, the methods in brackets lie wholly in the top group by the masks in {sum(groups)} of "
        f"{len(groups)}."
    )
    fooled = sum(item["winner"] in DISGUISED for item in real) + sum(item["disguised"] is not None for item in real)
    taught = sum(item["winner"] is not None for item in lessons)
    lines.append(
        f"\nA random map or an edge filter that passed for a method was named in {fooled} trials, alone or among the "
        f"others. Of {len(lessons)} networks that learnt shuffled labels a method was named for {taught}."
    )
    return "\n".join(lines), safe >= RIGHT and named >= NAMED and not fooled and not taught


def covers(values: np.ndarray, n: int, *, binary: bool = False, draws_: int = DRAWS, seed: int = 0) -> float:
    """The share of samples of n values, drawn with replacement, whose 95 % interval holds the mean of all values."""
    generator = np.random.default_rng(seed)
    whole, hits, step = values.mean(), 0, 50
    for part in range(draws_ // step):
        drawn = values[generator.integers(0, len(values), (n, step))]
        found = [stats.proportion(column) for column in drawn.T] if binary else stats.estimates(drawn, seed=part)
        hits += sum(e.low <= whole <= e.high for e in found)
    return hits / (draws_ // step * step)


def coverage(folder: Path) -> tuple[str, bool]:
    """How often intervals from some of a test set hold its mean, for metrics of several shapes."""
    judges = ("relevance-mass", "roc-auc", "pointing-game", "insertion:steps=10", "deletion:steps=10", "average-drop",
              "faithfulness-correlation:runs=50")  # fmt: skip
    model, _ = trained(TASKS["digits"], 0)
    test = hp.data.load(TASKS["digits"].data.format(0)).test
    found = hp.study(model, test, ["grad-cam", "saliency"], judges, controls=False, out=folder / "whole-test-set")
    lines = ["| method | metric | mean | skewness | 50 samples | 200 samples |", "|---|---|---|---|---|---|"]
    shares = []
    for (name, metric), values in found.scores.items():
        known = values[np.isfinite(values)]
        skew = float(((known - known.mean()) ** 3).mean() / known.std() ** 3) if known.std() else float("nan")
        binary = bool(found.about["metrics"][metric]["binary"]) and bool(np.isin(known, (0.0, 1.0)).all())
        shares.append([covers(known, n, binary=binary) for n in (50, 200)])
        cells = " | ".join(f"{100 * share:.1f} %" for share in shares[-1])
        lines.append(f"| {name} | {metric} | {known.mean():.3f} | {skew:.1f} | {cells} |")
    table = np.array(shares)
    inside = (table >= COVERED[0]) & (table <= COVERED[1])
    lines += [
        "",
        f"{int(inside.sum())} of {inside.size} shares lie within 93 to 97 %; all together {100 * table.mean():.1f} %.",
    ]
    return "\n".join(lines), bool(inside.all())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["trials", "coverage"], default="trials")
    parser.add_argument("--out", type=Path, default=Path("verdict-trials"), help="folder of finished trials")
    parser.add_argument("--tasks", default=",".join(TASKS), help="some of the tasks")
    parser.add_argument("--seeds", help="FIRST-LAST instead of those that are reported")
    parser.add_argument("--write", action="store_true", help="write the table into docs")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if given.what == "coverage":
        text, held = coverage(given.out)
    else:
        ends = [int(end) for end in given.seeds.split("-")] if given.seeds else []
        seeds = range(ends[0], ends[-1] + 1) if ends else None
        text, held = summary(trials(given.out, given.tasks.split(","), seeds))
    print(text)
    if given.write:
        page = DOCS / f"verdict-{given.what}.md"
        page.write_text(f"<!-- python benchmarks/verdict.py {given.what} --write -->\n\n{text}\n", encoding="utf-8")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
