"""What is learnt of a model, and kept for as long as the model lives; it does not keep the model alive."""

from __future__ import annotations

import math
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import HeatproofError
from heatproof.probe import graph
from heatproof.probe.batches import MOST, ONE_IS_TOO_MUCH, BatchWatch, Capacity
from heatproof.probe.evidence import Statement
from heatproof.probe.forms import check_values, obstacle
from heatproof.probe.graph import Cut
from heatproof.probe.kinds import PROBABILITIES
from heatproof.probe.layers import Tap
from heatproof.probe.optimisation import Copies
from heatproof.probe.outputs import Outputs
from heatproof.probe.possession import Sites
from heatproof.probe.stamp import Stamp
from heatproof.probe.state import Ground, device_and_dtype, hook_onto, note, unhook
from heatproof.probe.survey import SEVERAL, Survey, survey
from heatproof.probe.weights import Versions, versions

CACHED = 2**19  # numbers of one layer's output that stay near the processor
Halves = dict[tuple[str, int], Cut | None]
Key = tuple[tuple[int, ...], str | None]


@dataclass(frozen=True, eq=False)
class Prepared:
    """What is to be learnt of a model for inputs of one shape; none of it depends on the values of the weights.

    Attributes:
        sample: the input that it was learnt from (1, C, *S), of the model's type and device.
        survey: the model's layers and how each is laid out.
        near: rows a pass so that, on the CPU, each layer finds what the one before wrote still near the processor.
        watch: whether scores depend on the batch; None where that is not asked.
        taps: the layers to look at, by what was asked for.
        cuts: the model cut in two at a layer, by its name and call; None where its graph cannot be followed.
    """

    sample: Float[Tensor, "1 c *s"]
    survey: Survey
    near: int
    watch: BatchWatch | None = None
    taps: dict[tuple[str | None, str | None], list[Tap]] = field(default_factory=dict)
    cuts: Halves = field(default_factory=dict)
    _obstacles: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        x: Float[Tensor, "n c *s"],
        passes: Counter[str],
        outputs: str | None = None,
        *,
        keep: bool = False,
        ground: Ground | None = None,
    ) -> Prepared:
        """What one pass of the first sample shows; with ``keep`` its gradients can be asked for.

        ``ground`` saves a look over all modules.

        Raises: InputError where the model does not accept it.
        """
        sample = x[:1]
        try:
            with counting(model, passes):
                seen = survey(model, x, Statement.of(model, outputs), keep=keep, ground=ground)
        except torch.OutOfMemoryError as error:
            raise HeatproofError(ONE_IS_TOO_MUCH) from error
        if seen.draws:
            note("the model draws random numbers in evaluation mode (dropout that is always on, say): every pass draws "
                 "the same ones, but a sample's maps and scores depend on its place in a batch")  # fmt: skip
        widest = max((math.prod(call.shape or ()) for call in seen.calls), default=1)
        near = max(16, CACHED // widest) if sample.device.type == "cpu" else MOST
        return cls(sample.clone(), seen, near, _watch(model, sample, seen))

    @property
    def outputs(self) -> Outputs:
        """How the model's class scores are read."""
        return self.survey.outputs

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.sample.device

    def obstacle(self, model: nn.Module) -> str:
        """Why no copy or traced graph of the model is used, or nothing."""
        if not self._obstacles:
            self._obstacles.append(obstacle(model))
        return self._obstacles[0]

    def bring(self, x: Tensor) -> Tensor:
        """Inputs of the model's type, on its device."""
        return brought(x, self.sample.device, self.sample.dtype)

    def cut(self, model: nn.Module, tap: Tap, passes: Counter[str], *, anew: bool = False) -> Cut | None:
        """The model cut behind a layer, or None where its graph cannot be followed, which is said once.

        ``anew`` follows it again: a graph may hold numbers that the model has changed since.
        """
        place = (tap.name, tap.call)
        if anew or place not in self.cuts:
            self.cuts[place] = graph.cut(model, tap, self.sample, passes, self.obstacle(model))
        return self.cuts[place]


@dataclass(eq=False)
class Memory:
    """What was learnt of one model by all who ask it; dropped where the model could answer differently.

    Attributes:
        stamp: of the model when it was last looked at.
        shapes: what was learnt, by the shape of a sample and what was said of the outputs.
        sites: what a pass may change. copies: quicker copies of the model. lock: held by whoever learns.
    """

    stamp: Stamp | None = None
    shapes: dict[Key, Prepared] = field(default_factory=dict)
    sites: Sites | None = None
    copies: Copies = field(default_factory=Copies)
    lock: Any = field(default_factory=threading.RLock)

    def look(self, model: nn.Module) -> Stamp:
        """The stamp that holds for the model; where it is another than before, all that was learnt is dropped."""
        if self.stamp is None or not self.stamp.same(model):
            check_values(model)
            self.stamp, self.shapes, self.copies = Stamp.of(model), {}, Copies()
            self.sites = Sites.of(self.stamp.parts())
        return self.stamp

    def ground(self) -> Ground | None:
        """All modules, and what a pass may change on them, as long as the stamp holds."""
        return None if self.stamp is None or self.sites is None else (self.stamp.parts(), self.sites)


_memories: dict[int, tuple[weakref.ref[nn.Module], Memory]] = {}
_lock = threading.Lock()


def memory_of(model: nn.Module) -> Memory:
    """The memory of a model object, which goes when the model goes."""
    with _lock:
        place, memory = _memories.get(id(model), (None, None))
        if place is None or memory is None or place() is not model:
            key, memory = id(model), Memory()
            _memories[key] = (weakref.ref(model, lambda gone: _forget(key, gone)), memory)
        return memory


def _forget(key: int, gone: weakref.ref[nn.Module]) -> None:
    if _memories.get(key, (None,))[0] is gone:
        del _memories[key]


@dataclass(eq=False)
class Store:
    """The model that a probe asks, how many rows a pass takes, and what is remembered of the model.

    Attributes:
        model: the model. capacity: the most rows a pass. outputs: what was said of its outputs, or None.
        own: what numbers alone decided, and so might be decided otherwise with other samples or weights: not for other
            probes, and only for as long as nothing writes to the weights.
    """

    model: nn.Module
    capacity: Capacity
    outputs: str | None = None
    own: dict[Key, tuple[Stamp, Versions, Prepared]] = field(default_factory=dict)

    @property
    def memory(self) -> Memory:
        """What was learnt of the model, by this probe or another."""
        return memory_of(self.model)

    def prepared(self, x: Float[Tensor, "n c *s"], passes: Counter[str], *, keep: bool = False) -> Prepared:
        """What is learnt of the model for inputs of this shape, from the first of them.

        With ``keep`` the pass that shows it can be used to explain that sample, where it is made now.

        Raises: InputError where the model does not accept the input.
        """
        memory, key = self.memory, (tuple(x.shape[1:]), self.outputs)
        with memory.lock:
            stamp = memory.look(self.model)
            kept = self.own.get(key)
            if kept is not None and kept[0] is stamp and kept[1] == versions(self.model):
                return kept[2]
            if key not in memory.shapes:
                few = x[: min(SEVERAL, self.capacity.rows(key[0]))]
                place = device_and_dtype(self.model)
                learnt = Prepared.of(
                    self.model, brought(few, *place), passes, self.outputs, keep=keep, ground=memory.ground()
                )
                if not learnt.outputs.settled or learnt.outputs.choices:
                    self.own[key] = stamp, versions(self.model), learnt
                    return learnt
                memory.shapes[key] = learnt
            return memory.shapes[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "capacity": self.capacity, "outputs": self.outputs, "own": {}}


def _watch(model: nn.Module, sample: Tensor, seen: Survey) -> BatchWatch | None:
    coarse = seen.outputs.kind in PROBABILITIES and not seen.outputs.watch
    if seen.alone is None or coarse:
        return None
    return BatchWatch(sample, seen.alone, versions(model))


@contextmanager
def counting(model: nn.Module, passes: Counter[str]) -> Iterator[None]:
    """Adds to ``passes`` the rows of every pass through the model in the block."""

    def count(_: nn.Module, inputs: tuple[Any, ...], __: Any) -> None:
        passes["forward"] += next((len(x) for x in inputs if isinstance(x, Tensor) and x.ndim), 0)

    try:
        hook_onto(model, count)
        yield
    finally:
        unhook(model, count)


def brought(x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Inputs of a type, on a device; copied while the processor goes on, where that can be."""
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device=device, dtype=dtype, non_blocking=True)
