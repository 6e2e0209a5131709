"""The scores of inverted maps and of slightly changed inputs, by which metrics are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

KINDS = ("inverted", "noisy")


@dataclass(frozen=True, eq=False)
class SelfChecks:
    """The scores of some samples with a wrong map or a changed input, by (method, metric); NaN where undefined.

    Attributes:
        rows: the samples' places in the study (K,).
        inverted: with the map turned upside down within its range (K,).
        noisy: of an input changed by at most 2 % of its range, explained anew (K,); NaN where its class changed.
    """

    rows: Int[np.ndarray, " k"]
    inverted: Mapping[tuple[str, str], Float[np.ndarray, " k"]] = field(default_factory=dict)
    noisy: Mapping[tuple[str, str], Float[np.ndarray, " k"]] = field(default_factory=dict)
