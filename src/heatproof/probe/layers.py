"""The layers to look at: by name, by module, or the one that is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import LayerError, UnknownName
from heatproof.probe.choice import CONVOLUTIONS, choose, coarse, early, is_map
from heatproof.probe.layout import Layout, parsed
from heatproof.probe.state import holding_weakly, note
from heatproof.probe.survey import Call, Survey

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@holding_weakly("module")
@dataclass(frozen=True)
class Tap:
    """A layer that can be read: its name, module, which call of it, and its layout."""

    name: str
    module: nn.Module
    call: int
    layout: Layout


def find(model: nn.Module, layer: str | nn.Module, seen: Survey, layout: str | None = None) -> Tap:
    """The tap for a layer, by module or by name; ``name@2`` is the second call of a layer that runs twice.

    Args:
        layout: how its output is read, in the notation of `heatproof.probe.layout.parsed`; None to go by evidence.

    Raises: UnknownName, LayerError.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    call = 0
    if isinstance(layer, nn.Module):
        names = [name for name, module in modules.items() if module is layer]
        if not names:
            raise LayerError(f"the layer {type(layer).__name__} is not part of this model; pass one of its own modules")
        name = names[0]
    else:
        name, _, number = layer.partition("@")
        if name not in modules or not name:
            raise UnknownName("layer", name, [n for n in modules if n], "(model.named_modules() lists them)")
        if "@" in layer and (not number.isdigit() or int(number) < 1):
            raise LayerError(f"layer {layer!r}: expected a call number from 1 behind the @")
        call = int(number or 0)
    module = modules[name]
    runs = [c for c in seen.calls if c.module is module]
    if not runs:
        raise LayerError(f"layer {name!r} never runs for this input; choose one of: {_offer(seen)}")
    if len(runs) > 1 and call == 0:
        raise LayerError(
            f"layer {name!r} runs {len(runs)} times in one pass; name the call, {name}@1 to {name}@{len(runs)}"
        )
    if call > len(runs):
        raise LayerError(f"layer {name!r} runs {len(runs)} times, there is no call {call}")
    run = runs[max(call, 1) - 1]
    if layout is not None:
        if run.shape is None:
            raise LayerError(
                f"layer {name!r} has no tensor as output, so no layout fits; choose one of: {_offer(seen)}"
            )
        place: Layout | None = parsed(layout, run.shape, len(seen.size), run.label, run.layout(seen.size))
    else:
        place = run.layout(seen.size)
    if place is None:
        raise LayerError(_refusal(run, seen))
    return Tap(name, module, max(call, 1), place)


def _refusal(run: Call, seen: Survey) -> str:
    tail = f"choose one of: {_offer(seen)}"
    if run.shape is None:
        return f"layer {run.name!r} has no tensor as output; {tail}"
    if run.seen.merged or (not run.seen.certain and run.shape[0] > 1 and run.fact is not None):
        rows = f"runs on {run.shape[0]} rows for one sample, so its output is no map of a sample"
        return f"layer {run.name!r} {rows}; {tail}"
    what = f"an output of shape (N, {', '.join(map(str, run.shape[1:]))})"
    if run.seen.certain:
        return f"layer {run.name!r} has {what}, which has no positions to draw a map on; {tail}"
    return (
        f"layer {run.name!r} has {what}, in which nothing follows the place where the input is disturbed; if it has "
        f"positions all the same, say where with layout=, else {tail}"
    )


def described(seen: Survey, taps: Sequence[Tap], layout: str | None) -> str:
    """Which layers are looked at because somebody named them, and how each is read."""
    parts = []
    for tap in taps:
        call = next(c for c in seen.calls if c.module is tap.module and c.number == tap.call)
        how = f"read as {tap.layout}, as layout= says" if layout is not None else f"by {call.evidence}"
        notes = [
            f"as asked, {'x'.join(map(str, tap.layout.grid))} positions ({how})",
            coarse(tap.layout, seen),
            early(seen, call),
        ]
        parts.append(f"{call.label}: {'; '.join(text for text in notes if text)}")
    return ", ".join(parts)


def warn(seen: Survey, tap: Tap) -> None:
    """Says once where later operations look at no position of a layer, or at one, so that its map is empty."""
    call = next((c for c in seen.calls if c.module is tap.module and c.number == tap.call), None)
    if call is None or call.fact is None or call.fact.flow not in ("one", "none") or call.label in seen.noted:
        return
    seen.noted.add(call.label)
    try:
        offer = f"; take {choose(seen).layer!r} instead"
    except LayerError:
        offer = ""
    what = "one position" if call.fact.flow == "one" else "no position"
    behind = (
        "only its last or first step is read" if call.fact.flow == "one" else "only a class token is read behind it"
    )
    note(
        f"layer {call.label!r} is blind: the output depends on {what} of it ({behind}), so that maps by its gradient "
        f"are zero elsewhere{offer}"
    )


def _offer(seen: Survey) -> str:
    fit = [c.label for c in seen.calls if c.name and is_map(c, seen)]
    return ", ".join(dict.fromkeys(fit[-6:])) or "none has positions"


def biases(seen: Survey) -> list[tuple[Tap, Float[Tensor, " k"]]]:
    """Every call of a convolution or BatchNorm that adds something, with what it adds to each channel.

    A BatchNorm adds beta - gamma * mean / deviation (1905.00780, section 3).
    """
    parts = []
    for call in seen.calls:
        added, grid = _added(call.module), call.layout(seen.size)
        if added is not None and grid is not None and call.shape is not None:
            channels = [n for n, place in zip(call.shape, grid.places, strict=True) if not place]
            added = added.repeat_interleave(math.prod(channels) // len(added))
            parts.append((Tap(call.name, call.module, call.number, grid), added))
    return parts


def _added(module: nn.Module) -> Tensor | None:
    if isinstance(module, CONVOLUTIONS):
        return None if module.bias is None else module.bias.detach()
    if not isinstance(module, NORMS) or module.running_mean is None or module.running_var is None:
        return None
    scale = torch.rsqrt(module.running_var + module.eps) * (1.0 if module.weight is None else module.weight.detach())
    return (0.0 if module.bias is None else module.bias.detach()) - module.running_mean * scale
