"""The registry of metrics, and what is declared of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from heatproof.errors import UsageError
from heatproof.fills import fills
from heatproof.metrics.families import families
from heatproof.records import Direction
from heatproof.registry import Entry, Registry, Spec

Need = Literal["mask", "explain", "relearnt", "retrained", "probability", "class", "donors", "evidence"]
Change = Literal["parameters", "labels", "class"]
Question = Literal["where", "how much"]
Range = tuple[float | int | None, float | int | None]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Axes:
    """What the axes of a metric's curve are called.

    Attributes:
        along: the horizontal axis. shows: the vertical one; empty where that is the score of the explained class.
        otherwise: the horizontal axis where an option has some value: ``{("order", "independent"): "layer"}``.
    """

    along: str = "share of positions removed"
    shows: str = ""
    otherwise: Mapping[tuple[str, Any], str] = field(default_factory=dict)

    def along_of(self, spec: Spec) -> str:
        """The horizontal axis of a metric with these options."""
        return next((text for option, text in self.otherwise.items() if option in spec.options), self.along)


@dataclass(frozen=True, kw_only=True)
class MetricEntry(Entry):
    """One metric.

    Attributes:
        better: which values are good. family: the name of its family, see `families`.
        needs: ``mask`` (planted truth), ``explain`` (the method, to explain other inputs), ``relearnt`` (a model
            trained on shuffled labels), ``retrained`` (models trained from other seeds), ``probability`` (as score),
            ``class`` (or label, whose score is a share of something: not so the output of a regression), ``donors``
            (other samples of the data), ``evidence`` (other samples that are predicted otherwise).
        range: least and largest value, None where there is none. unit: what the value is counted in, empty for none.
        curve: the axes of the curve that it leaves in ``case.curves``, or None. binary: a sample has 0 or 1, unless
            its highest relevance is tied.
        must_change_with: a sanity check; a good map changes when this does. unchanged_above: the similarity above
            which a map counts as unchanged.
        question: that of the verdict which it answers, or None; 0 must be chance and 1 a perfect map.
    """

    better: Direction
    family: str
    needs: tuple[Need, ...] = ()
    range: Range = (None, None)
    unit: str = ""
    curve: Axes | None = None
    binary: bool = False
    must_change_with: Change | None = None
    unchanged_above: float | None = None
    question: Question | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "family", families.canonical(self.family))
        if (self.must_change_with is None) != (self.unchanged_above is None):
            raise UsageError(f"{self.name}: must_change_with and unchanged_above belong together; give both or neither")

    @property
    def tells(self) -> str:
        """What the metric tells, one sentence."""
        return self.notes.get("Tells", "")

    @property
    def cannot(self) -> str:
        """What it cannot tell."""
        return self.notes.get("Cannot", "")

    @property
    def mind(self) -> str:
        """What to mind when reading it."""
        return self.notes.get("Mind", "")

    @property
    def marks(self) -> tuple[str, ...]:
        """Family and direction."""
        return (self.family, f"better {self.better}")

    def facts(self) -> dict[str, Any]:
        """The summary and everything declared, in plain types, for a file."""
        curve = None if self.curve is None else {"along": self.curve.along, "shows": self.curve.shows}
        return {**super().facts(), "curve": curve}


metrics: Registry[MetricEntry] = Registry("metric", named={"fill": fills, "start": fills})


def metric(
    name: str,
    *,
    better: Direction,
    family: str,
    needs: tuple[Need, ...] = (),
    range: Range = (None, None),
    paper: str = "",
    label: str = "",
    unit: str = "",
    curve: Axes | None = None,
    binary: bool = False,
    must_change_with: Change | None = None,
    unchanged_above: float | None = None,
    question: Question | None = None,
) -> Callable[[Function], Function]:
    """Registers ``(case, *, options) -> (n,)`` with what is declared of it; see `MetricEntry`.

    Its docstring has the lines ``Tells:``, ``Cannot:`` and ``Mind:``, from which the page of metrics is made.
    """

    def register(function: Function) -> Function:
        entry = MetricEntry(
            name, function, better=better, family=family, needs=needs, range=range, paper=paper, label=label,
            unit=unit, curve=curve, binary=binary, must_change_with=must_change_with, unchanged_above=unchanged_above,
            question=question,
        )  # fmt: skip
        metrics.add(entry)
        return function

    return register


def follows_fill(spec: Spec) -> bool:
    """Whether the metric's values depend on the study's fill: it has a fill, and its spec names no other."""
    return {**metrics[spec.name].options, **spec.kwargs}.get("fill", "none") is None


def facts_of(spec: Spec) -> dict[str, Any]:
    """Everything declared of a metric with these options, in plain types, for a file."""
    entry = metrics[spec.name]
    curve = None if entry.curve is None else {"along": entry.curve.along_of(spec), "shows": entry.curve.shows}
    return {**entry.facts(), "curve": curve, "follows_fill": follows_fill(spec)}


def needs_donors(spec: Spec) -> bool:
    """Whether the metric, or a fill that its spec names, draws from other samples."""
    entry = metrics[spec.name]
    values = {**entry.options, **spec.kwargs}
    named = (fills[Spec.parse(values[o]).name] for o in metrics.named if isinstance(values.get(o), str))
    return "donors" in entry.needs or any(entry.donors for entry in named)


def names(*, family: str | None = None) -> list[str]:
    """The registered metric names, optionally of one family."""
    return [name for name in metrics if family is None or metrics[name].family == families.canonical(family)]


def parse(texts: Iterable[str | Spec]) -> list[Spec]:
    """Checked specs, without repeats."""
    return list(dict.fromkeys(metrics.spec(text) for text in texts))
