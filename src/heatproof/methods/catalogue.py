"""The registry of attribution methods, and what is declared of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from heatproof.errors import UsageError
from heatproof.fills import fills
from heatproof.probe import Score
from heatproof.registry import Entry, Registry, Spec

Smooth = Literal["none", "augment", "eigen"]
Fuse = Literal["mean", "max", "product"]
Family = Literal["cam", "method"]
Need = Literal["layer", "gradient", "attention"]
Range = tuple[float | int | None, float | int | None]
Function = TypeVar("Function", bound=Callable[..., Any])
Common = TypeVar("Common")
GRADIENTS = {"G", "curved"}  # what a CAM asks for that takes a backward pass
SCORES = {"score", "ablated"}  # what a CAM asks for that is a score
COMPARED: Score = "margin"  # what methods compare unless their option says otherwise


@runtime_checkable
class Once(Protocol):
    """What methods that run together have in common, computed for the first of them."""

    def __call__(self, make: Callable[[], Common]) -> Common:
        """What ``make`` returns, or returned before."""


@dataclass(frozen=True, kw_only=True)
class MethodEntry(Entry):
    """One attribution method.

    Attributes:
        family: ``cam`` for functions of a layer, else ``method``. range: least and largest value of a map, None where
            there is none. needs: ``layer`` with positions, ``gradient``, global ``attention``.
        control: a reference map that ignores the model, shown beside the methods; never ranked. description: what it
            shows, as words in a sentence. by_default: whether every study runs it.
        seeded: it draws random numbers. pooled: it is handed other samples to draw from, the engine's ``pool``.
        shares: methods of one such name and equal options draw the same random numbers and share their passes.
        compares: it compares scores of changed inputs or layers, and takes the option ``score``. scaled: its map, with
            the default score, depends on the scale of the logits, so that a temperature changes what it marks.
        relu, gives, asks, tail, again: of CAMs, see `cam`; asks are the names of its parameters.
    """

    family: Family = "method"
    range: Range = (None, None)
    needs: tuple[Need, ...] = ()
    control: bool = False
    description: str = ""
    by_default: bool = False
    seeded: bool = False
    pooled: bool = False
    shares: str = ""
    compares: bool = False
    scaled: bool = False
    relu: bool = False
    gives: Literal["weights", "map"] = "map"
    asks: tuple[str, ...] = ()
    tail: bool = False
    again: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Option names and their defaults; those that compare scores have the option ``score`` too."""
        return super().options | ({"score": COMPARED} if self.compares else {})

    @property
    def marks(self) -> tuple[str, ...]:
        """Whether it is a control, and whether its map depends on the scale of the logits."""
        return ("control",) * self.control + ("depends on the scale of the logits",) * self.scaled

    @property
    def refuses(self) -> tuple[str, ...]:
        """The option ``score``, where no scores are compared."""
        return () if self.compares else ("score",)


methods: Registry[MethodEntry] = Registry(
    "method", shared={"smooth": Smooth, "fuse": Fuse, "score": Score}, named={"baseline": fills}
)


def method(
    name: str,
    *,
    paper: str = "",
    label: str = "",
    range: Range = (None, None),
    needs: tuple[Need, ...] = (),
    compares: bool = False,
    scaled: bool = False,
    shares: str = "",
    limits: dict[str, float] | None = None,
) -> Callable[[Function], Function]:
    """Registers ``(probe, x, goal, *, options) -> maps (n, *S)``; see `MethodEntry`.

    Args:
        compares: it compares scores; the probe that it is handed gives those that its option ``score`` names.
        scaled: its map depends on the scale of the logits.
        shares: what it has in common with other methods; it takes it as ``once(make)``, which calls ``make`` for the
            first of the methods that run together with equal options.
    """

    def register(function: Function) -> Function:
        entry = MethodEntry(
            name, function, paper=paper, label=label, range=range, needs=needs, limits=limits or {},
            seeded=_takes(function, "seeds"), pooled=_takes(function, "pool"), shares=shares, compares=compares,
            scaled=scaled,
        )  # fmt: skip
        methods.add(entry)
        return function

    return register


def control(
    name: str,
    *,
    description: str,
    by_default: bool = False,
    paper: str = "",
    range: Range = (None, None),
    limits: dict[str, float] | None = None,
) -> Callable[[Function], Function]:
    """Registers ``(probe, x, goal, *, options) -> maps (n, *S)`` that ignores the model; it is never ranked.

    Args:
        description: what it shows, as in "no better than random noise". by_default: whether every study runs it.
    """
    if not description:
        raise UsageError(f"control {name!r} has no description; say what it shows in a few words, as 'random noise'")

    def register(function: Function) -> Function:
        entry = MethodEntry(
            name, function, paper=paper, range=range, limits=limits or {}, control=True, description=description,
            by_default=by_default, seeded=_takes(function, "seeds"),
        )  # fmt: skip
        methods.add(entry)
        return function

    return register


def cam(
    name: str,
    *,
    paper: str = "",
    label: str = "",
    range: Range = (None, None),
    needs: tuple[Need, ...] = (),
    relu: bool = True,
    gives: Literal["weights", "map"] = "weights",
    tail: bool = False,
    again: bool = False,
    compares: bool = False,
    scaled: bool = False,
    limits: dict[str, float] | None = None,
) -> Callable[[Function], Function]:
    """Registers ``(A, G, ...) -> W``, weights (n, K) or (n, K, *s); the map is their product with A summed over K.

    Args:
        range: of the map; at least 0 with ``relu``. needs: what it needs besides the layer and what it asks for.
        relu: cuts the map at zero, where the paper does. gives: ``map`` for a method whose map (n, *s) is no weighted
            sum; it is taken as it is, and ``relu`` plays no part.
        tail: it runs what lies behind the layer again. again: it takes gradients of goals of its own.
        compares: it compares scores of changed inputs; needless where it names ``score`` or ``ablated``, or with
            ``tail``. scaled: its map depends on the scale of the logits.
    """

    def register(function: Function) -> Function:
        asks = tuple(p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY)
        slope: tuple[Need, ...] = ("gradient",) if again or GRADIENTS & set(asks) else ()
        cut = relu and gives == "weights"
        ends = (0, None) if cut and range == (None, None) else range
        scores = compares or tail or not SCORES.isdisjoint(asks)
        entry = MethodEntry(
            name, function, paper=paper, label=label, range=ends, limits=limits or {}, family="cam",
            needs=("layer", *slope, *needs), relu=cut, gives=gives, asks=asks, tail=tail, again=again,
            compares=scores, scaled=scaled,
        )  # fmt: skip
        methods.add(entry)
        return function

    return register


def _takes(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters


def names(*, control: bool | None = None, family: Family | None = None) -> list[str]:
    """The registered method names, optionally only the controls (or none of them), or one family."""

    def fits(entry: MethodEntry) -> bool:
        return (control is None or entry.control is control) and (family is None or entry.family == family)

    return [name for name in methods if fits(methods[name])]


def default_controls() -> tuple[str, ...]:
    """The controls that every study runs, in the order in which they are declared."""
    return tuple(entry.name for entry in methods.declared if entry.control and entry.by_default)


def companions(specs: Iterable[Spec]) -> list[list[Spec]]:
    """The specs in groups that share passes: all CAMs, and methods that share under one name with equal options."""
    groups: dict[Any, list[Spec]] = {}
    for spec in specs:
        entry = methods[spec.name]
        key = entry.family if entry.family == "cam" else (entry.shares or entry.name, spec.options)
        groups.setdefault(key, []).append(spec)
    return list(groups.values())


def needs_donors(spec: Spec) -> bool:
    """Whether the method's baselines are other samples, which it is to be handed as its pool."""
    entry = methods[spec.name]
    baseline = {**entry.options, **spec.kwargs}.get("baseline")
    return entry.pooled and baseline is not None and fills[fills.spec(baseline).name].donors


def parse(texts: Iterable[str | Spec]) -> list[Spec]:
    """Checked specs, without repeats."""
    return list(dict.fromkeys(methods.spec(text) for text in texts))
