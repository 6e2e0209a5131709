"""How much the map changes when the input changes a little.

Explanations of slightly changed inputs are compared with the map. Changed inputs of which the model predicts something
else (another class, or the label explained no longer) are left out: there the map should change. NaN where all are, and
for a map of zeros. A regression has no such limits: all count.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof import draws
from heatproof.errors import UsageError
from heatproof.metrics.cases import Case
from heatproof.metrics.catalogue import metric
from heatproof.metrics.similarity import Similarity, similarity
from heatproof.probe import Recorder


@dataclass(frozen=True, eq=False)
class Around:
    """What was seen around each input, in norms, a column a draw.

    Attributes:
        change: of the map. step: of the input. output: of the logits. same: whether the predicted class stayed.
        map, x: the norms of the map and the input themselves (N,).
    """

    change: Float[Tensor, "n k"]
    step: Float[Tensor, "n k"]
    output: Float[Tensor, "n k"]
    same: Bool[Tensor, "n k"]
    map: Float[Tensor, " n"]
    x: Float[Tensor, " n"]

    def worst(self, value: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """The largest value over the draws that kept the class."""
        value = torch.where(self.same & value.isfinite(), value, -torch.inf).amax(1)
        return torch.where(value.isinf() | (self.map == 0), torch.nan, value)

    def mean(self, value: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """The mean value over the draws that kept the class."""
        value = torch.where(self.same, value, 0).sum(1) / self.same.sum(1)
        return torch.where(self.map == 0, torch.nan, value)


@metric(
    "max-sensitivity",
    better="lower",
    family="robustness",
    needs=("explain",),
    range=(0, None),
    paper="1901.09392",
    unit="share of the map's norm",
)
def max_sensitivity(case: Case, *, radius: float = 0.02, runs: int = 10) -> Tensor:
    """The largest change of the map in a small box around the input, as a share of the map's norm (definition 4.1).

    ``radius`` is a share of the sample's range.
    Cost: one explanation a run, shared.
    Tells: the largest change of the map for inputs that look the same.
    Cannot: whether the map is correct. Its value grows with the number of draws.
    Mind: use the same `runs` in everything that is compared.
    """
    seen = around(case, radius, runs)
    return seen.worst(seen.change / seen.map[:, None])


@metric(
    "average-sensitivity",
    better="lower",
    family="robustness",
    needs=("explain",),
    range=(0, None),
    paper="1901.09392",
    unit="share of the map's norm",
)
def average_sensitivity(case: Case, *, radius: float = 0.02, runs: int = 10) -> Tensor:
    """The mean change of the map in a small box around the input, as a share of the map's norm.

    Cost: one explanation a run, shared.
    Tells: how much the map changes on average for inputs that look the same.
    Cannot: whether the map is correct; a constant map never changes.
    Mind: the value depends on the radius; keep it below what changes the class.
    """
    seen = around(case, radius, runs)
    return seen.mean(seen.change / seen.map[:, None])


@metric(
    "local-lipschitz",
    better="lower",
    family="robustness",
    needs=("explain",),
    range=(0, None),
    paper="1806.08049",
    label="Local Lipschitz constant",
    unit="map norm per input norm",
)
def local_lipschitz(case: Case, *, radius: float = 0.02, runs: int = 10) -> Tensor:
    """The largest ratio of the map's change to the input's (equation 2); depends on the map's unit.

    Cost: one explanation a run, shared.
    Tells: the steepest change of the map near the input.
    Cannot: which of two methods with maps of different scale is more robust.
    Mind: use relative-input-stability to compare methods.
    """
    seen = around(case, radius, runs)
    return seen.worst(seen.change / seen.step)


@metric(
    "relative-input-stability",
    better="lower",
    family="robustness",
    needs=("explain",),
    range=(0, None),
    paper="2203.06877",
    unit="ratio",
)
def relative_input_stability(case: Case, *, radius: float = 0.02, runs: int = 10) -> Tensor:
    """The largest ratio of the map's relative change to the input's relative change (equation 2).

    Deviates: changes are relative in norm, not position by position: ReLU maps are mostly zeros.
    Cost: one explanation a run, shared.
    Tells: how much the map changes in relation to the change of the input, both relative to their size.
    Cannot: whether the map is correct.
    Mind: inputs with a small norm have large values.
    """
    seen = around(case, radius, runs)
    return seen.worst(seen.change / seen.map[:, None] * seen.x[:, None] / seen.step)


@metric(
    "relative-output-stability",
    better="lower",
    family="robustness",
    needs=("explain",),
    range=(0, None),
    paper="2203.06877",
    unit="ratio",
)
def relative_output_stability(case: Case, *, radius: float = 0.02, runs: int = 10) -> Tensor:
    """The largest ratio of the map's relative change to the change of the logits (equation 5).

    Deviates: the map's change is relative in norm.
    Cost: one explanation a run, shared.
    Tells: whether the map changes more than the output of the model does.
    Cannot: whether the map is correct.
    Mind: samples whose output hardly changes have large values.
    """
    seen = around(case, radius, runs)
    return seen.worst(seen.change / seen.map[:, None] / seen.output.clamp_min(1e-6))


@metric(
    "shift-equivariance", better="higher", family="robustness", needs=("explain",), range=(-1, 1), unit="similarity"
)
def shift_equivariance(case: Case, *, share: float = 0.05, kind: Similarity = "pearson") -> Tensor:
    """The similarity of the map of the shifted input and the shifted map where they overlap, averaged over the axes.

    The input is shifted by ``share`` of each axis, its edge repeated. NaN where the predicted class changes.
    Cost: one explanation an axis.
    Tells: whether the map is shifted when the input is.
    Cannot: whether the map is correct; striding and padding in the model lower the value as well.
    Mind: it needs a model whose output hardly changes when the input is shifted.
    """
    similarities = []
    for axis in range(1, case.map.ndim):
        length = case.map.shape[axis]
        by = max(1, round(share * length))
        if by >= length:
            raise UsageError(f"share: got {share}, which shifts an axis of {length} positions away")
        source = (torch.arange(length, device=case.x.device) - by).clamp_min(0)
        moved = case.x.index_select(axis + 1, source)
        again = case.again(moved).narrow(axis, by, length - by)
        alike = similarity(case.map.narrow(axis, 0, length - by), again, kind)
        same = case.same_prediction(case.probe.logits(moved), case.probe.logits(case.x))
        similarities.append(torch.where(same, alike, torch.nan))
    return torch.stack(similarities).nanmean(0)


@metric(
    "seed-repeatability", better="higher", family="robustness", needs=("explain",), range=(-1, 1), unit="similarity"
)
def seed_repeatability(case: Case, *, runs: int = 3, kind: Similarity = "spearman") -> Tensor:
    """The mean similarity of the map to maps drawn with other seeds; 1 for a method that draws nothing.

    NaN for a constant map. Cost: one explanation a run.
    Tells: how much the map of a method that draws random numbers depends on the draw.
    Cannot: anything about methods that draw no random numbers; they score 1.
    Mind: where values are low, let the method draw more.
    """
    maps = [case.again(case.x, seed=case.seed + run) for run in range(1, runs + 1)]
    return torch.stack([similarity(case.map, map, kind) for map in maps]).mean(0)


def around(case: Case, radius: float, runs: int) -> Around:
    """The explanations of ``runs`` inputs drawn evenly from a box around each input."""
    if not radius > 0 or runs < 1:
        raise UsageError(f"got radius {radius} and {runs} runs, expected a radius above 0 and at least one run")
    return case.own(("around", radius, runs), lambda: _around(case, radius, runs))


def _around(case: Case, radius: float, runs: int) -> Around:
    logits = case.shared("logits", lambda: case.probe.logits(case.x))
    low, high = case.x.flatten(1).aminmax(dim=1)
    reach = radius * (high - low)
    columns: list[tuple[Tensor, ...]] = []
    for run in range(runs):
        drawn = draws.uniform(draws.seeds(run, "run", case.seeds(f"around {radius}")), case.x.shape[1:])
        moved = case.x + ((2 * drawn - 1) * reach.double().reshape(-1, *(1,) * (case.x.ndim - 1))).to(case.x)
        recorder = Recorder(moved)
        again = case.again(moved, probe=case.probe.recorded(recorder))
        there = case.shared(("logits", radius, run), partial(_logits, case, recorder))
        columns.append((
            norm(again - case.map),
            norm(moved - case.x),
            norm(there - logits),
            case.same_prediction(there, logits),
        ))  # fmt: skip
    stacked = [torch.stack(column, dim=1) for column in zip(*columns, strict=True)]
    return Around(stacked[0], stacked[1], stacked[2], stacked[3], norm(case.map), norm(case.x))


def _logits(case: Case, recorder: Recorder) -> Float[Tensor, "n k"]:
    """The logits of the changed inputs: those of the explanation, or of one pass more where it left none."""
    logits = recorder.logits
    return case.probe.logits(recorder.x) if logits is None else logits


def norm(x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """The Euclidean norm of each row, float64."""
    return x.flatten(1).double().square().sum(1).sqrt()
