"""Finding the layer to look at: by name, by module, or the last convolution; and reading its output as a map."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError, LayerError, UnknownName
from heatproof.probe.outputs import class_scores
from heatproof.probe.state import borrowed

CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.TransformerEncoderLayer, nn.TransformerEncoder)
CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Layout:
    """How a layer's output holds its channels and positions.

    ``first`` is (N, K, *s), ``last`` is (N, *s, K), ``tokens`` is (N, prefix + positions, K).
    """

    kind: Literal["first", "last", "tokens"]
    grid: tuple[int, ...]
    prefix: int = 0

    def read(self, out: Tensor) -> Float[Tensor, "n k *s"]:
        """The output as (N, K, *s)."""
        if self.kind == "first":
            return out
        if self.kind == "last":
            return out.movedim(-1, 1)
        return out[:, self.prefix :].movedim(-1, 1).reshape(len(out), out.shape[-1], *self.grid)

    def write(self, A: Float[Tensor, "n k *s"], out: Tensor) -> Tensor:
        """``A`` in the layer's own layout; what is no position (class tokens) comes from ``out``."""
        if self.kind == "first":
            return A
        if self.kind == "last":
            return A.movedim(1, -1)
        return torch.cat([out[:, : self.prefix], A.flatten(2).movedim(1, -1)], dim=1)


@dataclass(frozen=True)
class Call:
    """One call of one module in a forward pass of one sample.

    Attributes:
        shape: of its output; None where that is no tensor, or does not hold one row for the sample.
        number: which call of the module it is, from 1; of how many.
        rows: how many rows its output has.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...] | None
    number: int = 1
    of: int = 1
    rows: int = 1

    @property
    def label(self) -> str:
        """The name, with the number of the call where there are several."""
        return f"{self.name}@{self.number}" if self.of > 1 else self.name

    def layout(self, size: Sequence[int]) -> Layout | None:
        """How to read its output as positions; None where it has none."""
        if isinstance(self.module, CHANNELS_LAST) and len(size) == 1 and self.shape and len(self.shape) == 3:
            return Layout("last", self.shape[1:2])
        return layout(self.shape, size)


@dataclass(frozen=True)
class Survey:
    """What one forward pass of one sample showed.

    Attributes:
        calls: every module call, in the order in which they ended.
        size: the input's position axes.
        classes: how many classes the model scores; 0 where it returns no class scores.
        probabilities: whether its output is already a softmax.
        sigmoid: whether its output is one sigmoid, the probability of the second of two classes.
        alone: the class scores of the sample, run by itself.
        trouble: why the output holds no class scores, if it does not.
    """

    calls: tuple[Call, ...]
    size: tuple[int, ...]
    classes: int
    probabilities: bool
    sigmoid: bool = False
    alone: Tensor | None = None
    trouble: InputError | None = None


def survey(model: nn.Module, x: Float[Tensor, "n c *s"]) -> Survey:
    """Run one sample and write down what happens.

    Raises: InputError where the model does not accept the input.
    """
    names = {module: name for name, module in model.named_modules()}
    calls: list[Call] = []
    times = Counter[nn.Module]()

    def record(module: nn.Module, _: Any, out: Any) -> None:
        times[module] += 1
        rows = len(out) if isinstance(out, Tensor) and out.ndim else 0
        shape = tuple(out.shape) if rows == 1 else None
        calls.append(Call(names[module], module, shape, times[module], rows=rows))

    with borrowed(model, dict.fromkeys(names, record)):
        try:
            raw = model(x[:1])
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            reason = str(error).strip().splitlines()
            raise InputError(
                f"the model does not accept inputs of shape (N, {', '.join(map(str, x.shape[1:]))}): "
                f"{reason[0] if reason else type(error).__name__}"
            ) from error
    calls = [replace(call, of=times[call.module]) for call in calls]
    try:
        out = class_scores(raw).float()
    except InputError as error:
        return Survey(tuple(calls), tuple(x.shape[2:]), 0, False, trouble=error)
    probable = bool((out >= 0).all()) and torch.allclose(out.sum(1), torch.ones(len(out)).to(out), atol=2e-3)
    single = isinstance(raw, Tensor) and raw.shape[1:].numel() == 1
    leaves = [call.module for call in calls if not any(True for _ in call.module.children())]
    sigmoid = single and bool(leaves) and type(leaves[-1]) is nn.Sigmoid
    return Survey(tuple(calls), tuple(x.shape[2:]), out.shape[1], probable and not single, sigmoid, out)


def layout(shape: Sequence[int] | None, size: Sequence[int]) -> Layout | None:
    """How to read an output of this shape (batch axis included) as positions; None where it has none.

    Positions keep the input's proportions; where two readings do, channels first wins.
    """
    rank = len(size)
    if shape is None or len(shape) < 2:
        return None
    if len(shape) == rank + 2:
        first, last = tuple(shape[2:]), tuple(shape[1:-1])
        if rank > 1 and not _alike(first, size) and _alike(last, size):
            return Layout("last", last)
        return Layout("first", first)
    if len(shape) == 3 and rank > 1:
        for prefix in range(9):
            grid = _grid(shape[1] - prefix, size)
            if grid is not None:
                return Layout("tokens", grid, prefix)
    return None


def _alike(grid: Sequence[int], size: Sequence[int]) -> bool:
    shrink = [s / g for g, s in zip(grid, size, strict=True)]
    return max(shrink) <= 1.35 * min(shrink) and all(g <= 2 * s for g, s in zip(grid, size, strict=True))


def _grid(count: int, size: Sequence[int]) -> tuple[int, ...] | None:
    if count < 4:
        return None
    scale = (count / math.prod(size)) ** (1 / len(size))
    grid = tuple(max(1, round(s * scale)) for s in size)
    return grid if math.prod(grid) == count else None


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
    """The tap for a layer given by module or by name; ``name@2`` is the second call of a layer that runs twice.

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
    found = []
    for call in seen.calls:
        added, grid = _added(call.module), call.layout(seen.size)
        if added is not None and grid is not None:
            found.append((Tap(call.name, call.module, call.number, grid), added))
    return found


def _added(module: nn.Module) -> Tensor | None:
    if isinstance(module, CONVOLUTIONS):
        return None if module.bias is None else module.bias.detach()
    if not isinstance(module, NORMS) or module.running_mean is None or module.running_var is None:
        return None
    scale = torch.rsqrt(module.running_var + module.eps) * (1.0 if module.weight is None else module.weight.detach())
    return (0.0 if module.bias is None else module.bias.detach()) - module.running_mean * scale
