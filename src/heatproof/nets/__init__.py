"""Networks heatproof trains itself, by name, and the summary table of any model.

A module of this package registers its networks with ``@net(name)``; a saved model names one of them with its options,
which is all that is needed to build it again.
"""

from __future__ import annotations

from heatproof.nets.bundle import shipped, weights
from heatproof.nets.catalogue import build, net, nets
from heatproof.nets.image import tissue_resnet, vgg_7
from heatproof.nets.signal import mnist1d_cnn
from heatproof.nets.summary import Row, Summary, summary
from heatproof.nets.volume import small_cnn

__all__ = [
    "Row",
    "Summary",
    "build",
    "mnist1d_cnn",
    "net",
    "nets",
    "shipped",
    "small_cnn",
    "summary",
    "tissue_resnet",
    "vgg_7",
    "weights",
]
