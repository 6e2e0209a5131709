"""Data sets by name, each returning Splits(train, test).

A module of this package registers its entry with ``@dataset(name)`` and is imported below; what it needs beyond torch
and NumPy it imports inside its functions.
"""

from __future__ import annotations

from heatproof.data.arrays import arrays
from heatproof.data.catalogue import dataset, datasets, load
from heatproof.data.fetch import fetch
from heatproof.data.folder import folder
from heatproof.data.hmt import hmt
from heatproof.data.images import LazyImages
from heatproof.data.mnist1d import mnist1d, mnist1d_templates
from heatproof.data.synthetic import synthetic

__all__ = [
    "LazyImages",
    "arrays",
    "dataset",
    "datasets",
    "fetch",
    "folder",
    "hmt",
    "load",
    "mnist1d",
    "mnist1d_templates",
    "synthetic",
]
