"""Maps shown over what they explain: `show`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from heatproof.errors import InputError
from heatproof.plots.display import PERCENTILE, note, scaled, strongest
from heatproof.plots.files import save as write
from heatproof.plots.grid import Lettering, Size, Tile, grid
from heatproof.plots.panel import Drawing
from heatproof.plots.style import styled

LARGE = Size(inches=2.3, pixels=224, ticks=True)
MOST = {1: 3, 2: 5, 3: 1}  # tiles side by side, by the number of position axes


@styled
def show(
    x: ArrayLike | Tensor,
    maps: ArrayLike | Tensor | Mapping[Any, ArrayLike | Tensor],
    *,
    labels: str | Sequence[str] = (),
    mask: ArrayLike | Tensor | None = None,
    drawing: Drawing = "overlay",
    percentile: float = PERCENTILE,
    save: str | os.PathLike[str] | None = None,
    columns: int | None = None,
) -> Figure:
    """A figure of an input x (C, *S) with its map (*S), or of several, (N, C, *S) and (N, *S); or with a map a method.

    Signals are drawn a panel a channel, volumes as three planes through the position of the strongest relevance.
    Relevance is in colour: warm is for the class, cold against it. A map without negative values is shown above its
    lowest value. Each map has its own scale, and values beyond the ``percentile`` of its absolute values are clipped.

    Args:
        labels: a text an input, left of it.
        mask: planted truth (*S) or (N, *S), outlined in green.
        drawing: the map over the input, its contours at 35 % and 70 % of the scale, or the map by itself.
        save: a path that ends in .png, .svg or .pdf, where the figure is written too.
        columns: how many panels stand side by side.

    Raises: InputError where shapes or options do not fit.
    """
    if drawing not in get_args(Drawing):
        raise InputError(f"drawing: got {drawing!r}, expected one of {', '.join(map(repr, get_args(Drawing)))}")
    if not 0 < percentile <= 100:
        raise InputError(f"percentile: got {percentile}, expected more than 0 and at most 100")
    if columns is not None and columns < 1:
        raise InputError(f"columns: got {columns}, expected at least 1")
    inputs, heats = _fitting(_array(x), _named(maps))
    truth = None if mask is None else _batch(_array(mask), inputs, "mask") > 0
    texts = (labels,) if isinstance(labels, str) else tuple(labels)
    if texts and len(texts) != len(inputs):
        raise InputError(f"labels: got {len(texts)} for {len(inputs)} inputs, expected one each")
    rank = inputs.ndim - 2
    alone = rank == 2 or (rank == 1 and drawing == "map")
    names = [*["input"][: int(alone)], *heats]
    across = columns or min(len(names), MOST[rank])
    down = -(-len(names) // across)
    tiles: list[Tile | None] = []
    for i, one in enumerate(inputs):
        planted = None if truth is None else truth[i]
        row: list[Tile | None] = [Tile(one, mask=planted)] if alone else []
        row += [
            Tile(one, scaled(heat[i], percentile), planted, note(heat[i]), strongest(heat[i]))
            for heat in heats.values()
        ]
        tiles += row + [None] * (down * across - len(row))
    sides = [text for label in texts for text in (label, *[""] * (down - 1))]
    shown = [name or "map" for name in names] if any(names) else []
    captions = [*shown, *[""] * (down * across - len(names))] * len(inputs) if down > 1 else []
    lettering = Lettering(shown if down == 1 else (), sides, captions)
    figure = grid(tiles, across, lettering=lettering, drawing=drawing, size=LARGE)
    if save is not None:
        write(figure, save)
    return figure


def _array(value: Any) -> np.ndarray:
    array = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise InputError(f"got {type(value).__name__} of {array.dtype}, expected numbers")
    return array.astype(np.float64)


def _named(maps: Any) -> dict[str, np.ndarray]:
    """The maps by the name of their method; those of a single, unnamed one without a name."""
    if not isinstance(maps, Mapping):
        return {"": _array(maps)}
    if not maps:
        raise InputError("maps: got none, expected an array or a dict from method to array")
    return {str(name): _array(part) for name, part in maps.items()}


def _fitting(x: np.ndarray, maps: dict[str, np.ndarray]) -> tuple[Float[np.ndarray, "n c *s"], dict[str, np.ndarray]]:
    """Inputs and maps with an axis of samples each, whichever they came with; a batch where both readings fit."""
    readings = [x, x[None]]
    for inputs in readings:
        if all(_fits(part, inputs) for part in maps.values()):
            return inputs, {name: _batch(part, inputs, name) for name, part in maps.items()}
    misfits = [name for name, part in maps.items() if not any(_fits(part, inputs) for inputs in readings)]
    name = (misfits or [*maps])[0]
    one = x.shape[1:] if 2 <= x.ndim <= 4 else "(*S)"
    several = (x.shape[0], *x.shape[2:]) if 3 <= x.ndim <= 5 else "(N, *S)"
    who = f"map of {name}" if name else "map"
    raise InputError(
        f"{who}: got shape {maps[name].shape} for an input of shape {x.shape}; expected {one} where the input is "
        f"(C, *S), or {several} where it is (N, C, *S), with one to three axes of positions"
    )


def _fits(part: np.ndarray, inputs: np.ndarray) -> bool:
    if inputs.ndim not in (3, 4, 5):
        return False
    shape = (len(inputs), *inputs.shape[2:])
    return part.shape == shape or (len(inputs) == 1 and part.shape == shape[1:])


def _batch(part: np.ndarray, inputs: np.ndarray, name: str) -> np.ndarray:
    shape = (len(inputs), *inputs.shape[2:])
    if not _fits(part, inputs):
        raise InputError(f"{name}: got shape {part.shape}, expected {shape} to fit the input")
    return part.reshape(shape)
