"""Every metric: its contract, its exact values in closed form, the mistakes it must not make, and bad input."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import heatproof as hp
from heatproof.errors import InputError, NotApplicable, UnknownName, UsageError
from heatproof.metrics import Case, case, families, metrics, names, score
from heatproof.metrics.similarity import pearson, spearman, ssim
from heatproof.probe import Goal, Probe, Recorder
from heatproof.registry import Spec

from .toys import SIZE, Plain, inputs, others, ready

N = 4
# Fewer runs than by default, to be quick.
QUICK = {
    "faithfulness-correlation": "runs=9",
    "infidelity": "runs=9",
    "monotonicity-correlation": "runs=2,segments=9",
    "mu-fidelity": "runs=9",
    "non-sensitivity": "segments=9",
    "sensitivity-n": "runs=4",
    "irof": "segments=9",
    **dict.fromkeys(("aopc", "deletion", "effective-complexity", "insertion", "morf-lerf-gap"), "steps=5"),
    **dict.fromkeys(
        ("average-sensitivity", "local-lipschitz", "max-sensitivity", "relative-input-stability"), "runs=3"
    ),
}


def explain(model: Any, x: Tensor, *, target: Any, index: Tensor, seed: int) -> Tensor:
    """A cheap method that depends on the model, the class and the input."""
    return (model.gradient(x, target) * x).sum(1)


@pytest.fixture(scope="module", params=[1, 2, 3])
def given_case(request: pytest.FixtureRequest) -> dict[str, Any]:
    rank = request.param
    probe, x = Probe(ready(Plain(rank))), inputs(rank, N)
    mask = torch.zeros(N, *SIZE[rank], dtype=torch.bool)
    mask[(slice(None), *(slice(1, 4) for _ in SIZE[rank]))] = True
    map = explain(probe, x, target=None, index=torch.arange(N), seed=0)
    other = ready(Plain(rank), seed=7)
    twin = copy.deepcopy(probe.model)
    twin.conv2.weight.data.add_(0.2 * twin.conv2.weight.data.flip(0))
    models = {"relearnt": lambda _: other, "retrained": lambda _: twin}
    pool = others(probe.model, rank)
    return {"model": probe, "x": x, "map": map, "mask": mask, "explain": explain, "pool": pool, **models}


def run(arguments: dict[str, Any], metric: str, **changes: Any) -> Tensor:
    arguments = {**arguments, **changes}
    if metric in QUICK:
        metric = f"{metric}:{QUICK[metric]}"
    pool = arguments.pop("pool", None)
    if {"donors", "evidence"} & {*metrics[Spec.parse(metric).name].needs}:
        arguments["fill"] = pool
    return score(arguments.pop("model"), arguments.pop("x"), arguments.pop("map"), metric, **arguments)


@pytest.mark.parametrize("name", names())
def test_contract(name: str, given_case: dict[str, Any]) -> None:
    """(N,) float64, no infinity, in range, the same again, the same one by one, in another order and batch."""
    model = copy.deepcopy(given_case["model"].model)
    state = torch.random.get_rng_state()
    scores = run(given_case, name)
    assert scores.shape == (N,)
    assert scores.dtype == torch.float64
    low, high = metrics[name].range
    assert not scores.isinf().any()
    assert low is None or bool((scores[~scores.isnan()] >= low - 1e-9).all())
    assert high is None or bool((scores[~scores.isnan()] <= high + 1e-9).all())
    torch.testing.assert_close(run(given_case, name), scores, rtol=0, atol=0, equal_nan=True)
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5, equal_nan=True)
    rows = torch.tensor([2, 0, 3, 1])
    part = {key: given_case[key][rows] for key in ("x", "map", "mask")}
    small = Probe(given_case["model"].model, batch=3)
    close(run(given_case, name, **part, index=rows, model=small), scores[rows])
    for i in range(2):
        alone = {key: given_case[key][i : i + 1] for key in ("x", "map", "mask")}
        close(run(given_case, name, **alone, index=torch.tensor([i])), scores[i : i + 1])
    assert torch.random.get_rng_state().equal(state)
    for a, b in zip(model.state_dict().values(), given_case["model"].model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("name", names())
def test_constant_maps_and_empty_or_full_masks_never_crash(name: str, given_case: dict[str, Any]) -> None:
    map = torch.zeros_like(given_case["map"])
    map[1] = 1.0
    map[2] = given_case["map"][2]
    mask = given_case["mask"].clone()
    mask[2], mask[3] = False, True
    values = run(given_case, name, map=map, mask=mask)
    assert not values.isinf().any()
    if "mask" in metrics[name].needs:
        assert values.isnan().all()


@pytest.mark.parametrize("name", names())
def test_facts_are_declared(name: str) -> None:
    entry = metrics[name]
    assert entry.family in families
    assert entry.better in ("higher", "lower")
    assert entry.summary.endswith(".")
    assert len(entry.function.__doc__.splitlines()) <= 20
    assert entry.label
    for line in (entry.tells, entry.cannot, entry.mind):
        assert line.endswith("."), f"{name}: its docstring needs the lines Tells:, Cannot: and Mind:"
        assert line[0].islower() or line[0].isdigit() or line[0] == "`"


# Closed forms. One position decides: the score is p with it and 1/2 without it, whatever the other positions are.

P = 10
HIGH = float(torch.tensor(4.0).sigmoid())


class OnePlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        z = self.weight * x[:, 0, 3]
        return torch.stack([z, torch.zeros_like(z)], dim=1)


def one_place(metric: str, kind: str, **options: Any) -> float:
    x = torch.ones(1, 1, P)
    map = torch.arange(P).float()[None] / 100
    map[0, 3] = {"perfect": 1.0, "worst": -1.0}[kind]
    mask = torch.zeros(1, P, dtype=torch.bool)
    mask[0, 3] = True
    return float(score(Probe(OnePlace()), x, map, metric, target=0, mask=mask, fill="black", **options))


DROP = HIGH - 0.5
EXACT = [
    ("deletion:steps=10", 0.5 + DROP * 0.05, HIGH - DROP * 0.05),
    ("insertion:steps=10", HIGH - DROP * 0.05, 0.5 + DROP * 0.05),
    ("insertion-minus-deletion:steps=10", DROP * 0.9, -DROP * 0.9),
    ("morf-lerf-gap:steps=10", DROP * 0.9, -DROP * 0.9),
    ("aopc:steps=10", DROP * 0.95, DROP * 0.05),
    ("aopc:steps=10,until=0.1", DROP / 2, 0.0),
    ("irof", DROP / HIGH * 0.95, DROP / HIGH * 0.05),
    ("road:fill=black", 0.5, HIGH),
    ("average-drop:keep=0.3", 0.0, DROP / HIGH),
    ("increase-in-confidence", 0.0, 0.0),
    ("average-gain", 0.0, 0.0),
    ("comprehensiveness", DROP, 0.0),
    ("sufficiency", 0.0, DROP),
    ("effective-complexity:steps=10", 0.1, 1.0),
    ("monotonicity-correlation", None, None),
    ("pointing-game", 1.0, 0.0),
    ("relevance-rank", 1.0, 0.0),
    ("roc-auc", 1.0, 0.0),
    ("average-precision", 1.0, 0.1),
    ("best-iou", 1.0, 0.1),
    ("completeness", None, None),
]


@pytest.mark.parametrize(("metric", "perfect", "worst"), [row for row in EXACT if row[1] is not None])
def test_one_place_decides(metric: str, perfect: float, worst: float) -> None:
    assert one_place(metric, "perfect") == pytest.approx(perfect, abs=1e-6)
    assert one_place(metric, "worst") == pytest.approx(worst, abs=1e-6)


class Linear(nn.Module):
    """The logit is a weighted sum of the positions."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        z = (x.flatten(1) * self.weight).sum(1)
        return torch.stack([z, torch.zeros_like(z)], dim=1)


LINEAR = [
    ("faithfulness-correlation", 1.0, -1.0),
    ("mu-fidelity", 1.0, -1.0),
    ("sensitivity-n", 1.0, -1.0),
    ("infidelity", 0.0, 0.0),
    ("completeness", 0.0, 2.0),
    ("non-sensitivity:tolerance=0.0001", 0.0, 0.0),
]


@pytest.mark.parametrize(("metric", "perfect", "negated"), LINEAR)
def test_contributions_explain_a_linear_model(metric: str, perfect: float, negated: float) -> None:
    weight = torch.randn(P, generator=torch.Generator().manual_seed(1))
    x = torch.randn(2, 1, P, generator=torch.Generator().manual_seed(2))
    probe, map = Probe(Linear(weight), score="logit"), (weight * x)[:, 0]
    for factor, want in ((1.0, perfect), (-1.0, negated)):
        values = score(probe, x, factor * map, metric, target=0, fill="black")
        torch.testing.assert_close(values, torch.full((2,), want, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_a_part_without_effect_should_have_no_relevance() -> None:
    x, map = torch.ones(1, 1, P), torch.ones(1, P)
    probe = Probe(OnePlace())
    assert float(score(probe, x, map, "non-sensitivity", target=0, fill="black")) == pytest.approx(0.9)
    map = torch.zeros(1, P)
    map[0, 3] = 1
    x = torch.randn(1, 1, P, generator=torch.Generator().manual_seed(0))
    assert float(score(probe, x, map, "non-sensitivity", target=0, fill="black")) == 0
    assert float(score(probe, x, map, "monotonicity-correlation", target=0)) == pytest.approx(1)
    assert float(score(probe, x, 1 - map, "monotonicity-correlation", target=0)) == pytest.approx(-1)


def toy_explain(kind: str) -> Any:
    """Methods that look at the input in a known way."""

    def explain(model: Probe, x: Tensor, *, target: Any, index: Tensor, seed: int) -> Tensor:
        if kind == "fixed":
            return torch.linspace(0, 1, x[0, 0].numel()).reshape(x.shape[2:]).expand(len(x), *x.shape[2:])
        if kind == "chance":
            return torch.rand(len(x), *x.shape[2:], generator=torch.Generator().manual_seed(seed))
        return x.mean(1)

    return explain


@pytest.mark.parametrize(
    ("metric", "kind", "want"),
    [
        ("max-sensitivity", "fixed", 0.0),
        ("average-sensitivity", "fixed", 0.0),
        ("local-lipschitz", "fixed", 0.0),
        ("local-lipschitz", "input", 1.0),
        ("relative-input-stability", "fixed", 0.0),
        ("relative-input-stability", "input", 1.0),
        ("relative-output-stability", "fixed", 0.0),
        ("shift-equivariance", "input", 1.0),
        ("seed-repeatability", "fixed", 1.0),
        ("parameter-randomisation", "fixed", 1.0),
        ("parameter-randomisation:order=independent,kind=ssim", "fixed", 1.0),
        ("efficient-parameter-randomisation", "fixed", 0.0),
        ("random-logit", "fixed", 1.0),
        ("coherency", "fixed", 1.0),
        ("input-shift-invariance", "fixed", 0.0),
    ],
)
def test_methods_that_look_at_the_input_in_a_known_way(metric: str, kind: str, want: float) -> None:
    x = torch.randn(3, 1, 12, generator=torch.Generator().manual_seed(0))
    probe, method = Probe(Linear(torch.linspace(1, 2, 12))), toy_explain(kind)
    map = method(probe, x, target=None, index=torch.arange(3), seed=0)
    values = score(probe, x, map, metric, target=0, explain=method)
    defined = values[~values.isnan()]
    assert len(defined)
    torch.testing.assert_close(defined, torch.full_like(defined, want), rtol=1e-4, atol=1e-4)


def test_chance_is_not_repeatable() -> None:
    x, method = torch.randn(2, 1, 400), toy_explain("chance")
    map = method(None, x, target=None, index=torch.arange(2), seed=0)
    probe = Probe(Linear(torch.ones(400)))
    assert float(score(probe, x, map, "seed-repeatability", explain=method).abs().max()) < 0.2


@pytest.mark.parametrize(("metric", "want"), [("gini-sparseness", 1 - 1 / P), ("entropy", 0.0)])
def test_one_position_is_the_simplest_map(metric: str, want: float) -> None:
    map = torch.zeros(1, P)
    map[0, 2] = -3.0
    probe, x = Probe(OnePlace()), torch.ones(1, 1, P)
    assert float(score(probe, x, map, metric)) == pytest.approx(want)
    uniform = {"gini-sparseness": 0.0, "entropy": math.log(P)}[metric]
    assert float(score(probe, x, torch.ones(1, P), metric)) == pytest.approx(uniform, abs=1e-9)


def test_relevance_mass_of_perfect_worst_and_even_maps() -> None:
    mask = torch.tensor([[True, True, False, False, False]]).expand(3, 5)
    map = torch.tensor([[2.0, 1, 0, -4, 0], [0, -1, 1, 0, 2], [1, 1, 1, 1, 1.0001]])
    probe, x = Probe(Linear(torch.ones(5))), torch.ones(3, 1, 5)
    for name in ("relevance-mass", "energy-pointing-game"):
        torch.testing.assert_close(
            score(probe, x, map, name, mask=mask), torch.tensor([1.0, 0.0, 0.4]).double(), rtol=0, atol=1e-4
        )
    far = score(probe, x, map, "earth-movers-distance", mask=mask)
    torch.testing.assert_close(far, torch.tensor([1 / 24, 17 / 24, 0.375]).double(), rtol=0, atol=1e-4)


# The mistakes of others


def test_equal_relevance_is_ordered_by_chance_and_exactly_k_positions_stay() -> None:
    """A map with ties: exactly round(keep * P) stay; with ties=drop only those above the threshold."""
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            z = x.flatten(1).sum(1)
            return torch.stack([z, torch.zeros_like(z)], dim=1)

    map = torch.zeros(200, 10)
    map[:, :2] = 1.0
    x = torch.ones(200, 1, 10)
    score(Probe(Watch()), x, map, "average-drop:keep=0.5", target=0, fill="black")
    assert (seen[-1].flatten(1).sum(1) == 5).all()
    assert (seen[-1][:, 0, :2] == 1).all()
    assert bool((seen[-1][:, 0, 2:].mean(0) - 3 / 8).abs().max() < 0.15)
    score(Probe(Watch()), x, map, "average-drop:keep=0.5,ties=drop", target=0, fill="black")
    torch.testing.assert_close(seen[-1][:, 0], map)


def test_ties_drop_equals_exact_ranks_without_ties(given_case: dict[str, Any]) -> None:
    for keep in (0.1, 0.5, 1.0):
        exact, drop = (run(given_case, f"average-drop:keep={keep}{tail}") for tail in ("", ",ties=drop"))
        torch.testing.assert_close(exact, drop, rtol=0, atol=0)


@pytest.mark.parametrize("given_case", [2], indirect=True)
def test_one_sample_does_not_change_another(given_case: dict[str, Any]) -> None:
    map = given_case["map"].clone()
    map[1:] *= 1000
    for name in names():
        values, other = run(given_case, name), run(given_case, name, map=map)
        torch.testing.assert_close(other[0], values[0], rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", [n for n in names(family="faithfulness") if metrics[n].curve])
def test_the_area_is_over_the_removed_fraction_not_over_the_count_of_steps(name: str) -> None:
    x, map = torch.ones(1, 1, 400), torch.randn(1, 400, generator=torch.Generator().manual_seed(0))
    probe = Probe(Linear(torch.full((400,), 0.01)))
    options = {"irof": "segments", "road": "steps"}.get(name, "steps")
    if name == "sensitivity-n":
        return
    coarse, fine = (float(score(probe, x, map, f"{name}:{options}={n}", target=0)) for n in (40, 200))
    assert coarse == pytest.approx(fine, abs=0.01)


def test_logits_that_are_not_positive_have_no_average_drop() -> None:
    x = torch.ones(2, 1, P)
    x[1] = -1
    probe = Probe(OnePlace(), score="logit")
    values = score(probe, x, torch.ones(2, P), "average-drop", target=0)
    assert values.isnan().tolist() == [False, True]
    with pytest.raises(NotApplicable, match="probabilities"):
        score(probe, x, torch.ones(2, P), "average-gain", target=0)


def test_flipped_predictions_do_not_count() -> None:
    """The class flips within the box around the input: nothing can be said."""

    class Nervous(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            z = 1e4 * (x.flatten(1).sum(1) - x.flatten(1).sum(1).round()).abs() - 1e-6
            return torch.stack([torch.zeros_like(z), z], dim=1)

    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    method = toy_explain("input")
    for name in ("max-sensitivity", "average-sensitivity", "local-lipschitz"):
        values = score(Probe(Nervous()), x, x[:, 0], name, explain=method)
        assert values.isnan().all()


@pytest.mark.parametrize("given_case", [1], indirect=True)
def test_scale_of_the_map_does_not_matter_where_it_must_not(given_case: dict[str, Any]) -> None:
    free = set(names()) - {"completeness"}
    scaled = {
        "map": given_case["map"] * 7,
        "explain": lambda *a, **k: 7 * explain(*a, **k),
    }
    for name in sorted(free - {"local-lipschitz"}):
        values, other = run(given_case, name), run(given_case, name, **scaled)
        torch.testing.assert_close(other, values, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_randomised_models_exclude_the_model_itself_and_cascade_from_the_top() -> None:
    from heatproof.metrics.randomisation import randomised

    model = ready(Plain(1))
    before = copy.deepcopy(model.state_dict())
    for order, sizes in (("cascading", [1, 2, 3, 4]), ("independent", [1, 1, 1, 1])):
        changed = []
        for probe in randomised(Probe(model), seed=0, order=order, stages=8):
            names = {k.split(".")[0] for k, v in probe.model.state_dict().items() if not v.equal(before[k])}
            changed.append(names)
        assert [len(c) for c in changed] == sizes
        assert changed[0] == {"dense"}
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())


# Sharing


def test_curve_metrics_share_their_passes() -> None:
    x, probe = inputs(1, 8), Probe(ready(Plain(1)))
    map = torch.randn(8, *SIZE[1], generator=torch.Generator().manual_seed(0))
    curves = [n for n in names(family="faithfulness") if n not in ("road", "irof") and not metrics[n].needs]
    removal = ["deletion", "insertion", "insertion-minus-deletion", "morf-lerf-gap", "aopc", "comprehensiveness"]
    removal += ["sufficiency", "average-drop", "increase-in-confidence", "average-gain"]
    assert set(removal) <= {*curves, "average-drop", "increase-in-confidence", "average-gain"}
    probe.goal(x)
    probe.passes.clear()
    score(probe, x, map, ["deletion", "insertion"])
    two = probe.passes["forward"]
    probe.passes.clear()
    score(probe, x, map, removal)
    assert probe.passes["forward"] <= two * 1.1
    assert two <= 8 * (2 * 19 + 3)


def _saliency(hidden: bool, model: Probe, x: Tensor, *, target: Any, index: Tensor, seed: int) -> Tensor:
    """By a probe of its own, where that should not be recorded."""
    return (replace(model) if hidden else model).gradient(x, target).abs().amax(1)


def test_a_draw_around_the_input_costs_one_pass_forward_and_one_back() -> None:
    """The class of the moved input is taken from the pass that explains it, whatever the batch size."""
    x, runs, model = inputs(1, 8), 3, ready(Plain(1))
    goal = Goal(torch.arange(8) % 3)
    values = []
    for hidden in (False, True):
        probe = Probe(model, batch=3)

        saliency = partial(_saliency, hidden)
        map = saliency(probe, x, target=goal, index=torch.arange(8), seed=0)
        probe.passes.clear()
        values.append(score(probe, x, map, f"relative-output-stability:runs={runs}", target=goal, explain=saliency))
        assert probe.passes["forward"] == 8 * (1 + runs)
        assert probe.passes["backward"] == (0 if hidden else 8 * runs)
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=0)


def test_logits_are_recorded_of_exactly_these_inputs() -> None:
    x, probe = inputs(1, 5), Probe(ready(Plain(1)), batch=2)
    recorder = Recorder(x)
    recorded = probe.recorded(recorder)
    recorded.logits(x + 1)
    recorded.logits(x[:2])
    assert recorder.logits is None
    recorded.gradient(x[2:], 1)
    recorded.logits(x)
    assert recorder.logits is not None
    passes = dict(probe.passes)
    assert passes == dict(recorded.passes)
    torch.testing.assert_close(recorder.logits, probe.logits(x), rtol=0, atol=0)
    recorder = Recorder(x)
    probe.recorded(recorder).logits(x[1:])
    probe.logits(x)
    assert recorder.logits is None


def test_random_subsets_are_shared_by_all_methods() -> None:
    x, probe = inputs(1, 4), Probe(ready(Plain(1)))
    map = torch.randn(4, *SIZE[1])
    first = case(probe, x, map)
    metrics["faithfulness-correlation"].function(first)
    probe.passes.clear()
    metrics["faithfulness-correlation"].function(first.of(-map))
    metrics["infidelity"].function(first.of(-map))
    assert not probe.passes


# Similarity


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_rank_metrics_see_only_the_order(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    map = torch.randn(2, 12, generator=g).round(decimals=1)
    mask = torch.rand(2, 12, generator=g) < 0.4
    probe, x = Probe(Linear(torch.ones(12))), torch.ones(2, 1, 12)
    for name in ("deletion", "roc-auc", "average-precision", "best-iou", "pointing-game", "relevance-rank"):
        a, b = (score(probe, x, m, name, mask=mask) for m in (map, map.exp() * 3 - 1))
        torch.testing.assert_close(a, b, equal_nan=True)


def test_similarity_of_equal_and_opposite_maps() -> None:
    a = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(0))
    one = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(ssim(a, 2 * a + 1), one)
    torch.testing.assert_close(pearson(a.flatten(1), -a.flatten(1)), -one)
    torch.testing.assert_close(spearman(a.flatten(1), a.flatten(1).exp()), one)
    assert ssim(a, torch.zeros_like(a)).isnan().all()


# Bad input


def test_bad_input_is_refused_in_one_line(given_case: dict[str, Any]) -> None:
    x, map, mask = (given_case[key] for key in ("x", "map", "mask"))
    nan = map.clone()
    nan.view(-1)[0] = float("nan")
    bad: list[tuple[dict[str, Any], str, type[Exception], str]] = [
        ({"map": map[:2]}, "deletion", InputError, "map: got shape"),
        ({"map": x}, "deletion", InputError, "expected"),
        ({"map": nan}, "deletion", InputError, "NaN"),
        ({"mask": mask[:2]}, "pointing-game", InputError, "mask"),
        ({"mask": mask.float()}, "pointing-game", InputError, "bool"),
        ({"mask": None}, "pointing-game", NotApplicable, "planted truth"),
        ({"explain": None}, "max-sensitivity", NotApplicable, "explain="),
        ({}, "deletoin", UnknownName, "deletion"),
        ({}, "deletion:stepz=3", UnknownName, "steps"),
        ({}, "deletion:steps=0", InputError, "steps"),
        ({}, "deletion:steps=many", UsageError, "expected int"),
        ({}, "deletion:fill=blak", UnknownName, "black"),
        ({}, "average-drop:keep=0", UsageError, "keep"),
        ({}, "average-drop:keep=1.5", UsageError, "keep"),
        ({}, "average-drop:ties=no", UsageError, "ties"),
        ({}, "faithfulness-correlation:runs=1", UsageError, "runs"),
        ({}, "max-sensitivity:radius=0", UsageError, "radius"),
        ({"index": torch.arange(2)}, "deletion", InputError, "index"),
    ]
    for changes, metric, kind, word in bad:
        with pytest.raises(kind, match=word) as error:
            run(given_case, metric, **changes)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="empty list"):
        score(given_case["model"], x, map, [])


def test_a_list_gives_a_dict_and_the_public_name_is_the_same(given_case: dict[str, Any]) -> None:
    values = hp.score(given_case["model"], given_case["x"], given_case["map"], ["aopc", "deletion:steps=5"])
    assert list(values) == ["aopc", "deletion:steps=5"]
    torch.testing.assert_close(values["aopc"], run(given_case, "aopc:steps=20"))


def test_a_case_keeps_curves(given_case: dict[str, Any]) -> None:
    from heatproof.metrics import measure

    whole = case(given_case["model"], given_case["x"], given_case["map"])
    assert isinstance(whole, Case)
    value = measure(whole, metrics.spec("deletion:steps=4"))
    curve = whole.curves["deletion:steps=4"]
    assert curve.values.shape == (N, 5)
    torch.testing.assert_close(curve.value, value, rtol=1e-5, atol=1e-6)


def test_a_goal_may_be_a_contrast_or_a_function(given_case: dict[str, Any]) -> None:
    contrast = run(given_case, "deletion", target=hp.Contrast())
    assert contrast.isfinite().all()
    first = run(given_case, "deletion", target=lambda raw: raw.softmax(1)[:, 0])
    torch.testing.assert_close(first, run(given_case, "deletion", target=0))
    with pytest.raises(NotApplicable, match="other class"):
        run(given_case, "random-logit", target=lambda raw: raw[:, 0])
    assert Goal(torch.zeros(1, dtype=torch.int64)).function is None
