"""The layer that is explained where none is named: the last one with positions that the output depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import nn

from heatproof.errors import LayerError
from heatproof.probe.layout import Layout
from heatproof.probe.provenance import Reader, alike, pace
from heatproof.probe.survey import Call, Survey

CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
COARSE = 4  # positions along an axis


@dataclass(frozen=True)
class Choice:
    """The layer that is explained where none is named, and why.

    Attributes:
        layer: its name, with the number of the call. layout: how its output is read. reason: a clause that says why.
    """

    layer: str
    layout: Layout
    reason: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.reason}"


_CHOICES: WeakKeyDictionary[Survey, Choice] = WeakKeyDictionary()


def choose(seen: Survey) -> Choice:
    """The layer to explain by default, and why.

    It is the last layer with more than one position before its positions are averaged, flattened or attended to by
    what has none: after a convolution its normalisation, activation, block and stage as long as the positions stay;
    before an attention from which only a class token is read, the tokens that enter that attention. A layer of which
    later operations look at no position, or at one, is never chosen.

    Raises: LayerError where no layer has positions.
    """
    if seen not in _CHOICES:
        _CHOICES[seen] = _chosen(seen)
    return _CHOICES[seen]


def _chosen(seen: Survey) -> Choice:
    named = [call for call in seen.calls if call.name and call.shape and not call.handed]
    settled = [call for call in named if call.seen.certain and is_map(call, seen)]
    best = _best(seen, settled)
    if any(not call.seen.certain and _matters(call, best) for call in named):
        best = _best(seen, [call for call in named if is_map(call, seen)])
    if best is None:
        raise LayerError(_absence(seen))
    layout = best.layout(seen.size)
    if layout is None:
        raise LayerError(_absence(seen))
    return Choice(best.label, layout, _reason(seen, best, layout))


def is_map(call: Call, seen: Survey) -> bool:
    """Whether its output has more than one position."""
    layout = call.layout(seen.size)
    return layout is not None and layout.count > 1


def _matters(call: Call, best: Call | None) -> bool:
    """Whether a layer that the operations leave open may be a later choice."""
    later = best is None or call.index > best.index
    wide = sum(size > 1 for size in call.shape or ()) > 1
    return later and wide and (call.fact is None or call.fact.flow == "map")


def _best(seen: Survey, maps: Sequence[Call]) -> Call | None:
    """The last of the layers with positions that the last reader of positions depends on, by the rules of `choose`."""
    reader = seen.reader
    if reader is None or not any(call.fact is not None and call.fact.ahead for call in maps):
        read = [call for call in maps if call.fact is None or call.fact.flow == "map"]
        return _followers(seen, read)
    later = [call for call in maps if call.fact is not None and call.fact.behind and call.fact.flow == "map"]
    if later:  # convolutions behind an attention, of which one step is read
        return _followers(seen, later)
    read = [call for call in maps if call.fact is not None and call.fact.ahead and call.fact.flow == "map"]
    if reader.mixes:
        return _entering(seen, reader, read)
    apart = next((c.index for c in read if _is_apart(c, reader)), None)  # a pooling, say, whatever follows it
    same = [c for c in read if c.fact is not None and (not reader.pace or alike(pace(c.fact.tag), reader.pace))
            and (apart is None or c.index < apart)]  # fmt: skip
    late = [c for c in same if c.fact is not None and c.fact.order >= reader.anchor] or same or read
    necks = [c for c in late if c.fact is not None and c.fact.neck]
    last = necks or late
    return last[-1] if last else None


def _is_apart(call: Call, reader: Reader) -> bool:
    """Whether all that is read runs through it, behind the last layer with weights, at other positions than there."""
    fact = call.fact
    if fact is None or not reader.pace or not fact.neck or fact.order < reader.anchor:
        return False
    return not alike(pace(fact.tag), reader.pace)


def _followers(seen: Survey, maps: Sequence[Call]) -> Call | None:
    """Where operations cannot be followed: the last convolution and what has its positions, else the last layer."""
    convolutions = [call for call in maps if isinstance(call.module, CONVOLUTIONS)]
    if convolutions and len(convolutions) > 1:
        here = _pace(convolutions[-1], seen)
        maps = [call for call in maps if call.index >= convolutions[-1].index and _pace(call, seen) == here]
    return maps[-1] if maps else None


def _pace(call: Call, seen: Survey) -> object:
    """How many input positions one of its own covers; its layout where that is not followed."""
    return pace(call.fact.tag) if call.fact is not None and call.seen.certain else call.layout(seen.size)


def _entering(seen: Survey, reader: Reader, maps: Sequence[Call]) -> Call | None:
    """The tokens that enter an attention: the last before its queries, keys and values are made of them."""
    place = _enclosing(seen, reader)
    inside = [call for call in seen.calls if place and _within(call, place)]
    first = min((call.index for call in inside if call.fact is not None and call.fact.projected), default=None)

    def enters(call: Call) -> bool:
        return call.fact is not None and not call.fact.projected and (
            not (place and _within(call, place)) or first is None or call.index < first
        )  # fmt: skip

    necks = [call for call in maps if call.fact is not None and call.fact.neck and enters(call)]
    last = necks or [call for call in maps if enters(call)] or maps
    return last[-1] if last else None


def _within(call: Call, place: str) -> bool:
    return call.name.startswith(f"{place}.")


def _enclosing(seen: Survey, reader: Reader) -> str:
    """The innermost module in which an operation ran, as far as the layers that ended around it tell."""
    after = next((c for c in seen.calls if c.fact is not None and c.fact.order >= reader.order and c.name), None)
    if after is None:
        return ""
    if any(_within(call, after.name) for call in seen.calls[: after.index]):
        return after.name
    return after.name.rpartition(".")[0]


def _absence(seen: Survey) -> str:
    """Why no layer can be chosen."""
    tail = "name a layer, or use a method that needs none (occlusion, rise, saliency)"
    if seen.reader is not None and seen.reader.recurrent:
        return f"only the last step of the recurrent layer is read, and no layer before it has positions; {tail}"
    lone = any(
        call.fact is not None and call.fact.flow in ("one", "none") and is_map(call, seen) for call in seen.calls
    )
    if lone:
        return f"the output depends on no layer at more than one position; {tail}"
    if not any(isinstance(call.module, CONVOLUTIONS) for call in seen.calls):
        return f"the model has no convolution and no layer whose output has positions; {tail}"
    return (
        "no layer could be followed to the positions of the input, which may be flipped, shifted or mixed inside the "
        f"model; {tail}"
    )


def _reason(seen: Survey, best: Call, layout: Layout) -> str:
    grid = "x".join(map(str, layout.grid))
    reader = seen.reader
    convolutions = [c for c in seen.calls[: best.index + 1] if isinstance(c.module, CONVOLUTIONS) and is_map(c, seen)]
    if reader is not None and reader.mixes and best.fact is not None and best.fact.ahead:
        what = f"the tokens that enter the last attention, {grid} positions"
    elif convolutions and (reader is None or reader.convolved):
        start = convolutions[-1]
        what = f"the last convolution and what follows it at {grid} positions"
        what += "" if start is best else f", the last convolution being {start.label}"
    else:
        what = f"the last layer with positions, {grid}"
    if reader is not None and reader.recurrent:
        what += ", before a recurrent layer of which only the last step is read"
    notes = [coarse(layout, seen), early(seen, best), beside(seen)]
    return "; ".join([f"{what} (by {best.evidence})", *(text for text in notes if text)])


def beside(seen: Survey) -> str:
    """A clause for a model that reads positions on several ways side by side."""
    several = seen.reader is not None and seen.reader.beside
    return "one of several branches that are read side by side, of which a map shows this one alone" if several else ""


def coarse(layout: Layout, seen: Survey) -> str:
    """A clause for a layer with few positions along an axis."""
    short = [g for g, s in zip(layout.grid, seen.size, strict=True) if g < COARSE <= s]
    return f"coarse, fewer than {COARSE} positions along an axis" if short else ""


def early(seen: Survey, call: Call) -> str:
    """A clause for a layer before the middle of the layers with weights."""
    weighted = [c.index for c in seen.calls if any(p.ndim > 1 for p in c.module.parameters(recurse=False))]
    before = sum(index <= call.index for index in weighted)
    return f"early, {before} of {len(weighted)} layers with weights run before it" if 2 * before < len(weighted) else ""
