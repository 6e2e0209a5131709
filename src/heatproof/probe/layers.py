"""The layer to look at: by name, by module, or the last convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import LayerError, UnknownName
from heatproof.probe.layout import Layout
from heatproof.probe.survey import Survey

CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def choose(seen: Survey) -> tuple[str, str]:
    """The layer to explain by default, and why: the last convolution, after its normalisation and activation.

    The last convolution with more than one position; then the last module that ends behind it with the same positions
    (its activation, its residual block, its stage). Without a convolution, the same from the last token grid.

    Raises: LayerError where no layer has positions.
    """
    grids = [call.layout(seen.size) for call in seen.calls]
    useful = [i for i, g in enumerate(grids) if g is not None and math.prod(g.grid) > 1 and seen.calls[i].name]
    convolutions = [i for i in useful if isinstance(seen.calls[i].module, CONVOLUTIONS)]
    tokens = [i for i in useful if grids[i] is not None and _kind(grids[i]) != "first"]
    if convolutions and not (tokens and _is_embedding(seen, convolutions[-1], tokens)):
        start, what = convolutions[-1], "the last convolution"
    elif tokens:
        return _before_the_last_block(seen, tokens, grids)
    else:
        raise LayerError(
            "the model has no convolution and no layer whose output has positions; name a layer, "
            "or use a method that needs none (occlusion, rise, saliency)"
        )
    here = grids[start]
    ends = [i for i in useful if i >= start and grids[i] == here]
    best = ends[-1]
    name = seen.calls[best].label
    grid = "x".join(map(str, here.grid if here else ()))
    source = "" if best == start else f", {what} being {seen.calls[start].name}"
    return name, f"{name}: {what} and what follows it at {grid} positions{source}"


def _kind(grid: Layout | None) -> str:
    return grid.kind if grid is not None else ""


def _is_embedding(seen: Survey, convolution: int, tokens: Sequence[int]) -> bool:
    """Whether a convolution only cuts patches: attention follows it, or normed tokens and no further map."""
    attention = _attention(seen)
    if attention:
        return convolution < attention[-1] and tokens[-1] > convolution
    later = [(c.module, c.layout(seen.size)) for c in seen.calls[convolution + 1 :]]
    maps = any(grid is not None and grid.kind == "first" and math.prod(grid.grid) > 1 for _, grid in later)
    return not maps and any(isinstance(m, nn.LayerNorm) and grid is not None for m, grid in later)


def _attention(seen: Survey) -> list[int]:
    return [i for i, call in enumerate(seen.calls) if "attention" in type(call.module).__name__.lower()]


def _before_the_last_block(seen: Survey, tokens: Sequence[int], grids: Sequence[Layout | None]) -> tuple[str, str]:
    """In a transformer the last block's patch tokens may not reach the output: take the first norm of that block."""
    norms = [i for i in tokens if isinstance(seen.calls[i].module, nn.LayerNorm) and grids[i] == grids[tokens[-1]]]
    attention = _attention(seen)
    before = [i for i in norms if attention and i < attention[-1]]
    if not attention:  # the last norm, but one earlier where only a class token is read from it
        last = grids[tokens[-1]]
        before = norms[:-1] if last is not None and last.prefix else norms
    best = before[-1] if before else tokens[-1]
    name = seen.calls[best].label
    here = grids[best]
    return name, f"{name}: the tokens that enter the last attention, {'x'.join(map(str, here.grid if here else ()))}"


@dataclass(frozen=True)
class Tap:
    """A layer that can be read: its name, module, which call of it, and its layout."""

    name: str
    module: nn.Module
    call: int
    layout: Layout


def find(model: nn.Module, layer: str | nn.Module, seen: Survey) -> Tap:
    """The tap for a layer, by module or by name; ``name@2`` is the second call of a layer that runs twice.

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
    shape = runs[max(call, 1) - 1].shape
    grid = runs[max(call, 1) - 1].layout(seen.size)
    if grid is None:
        if runs[0].rows > 1:
            raise LayerError(
                f"layer {name!r} runs on {runs[0].rows} rows for one sample, so its output is no map of a sample; "
                f"choose one of: {_offer(seen)}"
            )
        what = f"an output of shape (N, {', '.join(map(str, shape[1:]))})" if shape else "no single tensor as output"
        raise LayerError(
            f"layer {name!r} has {what}, which has no positions to draw a map on; choose one of: {_offer(seen)}"
        )
    return Tap(name, module, max(call, 1), grid)


def _offer(seen: Survey) -> str:
    fit = [c.label for c in seen.calls if c.name and (g := c.layout(seen.size)) and math.prod(g.grid) > 1]
    return ", ".join(dict.fromkeys(fit[-6:])) or "none has positions"


def biases(seen: Survey) -> list[tuple[Tap, Float[Tensor, " k"]]]:
    """Every call of a convolution or BatchNorm that adds something, with what it adds to each channel.

    A BatchNorm adds beta - gamma * mean / deviation (1905.00780, section 3).
    """
    parts = []
    for call in seen.calls:
        added, grid = _added(call.module), call.layout(seen.size)
        if added is not None and grid is not None:
            parts.append((Tap(call.name, call.module, call.number, grid), added))
    return parts


def _added(module: nn.Module) -> Tensor | None:
    if isinstance(module, CONVOLUTIONS):
        return None if module.bias is None else module.bias.detach()
    if not isinstance(module, NORMS) or module.running_mean is None or module.running_var is None:
        return None
    scale = torch.rsqrt(module.running_var + module.eps) * (1.0 if module.weight is None else module.weight.detach())
    return (0.0 if module.bias is None else module.bias.detach()) - module.running_mean * scale
