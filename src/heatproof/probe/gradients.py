"""Gradients through the user's model, whose backward pass may fail for reasons of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from heatproof.errors import HeatproofError, first_line


def gradients(
    value: Tensor,
    at: Sequence[Tensor],
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    grad: Callable[..., Any] | None = None,
) -> tuple[Tensor | None, ...]:
    """The gradient of a number by each tensor, by ``grad`` or else torch's; None by one that it does not depend on.

    Raises: HeatproofError where the backward pass fails.
    """
    try:
        slopes: tuple[Tensor | None, ...] = (grad or torch.autograd.grad)(
            value, list(at), retain_graph=retain_graph or create_graph, create_graph=create_graph, allow_unused=True
        )
        return slopes
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise HeatproofError(
            f"no gradient of the model can be taken: {first_line(error)}; use one that needs none (occlusion, rise)"
        ) from error
