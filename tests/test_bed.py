"""The bed: planted tasks, truths on closed-form toys, fakes, and the counting of verdicts."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.bed import image_tasks, page, signal_tasks, truths, volume_tasks  # noqa: F401
from benchmarks.bed.answers import Answer
from benchmarks.bed.candidates import DECLARED, Scaled, declared, twin_spec
from benchmarks.bed.networks import NETS, trained
from benchmarks.bed.properties import alike, changes
from benchmarks.bed.tasks import DESIGN_SEEDS, TASKS, listed, seeds
from benchmarks.bed.tissue import kendall, mosaics, tissue
from benchmarks.bed.trials import Ground, kept, margins, outcome, truth
from torch import Tensor, nn

from heatproof.methods import explain, methods
from heatproof.records import Samples

NUMBERS = torch.arange(12)
PLANTED = [name for name, task in TASKS.items() if not task.everywhere]


class Linear(nn.Module):
    """A weight a position for one class, and nothing for the other."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        z = (x * self.weight).flatten(1).sum(1)
        return torch.stack([z, torch.zeros_like(z)], dim=1)


# Tasks


def test_design_and_report_share_neither_tasks_nor_seeds() -> None:
    design, reported = listed(design=True), listed(design=False)
    assert len(design) >= 8
    assert len(reported) >= 14
    assert not {task.name for task in design} & {task.name for task in reported}
    assert {len(task.size) for task in reported} == {len(task.size) for task in design} == {1, 2, 3}
    assert min(seeds(design[0], 4)) >= DESIGN_SEEDS > max(seeds(reported[0], 4))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_draws_finite_inputs_of_its_size(name: str) -> None:
    task = TASKS[name]
    x, mask = task.draw(0, NUMBERS)
    assert x.shape[0] == len(NUMBERS)
    assert x.shape[2:] == task.size
    assert x.dtype == torch.float32
    assert torch.isfinite(x).all()
    assert (mask is None) == task.everywhere
    if mask is not None:
        area = mask.flatten(1).double().mean(1)
        assert mask.shape == (len(NUMBERS), *task.size)
        assert area.min() > 0
        assert area.max() < 0.6
    assert set(task.nets) <= set(NETS)
    assert task.classes == task.samples(0, 0, 3).classes


@pytest.mark.parametrize("name", TASKS)
def test_a_sample_is_the_same_alone_and_in_a_batch(name: str) -> None:
    task = TASKS[name]
    x, mask = task.draw(2, NUMBERS)
    alone, only = task.draw(2, NUMBERS[5:6])
    torch.testing.assert_close(x[5:6], alone, rtol=1e-5, atol=1e-6)
    assert mask is None or (only is not None and mask[5:6].equal(only))
    assert not torch.allclose(task.draw(3, NUMBERS)[0], x)


@pytest.mark.parametrize("name", PLANTED)
def test_classes_differ_in_the_mask_and_nowhere_else(name: str) -> None:
    task = TASKS[name]
    count = len(task.classes)
    x, mask = task.draw(1, NUMBERS)
    for step in range(1, count):
        other, there = task.draw(1, NUMBERS, (NUMBERS + step) % count)
        assert mask is not None
        assert there is not None
        differs = (x - other).abs().amax(1) > 1e-6
        assert differs.flatten(1).any(1).all()
        assert not (differs & ~(mask | there)).any()


# Networks


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("shape", [(2, 24), (1, 16, 16), (1, 12, 12, 12)], ids=["signals", "images", "volumes"])
def test_networks_are_trained_and_reproducible(name: str, shape: tuple[int, ...]) -> None:
    if name == "recurrent" and len(shape) > 2:
        pytest.skip("for signals only")
    x = torch.randn(24, *shape, generator=torch.Generator().manual_seed(0))
    samples = Samples(x, torch.arange(24) % 2, classes=("a", "b"))
    first, second = (trained(name, samples, epochs=2, seed=3, batch=12) for _ in range(2))
    assert not first.training
    logits = first(x[:4])
    assert logits.shape == (4, 1 if name == "single" else 2)
    torch.testing.assert_close(logits, second(x[:4]))


# Truths


def planted(shape: tuple[int, ...]) -> Tensor:
    mask = torch.zeros(3, *shape, dtype=torch.bool)
    mask[(slice(None), *(slice(1, 3) for _ in shape))] = True
    return mask


@pytest.mark.parametrize("shape", [(8,), (6, 7), (5, 5, 4)])
def test_where_is_one_for_the_mask_and_zero_for_a_uniform_map(shape: tuple[int, ...]) -> None:
    mask = planted(shape)
    for value in truths.where(mask.double(), mask).values():
        torch.testing.assert_close(value, torch.ones(3, dtype=torch.float64))
    for value in truths.where(torch.ones(3, *shape), mask).values():
        torch.testing.assert_close(value, torch.zeros(3, dtype=torch.float64))
    worst = truths.where(1 - mask.double(), mask)
    for name in ("pointing", "mass", "rank"):
        area = mask.flatten(1).double().mean(1)
        torch.testing.assert_close(worst[name], -area / (1 - area))


def test_where_agrees_with_loops() -> None:
    torch.manual_seed(0)
    map, mask = torch.randint(-2, 4, (5, 11)).double(), torch.rand(5, 11) < 0.4
    mask[:, 0], mask[:, 1] = True, False
    parts = truths.where(map, mask)
    for i in range(5):
        area, k = float(mask[i].double().mean()), int(mask[i].sum())
        top = map[i] == map[i].max()
        positive = map[i].clamp_min(0)
        rank = sum(
            float(mask[i][[*order]].double().mean())
            for order in _tops(map[i], k)
        ) / len(_tops(map[i], k))  # fmt: skip
        precision, before = 0.0, 0.0
        for value in map[i].unique().flip(0):
            shown = map[i] >= value
            recall = float((shown & mask[i]).sum()) / k
            precision += (recall - before) * float(mask[i][shown].double().mean())
            before = recall
        expected = {
            "pointing": float(mask[i][top].double().mean()),
            "mass": float(positive[mask[i]].sum() / positive.sum()),
            "rank": rank, "precision": precision,
        }  # fmt: skip
        for name, value in expected.items():
            assert float(parts[name][i]) == pytest.approx((value - area) / (1 - area)), name


def _tops(map: Tensor, k: int) -> list[tuple[int, ...]]:
    """All sets of k positions that are the most relevant ones, ties in any way."""
    limit = map.sort(descending=True).values[k - 1]
    sure = (map > limit).nonzero()[:, 0].tolist()
    tied = (map == limit).nonzero()[:, 0].tolist()
    return [(*sure, *rest) for rest in itertools.combinations(tied, k - len(sure))]


@pytest.mark.parametrize("shape", [(16,), (9, 8), (6, 5, 4)])
def test_cells_cover_every_position_and_do_not_depend_on_the_batch(shape: tuple[int, ...]) -> None:
    labels = truths.cells(torch.arange(6), shape, 5)
    assert labels.shape == (6, *shape)
    assert all(set(one.unique().tolist()) == set(range(5)) for one in labels)
    assert labels[3:4].equal(truths.cells(torch.arange(3, 4), shape, 5))


@pytest.mark.parametrize("shape", [(12,), (6, 6)])
def test_shapley_values_are_exact_on_a_linear_model(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    weight = torch.randn(1, *shape, dtype=torch.float64)
    x, donor = torch.randn(2, 4, 1, *shape, dtype=torch.float64).unbind(0)
    labels = truths.cells(torch.arange(4), shape, 5)
    values = truths.shapley(margins(Linear(weight), torch.zeros(4, dtype=torch.int64)), x, donor, labels, rows=40)
    effect = ((x - donor) * weight)[:, 0]
    expected = torch.zeros(4, 5, dtype=torch.float64).scatter_add_(1, labels.flatten(1), effect.flatten(1))
    torch.testing.assert_close(values, expected)


def test_shapley_values_agree_with_all_orders_and_add_up() -> None:
    torch.manual_seed(2)
    x, donor = torch.randn(2, 2, 1, 4, dtype=torch.float64).unbind(0)
    labels = torch.arange(4).expand(2, 4)

    def game(inputs: Tensor, _: Tensor) -> Tensor:
        return inputs[:, 0].prod(1) + inputs[:, 0, 0].relu() * inputs[:, 0, 2]

    values = truths.shapley(game, x, donor, labels)
    orders = list(itertools.permutations(range(4)))
    expected = torch.zeros(2, 4, dtype=torch.float64)
    for order in orders:
        now = donor.clone()
        for cell in order:
            before = game(now, labels)
            now[..., cell] = x[..., cell]
            expected[:, cell] += (game(now, labels) - before) / len(orders)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(values.sum(1), game(x, labels) - game(donor, labels))


def test_how_much_is_one_for_the_effects_of_a_linear_model() -> None:
    torch.manual_seed(3)
    weight = torch.randn(1, 24, dtype=torch.float64)
    x, pool = torch.randn(5, 1, 24, dtype=torch.float64), torch.zeros(3, 1, 24, dtype=torch.float64)
    same = torch.zeros(5, dtype=torch.int64)
    games = truths.games(margins(Linear(weight), same), x, same, pool, torch.ones(3), seed=0, count=4)
    for game in games:
        effect = (x * weight)[:, 0]
        torch.testing.assert_close(truths.how_much(effect, [game]), torch.ones(5, dtype=torch.float64))
        torch.testing.assert_close(truths.how_much(-effect, [game]), -torch.ones(5, dtype=torch.float64))
    assert truths.how_much(torch.ones(5, 24), games).equal(torch.zeros(5, dtype=torch.float64))


def test_margins_of_one_logit_have_the_sign_of_the_class() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 1, bias=False))
    x, classes = torch.randn(4, 1, 3), torch.tensor([0, 1, 0, 1])
    z = model(x)[:, 0]
    torch.testing.assert_close(margins(model, classes)(x, torch.arange(4)), torch.where(classes == 1, z, -z))


def test_right_are_the_real_methods_near_the_best_of_them() -> None:
    assert truths.right({"a": 0.5, "b": 0.46, "c": 0.44, "fake-x": 0.9}, ["a", "b", "c"]) == ["a", "b"]


# Candidates


@pytest.mark.parametrize("shape", [(1, 32), (1, 16, 16), (1, 12, 12, 12)], ids=["signals", "images", "volumes"])
def test_fakes_and_copies_are_methods_for_the_time_of_a_trial(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = NETS["pooled"](shape, 3).eval()
    x = torch.randn(3, *shape)
    names = [name for name in DECLARED if name != "equal"]
    with declared():
        maps = explain(model, x, [*names, twin_spec("saliency"), "grad-cam", "saliency"])
        held = explain(Scaled(model, 30.0), x, "held")
    assert not set(DECLARED) & set(methods)
    real = maps["grad-cam"]
    torch.testing.assert_close(held, real)
    torch.testing.assert_close(maps["fake-other-sample"], real.roll(1, 0))
    spread = (maps["saliency"].flatten(1).amax(1)).max()
    torch.testing.assert_close(maps["twin:of=saliency"], maps["saliency"], rtol=0, atol=0.05 * float(spread))
    inverted = maps["fake-inverted"].flatten(1)
    torch.testing.assert_close(inverted.argmax(1), real.flatten(1).argmin(1))


# Trials


def test_both_truths_are_measured_on_a_network() -> None:
    task = TASKS["lesion"]
    test, pool = task.samples(0, 0, 6), task.samples(0, 50, 12)
    torch.manual_seed(0)
    model = NETS["pooled"]((1, *task.size), 3).eval()
    measured = truth(Ground(task, 0, model, test, pool, 1.0), ["grad-cam", "saliency"], rounds=1)
    assert set(measured["truths"]) == {"grad-cam", "saliency"}
    row = measured["truths"]["saliency"]
    assert {*truths.WHERE, "where", "how_much", "spearman"} == set(row)
    assert all(-1 <= mean <= 1 and error >= 0 for mean, error in row.values())


def reply(**changes: Any) -> Answer:
    plain = Answer("use", ("a",), ("a",), ("a",), ("a", "b"), False, {"a": 1.0, "b": 0.5}, "use a")
    return replace(plain, **changes)


def test_an_outcome_counts_every_named_method() -> None:
    table = {"a": {"where": [0.5], "how_much": [0.2]}, "b": {"where": [0.3], "how_much": [0.6]}}
    table["fake-x"] = {"where": [0.9], "how_much": [0.9]}
    one = outcome(table, reply(), everywhere=False)
    assert one["verdict"] == {"where": "right", "how_much": "wrong"}
    assert one["overall"] == "wrong"
    two = outcome(table, reply(kind="by question", trusted=("a", "b"), how_much=("b",)), everywhere=False)
    assert two["verdict"] == {"where": "right", "how_much": "right"}
    assert outcome(table, reply(eligible=("fake-x",)), everywhere=True)["fakes"] == ["fake-x"]
    silent = outcome(table, reply(kind="none", trusted=(), where=(), how_much=()), everywhere=False)
    assert silent["overall"] == "silent"


def record(seed: int, verdict: str, **changes: Any) -> dict[str, Any]:
    plain = {
        "task": "lead", "seed": seed, "net": "pooled", "rank": 1, "everywhere": False, "accuracy": 0.99,
        "dropped": False, "verdict": {"where": verdict, "how_much": verdict}, "fakes": [],
        "named": {"where": ["a"], "how_much": ["a"]}, "right": {"where": ["a"], "how_much": ["a"]},
        "answer": {"eligible": ["a"], "everywhere": False, "trusted": ["a"]},
        "truths": {"a": {}, "fake-x": {}, "twin:of=a": {}}, "seconds": [1.0, 2.0, 3.0],
    }  # fmt: skip
    return plain | changes


def test_the_page_lists_every_trial_and_says_what_is_missed() -> None:
    fine = [record(seed, "right") for seed in range(6)]
    text, held = page.summary([*fine, record(6, "right", dropped=True)])
    assert held
    assert text.count("| lead |") == 7
    assert "6 networks on 1 tasks; 1 dropped: lead 6" in text
    text, held = page.summary([*fine[:3], *(record(seed, "wrong") for seed in range(3, 6))])
    assert not held
    assert "50 % (3 of 6" in text
    silent = {"eligible": [], "everywhere": False, "trusted": []}
    text, held = page.summary([*fine[:5], record(5, "silent", answer=silent)])
    assert not held
    assert "at least one of the questions in 83 % (5 of 6" in text


def test_fakes_and_copies_are_counted() -> None:
    assert page.fakes([record(0, "right")])[1]
    assert not page.fakes([record(0, "right", fakes=["fake-x"])])[1]
    assert not page.twins([record(0, "right")])[1]
    both = {"eligible": ["a", "twin:of=a"], "everywhere": False}
    assert page.twins([record(0, "right", answer=both, named={"where": ["a", "twin:of=a"]})])[1]


def test_answers_are_compared_up_to_rounding() -> None:
    assert alike("a=0.50001, b=2", "a=0.5, b=2")
    assert not alike("a=0.51", "a=0.5")
    assert not alike("a=0.5", "b=0.5")
    assert changes(reply(), reply(numbers={"a": 1.0, "c": 0.0})) == []
    assert changes(reply(), reply(eligible=("b",))) == ["a"]


def test_a_trial_is_kept_and_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "trials" / "lead-0.json"
    assert kept(path, lambda: {"seed": 0}) == {"seed": 0}
    assert kept(path, lambda: {"seed": 1}) == json.loads(path.read_text(encoding="utf-8")) == {"seed": 0}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


# Tissue


def test_mosaics_hold_a_quarter_that_raises_its_class() -> None:
    model = Linear(torch.ones(1, 8, 8))
    x = torch.cat([torch.full((3, 1, 8, 8), 1.0), torch.full((3, 1, 8, 8), -1.0)])
    samples = Samples(x, torch.tensor([0, 0, 0, 1, 1, 1]), classes=("a", "b"))
    pictures, mask, classes = mosaics(model, samples, x)
    assert mask.flatten(1).sum(1).tolist() == [16] * 6
    assert classes.equal(samples.y)
    assert all(len(picture[0][inside].unique()) == 1 for picture, inside in zip(pictures, mask, strict=True))
    assert len(mosaics(model, samples, x, rise=1e6)[0]) == 0


def test_tissue_is_left_out_without_tiles(tmp_path: Path) -> None:
    text, held = tissue(tmp_path / "none")
    assert held
    assert text.startswith("Left out")
    assert kendall([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == pytest.approx(1 / 3)
