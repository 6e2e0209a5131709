"""One pass of one batch through the model, opened at a layer: everything a CAM may ask for, computed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import LayerError
from heatproof.probe.channels import Ablation
from heatproof.probe.layers import Tap
from heatproof.probe.outputs import Goal

if TYPE_CHECKING:
    from heatproof.probe.probe import Probe


class Shot:
    """What one batch shows at one layer; each attribute is computed when first asked for, and kept.

    Attributes:
        x: the inputs (n, C, *S).
        tap: the layer. goal: what is explained. logits: the model's class scores (n, classes).
        A: the layer's output (n, K, *s). G: the gradient of the target's logit by A, same shape.
        score: the score explained (n,), a probability or a logit as the probe says.
        ablated: that score with one channel at a time set to zero (n, K).
    """

    def __init__(self, probe: Probe, x: Tensor, tap: Tap, out: Tensor, logits: Tensor, raw: Any, goal: Goal) -> None:
        self.probe, self.x, self.tap, self.goal = probe, x, tap, goal
        self.out, self.logits, self.raw = out, logits, raw
        self.live: tuple[Any, ...] | None = None
        self._gradient: Callable[[], Tensor] | None = None

    @cached_property
    def A(self) -> Float[Tensor, "n k *s"]:
        return self.tap.layout.read(self.out.detach()).float()

    @cached_property
    def G(self) -> Float[Tensor, "n k *s"]:
        if self._gradient is None:
            raise LayerError("this pass was made without gradients")
        gradient, self._gradient = self._gradient(), None
        return self.tap.layout.read(gradient).float()

    @cached_property
    def score(self) -> Float[Tensor, " n"]:
        return self.goal.score(self.logits.detach(), self.probe.score, self.raw)

    def tail(self, A: Float[Tensor, "m k *s"], rows: Tensor) -> Float[Tensor, " m"]:
        """The score with the layer's output replaced by ``A``, whose i-th map belongs to sample ``rows[i]``."""
        parts = []
        for part in torch.arange(len(A)).split(self.probe.rows(self.x)):
            index = rows[part]
            out = self.tap.layout.write(A[part].to(self.out), self.out.detach()[index])
            parts.append(self.probe.behind(self, out, index))
        return torch.cat(parts) if parts else self.score[:0]

    @cached_property
    def ablated(self) -> Float[Tensor, "n k"]:
        n, count = self.A.shape[:2]
        result = self.A.new_empty(n, count)
        cut = self.probe.cut(self.tap, self.x)
        if cut is None or self.live is None or self.tap.layout.kind != "first":
            for sample in range(n):
                for channels in torch.arange(count).split(self.probe.rows(self.x)):
                    changed = self.A[sample].expand(len(channels), *self.A.shape[1:]).clone()
                    changed[torch.arange(len(channels)), channels] = 0
                    result[sample, channels] = self.tail(changed, torch.full((len(channels),), sample))
            return result
        with self.probe.borrowed(), torch.inference_mode():
            ablation = Ablation(cut, self.out.detach(), self.live)
            for samples, channels, raw in ablation.outputs(self.probe.rows(self.x)):
                logits = self.probe.read(raw)
                self.probe.count("tail", len(samples))
                result[samples, channels] = self.goal.take(samples).score(logits, self.probe.score, raw)
        return result
