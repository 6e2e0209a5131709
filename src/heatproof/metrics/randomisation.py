"""Whether the map depends on what the model has learnt, and on the class that is explained.

Randomised models are copies: the model under question and the global random state are never touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof import draws
from heatproof.errors import NotApplicable, UsageError, first_line
from heatproof.metrics.cases import Case, Curve
from heatproof.metrics.catalogue import Axes, metric
from heatproof.metrics.similarity import Similarity, similarity
from heatproof.probe import Goal, Probe, duplicate

Order = Literal["cascading", "independent"]


@metric(
    "parameter-randomisation",
    better="lower",
    family="randomisation",
    needs=("explain",),
    range=(-1, 1),
    paper="1810.03292",
    unit="similarity",
    must_change_with="parameters",
    unchanged_above=0.5,
    curve=Axes(
        "share of layers with random weights, from the output down",
        "similarity to the original map",
        {("order", "independent"): "place of the layers with random weights, from the output down"},
    ),
)
def parameter_randomisation(
    case: Case, *, order: Order = "cascading", kind: Similarity = "spearman", stages: int = 8
) -> Curve:
    """The mean similarity to the original map while layers are randomised, from the output down or one by one.

    Each weight is redrawn from a normal with the mean and deviation of its tensor. The model as it is takes no part in
    the average. A map that becomes constant has similarity 0.
    Deviates: at most ``stages`` groups of layers. Range: -1 to 1. NaN for a constant map.
    Cost: one explanation a stage.
    Tells: whether the map depends on the weights of the model.
    Cannot: whether the map is correct; a map of pure noise passes.
    Mind: a method that fails explains the input, not the model.
    """
    if stages < 1:
        raise UsageError(f"stages: got {stages}, expected at least 1")
    similarities = [
        _still(case.map, case.again(case.x, probe=probe), kind)
        for probe in randomised(as_read(case.probe, case.x), seed=case.seed, order=order, stages=stages)
    ]
    return Curve(
        torch.linspace(1 / len(similarities), 1, len(similarities), dtype=torch.float64),
        torch.stack(similarities, 1),
        by="mean",
    )


@metric(
    "efficient-parameter-randomisation",
    better="higher",
    family="randomisation",
    needs=("explain",),
    range=(-1, None),
    paper="2401.06465",
    unit="relative rise",
)
def efficient_parameter_randomisation(case: Case, *, bins: int = 100) -> Tensor:
    """The relative rise of the map's complexity once every layer is randomised (equation 6).

    Complexity is the entropy of a histogram of its values. NaN for a constant map. Cost: one explanation.
    Tells: whether the map becomes noise when all weights are replaced by random ones.
    Cannot: which layers the map depends on.
    Mind: it is coarse: one explanation in place of one for each group of layers.
    """
    before = _histogram_entropy(case.map, bins)
    (probe,) = randomised(as_read(case.probe, case.x), seed=case.seed, order="cascading", stages=1)
    after = _histogram_entropy(case.again(case.x, probe=probe), bins)
    return (after - before) / torch.where(before > 0, before, torch.nan)


@metric(
    "random-logit",
    better="lower",
    family="randomisation",
    needs=("explain",),
    range=(-1, 1),
    paper="1912.09818",
    unit="similarity",
    must_change_with="class",
    unchanged_above=0.9,
)
def random_logit(case: Case, *, kind: Similarity = "ssim") -> Tensor:
    """The similarity of the maps of the explained class (or label) and of another, drawn by the sample's seed.

    Range: -1 to 1. NaN for a constant map. Cost: one explanation.
    Tells: whether the map depends on the class that is explained.
    Cannot: anything where two classes rest on the same evidence with opposite sign.
    Mind: maps of absolute values are similar for two classes by construction.
    """
    if case.goal.function is not None:
        raise NotApplicable("random-logit: what is explained is a function of the output, which has no other class")
    if case.goal.task == "regression":
        raise NotApplicable("random-logit: a regression has no other class to explain")
    classes = case.shared("logits", lambda: case.probe.logits(case.x)).shape[1]
    step = 1 + (draws.uniform(case.seeds("other class"), ()) * (classes - 1)).long()
    other = (case.goal.classes + step.to(case.goal.classes)) % classes
    return _still(case.map, case.again(case.x, goal=Goal(other, task=case.goal.task)), kind)


@metric(
    "label-randomisation",
    better="lower",
    family="randomisation",
    needs=("explain", "relearnt"),
    range=(-1, 1),
    paper="1810.03292",
    unit="similarity",
    must_change_with="labels",
    unchanged_above=0.5,
)
def label_randomisation(case: Case, *, kind: Similarity = "spearman", epochs: int = 60) -> Tensor:
    """The similarity of the maps of the model and of one trained on shuffled labels (section 3.2).

    A study trains that model for so many ``epochs``, where it knows the training samples, and keeps it beside its
    scores. Range: -1 to 1. NaN for a constant map. Cost: one training a study, one explanation.
    Tells: whether the map depends on the labels that the model learnt.
    Cannot: whether the map is correct.
    Mind: a second model is trained on shuffled labels; where it could not learn them, the comparison says little.
    """
    if case.relearnt is None:
        raise NotApplicable("label-randomisation: needs a model trained on shuffled labels; hp.study trains one")
    other = of_model(as_read(case.probe, case.x), case.relearnt(epochs))
    return _still(case.map, case.again(case.x, probe=other), kind)


@metric(
    "retraining-consistency",
    better="higher",
    family="randomisation",
    needs=("explain", "retrained"),
    range=(-1, 1),
    unit="similarity",
)
def retraining_consistency(case: Case, *, kind: Similarity = "spearman", twins: int = 1) -> Tensor:
    """The mean similarity of the maps of the model and of ``twins`` trained alike from other seeds.

    A study trains them where the model's card says how, and keeps them beside its scores. NaN for a constant map, and
    where every twin predicts another class than the model; twins that do are left out of the mean.
    Range: -1 to 1. Cost: a training a twin and study; a pass and an explanation a twin.
    Tells: whether the map would be the same had the network been trained from another seed.
    Cannot: whether the map is correct; a map that ignores the model is the same for every twin.
    Mind: two networks may rely on different evidence; then correct maps differ too.
    """
    if case.retrained is None:
        raise NotApplicable("retraining-consistency: needs models trained from other seeds; hp.study trains them")
    if twins < 1:
        raise UsageError(f"twins: got {twins}, expected at least 1")
    logits = case.shared("logits", lambda: case.probe.logits(case.x))
    similarities = []
    for number in range(1, twins + 1):
        twin = of_model(as_read(case.probe, case.x), case.retrained(number))
        there = case.shared(("twin", number), partial(twin.logits, case.x))
        alike = _still(case.map, case.again(case.x, probe=twin), kind)
        similarities.append(torch.where(case.same_prediction(there, logits), alike, torch.nan))
    return torch.stack(similarities).nanmean(0)


def randomised(probe: Probe, *, seed: int | str, order: Order, stages: int) -> Iterator[Probe]:
    """Probes of copies of the model with more and more layers randomised from the top, or one group of them each.

    Raises: NotApplicable where the model cannot be copied or has no parameters.
    """
    layers = [name for name, m in probe.model.named_modules() if any(True for _ in m.parameters(recurse=False))]
    if not layers:
        raise NotApplicable("the model has no parameters to randomise")
    layers = list(dict.fromkeys(reversed(layers)))
    count = min(stages, len(layers))
    ends = [round(len(layers) * (stage + 1) / count) for stage in range(count)]
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        model = _copy(probe.model)
        modules = dict(model.named_modules())  # a scripted model has no get_submodule
        for name in layers[0 if order == "cascading" else start : end]:
            _redraw(modules[name], f"{seed}:{name}")
        yield of_model(probe, model)


def as_read(probe: Probe, x: Float[Tensor, "n c *s"]) -> Probe:
    """The probe, stating how its outputs are read, so that a copy with other numbers is read alike.

    Where operations of the model are watched, they are those of the copy too.
    """
    outputs = probe.outputs_for(x)
    if outputs.watch or outputs.stated or outputs.trouble is not None:
        return probe
    return probe.alike(outputs=outputs.statement)


def of_model(probe: Probe, model: nn.Module, prefix: str = "") -> Probe:
    """The probe asking another model alike, whose layers have the same names behind a prefix."""
    names = {module: name for name, module in probe.model.named_modules()}

    def name(layer: str | nn.Module) -> str:
        return prefix + (layer if isinstance(layer, str) else names[layer])

    if isinstance(probe.layer, Sequence) and not isinstance(probe.layer, str):
        layer: str | list[str] | None = [name(one) for one in probe.layer]
    else:
        layer = None if probe.layer is None else name(probe.layer)
    return probe.asking(model, layer)


def _copy(model: nn.Module) -> nn.Module:
    try:
        return duplicate(model)
    except Exception as error:  # a model may hold anything that cannot be copied
        raise NotApplicable(
            f"the model cannot be copied to randomise it ({type(error).__name__}: {first_line(error)})"
        ) from error


def _redraw(module: nn.Module, label: str) -> None:
    for name, value in module.named_parameters(recurse=False):
        if value.is_floating_point():
            seed = draws.seeds(0, f"{label}:{name}", torch.zeros(1, dtype=torch.int64))
            fresh = draws.normal(seed, (value.numel(),)).reshape(value.shape)
            spread, centre = value.detach().double().std(correction=0).cpu(), value.detach().double().mean().cpu()
            with torch.no_grad():
                value.copy_((centre + spread * fresh).to(value))


def _still(map: Float[Tensor, "n *s"], other: Float[Tensor, "n *s"], kind: Similarity) -> Float[Tensor, " n"]:
    """The similarity; 0 where only the other map is constant."""
    flat = map.flatten(1)
    varied = flat.amax(1) > flat.amin(1)
    return torch.where(varied, similarity(map, other, kind).nan_to_num(0.0), torch.nan)


def _histogram_entropy(map: Float[Tensor, "n *s"], bins: int) -> Float[Tensor, " n"]:
    flat = map.flatten(1).double()
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    place = ((flat - low) / torch.where(high > low, high - low, 1) * bins).long().clamp_max(bins - 1)
    share = flat.new_zeros(len(flat), bins).scatter_add_(1, place, torch.ones_like(flat)) / flat.shape[1]
    entropy: Tensor = torch.special.entr(share).sum(1)
    return entropy
