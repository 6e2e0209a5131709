"""Each method's own controls: its maps made wrong on purpose, which its maps must beat.

They are its map of another sample, its map moved by an eighth of the axes, and its map of the same sample for another
class. Where there is no other class that stands for something else (two classes, one output, a regression), the last is
its map of a copy of the model with random weights. All but the last cost no pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof import draws
from heatproof import methods as attribution
from heatproof import metrics as judging
from heatproof.errors import NotApplicable
from heatproof.metrics.randomisation import as_read, randomised
from heatproof.probe import Goal, Probe
from heatproof.registry import Spec
from heatproof.studies.failures import reason

OTHER_SAMPLE, OTHER_CLASS, RANDOM_WEIGHTS, MOVED = "another sample", "another class", "random weights", "moved"
STEP = 8  # a map is moved by this part of an axis


@dataclass(frozen=True, eq=False)
class Question:
    """What else the methods are asked to explain.

    Attributes:
        control: what it is called. probe: the model, or a copy of it. goal: what is explained.
    """

    control: str
    probe: Probe
    goal: Goal


def question_of(
    probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal, logits: Float[Tensor, "n k"], seed: int
) -> Question:
    """The one explanation more that each method gives: of the most probable other class, or of a randomised copy.

    ``logits`` are those of the inputs.

    Raises: NotApplicable where the model cannot be copied.
    """
    if goal.function is None and goal.mix is None and goal.task != "regression" and logits.shape[1] > 2:
        return Question(OTHER_CLASS, probe, runner_up(goal, logits))
    (copy,) = randomised(as_read(probe, x), seed=seed, order="cascading", stages=1)
    return Question(RANDOM_WEIGHTS, copy, goal)


def runner_up(goal: Goal, logits: Float[Tensor, "n k"]) -> Goal:
    """The goal of explaining the class (or label) with the largest other logit; of a contrast the opposite one."""
    if goal.against is not None:
        return Goal(goal.against, goal.classes, task=goal.task)
    rest = logits.scatter(1, goal.classes[:, None].to(logits.device), -torch.inf)
    return Goal(rest.argmax(1).to(goal.classes), task=goal.task)


def other_maps(
    question: Question,
    x: Float[Tensor, "n c *s"],
    methods: Sequence[Spec],
    rows: Int[Tensor, " n"],
    seed: int,
    pool: Tensor | None = None,
) -> dict[Spec, Tensor]:
    """Each method's maps of what else is asked; one that fails has none."""
    explain = partial(attribution.attribute, question.probe, x, target=question.goal, seed=seed, index=rows, pool=pool)
    groups = attribution.companions(methods)
    maps: dict[Spec, Tensor] = {}
    while groups:
        group = groups.pop(0)
        try:
            maps |= {s: map for s, map in explain(group).items() if bool(torch.isfinite(map).all())}
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a method raises, the others go on
            if len(group) > 1:
                groups += [[spec] for spec in group]
            else:
                reason(group[0], error)
    return maps


def wrong_maps(map: Float[Tensor, "n *s"], seeds: Int[Tensor, " n"]) -> Iterator[tuple[str, Float[Tensor, "n *s"]]]:
    """The maps of other samples in place of a sample's, and the maps moved either way along all axes and along each.

    A single sample has no other; it is left out there.
    """
    if len(map) > 1:
        yield OTHER_SAMPLE, map[exchanged(seeds).to(map.device)]
    axes = tuple(range(1, map.ndim))
    for moved in [axes, *([(axis,) for axis in axes] if len(axes) > 1 else [])]:
        for way, sign in (("forward", 1), ("back", -1)):
            along = "" if moved == axes else f" along axis {moved[0]}"
            steps = [sign * max(1, round(map.shape[axis] / STEP)) for axis in moved]
            yield f"{MOVED} {way}{along}", map.roll(steps, moved)


def exchanged(seeds: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """For each sample the place of another one, none of them twice, in an order drawn by their seeds."""
    order = draws.uniform(seeds.cpu(), ()).argsort(stable=True)
    places = torch.empty_like(order)
    places[order] = order.roll(1)
    return places


def control_scores(
    base: judging.Case,
    maps: Mapping[Spec, Tensor],
    others: Mapping[Spec, Tensor],
    control: str,
    metrics: Sequence[Spec],
) -> Iterator[tuple[tuple[str, Spec, Spec], Tensor]]:
    """The scores by (control, method, metric) of every method's own controls, as they are computed."""
    for method, map in maps.items():
        wrong = dict(wrong_maps(map, base.seeds("exchange")))
        if method in others:
            wrong[control] = others[method]
        for name, changed in wrong.items():
            case = base.of(changed)
            for metric in metrics:
                try:
                    yield (name, method, metric), judging.measure(case, metric)
                except NotApplicable:
                    return
