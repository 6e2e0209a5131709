"""Maps from the attention of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof import spatial
from heatproof.methods.catalogue import method
from heatproof.probe import Attention, Goal, Heads, Probe


@method("attention-rollout", paper="2005.00928", label="Attention rollout", range=(0, None), needs=("attention",))
def attention_rollout(
    probe: Probe, x: Float[Tensor, "n c *s"], _: object, *, heads: Literal["mean", "max", "min"] = "mean"
) -> Float[Tensor, "n *s"]:
    """How much each patch contributes to the tokens that the output reads, attention multiplied over the layers.

    Equation 1; the same for every class. All tokens that are read count the same: the class token; class and
    distillation token; all tokens where their mean is taken. A pooling query (SigLIP) reads them by its own attention.
    Range: at least 0, the patches' shares sum to at most 1.
    Cost: one forward pass, and a backward pass of what follows the last attention, which shows the tokens read; once
    a model and input shape a forward pass of one sample, which shows what positions the tokens are.
    Raises: NotApplicable where the model has no global attention in one order over one grid of tokens.
    """

    def join(layer: Heads) -> Tensor:
        weights = layer.weights
        return weights.mean(1) if heads == "mean" else weights.amax(1) if heads == "max" else weights.amin(1)

    def step(layer: Heads) -> Tensor:
        return _shares(_beside(join(layer)))

    return _maps(probe, x, None, lambda seen: _arrives(seen, step, lambda pool: _shares(join(pool))))


@method(
    "transformer-attribution",
    paper="2012.09838",
    label="Transformer attribution",
    scaled=True,
    range=(0, None),
    needs=("attention",),
)
def transformer_attribution(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """Attention weighted by its positive gradient, multiplied over the layers (equations 13 and 14).

    Read where the output reads it, as in attention-rollout; a pooling query by its own weighted attention.
    Deviates: the attention itself stands for its LRP relevance, as in the authors' later 2103.15679 (equations 5, 6),
    which needs no propagation rule for the model at hand.
    Range: at least 0.
    Cost: one forward and one backward pass; once a model and input shape a forward pass of one sample.
    Raises: NotApplicable where the model has no global attention over one grid of tokens, or no gradient reaches it.
    """

    def join(layer: Heads) -> Tensor:
        return (_gradient(layer) * layer.weights).relu().mean(1)

    return _maps(probe, x, goal, lambda seen: _arrives(seen, lambda layer: _beside(join(layer)), join))


@method("le-grad", paper="2404.03214", label="LeGrad", range=(0, None), needs=("attention",))
def le_grad(probe: Probe, x: Float[Tensor, "n c *s"], goal: Goal) -> Float[Tensor, "n *s"]:
    """The positive gradient of the logit by the attention, averaged over heads, queries and layers (equations 5 to 9).

    A pooling query (SigLIP) is one more layer.
    Deviates: every layer's gradient is that of the final logit, not of a logit read off at that layer.
    Range: at least 0.
    Cost: one forward and one backward pass; once a model and input shape a forward pass of one sample.
    Raises: NotApplicable where the model has no global attention over one grid of tokens, or no gradient reaches it.
    """

    def join(seen: Attention) -> Tensor:
        layers = seen.layers if seen.pool is None else (*seen.layers, seen.pool)
        return torch.stack([_gradient(layer).relu().mean((1, 2)) for layer in layers]).mean(0)

    return _maps(probe, x, goal, join)


def _maps(
    probe: Probe, x: Tensor, goal: Goal | None, join: Callable[[Attention], Float[Tensor, "n t"]]
) -> Float[Tensor, "n *s"]:
    """What ``join`` makes of the attention, a number a token, as maps of the size of the input."""
    return torch.cat(
        [
            spatial.resize(seen.layout.read(join(seen)[..., None])[:, 0], x.shape[2:])
            for seen in probe.attentions(x, goal)
        ]
    )


def _arrives(
    seen: Attention, step: Callable[[Heads], Float[Tensor, "n t t"]], join: Callable[[Heads], Float[Tensor, "n 1 t"]]
) -> Float[Tensor, "n t"]:
    """The steps of all layers multiplied, last on the left, and read where the output reads the last one."""
    row = seen.reads[:, None] if seen.pool is None else join(seen.pool)
    for layer in reversed(seen.layers):
        row = row @ step(layer)
    return row[:, 0]


def _beside(joined: Float[Tensor, "n t t"]) -> Float[Tensor, "n t t"]:
    """With the path past the attention."""
    return joined + torch.eye(joined.shape[-1], device=joined.device)


def _shares(joined: Float[Tensor, "n q t"]) -> Float[Tensor, "n q t"]:
    return joined / joined.sum(-1, keepdim=True).clamp_min(torch.finfo(joined.dtype).tiny)


def _gradient(layer: Heads) -> Tensor:
    return torch.zeros_like(layer.weights) if layer.gradient is None else layer.gradient
