"""The registry of networks; each entry is a function that returns an untrained torch module giving logits."""

from __future__ import annotations

from typing import cast

from torch import nn

from heatproof.registry import Registry, Spec

nets = Registry("network")
net = nets.add


def build(network: str | Spec) -> nn.Module:
    """The untrained network named by a spec, weights drawn from torch's global random state.

    Raises: UnknownName, UsageError where the network or one of its options does not exist.

    >>> sum(p.numel() for p in build("mnist1d-cnn").parameters())
    13960
    """
    spec = nets.spec(network)
    return cast(nn.Module, nets[spec.name].function(**spec.kwargs))
