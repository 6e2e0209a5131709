"""Each method's own controls: which maps they are, and that scores of them are what the metric gives on them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from heatproof.metrics import case, measure, with_donors
from heatproof.probe import Goal, Probe
from heatproof.registry import Spec
from heatproof.studies.own_controls import (
    MOVED,
    OTHER_CLASS,
    OTHER_SAMPLE,
    RANDOM_WEIGHTS,
    control_scores,
    exchanged,
    question_of,
    runner_up,
    wrong_maps,
)

SIZES = [(16,), (8, 24), (8, 10, 16)]
METRIC = Spec("window-correlation")


def maps(size: tuple[int, ...], n: int = 5) -> Tensor:
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("n", [2, 3, 17])
def test_every_sample_takes_the_map_of_another_one_and_none_is_taken_twice(n: int) -> None:
    for first in range(20):
        places = exchanged(torch.arange(first, first + n))
        assert sorted(places.tolist()) == list(range(n))
        assert bool((places != torch.arange(n)).all())
    assert len({tuple(exchanged(torch.arange(k, k + 5)).tolist()) for k in range(20)}) > 5  # drawn, not in order


@pytest.mark.parametrize("size", SIZES)
def test_maps_are_moved_by_an_eighth_of_the_axes_either_way(size: tuple[int, ...]) -> None:
    map = maps(size)
    wrong = dict(wrong_maps(map, torch.arange(len(map))))
    steps = [max(1, round(length / 8)) for length in size]
    assert wrong.pop(OTHER_SAMPLE).equal(map[exchanged(torch.arange(len(map)))])
    axes = range(len(size))
    sets = [tuple(axes), *([(axis,) for axis in axes] if len(size) > 1 else [])]
    assert len(wrong) == 2 * len(sets)
    for moved in sets:
        label = "" if len(moved) == len(size) else f" along axis {moved[0] + 1}"  # counted from 1
        for way, sign in ((f"{MOVED} forward", 1), (f"{MOVED} back", -1)):
            at = [torch.arange(length) for length in size]
            for axis in moved:
                at[axis] = (at[axis] - sign * steps[axis]) % size[axis]
            grid = torch.meshgrid(*at, indexing="ij")
            assert wrong[way + label].equal(map[(slice(None), *grid)])


def test_a_single_sample_has_no_map_of_another_one() -> None:
    assert OTHER_SAMPLE not in dict(wrong_maps(maps((16,), 1), torch.arange(1)))


def test_the_other_class_is_the_most_probable_one_beside_that_explained() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, -1.0], [0.0, 1.0, 2.0]])
    assert runner_up(Goal(torch.tensor([0, 1, 0])), logits).classes.tolist() == [2, 0, 2]
    contrast = Goal(torch.tensor([0, 1, 0]), against=torch.tensor([1, 2, 2]))
    turned = runner_up(contrast, logits)
    assert turned.classes.tolist() == [1, 2, 2]
    assert turned.against is not None
    assert turned.against.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("classes", "control"), [(4, OTHER_CLASS), (3, OTHER_CLASS), (2, RANDOM_WEIGHTS)])
def test_two_classes_are_asked_of_random_weights_as_the_other_class_is_the_same_question(
    classes: int, control: str
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, classes))
    probe, x = Probe(model), maps((16,))[:, None]
    before = [p.detach().clone() for p in model.parameters()]
    asked = question_of(probe, x, probe.goal(x), probe.logits(x), seed=0)
    assert asked.control == control
    if control == RANDOM_WEIGHTS:
        assert not torch.allclose(asked.probe.logits(x), probe.logits(x))
        assert asked.goal.classes.equal(probe.goal(x).classes)
    else:
        assert asked.goal.classes.equal(probe.logits(x).topk(2).indices[:, 1])
    assert all(p.equal(q) for p, q in zip(model.parameters(), before, strict=True))


def test_the_scores_of_own_controls_are_those_of_the_changed_maps() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 3))
    x, map, other = maps((24,), 6)[:, None], maps((24,), 6), maps((24,), 12)[6:]
    probe = Probe(model)
    base = with_donors(case(probe, x, map, target=probe.goal(x)), x.roll(1, 0)[:, None].expand(-1, 2, -1, -1))
    method = Spec("grad-cam")
    scores = dict(control_scores(base, {method: map}, {method: other}, OTHER_CLASS, [METRIC]))
    wrong = {**dict(wrong_maps(map, base.seeds("exchange"))), OTHER_CLASS: other}
    assert set(scores) == {(name, method, METRIC) for name in wrong}
    for name, changed in wrong.items():
        assert torch.equal(scores[name, method, METRIC], measure(base.of(changed), METRIC))
    assert len({tuple(value.tolist()) for value in scores.values()}) == len(scores)
