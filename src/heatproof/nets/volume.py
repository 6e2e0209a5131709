"""A small network for planted tasks, the same for signals, images and volumes."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from heatproof.errors import UsageError
from heatproof.nets.blocks import MAX_POOL, GlobalAverage, NormBlock
from heatproof.nets.catalogue import net


@net("small-cnn", input_shape=(1, 16, 16, 16), layer="block_2")
def small_cnn(
    *, rank: int = 3, classes: int = 3, channels: int = 1, filters: tuple[int, ...] = (8, 16, 32)
) -> nn.Sequential:
    """Convolutions with batch normalisation, one halving of the positions, a global mean and a dense layer.

    Layers: ``block``, ``pool``, ``block_1``, ``block_2``, ``average``, ``dense``. Inputs may be of any size above 1.

    Raises: UsageError for a rank other than 1, 2 or 3, or a size below one.
    """
    if rank not in MAX_POOL:
        raise UsageError(f"small-cnn: option rank got {rank}, expected 1 (signals), 2 (images) or 3 (volumes)")
    if min(classes, channels, *filters) < 1 or not filters:
        raise UsageError(
            f"small-cnn: got {classes} classes, {channels} channels, filters {filters}; expected 1 or more"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (before, after) in enumerate(zip((channels, *filters), filters, strict=False)):
        layers[f"block_{i}" if i else "block"] = NormBlock(rank, before, after)
        if i == 0:
            layers["pool"] = MAX_POOL[rank](2)
    layers["average"], layers["dense"] = GlobalAverage(rank), nn.Linear(filters[-1], classes)
    return nn.Sequential(layers)
