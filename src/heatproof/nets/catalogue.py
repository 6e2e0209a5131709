"""The registry of networks; each entry is a function that returns an untrained torch module giving logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from torch import nn

from heatproof.registry import Entry, Registry, Spec

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class NetEntry(Entry):
    """A network.

    Attributes:
        input_shape: the inputs it is made for, (C, *S). layer: the layer that CAMs read.
    """

    input_shape: tuple[int, ...]
    layer: str


nets: Registry[NetEntry] = Registry("network")


def net(
    name: str, *, input_shape: tuple[int, ...], layer: str, paper: str = "", label: str = ""
) -> Callable[[Function], Function]:
    """Registers a function that returns an untrained network for inputs (C, *S), with the layer that CAMs read."""

    def register(function: Function) -> Function:
        nets.add(NetEntry(name, function, input_shape=input_shape, layer=layer, paper=paper, label=label))
        return function

    return register


def build(network: str | Spec) -> nn.Module:
    """The untrained network named by a spec, weights drawn from torch's global random state.

    Raises: UnknownName, UsageError where the network or one of its options does not exist.

    >>> sum(p.numel() for p in build("mnist1d-cnn").parameters())
    13960
    """
    spec = nets.spec(network)
    return cast(nn.Module, nets[spec.name].function(**spec.kwargs))
