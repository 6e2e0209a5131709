"""Inputs, checked before they are used."""

from __future__ import annotations

import torch
from torch import Tensor

from heatproof.errors import InputError


def checked(x: object, what: str = "input") -> Tensor:
    """The inputs as a tensor, after a look at their shape and content.

    Raises: InputError for an empty batch, NaN or infinite values, or other than one to three position axes.
    """
    if not isinstance(x, Tensor):
        try:
            x = torch.as_tensor(x)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{what}: got a {type(x).__name__}, expected a tensor (N, C, *S)") from error
    if not 3 <= x.ndim <= 5:
        raise InputError(
            f"{what}: got shape {tuple(x.shape)}, expected (N, C, *S) with one to three position axes; "
            "add the missing batch or channel axis"
        )
    if x.numel() == 0:
        raise InputError(f"{what}: got an empty batch of shape {tuple(x.shape)}, expected at least one sample")
    if not x.is_floating_point():
        raise InputError(f"{what}: got {x.dtype}, expected floating point values; call .float() and scale them")
    if not bool(x.sum().isfinite()) and not bool(torch.isfinite(x).all()):  # a sum is quicker, but may overflow
        bad = (~torch.isfinite(x.flatten(1)).all(1)).nonzero()[:, 0].tolist()
        raise InputError(f"{what}: NaN or infinite values in {len(bad)} of {len(x)} samples (the first is number "
                         f"{bad[0]}); remove or replace them")  # fmt: skip
    with torch.inference_mode(False):
        return x.clone() if x.is_inference() else x.detach()
