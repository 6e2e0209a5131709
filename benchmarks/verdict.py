"""Is the verdict right? Networks trained on planted tasks: verdicts without the masks, compared with the masks.

    python benchmarks/verdict.py [trials] [--out FOLDER] [--seeds 0-5] [--tasks signal,digits,image,volume] [--write]

A trial trains a network on data whose deciding region is known, computes the verdict on test samples whose masks were
removed, and ranks the same methods by localisation in the masks. Two candidates are controls under other names. The
folder keeps one file per trial, so that an interrupted benchmark continues and several can run side by side, each with
some of the tasks. Exits with 1 where a bound is missed. Seeds below 100 are reported; the rule was developed on seeds
from 100 on.
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
from heatproof import Results, StudyOptions, draws, spatial, stats
from heatproof.methods import method
from heatproof.probe import Probe
from heatproof.records import Samples, Splits
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
DOCS = Path(__file__).parents[1] / "docs"
INTRODUCTIONS = {
    "trials": """# Trials of the verdict

In each trial a network was trained on a planted task, and the verdict was computed without the masks
([verdict.md](verdict.md)). It is *right* if it names a method of the top group by the masks, *wrong* if it names
another one, and *silent* if it names none; the methods at the top are then in brackets. Support is the share of
resamples in which the leading method stays first.""",
}


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
    """The network and the test samples of a trial, with their masks; with ``shuffled`` trained on shuffled labels."""
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
    """The same study of a few of its methods."""
    return replace(results, methods=tuple(names))


def summarised(results: Results) -> dict[str, Any]:
    """The verdict of a study, in plain types."""
    verdict = results.verdict()
    return {
        "winner": verdict.winner,
        "group": list(verdict.group),
        "support": verdict.support,
        "text": verdict.text,
        "barred": [check.method for check in verdict.methods if not check.eligible],
    }


def trial(name: str, seed: int) -> dict[str, Any]:
    """One trial: the verdict without the mask, and the ranking by it."""
    task = TASKS[name]
    model, test = trained(task, seed)
    blind = hp.study(model, replace(test, mask=None), METHODS, JUDGES, options=StudyOptions(seed=seed))
    truth = hp.study(model, test, METHODS, TRUTH, options=StudyOptions(seed=seed)).ranking()
    return {
        "task": name, "seed": seed, "accuracy": float(blind.correct.mean()), **summarised(blind),
        "top": list(truth.top),
        "order": [[row.method, row.rank.mean] for row in truth.rows],
        "disguised": summarised(only(blind, DISGUISED))["winner"],
    }  # fmt: skip


def outcome(item: Mapping[str, Any]) -> str:
    """Whether the method that a trial names is in the top group by the masks; silent where it names none."""
    return "silent" if item["winner"] is None else "right" if item["winner"] in item["top"] else "wrong"


def lesson(name: str, seed: int) -> dict[str, Any]:
    """A network that was trained on shuffled labels: no method must be named."""
    model, test = trained(TASKS[name], seed, shuffled=True)
    unmasked, options = replace(test, mask=None), StudyOptions(seed=seed)
    blind = hp.study(model, unmasked, METHODS[:2] + METHODS[6:], JUDGES, options=options)
    accuracy = float(blind.correct.mean())
    return {"task": name, "seed": seed, "shuffled": True, "accuracy": accuracy, **summarised(blind)}


def kept(path: Path, make: Any) -> dict[str, Any]:
    """What ``make`` gives, kept at ``path``; read from there where it was made before."""
    if not path.exists():
        page = make()
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(page, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
        print(f"{path.stem}: {page['text']}", flush=True)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def trials(folder: Path, tasks: Sequence[str], seeds: Sequence[int] | None) -> list[dict[str, Any]]:
    """Every trial of the tasks, and the networks trained on shuffled labels."""
    items = []
    for place in range(max(len(seeds or ()), *(TASKS[name].seeds for name in tasks))):
        for name in tasks:
            chosen = TASKS[name].numbers if seeds is None else seeds
            if place < len(chosen):
                seed = chosen[place]
                items.append(kept(folder / f"{name}-{seed}.json", functools.partial(trial, name, seed)))
            if name in LESSONS and place < len(chosen) and chosen[place] == TASKS[name].first:
                seed = chosen[place]
                items.append(kept(folder / f"{name}-{seed}-shuffled.json", functools.partial(lesson, name, seed)))
    return items


def summary(trials_: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """The table and the counts as Markdown, and whether every bound holds."""
    real = [item for item in trials_ if "top" in item]
    lessons = [item for item in trials_ if "shuffled" in item]
    lines = ["| task | seed | accuracy | verdict | leads | support | top group by the masks |", "|---" * 7 + "|"]
    for item in sorted(real, key=lambda item: (list(TASKS).index(item["task"]), item["seed"])):
        support = f"{item['support']:.2f}" if item["support"] == item["support"] else ""
        cells = [item["task"], str(item["seed"]), f"{item['accuracy']:.2f}", outcome(item)]
        leads = item["winner"] or f"({', '.join(item['group'])})"
        lines.append(f"| {' | '.join([*cells, leads, support, ', '.join(item['top'])])} |")
    count = {kind: sum(outcome(item) == kind for item in real) for kind in ("right", "silent", "wrong")}
    groups = [set(item["group"]) <= set(item["top"]) for item in real if item["winner"] is None and item["group"]]
    total = max(len(real), 1)
    safe, named = (count["right"] + count["silent"]) / total, (count["right"] + count["wrong"]) / total
    lines.append(
        f"\nIn {len(real)} trials the verdict was right in {count['right']}, silent in {count['silent']} and wrong in "
        f"{count['wrong']}. It was right or silent in {share(real, 'right', 'silent', bound=RIGHT)}, and it named a "
        f"method in {share(real, 'right', 'wrong', bound=NAMED)}. In {sum(groups)} of {len(groups)} silent trials, all "
        "methods in brackets are in the top group by the masks."
    )
    fooled = sum(item["winner"] in DISGUISED for item in real) + sum(item["disguised"] is not None for item in real)
    taught = sum(item["winner"] is not None for item in lessons)
    lines.append(
        f"\nA random map or an edge filter, offered as a method, was named in {fooled} trials, alone or among the "
        f"other methods. A method was named for {taught} of {len(lessons)} networks trained on shuffled labels."
    )
    return "\n".join(lines), safe >= RIGHT and named >= NAMED and not fooled and not taught


def share(items: Sequence[Mapping[str, Any]], *outcomes: str, bound: float) -> str:
    """The share of trials with one of these outcomes, with its exact interval and the least that is required."""
    e = stats.proportion(np.array([float(outcome(item) in outcomes) for item in items]))
    interval = f"95 % CI {100 * e.low:.0f} to {100 * e.high:.0f} %"
    return f"{100 * e.mean:.0f} % ({interval}; required: at least {100 * bound:.0f} %)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["trials"], default="trials")
    parser.add_argument("--out", type=Path, default=Path("verdict-trials"), help="folder of finished trials")
    parser.add_argument("--tasks", default=",".join(TASKS), help="tasks with commas between them")
    parser.add_argument("--seeds", help="FIRST-LAST; by default the reported seeds")
    parser.add_argument("--write", action="store_true", help="write the table into docs")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    ends = [int(end) for end in arguments.seeds.split("-")] if arguments.seeds else []
    seeds = range(ends[0], ends[-1] + 1) if ends else None
    text, held = summary(trials(arguments.out, arguments.tasks.split(","), seeds))
    print(text)
    if arguments.write:
        page = DOCS / f"verdict-{arguments.what}.md"
        command = f"python benchmarks/verdict.py {arguments.what} --write"
        page.write_text(f"<!-- {command} -->\n\n{INTRODUCTIONS[arguments.what]}\n\n{text}\n", encoding="utf-8")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
