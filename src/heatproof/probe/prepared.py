"""What a probe learns of its model, and what it keeps between two calls."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.probe import graph
from heatproof.probe.batches import MOST, BatchWatch, Capacity
from heatproof.probe.graph import Cut
from heatproof.probe.layers import Tap
from heatproof.probe.optimisation import Copies
from heatproof.probe.outputs import Outputs
from heatproof.probe.survey import Survey, survey
from heatproof.probe.weights import Parts, versions

CACHED = 2**19  # numbers of one layer's output that stay near the processor
Halves = dict[tuple[str, int], Cut | None]


@dataclass(frozen=True, eq=False)
class Prepared:
    """What is to be learnt of a model for inputs of one shape; none of it depends on the values of the weights.

    Attributes:
        model: the model. sample: the input that it was learnt from (1, C, *S), of the model's type and device.
        survey: its layers and how each is laid out.
        near: rows a pass so that, on the CPU, each layer finds what the one before wrote still near the processor.
        cuts: the model cut in two at a layer, by its name and call; None where its graph cannot be followed.
    """

    model: nn.Module
    sample: Float[Tensor, "1 c *s"]
    survey: Survey
    near: int
    cuts: Halves = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, sample: Float[Tensor, "1 c *s"]) -> Prepared:
        """What one pass of one sample shows.

        Raises: InputError where the model does not accept it.
        """
        seen = survey(model, sample)
        widest = max((math.prod(call.shape or ()) for call in seen.calls), default=1)
        near = max(16, CACHED // widest) if sample.device.type == "cpu" else MOST
        return cls(model, sample.clone(), seen, near)

    @property
    def outputs(self) -> Outputs:
        """How the model's class scores are read."""
        return self.survey.outputs

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.sample.device

    def bring(self, x: Tensor) -> Tensor:
        """Inputs of the model's type, on its device."""
        return brought(x, self.sample.device, self.sample.dtype)

    def cut(self, tap: Tap) -> Cut | None:
        """The model cut behind a layer, or None where its graph cannot be followed, which is said once."""
        place = (tap.name, tap.call)
        if place not in self.cuts:
            self.cuts[place] = graph.cut(self.model, tap, self.sample)
        return self.cuts[place]


@dataclass(eq=False)
class Store:
    """What a probe keeps between two calls; dropped where the model got other parts, another type or another place.

    Attributes:
        model: the model. capacity: the most rows a pass.
        parts: those of the model when it was last looked at. shapes: what was learnt, by the shape of a sample.
        copies: quicker copies of the model. watch: whether scores depend on the batch; None where it is not asked.
    """

    model: nn.Module
    capacity: Capacity
    parts: Parts | None = None
    shapes: dict[tuple[int, ...], Prepared] = field(default_factory=dict)
    copies: Copies = field(default_factory=Copies)
    watch: BatchWatch | None = None

    def prepared(self, x: Float[Tensor, "n c *s"]) -> Prepared:
        """What is learnt of the model for inputs of this shape, from the first of them.

        Raises: InputError where the model does not accept the input.
        """
        parts, shape = Parts.of(self.model), tuple(x.shape[1:])
        if self.parts is None or not parts.same(self.parts):
            self.parts, self.shapes, self.copies, self.watch = parts, {}, Copies(), None
        if shape not in self.shapes:
            learnt = Prepared.of(self.model, brought(x[:1], parts.device, parts.dtype))
            self.parts = Parts.of(self.model)  # a first pass may add buffers
            if not self.shapes:
                self.watch = _watch(learnt)
            self.shapes[shape] = learnt
        return self.shapes[shape]


def _watch(prepared: Prepared) -> BatchWatch | None:
    alone, outputs = prepared.survey.alone, prepared.outputs
    if alone is None or outputs.softmax or outputs.sigmoid:
        return None
    return BatchWatch(prepared.sample, alone, versions(prepared.model))


def brought(x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Inputs of a type, on a device; copied while the processor goes on, where that can be."""
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device=device, dtype=dtype, non_blocking=True)
