"""Faithfulness by correlation: whether the relevance of random parts predicts what the score loses without them.

The parts are drawn by each sample's seed and are the same for every method, so that all methods share their passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof import draws
from heatproof.errors import UsageError
from heatproof.fills import Canvas, removal_scores
from heatproof.metrics.cases import Case, Curve
from heatproof.metrics.catalogue import Axes, metric
from heatproof.metrics.curves import block_means, fraction
from heatproof.metrics.similarity import pearson, spearman
from heatproof.registry import Spec
from heatproof.segments import boxes

KEPT = 2**25  # bytes of drawn subsets at most that are kept


@metric(
    "faithfulness-correlation",
    better="higher",
    family="faithfulness",
    range=(-1, 1),
    paper="2005.00631",
    unit="correlation",
)
def faithfulness_correlation(case: Case, *, runs: int = 100, subset: float = 0.2, fill: str | None = None) -> Tensor:
    """The correlation of the relevance removed with the score lost, over random subsets (definition 3).

    Range: -1 to 1; 0 expected for a random map. NaN for a constant map and a score that does not change.
    Cost: one pass a run, shared by all methods.
    Tells: whether the relevance of random subsets predicts what the score loses without them.
    Cannot: interactions between positions; the correlation of a single sample is noisy.
    Mind: use many runs, and read the interval, not the mean alone.
    """
    lost, relevance = _subsets(case, runs, subset, 0, fill)
    return pearson(relevance, lost)


@metric(
    "mu-fidelity",
    better="higher",
    family="faithfulness",
    range=(-1, 1),
    paper="2005.00631",
    label="MuFidelity",
    unit="correlation",
)
def mu_fidelity(
    case: Case, *, runs: int = 100, subset: float = 0.2, segments: int = 50, fill: str | None = None
) -> Tensor:
    """Faithfulness correlation of ranks (Spearman), over subsets of about ``segments`` equal boxes.

    Range: -1 to 1; 0 expected for a random map.
    Cost: one pass a run, shared by all methods.
    Tells: whether the relevance of random sets of boxes predicts, by rank, what the score loses without them.
    Cannot: detail within a box.
    Mind: use it for inputs with many positions and where few runs are affordable.
    """
    lost, relevance = _subsets(case, runs, subset, segments, fill)
    return spearman(relevance, lost)


@metric("infidelity", better="lower", family="faithfulness", range=(0, None), paper="1901.09392", unit="squared score")
def infidelity(case: Case, *, runs: int = 100, subset: float = 0.2, fill: str | None = None) -> Tensor:
    """The mean squared error of predicting the score lost by the relevance removed (definition 2.1).

    The map is first scaled by the one factor that suits the sample best (section 3.3), so its unit does not matter.
    Deviates: relevance is that of removing a position altogether, in every channel.
    Range: 0 to the mean square of the loss. Cost: one pass a run, shared by all methods.
    Tells: how badly the map predicts what the score loses by random removals, after scaling the map to fit.
    Cannot: whether the order of the positions is right; a few large errors decide the value.
    Mind: it has no upper limit; compare methods on the same samples only.
    """
    lost, relevance = _subsets(case, runs, subset, 0, fill)
    power = relevance.square().sum(1, keepdim=True)
    scale = torch.where(power > 0, (relevance * lost).sum(1, keepdim=True) / torch.where(power > 0, power, 1), 0)
    return (scale * relevance - lost).square().mean(1)


@metric(
    "sensitivity-n",
    better="higher",
    family="faithfulness",
    range=(-1, 1),
    paper="1711.06104",
    label="Sensitivity-n",
    unit="correlation",
    curve=Axes("share of positions in a subset", "correlation"),
)
def sensitivity_n(
    case: Case, *, runs: int = 20, sizes: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9), fill: str | None = None
) -> Curve:
    """Faithfulness correlation for subsets of several sizes, averaged over the sizes (section 4).

    Range: -1 to 1; 1 at every size for a linear model's contributions.
    Cost: one pass a run and size, shared by all methods.
    Tells: whether the relevance of small and of large random subsets predicts what the score loses without them.
    Cannot: interactions between positions; without the largest subsets the inputs look unnatural to the model.
    Mind: look at the curve over the subset sizes.
    """
    correlations = [pearson(*reversed(_subsets(case, runs, size, 0, fill))) for size in sizes]
    return Curve(torch.tensor(sizes, dtype=torch.float64), torch.stack(correlations, dim=1), by="mean")


@metric(
    "monotonicity-correlation",
    better="higher",
    family="faithfulness",
    range=(-1, 1),
    paper="2007.07584",
    unit="correlation",
)
def monotonicity_correlation(case: Case, *, runs: int = 5, segments: int = 64) -> Tensor:
    """The rank correlation of absolute relevance with the mean squared effect of noise in its place (equation 9).

    Deviates: the parts are about ``segments`` equal boxes where there are more positions than that.
    Range: -1 to 1. Cost: one pass a run and part, shared by all methods.
    Tells: whether larger absolute relevance goes with a larger effect of noise at that part.
    Cannot: a map from the same map with its sign turned.
    Mind: only single parts are replaced; effects of several parts together are not measured.
    """
    labels, count = parts(case, segments)
    effects = case.shared(("noise effects", runs, segments), lambda: _noise_effects(case, labels, count, runs))
    return spearman(block_means(case.map, labels, count).abs(), effects)


@metric("coherency", better="higher", family="robustness", needs=("explain",), range=(0, 1), paper="2104.10252")
def coherency(case: Case, *, fill: str | None = None) -> Tensor:
    """The correlation of the map with the map of what it highlights, scaled to [0, 1] (section 3.2).

    NaN for a constant map. Cost: one explanation.
    Tells: whether the map stays the same when only what it highlights is left of the input.
    Cannot: whether either of the two maps is correct.
    Mind: it is undefined for a constant map.
    """
    share = unit(case.map)
    again = case.own(("highlighted", case.canvas(fill).fill), lambda: case.again(case.canvas(fill).faded(share)))
    alike = pearson(case.map.flatten(1), again.flatten(1))
    lost = (case.map.flatten(1).amax(1) > case.map.flatten(1).amin(1)) & alike.isnan()
    return (1 + torch.where(lost, 0, alike)) / 2


@metric(
    "adcc",
    better="higher",
    family="faithfulness",
    needs=("explain", "class"),
    range=(0, 1),
    paper="2104.10252",
    label="ADCC",
)
def adcc(case: Case, *, fill: str | None = None) -> Tensor:
    """The harmonic mean of coherency, 1 - complexity and 1 - average drop (equation 6).

    The map, brought to [0, 1], fades the input; complexity is its mean. NaN for a constant map, a score not positive.
    Cost: one explanation and one pass.
    Tells: whether the map is at once small, stable when only what it highlights is left, and enough to keep the score.
    Cannot: which of the three terms is low. It favours small maps.
    Mind: compare the three terms separately where two methods are close.
    """
    share, score = unit(case.map), case.score
    faded = case.probe.scored(case.canvas(fill).faded(share), case.goal).double()
    drop = (score - faded).clamp_min(0) / torch.where(score > 0, score, torch.nan)
    terms = torch.stack([coherency(case, fill=fill), 1 - share.flatten(1).mean(1), 1 - drop], dim=1)
    whole = (terms > 0).all(1)
    mean = 3 / torch.where(whole[:, None], 1 / torch.where(whole[:, None], terms, 1), 1).sum(1)
    return torch.where(terms.isnan().any(1), torch.nan, torch.where(whole, mean, 0))


def unit(map: Float[Tensor, "n *s"]) -> Float[Tensor, "n *s"]:
    """Each map brought to [0, 1], float64; a constant one becomes 0."""
    flat = map.flatten(1).double()
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    return ((flat - low) / torch.where(high > low, high - low, 1)).reshape(map.shape)


def parts(case: Case, segments: int) -> tuple[Int[Tensor, "*s"], int]:
    """The label of the part each position lies in, and how many parts there are."""
    labels = boxes(case.map.shape[1:], segments).to(case.x.device)
    return labels, int(labels.max()) + 1


def _subsets(
    case: Case, runs: int, subset: float, segments: int, fill: str | None
) -> tuple[Float[Tensor, "n r"], Float[Tensor, "n r"]]:
    """What the score loses without each random subset, and the relevance the subset held."""
    fraction("subset", subset)
    if runs < 2:
        raise UsageError(f"runs: got {runs}, expected at least 2 to correlate")
    labels, count = parts(case, segments or case.positions)
    size = min(max(1, round(subset * count)), max(1, count - 1))
    key = ("subsets", runs, size, count, case.canvas(fill).fill)
    map = case.map.double()

    def drawn() -> Iterator[Bool[Tensor, "n *s"]]:
        return _drawn(case, runs, size, labels, count)

    lost = case.shared(key, lambda: case.score[:, None] - case.without(drawn(), fill=fill))
    return lost, torch.stack([(map * removed).flatten(1).sum(1) for removed in drawn()], dim=1)


def _drawn(case: Case, runs: int, size: int, labels: Tensor, count: int) -> Iterator[Bool[Tensor, "n *s"]]:
    """``runs`` random subsets of exactly ``size`` parts of each sample; small ones are kept for the next method."""
    if runs * len(case.x) * count > KEPT:
        chosen: Iterable[Tensor] = _chosen(case, runs, size, count)
    else:
        chosen = case.shared(("chosen", runs, size, count), lambda: list(_chosen(case, runs, size, count)))
    for subset in chosen:
        alone = count == labels.numel()  # every position is a part
        yield (subset if alone else subset[:, labels.flatten()]).reshape(len(subset), *labels.shape)


def _chosen(case: Case, runs: int, size: int, count: int) -> Iterator[Bool[Tensor, "n b"]]:
    seeds = case.seeds(f"subsets {size}/{count}")
    for run in range(runs):
        drawn = draws.uniform(draws.seeds(run, "run", seeds), (count,))
        places = drawn.topk(size, dim=1, sorted=False).indices
        yield torch.zeros(drawn.shape, dtype=torch.bool, device=drawn.device).scatter_(1, places, True)


def without_each(case: Case, labels: Tensor, count: int) -> Iterator[Bool[Tensor, "n *s"]]:
    """Each part alone, for every sample."""
    return ((labels == part).expand(case.map.shape) for part in range(count))


def _noise_effects(case: Case, labels: Tensor, count: int, runs: int) -> Float[Tensor, "n b"]:
    total = case.score.new_zeros(len(case.x), count)
    for run in range(runs):
        canvas = Canvas(case.x, Spec("noise"), draws.seeds(run, "effects", case.seeds("fill")))
        scores = removal_scores(case.probe, canvas, case.goal, without_each(case, labels, count))
        total += (case.score[:, None] - scores).square()
    return total / runs
