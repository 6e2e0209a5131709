"""Evidence: windows, donors and worths, on models whose worths can be written down."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import heatproof as hp
from heatproof.errors import NotApplicable
from heatproof.metrics import case, metrics, with_donors
from heatproof.probe import Goal, Probe
from heatproof.probe.worth import DONORS, Windows, Worths, donors_of, taken, worths

SIZES = [(40,), (3,), (12, 17), (5, 50), (7, 8, 9)]
EVIDENCE = ("window-correlation", "window-localisation")


class Linear(nn.Module):
    """The first class's logit is a weighted sum of the input, the others are constants."""

    def __init__(self, size: tuple[int, ...], scale: float = 1.0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(size, generator=draw))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        z = (x[:, 0] * self.weight).flatten(1).sum(1)
        return self.scale * torch.stack([z, torch.zeros_like(z), torch.full_like(z, -2.0)], dim=1)


def pair(size: tuple[int, ...], n: int = 4) -> tuple[Linear, Tensor, Tensor]:
    """A linear model, inputs and two donors of each."""
    draw = torch.Generator().manual_seed(5)
    return (
        Linear(size),
        torch.randn(n, 1, *size, generator=draw),
        torch.randn(n, DONORS, 1, *size, generator=draw),
    )


@pytest.mark.parametrize("size", SIZES)
def test_windows_lie_within_the_input_cover_it_and_depend_on_the_sample_alone(size: tuple[int, ...]) -> None:
    windows = Windows.over(size, torch.arange(6))
    ends = windows.starts + windows.widths
    assert int(windows.starts.min()) >= 0
    assert bool((ends <= torch.tensor(size)).all())
    alone = Windows.over(size, torch.arange(6)[4:5])
    assert alone.starts.equal(windows.take(torch.tensor([4])).starts)
    everything = torch.arange(len(windows))
    for sample in range(6):
        for scale in range(3):
            which = everything[windows.scale == scale]
            covered = windows.inside(torch.full_like(which, sample), which)
            assert bool(covered.any(0).all())


@pytest.mark.parametrize(("size", "most"), [((1000,), 150), ((224, 224), 400), ((96, 96, 96), 900), ((5,), 150)])
def test_evidence_costs_no_more_passes_than_it_may(size: tuple[int, ...], most: int) -> None:
    assert 2 * DONORS * len(Windows.over(size, torch.arange(1))) + 1 + DONORS <= most


@pytest.mark.parametrize("size", SIZES)
def test_the_mean_in_a_window_is_that_of_a_loop(size: tuple[int, ...]) -> None:
    windows, map = Windows.over(size, torch.arange(3)), torch.randn(3, *size)
    means = windows.means(map)
    for n in range(3):
        for k in range(len(windows)):
            place = tuple(
                slice(int(a), int(a) + int(w)) for a, w in zip(windows.starts[n, k], windows.widths[k], strict=True)
            )
            assert float(means[n, k]) == pytest.approx(float(map[n][place].double().mean()), abs=1e-9)


@pytest.mark.parametrize("size", [(40,), (12, 17), (7, 8, 9)])
def test_the_worths_of_a_linear_model_are_what_its_windows_add_less_what_the_rest_adds(size: tuple[int, ...]) -> None:
    model, x, donors = pair(size)
    goal = Goal(torch.zeros(4, dtype=torch.int64))
    # Far above the other classes, so that the margin is linear too.
    model.weight.data.abs_()
    x, donors = x.abs() + 1, donors.abs()
    evidence = worths(Probe(model), x, goal, donors, torch.arange(4))
    part = (x[:, None] - donors)[:, :, 0] * model.weight.detach()
    inside = torch.stack(
        [evidence.windows.inside(torch.arange(4), torch.full((4,), k)) for k in range(len(evidence.windows))], dim=1
    )
    held = torch.einsum("ndp,nkp->ndk", part.flatten(2).double(), inside.flatten(2).double())
    whole = part.flatten(2).sum(2).double()
    torch.testing.assert_close(evidence.values, 2 * held - whole[:, :, None], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(evidence.span, whole, rtol=1e-4, atol=1e-3)


def test_worths_do_not_depend_on_the_batch_or_on_the_other_samples() -> None:
    model, x, donors = pair((12, 17))
    goal, seeds = Goal(torch.tensor([0, 1, 2, 0])), torch.arange(4)
    whole = worths(Probe(model), x, goal, donors, seeds)
    single = worths(Probe(model, batch=1), x, goal, donors, seeds)
    rows = torch.tensor([2, 0])
    few = worths(Probe(model), x[rows], goal.take(rows), donors[rows], seeds[rows])
    torch.testing.assert_close(single.values, whole.values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(few.values, whole.values[rows], rtol=1e-5, atol=1e-5)


def test_progress_rises_to_all_samples() -> None:
    model, x, donors = pair((40,))
    done: list[int] = []
    worths(Probe(model, batch=7), x, Goal(torch.zeros(4, dtype=torch.int64)), donors, torch.arange(4), done.append)
    assert done == sorted(done)
    assert done[-1] == 4


def test_samples_without_donors_have_no_worth() -> None:
    model, x, donors = pair((40,))
    donors[1] = torch.nan
    evidence = worths(Probe(model), x, Goal(torch.zeros(4, dtype=torch.int64)), donors, torch.arange(4))
    assert evidence.values[1].isnan().all()
    assert evidence.values[[0, 2, 3]].isfinite().all()


@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(2, 30))
@settings(max_examples=30, deadline=None)
def test_donors_are_predicted_otherwise_and_two_where_there_are_two(seed: int, classes: int, n: int) -> None:
    logits = torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))
    goal = Goal(logits.argmax(1))
    places = donors_of(goal, logits, logits, torch.arange(n))
    for row, (first, second) in enumerate(places.tolist()):
        others = [i for i in range(n) if logits[i].argmax() != logits[row].argmax()]
        if not others:
            assert (first, second) == (-1, -1)
            continue
        assert {first, second} <= set(others)
        assert first != second or len(others) == 1
    rows = torch.tensor([n - 1])
    assert donors_of(goal.take(rows), logits[rows], logits, rows).equal(places[rows])


def test_a_sample_is_never_its_own_donor() -> None:
    # Where the true class is explained and another one predicted, the sample itself is predicted otherwise.
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    rows, goal = torch.arange(12), Goal((logits.argmax(1) + 1) % 3)
    for seed in range(40):
        places = donors_of(goal, logits, logits, rows + 100 * seed, itself=rows)
        assert not bool((places == rows[:, None]).any())
        assert bool((places[:, 0] != places[:, 1]).all())
        assert bool((logits.argmax(1)[places] != goal.classes[:, None]).all())
    alone = donors_of(goal.take(rows[:1]), logits[:1], logits[:1], rows[:1], itself=rows[:1])
    assert alone.tolist() == [[-1, -1]]


def test_a_donor_from_a_pool_is_another_sample() -> None:
    model, x, _ = pair((40,), n=8)
    target = (model(x).argmax(1) + 1) % 3
    maps = torch.randn(8, 40)
    among = hp.score(model, x, maps, list(EVIDENCE), target=target)
    pool = hp.score(model, x, maps, list(EVIDENCE), target=target, fill=x.clone())
    for name in EVIDENCE:
        torch.testing.assert_close(among[name], pool[name])


def test_donors_of_a_label_are_without_it_and_of_a_regression_beyond_the_median() -> None:
    logits = torch.tensor([[1.0, -1.0], [2.0, 1.0], [-1.0, -3.0], [-2.0, 2.0]])
    label = Goal(torch.tensor([0, 1, 0, 1]), task="labels")
    places = donors_of(label, logits, logits, torch.arange(4))
    assert [sorted(p) for p in places.tolist()] == [[2, 3], [0, 2], [0, 1], [0, 2]]
    outputs = torch.tensor([[0.0], [10.0], [1.0], [20.0]])
    high = donors_of(Goal(torch.zeros(4, dtype=torch.int64), task="regression"), outputs, outputs, torch.arange(4))
    assert [sorted(p) for p in high.tolist()] == [[1, 3], [0, 2], [1, 3], [0, 2]]


def test_taken_donors_are_the_samples_at_their_places() -> None:
    pool = torch.arange(12.0).reshape(4, 1, 3)
    donors = taken(pool, torch.tensor([[3, 1], [-1, -1]]))
    assert donors[0].equal(pool[[3, 1]])
    assert donors[1].isnan().all()


@pytest.mark.parametrize("size", [(40,), (12, 17)])
def test_the_exact_map_of_a_linear_model_correlates_best_and_uniform_maps_are_at_chance(size: tuple[int, ...]) -> None:
    model, x, donors = pair(size)
    model.weight.data.abs_()
    x, donors = x.abs() + 1, donors.abs()
    exact = ((x[:, None] - donors)[:, :, 0] * model.weight.detach()).mean(1)
    goal = torch.zeros(4, dtype=torch.int64)
    whole = with_donors(case(Probe(model), x, exact, target=goal), donors)
    correlation, localisation = (metrics[name].function for name in EVIDENCE)
    assert correlation(whole).tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    assert correlation(whole.of(-exact)).tolist() == pytest.approx([-1.0] * 4, abs=1e-5)
    for metric in (correlation, localisation):
        assert metric(whole.of(torch.full_like(exact, 0.3))).tolist() == [0.0] * 4


@pytest.mark.parametrize("size", SIZES)
def test_spread_values_are_the_means_over_the_windows_of_a_position(size: tuple[int, ...]) -> None:
    windows = Windows.over(size, torch.arange(2))
    values = torch.randn(2, len(windows), dtype=torch.float64)
    spread = windows.spread(values)
    inside = torch.stack([windows.inside(torch.arange(2), torch.full((2,), k)) for k in range(len(windows))], dim=1)
    expected = torch.einsum("nk,nk...->n...", values, inside.double()) / inside.double().sum(1)
    torch.testing.assert_close(spread, expected, rtol=1e-9, atol=1e-9)
    few = windows.only(windows.scale == 0)
    assert few.spread(torch.zeros(2, len(few))).isnan().equal(~inside[:, windows.scale == 0].any(1))


def located(worth: Tensor, map: Tensor) -> float:
    """How a map is localised in evidence that is the sum of a worth a position in every window, and none with it."""
    windows = Windows.over(tuple(worth.shape), torch.arange(1))
    values = (windows.means(worth[None]) * windows.widths.prod(1))[:, None].expand(-1, DONORS, -1)
    x = torch.zeros(1, 1, *worth.shape)
    one = case(Probe(Linear(tuple(worth.shape))), x, map[None], target=0)
    evidence = Worths(windows, values, torch.ones(1, DONORS))
    return float(metrics["window-localisation"].function(replace(one, worths=evidence)))


@pytest.mark.parametrize("size", [(60,), (28, 28), (14, 14, 14)])
def test_only_a_map_of_all_parts_that_count_and_of_nothing_else_is_localised_well(size: tuple[int, ...]) -> None:
    rank = len(size)
    worth, one, other = torch.zeros(size), torch.zeros(size), torch.zeros(size)
    one[(slice(size[0] // 10, size[0] // 5),) * rank] = 1.0
    other[(slice(-size[0] // 5, -size[0] // 10),) * rank] = 1.0
    worth = one + 0.8 * other
    both, first, second = located(worth, worth), located(worth, one), located(worth, other)
    assert both > 0.75
    assert first > 0.75
    assert second > 0.2  # the relevance counts, though the part that counts most is elsewhere
    spread_out = located(worth, worth + 0.3)
    assert 0 < spread_out < both - 0.2
    middle = torch.zeros(size)
    middle[(slice(2 * size[0] // 5, 3 * size[0] // 5),) * rank] = 1.0
    assert located(worth, middle) < 0
    assert located(worth, -worth) < 0
    assert located(worth, torch.full(size, 0.3)) == 0.0


def test_a_map_without_order_is_at_chance_on_average() -> None:
    worth = torch.zeros(28, 28)
    worth[3:10, 15:22] = 1.0
    draw = torch.Generator().manual_seed(0)
    values = torch.tensor([located(worth, torch.rand(28, 28, generator=draw)) for _ in range(400)])
    assert abs(float(values.mean())) < 3.5 * float(values.std()) / 20


def test_evidence_that_is_the_same_everywhere_says_nothing_of_where() -> None:
    windows = Windows.over((40,), torch.arange(1))
    one = case(Probe(Linear((40,))), torch.zeros(1, 1, 40), torch.rand(1, 40), target=0)
    evidence = Worths(windows, torch.full((1, DONORS, len(windows)), 0.5, dtype=torch.float64), torch.ones(1, DONORS))
    assert metrics["window-localisation"].function(replace(one, worths=evidence)).isnan().all()


@pytest.mark.parametrize("scale", [30.0, 1 / 3])
def test_the_temperature_of_the_logits_changes_nothing(scale: float) -> None:
    _, x, donors = pair((40,))
    maps = torch.randn(4, 40)
    values = [
        [metrics[name].function(with_donors(case(Probe(Linear((40,), factor)), x, maps, target=0), donors))
         for name in EVIDENCE]
        for factor in (1.0, scale)
    ]  # fmt: skip
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-5)


def test_scores_outside_a_study_take_donors_from_the_samples_or_from_the_pool() -> None:
    model, x, _ = pair((40,), n=40)
    maps = torch.randn(40, 40)
    assert len({*model(x).argmax(1).tolist()}) > 1
    among = hp.score(model, x, maps, list(EVIDENCE))
    pool = hp.score(model, x, maps, list(EVIDENCE), fill=x.clone())
    for name in EVIDENCE:
        torch.testing.assert_close(among[name], pool[name])
    one_class = x[model(x).argmax(1) == model(x).argmax(1)[0]]
    with pytest.raises(NotApplicable, match="predicted otherwise, and there are none"):
        hp.score(model, one_class, maps[: len(one_class)], "window-correlation")
