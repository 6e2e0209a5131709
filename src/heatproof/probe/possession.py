"""What a model was before it was borrowed, so that it can be given back as it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from heatproof.probe.forms import is_compiled, is_scripted

_STANDARD = frozenset(vars(nn.Module()))
_TABLES = ("_parameters", "_buffers", "_modules")
_BOXES = (list, dict, set, deque)  # what a module may put something into
_DEEP, _LONG = 3, 10_000  # levels and entries of those that are looked into
_BATCH_NORM = nn.modules.batchnorm._BatchNorm.forward
_LITTLE = 2**16  # numbers of a buffer that is copied before every pass


class _Reader:
    """Reads the attributes that a module has besides those of every module."""

    def __init__(self, names: Sequence[str], own: Sequence[str]) -> None:
        self.names, self.own = frozenset(names), tuple(own)
        getter: Any = itemgetter(*own) if own else None
        self.read: Any = getter if len(own) > 1 else (lambda table: (getter(table),)) if own else (lambda _: ())

    def counts(self, table: dict[str, Any]) -> bool:
        """Whether the module has as many attributes as it had."""
        return len(table) == len(self.names)


@dataclass(frozen=True, eq=False)
class Sites:
    """Where on a model's modules, by their numbers, there is what a pass may change; holds none of it.

    Attributes:
        open: modules with attributes of their own, and what reads those. parts: their tables of parameters, buffers
            and modules that are not empty. boxes: attributes that are lists, dicts or sets.
        buffers: small ones, together by type and device.
        willed: modules whose ``train()`` does more than set a flag.
        inference: tables with tensors made under inference mode. compiled: whether anything is compiled.
    """

    open: tuple[tuple[int, _Reader], ...]
    parts: tuple[tuple[int, str], ...]
    boxes: tuple[tuple[int, str], ...]
    buffers: tuple[tuple[tuple[int, str], ...], ...]
    willed: tuple[int, ...]
    inference: tuple[tuple[int, str], ...]
    compiled: bool

    @classmethod
    def of(cls, modules: Sequence[nn.Module]) -> Sites:
        """The sites of modules as they are now."""
        tables = {i: vars(module) for i, module in enumerate(modules) if not is_scripted(module)}
        parts = [(i, name) for i, table in tables.items() for name in _TABLES if table[name]]
        groups: dict[Any, list[tuple[int, str]]] = {}
        for i, table in tables.items():
            steady = type(modules[i]).forward is _BATCH_NORM  # which writes to its buffers in training only
            for name, b in table["_buffers"].items() if not steady else ():
                if b is not None and b.numel() <= _LITTLE and b.layout is torch.strided and not b.is_inference():
                    groups.setdefault((b.dtype, b.device), []).append((i, name))
        return cls(
            tuple((i, _Reader([*table], [*(table.keys() - _STANDARD)])) for i, table in tables.items()),
            tuple(parts),
            tuple(
                (i, name)
                for i, table in tables.items()
                for name in table.keys() - _STANDARD
                if isinstance(table[name], _BOXES)
            ),
            tuple(map(tuple, groups.values())),
            tuple(i for i, module in enumerate(modules) if _has_own_train(module)),
            tuple(
                (i, name)
                for i, name in parts
                if name != "_modules" and any(t is not None and t.is_inference() for t in tables[i][name].values())
            ),
            any(map(is_compiled, modules)),
        )


class Possession:
    """A model with its flags, attributes, small buffers and the random state, as they were.

    Flags are set one by one, but where a module's own ``train()`` does more than that, it is called: it may empty
    caches or merge weights. All values are then put back, so that nothing depends on how exactly it undoes itself.
    """

    def __init__(self, modules: Sequence[nn.Module], sites: Sites) -> None:
        self.modules = modules
        self.flags = [_flag(module) for module in modules]
        self.willed = [modules[i] for i in sites.willed] if any(self.flags) else []
        tables: dict[int, dict[str, Any]] = {i: vars(modules[i]) for i, _ in sites.open}
        self.readers = [reader for _, reader in sites.open]
        self.tables = [*tables.values()]
        self.attributes = [reader.read(table) for reader, table in zip(self.readers, self.tables, strict=True)]
        self.parts = [(part := tables[i][name], part.copy()) for i, name in sites.parts]
        self.boxes = [box for i, name in sites.boxes for box in _boxes(tables[i][name])]
        self.random = _random_state(self.parts)
        self.every: list[tuple[Tensor, Tensor]] = []
        self.groups: list[tuple[list[Tensor], list[int], Tensor]] = []
        with torch.inference_mode(False), torch.no_grad():
            if self.willed:
                tensors = {id(t): t for module in modules[:1] for t in (*module.parameters(), *module.buffers())}
                self.every = [(tensor, tensor.detach().clone()) for tensor in tensors.values()]
            else:
                for group in sites.buffers:
                    alike = [tables[i]["_buffers"][name] for i, name in group]
                    joined = torch.cat([b.reshape(-1) for b in alike])
                    self.groups.append((alike, [b._version for b in alike], joined))
            for i, name in sites.inference:
                _replace_inference_tensors(tables[i][name])

    def evaluate(self) -> None:
        """Puts the model into evaluation mode."""
        inside: set[nn.Module] = set()
        for module in self.willed:
            if module not in inside and any(map(_flag, module.modules())):
                _train(module, False)
            inside.update(module.modules())
        for module, flag in zip(self.modules, self.flags, strict=True):
            if flag:
                module.training = False

    def give_back(self) -> None:
        """Puts everything back."""
        flags = dict(zip(self.modules, self.flags, strict=True)) if self.willed else {}
        try:
            for module in self.willed:
                if _flag(module) != flags[module]:
                    _train(module, flags[module])
        finally:
            for held in (self.boxes, self.parts):
                if not _all_hold(held):
                    for box, before in held:
                        if not _holds(box, before):
                            _refill(box, before)
            self._give_attributes_back()
            for module, flag in zip(self.modules, self.flags, strict=True):
                if _flag(module) != flag:
                    module.training = flag
            self._give_values_back()
            _set_random_state(self.random)

    def _give_attributes_back(self) -> None:
        try:
            now = [reader.read(table) for reader, table in zip(self.readers, self.tables, strict=True)]
            flat = chain.from_iterable
            if all(map(is_, flat(now), flat(self.attributes))) and all(map(_Reader.counts, self.readers, self.tables)):
                return
        except KeyError:  # an attribute is gone
            pass
        for reader, table, before in zip(self.readers, self.tables, self.attributes, strict=True):
            table.update(zip(reader.own, before, strict=True))
            for name in [name for name in table if name not in reader.names]:
                del table[name]

    def _give_values_back(self) -> None:
        with torch.inference_mode(False), torch.no_grad():
            for tensor, before in self.every:
                if not torch.equal(tensor, before):
                    tensor.data.copy_(before)
            for tensors, versions, joined in self.groups:
                if versions != [b._version for b in tensors]:
                    for tensor, before in zip(tensors, joined.split([t.numel() for t in tensors]), strict=True):
                        if not torch.equal(tensor.reshape(-1), before):
                            tensor.data.copy_(before.reshape(tensor.shape))


def _replace_inference_tensors(part: dict[str, Any]) -> None:
    """Tensors made under inference mode take no part in a graph: copies stand in for them."""
    for name, tensor in list(part.items()):
        if tensor is not None and tensor.is_inference():
            copied = tensor.clone()
            part[name] = nn.Parameter(copied, False) if isinstance(tensor, nn.Parameter) else copied


def _flag(module: nn.Module) -> bool:
    """Whether a module is in training mode; frozen TorchScript has no such flag."""
    return bool(getattr(module, "training", False))


def _has_own_train(module: nn.Module) -> bool:
    return not is_scripted(module) and ("train" in vars(module) or type(module).train is not nn.Module.train)


def _train(module: nn.Module, mode: bool) -> None:
    try:
        module.train(mode)
    except NotImplementedError:  # exported programs have no other mode
        return


def _boxes(value: Any, depth: int = _DEEP) -> Iterator[tuple[Any, Any]]:
    """A container and those inside it, each with what it holds."""
    if depth and isinstance(value, _BOXES) and len(value) <= _LONG:
        yield value, dict(value) if isinstance(value, dict) else list(value)
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _boxes(inner, depth - 1)


def _all_hold(held: Sequence[tuple[Any, Any]]) -> bool:
    """Whether all containers hold the very same things; in one go, since it is asked after every pass."""
    now, before = ([pair[side] for pair in held] for side in (0, 1))
    if [*map(len, now)] != [*map(len, before)]:
        return False
    return all(map(is_, chain.from_iterable(map(_values, now)), chain.from_iterable(map(_values, before))))


def _values(box: Any) -> Any:
    return box.values() if type(box) is dict or isinstance(box, dict) else box


def _holds(box: Any, before: Any) -> bool:
    """Whether a container holds the very same things in the same order."""
    if len(box) != len(before):
        return False
    if isinstance(box, dict):
        return all(map(is_, box.values(), before.values())) and [*box] == [*before]
    return all(map(is_, box, before))


def _refill(box: Any, before: Any) -> None:
    if isinstance(box, dict):
        box.update(before)
        for name in [name for name in box if name not in before]:
            del box[name]
        if list(box) == list(before):
            return
    elif isinstance(box, list):
        box[:] = before
        return
    box.clear()
    box.update(before) if isinstance(box, (dict, set)) else box.extend(before)


def _random_state(parts: Sequence[tuple[dict[str, Any], Any]]) -> list[tuple[torch.device, Tensor]]:
    """The state of torch's random numbers, on the processor and on the devices where weights lie."""
    states = [(torch.device("cpu"), torch.random.get_rng_state())]
    if torch.cuda.is_initialized():
        weights = (t for part, _ in parts for t in part.values() if isinstance(t, Tensor))
        states += [(device, torch.cuda.get_rng_state(device)) for device in {t.device for t in weights if t.is_cuda}]
    return states


def _set_random_state(states: Sequence[tuple[torch.device, Tensor]]) -> None:
    for device, before in states:
        if device.type == "cuda":
            torch.cuda.set_rng_state(before, device)
        elif not torch.equal(torch.random.get_rng_state(), before):
            torch.random.set_rng_state(before)
