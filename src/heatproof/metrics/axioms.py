"""Properties that an attribution should have by definition, each measured as a deviation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heatproof.metrics.cases import Case
from heatproof.metrics.catalogue import metric
from heatproof.metrics.curves import block_means
from heatproof.metrics.faithfulness import parts, without_each
from heatproof.metrics.randomisation import of_model
from heatproof.metrics.robustness import norm


@metric("completeness", better="lower", family="axioms", range=(0, None), paper="1703.01365", unit="share of the score")
def completeness(case: Case, *, fill: str | None = None) -> Tensor:
    """The relative difference between the sum of the map and the score lost when every position is removed.

    Says nothing of methods that do not claim to share out the score, as CAMs.
    Range: at least 0; 1 for a map of zeros. NaN where removing everything changes nothing.
    Tells: how close the sum of the map is to what the score loses when every position is removed.
    Cannot: whether the relevance lies in the right place.
    Mind: use it only for methods that claim this property; CAMs do not.
    """
    lost = case.score - case.blank(fill)
    return (case.map.double().flatten(1).sum(1) - lost).abs() / torch.where(lost != 0, lost.abs(), torch.nan)


@metric(
    "input-shift-invariance",
    better="lower",
    family="axioms",
    needs=("explain",),
    range=(0, None),
    paper="1711.00867",
    unit="share of the map's norm",
)
def input_shift_invariance(case: Case, *, shift: float = 1.0) -> Tensor:
    """How much the map changes when a constant is added to the input and subtracted again by the model.

    Range: the norm of the change as a share of the map's. NaN for a map of zeros. Cost: one explanation.
    Tells: whether the map stays the same when a constant is added to the input and the model subtracts it again.
    Cannot: whether the map is faithful; methods that multiply by the input fail by design.
    Mind: it tests the method more than this model.
    """
    shifted = of_model(case.probe, nn.Sequential(_Less(shift), case.probe.model), prefix="1.")
    size = norm(case.map)
    return norm(case.again(case.x + shift, probe=shifted) - case.map) / torch.where(size > 0, size, torch.nan)


@metric(
    "non-sensitivity",
    better="lower",
    family="axioms",
    range=(0, 1),
    paper="2007.07584",
    label="Non-sensitivity",
    unit="share of parts",
)
def non_sensitivity(case: Case, *, tolerance: float = 0.01, segments: int = 64, fill: str | None = None) -> Tensor:
    """The share of parts that either have relevance and no effect, or an effect and no relevance (definition 5).

    Small is up to ``tolerance`` of the sample's largest. Parts are about ``segments`` equal boxes.
    NaN for a map of zeros. Cost: one pass a part, shared by all methods.
    Tells: whether the relevance is zero exactly where the score does not react.
    Cannot: the order among parts that the score reacts to.
    Mind: it depends on `tolerance`; smooth maps score badly.
    """
    labels, count = parts(case, segments)
    key = ("effects", count, case.canvas(fill).fill)
    effect = case.shared(
        key, lambda: (case.score[:, None] - case.without(without_each(case, labels, count), fill=fill)).abs()
    )
    relevance = block_means(case.map.abs(), labels, count)
    small = [values <= tolerance * values.amax(1, keepdim=True) for values in (relevance, effect)]
    return torch.where(relevance.amax(1) > 0, (small[0] != small[1]).double().mean(1), torch.nan)


class _Less(nn.Module):
    """Takes a constant off its input."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        return x - self.shift
