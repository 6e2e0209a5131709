"""Whether a model could still answer as it did: its modules, tensors, plain attributes, hooks and methods.

Nothing here keeps a model alive: what is not a plain value is remembered by a weak reference. The values of weights are
`weights.digest`'s business.
"""

from __future__ import annotations

import enum
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from heatproof.probe.forms import HOOKS, global_hooks, is_scripted

_STANDARD = frozenset(vars(nn.Module())) - {"training"}
_TABLES = ("_modules", "_parameters", "_buffers")
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.memory_format, enum.Enum)
_EXACTLY = frozenset(_PLAIN)
_DEEP = 4  # levels of lists and dicts that are looked into
_LONG = 256  # entries of a list or dict that are looked at by value


class _Same:
    """Equal to what stands for the very same object only; holds it weakly where that is possible."""

    __slots__ = ("kind", "place")

    def __init__(self, thing: Any) -> None:
        self.kind = type(thing).__name__
        try:
            self.place: Any = weakref.ref(thing)
        except TypeError:
            self.place = id(thing)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Same) or self.kind != other.kind:
            return False
        return self.place is other.place if isinstance(self.place, weakref.ref) else bool(self.place == other.place)

    __hash__ = None  # type: ignore[assignment]


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind in _EXACTLY or (all(map(_is_plain, value)) if kind is tuple else isinstance(value, _PLAIN))


def _token(value: Any, depth: int = _DEEP) -> Any:
    """What stands for a value: itself where it is plain, its entries where it holds any, else its identity."""
    if _is_plain(value):
        return value
    if isinstance(value, torch.Size):
        return tuple(value)
    if depth and type(value) in (list, tuple, set, frozenset) and len(value) <= _LONG:
        return (type(value).__name__, [_token(v, depth - 1) for v in value])
    if depth and isinstance(value, Mapping) and len(value) <= _LONG:
        return (type(value).__name__, [(str(k), _token(v, depth - 1)) for k, v in value.items()])
    return _Same(value)


def _fields(thing: Any) -> Any:
    """The plain values one level inside a simple object such as a configuration, or None."""
    if isinstance(thing, (nn.Module, Tensor, type)) or callable(thing) or type(thing).__module__ in _LIBRARIES:
        return None
    inside = getattr(thing, "__dict__", None)
    if not isinstance(inside, dict) or len(inside) > _LONG:
        return None
    return [(name, _token(value, 2)) for name, value in inside.items()]


_LIBRARIES = ("torch", "builtins", "weakref", "threading", "logging")


@dataclass(eq=False)
class _Table:
    """One table of attributes, of a module or a class: how many, the plain ones by value, the others by what stands for
    them.
    """

    size: int
    get: Callable[[Any], Any] | None
    plain: Any
    others: list[tuple[str, Any]]

    @classmethod
    def of(cls, table: Mapping[str, Any], skip: frozenset[str]) -> _Table:
        values = {name: value for name, value in table.items() if name not in skip}
        plain = {name: value for name, value in values.items() if _is_plain(value)}
        others = [(name, _token(value)) for name, value in values.items() if name not in plain]
        get = itemgetter(*plain) if plain else None
        return cls(len(table), get, None if get is None else get(plain), others)

    def same(self, table: Mapping[str, Any]) -> bool:
        if len(table) != self.size or (self.get is not None and self.get(table) != self.plain):
            return False
        return all(_token(table[name]) == token for name, token in self.others)


@dataclass(eq=False)
class _Module:
    """What one module was when it was looked at: its class, the parts it holds, its attributes and its hooks."""

    place: weakref.ref[nn.Module]
    kind: weakref.ref[type]
    sizes: tuple[int, ...]
    parts: list[Any]
    tensors: list[Any]
    table: _Table | None
    hooks: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, module: nn.Module) -> _Module:
        place, kind, hooks = weakref.ref(module), weakref.ref(type(module)), _hooks(module)
        if is_scripted(module):
            return cls(place, kind, (), [], [], None, hooks)
        modules, parameters, buffers = _parts_of(vars(module))
        sizes = len(modules), len(parameters), len(buffers)
        facts = [*map(_fact, (*parameters.values(), *buffers.values()))]
        return cls(
            place, kind, sizes, [*map(_ref, modules.values())], facts, _Table.of(vars(module), _SKIPPED), hooks
        )  # fmt: skip


_parts_of = itemgetter(*_TABLES)
_SKIPPED = _STANDARD | {"training"}
_hook_tables = itemgetter(*HOOKS)


def _hooks(module: nn.Module) -> tuple[tuple[int, ...], ...]:
    """The numbers of a module's hooks: no two hooks ever have the same."""
    tables = _hook_tables(vars(module))
    return tuple(map(tuple, tables)) if any(tables) else ()


def _ref(thing: Any) -> Any:
    return _nothing if thing is None else weakref.ref(thing)


def _nothing() -> None:
    return None


@dataclass(eq=False)
class Stamp:
    """What a model was when it was looked at; None of it depends on the values of its weights.

    Attributes:
        modules: every module, and the type, device and shape of its weights; these themselves are not remembered, even
            weakly, since torch swaps no tensor that somebody refers to.
        classes: the methods and plain values of their classes. objects: simple objects that modules hold, a
            configuration say. everywhere: the hooks that run for every module.
    """

    modules: list[_Module]
    classes: list[tuple[weakref.ref[type], _Table]]
    objects: list[tuple[weakref.ref[Any], Any]]
    everywhere: tuple[int, ...]

    @classmethod
    def of(cls, model: nn.Module) -> Stamp:
        """The stamp of a model as it is now."""
        modules = list(model.modules())
        classes = dict.fromkeys(kind for module in modules for kind in _classes(type(module)))
        looks = [_Module.of(module) for module in modules]
        objects: dict[int, tuple[weakref.ref[Any], Any]] = {}
        for module, look in zip(modules, looks, strict=True):
            for name, _ in () if look.table is None else look.table.others:
                value = vars(module)[name]
                fields = None if id(value) in objects else _fields(value)
                if fields is not None:
                    try:
                        objects[id(value)] = (weakref.ref(value), fields)
                    except TypeError:
                        continue
        return cls(
            looks,
            [(weakref.ref(kind), _Table.of(_methods(kind), frozenset())) for kind in classes],
            list(objects.values()),
            global_hooks(),
        )

    def parts(self) -> list[nn.Module]:
        """All modules, the model itself first."""
        return [module for one in self.modules if (module := one.place()) is not None]

    def same(self, model: nn.Module) -> bool:
        """Whether the model is what it was, its training flags and the values of its weights aside."""
        if self.modules[0].place() is not model or global_hooks() != self.everywhere:
            return False
        try:
            return (
                all(map(_is_same, self.modules))
                and all((kind := place()) is not None and kept.same(_methods(kind)) for place, kept in self.classes)
                and all((thing := place()) is None or _fields(thing) == kept for place, kept in self.objects)
            )
        except Exception:  # a value that cannot be compared is no longer the one that was kept
            return False


def _is_same(kept: _Module) -> bool:
    """Whether a module is what it was; in one go, since it is asked of every module at every call."""
    module = kept.place()
    if module is None or type(module) is not kept.kind():
        return False
    table = module.__dict__
    hooks = _hook_tables(table)
    if (any(hooks) or kept.hooks) and tuple(map(tuple, hooks)) != kept.hooks:
        return False
    one = kept.table
    if one is None:
        return True
    if len(table) != one.size or (one.get is not None and one.get(table) != one.plain):
        return False
    modules, parameters, buffers = _parts_of(table)
    if (len(modules), len(parameters), len(buffers)) != kept.sizes:
        return False
    if modules and not all(map(is_, [place() for place in kept.parts], modules.values())):
        return False
    if kept.tensors and kept.tensors != [*map(_fact, parameters.values()), *map(_fact, buffers.values())]:
        return False
    return not one.others or all(_token(table[name]) == token for name, token in one.others)


def _classes(kind: type) -> Iterator[type]:
    """The classes of a module that are not torch's own."""
    for one in kind.__mro__:
        if one is nn.Module:
            return
        yield one


def _methods(kind: type) -> Mapping[str, Any]:
    """The table of a class; of torch's own classes the forward alone."""
    table = vars(kind)
    if kind.__module__.startswith("torch."):
        return {"forward": table.get("forward")}
    return table


def _fact(tensor: Tensor | None) -> Any:
    return None if tensor is None else (tensor.dtype, tensor.device, tensor.shape)


def loose(model: nn.Module) -> list[Tensor]:
    """Tensors that modules hold as plain attributes, alone or in lists and dicts."""
    held: dict[int, Tensor] = {}
    for module in model.modules():
        for name, value in () if is_scripted(module) else vars(module).items():
            if name not in _SKIPPED and not _is_plain(value):
                held.update((id(t), t) for t in _tensors(value))
    return list(held.values())


def _tensors(value: Any, depth: int = _DEEP) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif type(value).__module__ == "numpy" and hasattr(value, "dtype") and getattr(value.dtype, "kind", "O") in "biufc":
        yield torch.as_tensor(value)
    elif depth and isinstance(value, (list, tuple)):
        yield from chain.from_iterable(_tensors(v, depth - 1) for v in value)
    elif depth and isinstance(value, Mapping):
        yield from chain.from_iterable(_tensors(v, depth - 1) for v in value.values())
