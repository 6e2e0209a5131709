"""Heatmaps drawn over what they explain: signals, images and volumes.

Warm is evidence for the explained class, cold against it, clear is none, and deeper is more. Each map has its own
scale, that of `heatproof.plots.display.scaled`, for display only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from heatproof.errors import InputError
from heatproof.plots.display import note, scaled
from heatproof.plots.grid import Lettering, Size, Tile, grid
from heatproof.plots.panel import Drawing
from heatproof.plots.style import styled

SMALL = Size()


@styled
def gallery(
    x: ArrayLike,
    maps: Mapping[str, ArrayLike],
    *,
    labels: Sequence[str] = (),
    mask: ArrayLike | None = None,
    drawing: Drawing = "overlay",
    captions: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Small inputs x (N, C, *S) down, methods across, each with its map (N, *S); images and volumes also by themselves.

    A volume is shown in the one slice where its maps (or its mask) have most to say. ``captions`` holds by method a
    text an input, which stands above its map. `heatproof.show` draws larger.

    Raises: InputError where maps, mask, labels or captions do not fit x.
    """
    inputs = np.asarray(x, dtype=np.float64)
    heats = {name: np.asarray(heat, dtype=np.float64) for name, heat in maps.items()}
    truth = None if mask is None else np.asarray(mask, dtype=bool)
    if labels and len(labels) != len(inputs):
        raise InputError(f"got {len(labels)} labels for {len(inputs)} inputs; expected one each")
    for name, heat in heats.items():
        _fit(heat, (len(inputs), *inputs.shape[2:]), f"map of {name}")
    if truth is not None:
        _fit(truth, (len(inputs), *inputs.shape[2:]), "mask")
    for name, texts in (captions or {}).items():
        if len(texts) != len(inputs):
            raise InputError(f"got {len(texts)} captions of {name} for {len(inputs)} inputs; expected one each")
    tiles: list[Tile] = []
    for i, one in enumerate(inputs):
        tiles += _tiles(one, [heat[i] for heat in heats.values()], None if truth is None else truth[i], inputs.ndim > 3)
    tops = [*heats] if inputs.ndim == 3 else ["input", *heats]
    words = (
        [captions[name][i] if name in captions else "" for i in range(len(inputs)) for name in tops] if captions else []
    )
    return grid(tiles, max(1, len(tops)), lettering=Lettering(tops, labels, words), drawing=drawing, size=SMALL)


@styled
def panels(
    x: ArrayLike,
    captions: Sequence[str],
    *,
    maps: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    incorrect: Sequence[bool] = (),
    columns: int = 4,
    rows: Sequence[str] = (),
    heads: Sequence[str] = (),
) -> Figure:
    """Small inputs x (N, C, *S) one after the other, each under its caption; ``incorrect`` ones have it in orange.

    Images and volumes with maps are shown by themselves too, before the map. ``rows`` and ``heads`` name the rows and
    columns of a table.

    Raises: InputError where captions, maps or mask do not fit x.
    """
    inputs = np.asarray(x, dtype=np.float64)
    if len(captions) != len(inputs):
        raise InputError(f"got {len(captions)} captions for {len(inputs)} inputs; expected one each")
    heats = None if maps is None else np.asarray(maps, dtype=np.float64)
    truth = None if mask is None else np.asarray(mask, dtype=bool)
    for name, part in (("maps", heats), ("mask", truth)):
        if part is not None:
            _fit(part, (len(inputs), *inputs.shape[2:]), name)
    double = heats is not None and inputs.ndim > 3
    tiles: list[Tile] = []
    for i, one in enumerate(inputs):
        tiles += _tiles(one, [] if heats is None else [heats[i]], None if truth is None else truth[i], double)
    texts, marked = [*captions], [*incorrect]
    if double:
        texts = [text for caption in captions for text in (caption, "its map")]
        marked = [mark for one in marked for mark in (one, False)]
    count = max(1, min(columns, len(tiles)))
    return grid(tiles, count, lettering=Lettering(heads, rows, texts, marked), size=SMALL)


def _tiles(
    x: Float[np.ndarray, "c *s"],
    maps: Sequence[Float[np.ndarray, "*s"]],
    mask: Bool[np.ndarray, "*s"] | None,
    alone: bool,
) -> list[Tile]:
    """An input by itself where that is asked for or it has no map, then with each map; a volume as one slice."""
    heats = [scaled(map) for map in maps]
    remarks = [note(map) for map in maps]
    if x.ndim == 4:
        at = _slice(heats, mask, x.shape[1])
        x, heats, mask = x[:, at], [heat[at] for heat in heats], None if mask is None else mask[at]
    single = [Tile(x, mask=mask)] if alone or not maps else []
    return [*single, *(Tile(x, heat, mask, remark) for heat, remark in zip(heats, remarks, strict=True))]


def _slice(heats: Sequence[Float[np.ndarray, "d h w"]], mask: Bool[np.ndarray, "d h w"] | None, depth: int) -> int:
    """The slice of the first axis with most of the mask, or else most relevance; the middle where there is neither."""
    weight = np.zeros(depth)
    if mask is not None and mask.any():
        weight += mask.sum(axis=(1, 2))
    else:
        weight += sum((np.abs(heat).sum(axis=(1, 2)) for heat in heats), np.zeros(depth))
    return int(weight.argmax()) if weight.any() else depth // 2


def _fit(part: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    if part.shape != shape:
        raise InputError(f"{name}: got shape {part.shape}, expected {shape} to fit the input")
