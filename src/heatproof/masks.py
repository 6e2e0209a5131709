"""Binary masks of maps: where a heatmap says the evidence is."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof import spatial
from heatproof.errors import InputError


def mask(map: Float[Tensor, "n *s"], at: Literal["mean", "otsu"] | float = "mean") -> Bool[Tensor, "n *s"]:
    """The positions whose relevance is above the map's mean, above Otsu's threshold, or among the top fraction.

    A fraction marks exactly round(fraction * P) positions, at least one; equal values are drawn at random by a fixed
    seed. A constant map has nothing above its mean or its threshold.

    Raises: InputError for another ``at``.

    >>> mask(torch.tensor([[0.0, 1.0, 2.0, 9.0]]), at=0.5).int().tolist()
    [[0, 0, 1, 1]]
    """
    flat = map.flatten(1)
    if at == "mean":
        marked = flat > flat.mean(1, keepdim=True)
    elif at == "otsu":
        marked = flat > otsu(flat)[:, None]
    elif isinstance(at, (int, float)) and not isinstance(at, bool) and 0 < at <= 1:
        marked = spatial.ranks(flat) < max(1, round(at * flat.shape[1]))
    else:
        raise InputError(f"mask: got at={at!r}, expected 'mean', 'otsu' or a fraction in (0, 1]")
    return marked.reshape(map.shape)


def otsu(values: Float[Tensor, "n p"]) -> Float[Tensor, " n"]:
    """The threshold that best separates each row into two groups (Otsu 1979, equation 12), over all its own values.

    The lowest of several that are equally good, so that neither the scale nor an offset decides.
    """
    ordered = values.double().sort(dim=1).values
    ordered, offset = ordered - ordered[:, :1], ordered[:, 0]
    count = ordered.shape[1]
    if count < 2:
        return values[:, 0]
    low = torch.arange(1, count, dtype=torch.float64, device=values.device)
    below = ordered.cumsum(1)[:, :-1]
    mean_below, mean_above = below / low, (ordered.sum(1, keepdim=True) - below) / (count - low)
    between = low * (count - low) * (mean_below - mean_above) ** 2 * (ordered[:, 1:] > ordered[:, :-1])
    best = (between >= between.amax(1, keepdim=True) * (1 - 1e-9)).int().argmax(1, keepdim=True)
    constant = ordered[:, 0] == ordered[:, -1]
    threshold = (ordered.gather(1, best) + ordered.gather(1, best + 1))[:, 0] / 2
    return (offset + torch.where(constant, 0.0, threshold)).to(values)
