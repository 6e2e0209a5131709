"""Maps from the attention of vision transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof import spatial
from heatproof.methods.catalogue import method
from heatproof.probe import Goal, Heads, Probe


@method("attention-rollout", paper="2005.00928", label="Attention rollout", range=(0, None), needs=("attention",))
def attention_rollout(
    probe: Probe, x: Float[Tensor, "n c *s"], _: object, *, heads: Literal["mean", "max", "min"] = "mean"
) -> Float[Tensor, "n *s"]:
    """How much each patch contributes to the class token, attention multiplied over the layers (equation 1).

    The same for every class. Without a class token, the mean over all tokens.
    Range: at least 0, the patches' shares sum to at most 1.
    Cost: one forward pass.
    Raises: NotApplicable where the model has no global attention.
    """

    def step(layer: Heads) -> Tensor:
        weights = layer.weights
        joined = weights.mean(1) if heads == "mean" else weights.amax(1) if heads == "max" else weights.amin(1)
        joined = joined + torch.eye(joined.shape[-1], device=joined.device)
        return joined / joined.sum(-1, keepdim=True)

    return _maps(probe, x, None, lambda layers: _arrives(_product([step(layer) for layer in layers]), layers[0]))


@method(
    "transformer-attribution",
    paper="2012.09838",
    label="Transformer attribution",
    range=(0, None),
    needs=("attention",),
)
def transformer_attribution(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """Attention weighted by its positive gradient, multiplied over the layers (equations 13 and 14).

    Deviates: the attention itself stands for its LRP relevance, as in the authors' later 2103.15679 (equations 5, 6),
    which needs no propagation rule for the model at hand.
    Range: at least 0.
    Cost: one forward and one backward pass.
    Raises: NotApplicable where the model has no global attention.
    """

    def step(layer: Heads) -> Tensor:
        joined = (_gradient(layer) * layer.weights).relu().mean(1)
        return joined + torch.eye(joined.shape[-1], device=joined.device)

    return _maps(probe, x, goal, lambda layers: _arrives(_product([step(layer) for layer in layers]), layers[0]))


@method("le-grad", paper="2404.03214", label="LeGrad", range=(0, None), needs=("attention",))
def le_grad(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """The positive gradient of the logit by the attention, averaged over heads, queries and layers (equations 5 to 9).

    Deviates: every layer's gradient is that of the final logit, not of a logit read off at that layer.
    Range: at least 0.
    Cost: one forward and one backward pass.
    Raises: NotApplicable where the model has no global attention.
    """

    def join(layers: Sequence[Heads]) -> Tensor:
        shares = torch.stack([_gradient(layer).relu().mean((1, 2)) for layer in layers]).mean(0)
        return _to_grid(shares, layers[0])

    return _maps(probe, x, goal, join)


def _maps(
    probe: Probe, x: Tensor, goal: Goal | None, join: Callable[[Sequence[Heads]], Tensor]
) -> Float[Tensor, "n *s"]:
    return torch.cat([spatial.resize(join(layers), x.shape[2:]) for layers in probe.attentions(x, goal)])


def _gradient(layer: Heads) -> Tensor:
    return torch.zeros_like(layer.weights) if layer.gradient is None else layer.gradient


def _product(steps: Sequence[Float[Tensor, "n t t"]]) -> Float[Tensor, "n t t"]:
    total = steps[0]
    for step in steps[1:]:
        total = step @ total
    return total


def _arrives(total: Float[Tensor, "n t t"], layer: Heads) -> Float[Tensor, "n *s"]:
    return _to_grid(total[:, 0] if layer.layout.prefix else total.mean(1), layer)


def _to_grid(tokens: Float[Tensor, "n t"], layer: Heads) -> Float[Tensor, "n *s"]:
    return layer.layout.read(tokens[..., None])[:, 0]
