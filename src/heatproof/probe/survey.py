"""What one small pass shows about a model: the calls of its layers, and how its output is read."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from heatproof.errors import HeatproofError, InputError
from heatproof.probe.axes import Reading, reading
from heatproof.probe.disturbance import Trial
from heatproof.probe.endings import Observation
from heatproof.probe.ends import Place, end, place
from heatproof.probe.entries import columns, entry
from heatproof.probe.evidence import Statement, decide
from heatproof.probe.layout import Layout
from heatproof.probe.outputs import Outputs, checked
from heatproof.probe.provenance import Fact, Provenance, Reader
from heatproof.probe.recent import Box, Recent
from heatproof.probe.state import Ground, borrowed, holding_weakly

SEVERAL = 16  # samples whose numbers are looked at where those of one do not settle how to read them
UNSAID = Statement()
SMALL = 2**16  # numbers in an index
NOTHING = Reading(None)


@holding_weakly("module")
@dataclass(frozen=True)
class Call:
    """One call of one module in a forward pass of one sample.

    Attributes:
        shape: of its output, or of the first tensor in it; None where there is none.
        number: which call of the module it is, from 1; of how many. index: which call of the pass, from 0.
        handed: whether it only passes on what another layer made.
        fact: what the operations of the pass say of the output; None where they cannot be followed. seen: the layout
            that follows from it. trial: where to ask for what they leave open.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...] | None
    number: int = 1
    of: int = 1
    index: int = 0
    handed: bool = False
    fact: Fact | None = None
    seen: Reading = NOTHING
    trial: Trial | None = None

    @property
    def label(self) -> str:
        """The name, with the number of the call where there are several."""
        return f"{self.name}@{self.number}" if self.of > 1 else self.name

    def layout(self, size: Sequence[int]) -> Layout | None:
        """How to read its output as positions; None where it has none.

        Cost: one pass of a few rows, once a model and input shape, if the operations leave it open.
        """
        if self.seen.certain or self.trial is None or len(size) != self.trial.sample.ndim - 2:
            return self.seen.layout
        return self.trial.layout(self.index)

    @property
    def evidence(self) -> str:
        """What its layout was decided by."""
        return "observed operations" if self.seen.certain else "disturbed input"


@dataclass(frozen=True, eq=False)
class First:
    """The surveying pass with its graph: what it returned, the outputs of its last calls, and what observed it."""

    raw: Any
    ends: list[Box]
    versions: list[int]
    seen: Observation

    def end(self, index: int) -> Tensor | None:
        """The output of a call, by its number in the pass.

        None where it was let go, has no graph, or was written over since.
        """
        tensor = next(iter(self.ends[index]), None)
        if tensor is None or not tensor.requires_grad or tensor._version != self.versions[index]:
            return None
        return tensor


@dataclass(frozen=True, eq=False)
class Survey:
    """What one forward pass of one sample showed.

    Attributes:
        calls: every module call, in the order in which they ended.
        size: the input's position axes.
        outputs: how the model's class scores are read.
        alone: the class scores of the sample, run by itself; None where there are none.
        reader: the last operation that reads positions together; None where it was not seen.
        trial: the pass with a disturbed input. noted: layers of which was said that they are blind.
        first: the pass itself, where its gradients will be asked for; whoever does takes it out.
        writes: whether the model writes into its input, so that it must be handed copies. draws: whether it draws
            random numbers in evaluation mode.
    """

    calls: tuple[Call, ...]
    size: tuple[int, ...]
    outputs: Outputs
    alone: Float[Tensor, "1 k"] | None = None
    reader: Reader | None = None
    trial: Trial | None = None
    noted: set[str] = field(default_factory=set)
    first: list[First] = field(default_factory=list)
    writes: bool = False
    draws: bool = False


@dataclass(frozen=True, eq=False)
class _Followed:
    """A pass: its calls, what it returned, its input with the graph or None where it has none, and what observed it.

    Attributes:
        writes: whether it wrote into its input. draws: whether it drew random numbers.
    """

    record: Record
    raw: Any
    source: Tensor | None
    seen: Observation
    writes: bool
    draws: bool


@dataclass(eq=False)
class Record:
    """The calls of a pass as they end, with the tensors that they returned.

    Attributes:
        names: of the modules. recent: holds the outputs of the last calls.
        calls: the modules that ended, each with the number of its call. shapes: of their outputs, or None.
        places: where their outputs were computed. ends, versions: the outputs, and how often these were written to.
        handed: whether a layer only passes on what another made, as it is or among several things: others may read it
            elsewhere. aliases: outputs of recurrent layers and what went into them.
    """

    names: dict[nn.Module, str]
    recent: Recent = field(default_factory=Recent)
    calls: list[tuple[nn.Module, int]] = field(default_factory=list)
    shapes: list[tuple[int, ...] | None] = field(default_factory=list)
    places: list[Place | None] = field(default_factory=list)
    ends: list[Box] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    handed: list[bool] = field(default_factory=list)
    aliases: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    times: Counter[nn.Module] = field(default_factory=Counter)
    _outputs: set[Any] = field(default_factory=set)

    def __call__(self, module: nn.Module, inputs: Any, out: Any) -> None:
        """The hook."""
        with torch._C.DisableTorchFunction():
            self.times[module] += 1
            tensor = out if isinstance(out, Tensor) else end(out)
            self.calls.append((module, self.times[module]))
            self.shapes.append(None if tensor is None else tuple(tensor.shape))
            at = place(tensor)
            source = end(inputs)
            through = tensor is source  # as it is, or written over: others may have what came in
            others = tensor is not None and (at or id(tensor)) in self._outputs
            self.handed.append(others and (through or tensor is not out))
            self._outputs.add(at or id(tensor))
            self.places.append(at)
            self.ends.append([] if tensor is None or through else self.recent.box(tensor))
            self.versions.append(-1 if tensor is None or tensor.is_inference() else tensor._version)
            if isinstance(module, nn.RNNBase) and tensor is not None and place(source) is not None:
                assert source is not None
                self.aliases.append((tensor, source))


def survey(
    model: nn.Module,
    x: Float[Tensor, "n c *s"],
    statement: Statement = UNSAID,
    *,
    keep: bool = False,
    ground: Ground | None = None,
) -> Survey:
    """Run one sample and write down what happens; a few more where its numbers alone tell how to read the output.

    Args:
        x: the samples at hand. statement: what was said of the outputs. keep: whether gradients will be asked for of
            this very pass; otherwise it holds no tensor that they need. ground: saves a look over all modules.

    Raises: InputError where the model does not accept the input, or returns NaN or infinite values for it.
    """
    names = {module: name for name, module in model.named_modules()}
    sample = x[:1].detach().clone()
    keep = keep and not any(module._backward_hooks for module in names)
    done = _followed(model, sample, names, keep=keep, ground=ground)
    record, raw, source, seen = done.record, done.raw, done.source, done.seen
    with torch.no_grad():
        outputs = decide(raw, 1, seen, statement)
        if len(x) > 1 and (outputs.choices or not outputs.settled):
            with borrowed(model, ground=ground):
                outputs = decide(raw, 1, seen, statement, (_returned(model, x.clone() if done.writes else x), len(x)))
        alone = None if outputs.trouble is not None else checked(outputs.read(raw, 1, seen).detach())
    provenance = None
    if source is not None:
        root = columns(entry(raw, outputs.entry), 1) if outputs.trouble is None else None
        root = end(raw) if root is None else root
        ends = [at for at in record.places if at is not None]
        provenance = Provenance(source, root, ends, record.aliases, seen.added)
    facts = [None if provenance is None else provenance.fact(at) for at in record.places]
    size, shapes = tuple(x.shape[2:]), record.shapes
    seen_as = _readings(facts, shapes, size)
    trial = Trial(model, sample, {i: s for i, s in enumerate(shapes) if s and not seen_as[i].certain})
    calls = tuple(
        Call(names[module], module, shapes[i], number, record.times[module], i, record.handed[i], facts[i], seen_as[i],
             trial)
        for i, (module, number) in enumerate(record.calls)
    )  # fmt: skip
    reader = None if provenance is None else provenance.reader
    first = [First(raw, record.ends, record.versions, seen)] if keep and source is not None else []
    return Survey(calls, size, outputs, alone, reader, trial, first=first, writes=done.writes, draws=done.draws)


def _readings(
    facts: Sequence[Fact | None], shapes: Sequence[tuple[int, ...] | None], size: tuple[int, ...]
) -> list[Reading]:
    """How each output is read as far as operations say; many share a tag."""
    by_tag: dict[int, Reading] = {}
    readings = []
    for fact, shape in zip(facts, shapes, strict=True):
        if fact is None:
            readings.append(Reading(None, certain=shape is None or len(shape) < 2))
            continue
        if id(fact.tag) not in by_tag:
            by_tag[id(fact.tag)] = reading(fact.tag, size)
        readings.append(by_tag[id(fact.tag)])
    return readings


def _followed(
    model: nn.Module,
    sample: Float[Tensor, "1 c *s"],
    names: dict[nn.Module, str],
    *,
    keep: bool,
    ground: Ground | None,
) -> _Followed:
    """A pass of the sample, with its graph where the model can be run with one."""
    hooked = [module for module in names if module._backward_hooks]
    for graph in (True, False):
        record = Record(names)
        source = _source(sample) if graph else None
        try:
            with borrowed(model, dict.fromkeys(names, record), ground), _unhooked(hooked), Observation() as seen:
                chance = torch.random.get_rng_state()
                if source is None:
                    batch = sample.clone()
                    raw, writes = _returned(model, batch), not torch.equal(batch, sample)
                else:
                    pack, unpack = (record.recent.pack, record.recent.unpack) if keep else (_kept, _given_back)
                    with torch.enable_grad(), saved_tensors_hooks(pack, unpack):
                        raw = model(source)
                    writes = source._version > 0 or not torch.equal(source, sample)
                draws = not torch.equal(chance, torch.random.get_rng_state())
            return _Followed(record, raw, source, seen, writes, draws)
        except (HeatproofError, torch.OutOfMemoryError):
            raise
        except Exception:  # the model's own code may raise anything; without a graph it may not
            if source is None:
                raise
    raise RuntimeError("unreachable")


def _source(sample: Tensor) -> Tensor:
    """The sample as the result of an operation with a graph."""
    with torch.inference_mode(False), torch.enable_grad():
        return sample.clone().requires_grad_().clone()


@contextmanager
def _unhooked(modules: Sequence[nn.Module]) -> Iterator[None]:
    """The modules without backward hooks: these make views of outputs, which then cannot be written over."""
    hooks = [module._backward_hooks for module in modules]
    try:
        for module in modules:
            module._backward_hooks = OrderedDict()
        yield
    finally:
        for module, own in zip(modules, hooks, strict=True):
            module._backward_hooks = own


def _kept(tensor: Tensor) -> Tensor | None:
    """What the graph keeps of a tensor for a backward pass: only small indices, which say where values went."""
    return None if tensor.is_floating_point() or tensor.numel() > SMALL else tensor


def _given_back(tensor: Any) -> Any:
    return tensor


def _returned(model: nn.Module, x: Float[Tensor, "n c *s"]) -> Any:
    try:
        return model(x)
    except (HeatproofError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the model's own code may raise anything
        reason = str(error).strip().splitlines()
        raise InputError(
            f"the model does not accept inputs of shape (N, {', '.join(map(str, x.shape[1:]))}): "
            f"{reason[0] if reason else type(error).__name__}"
        ) from error
