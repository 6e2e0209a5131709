"""Quicker copies of a model for the many passes without gradient that masking needs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional as F

from heatproof.probe.entries import tensors
from heatproof.probe.graph import Cut
from heatproof.probe.weights import Digest, duplicate

FEW = 20  # passes a sample, below which no copy is made or used
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MAKERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_LAID_OUT: dict[int, type[nn.Module]] = {3: nn.Conv1d, 4: nn.Conv2d}  # by the axes of the input


@dataclass(eq=False)
class Copies:
    """Quicker copies, each as old as the weights it was made of.

    Attributes:
        weights: the digest of the weights that all copies were made of.
        whole: the copies of the model by the number of axes of an input; None where there is nothing to gain.
        tails: the copies of cuts, alike.
    """

    weights: Digest | None = None
    whole: dict[int, nn.Module | None] = field(default_factory=dict)
    tails: dict[Cut, Cut | None] = field(default_factory=dict)

    def of_model(self, model: nn.Module, weights: Digest, x: Tensor) -> nn.Module | None:
        """The copy of the model for such inputs, or None. Whether it agrees is for the caller to see."""
        self._renew(weights)
        if x.ndim not in self.whole:
            with torch.inference_mode(False):
                self.whole[x.ndim] = _attempt(lambda: optimised(model, x.ndim, x.device))
        return self.whole[x.ndim]

    def of_cut(self, cut: Cut, weights: Digest, device: torch.device) -> Cut | None:
        """The cut with a quicker tail, or None. Whether it agrees is for the caller to see."""
        self._renew(weights)
        if cut not in self.tails:
            with torch.inference_mode(False):
                self.tails[cut] = _attempt(lambda: quickened(cut, device))
        return self.tails[cut]

    def _renew(self, weights: Digest) -> None:
        if weights != self.weights:
            self.weights = weights
            self.whole.clear()
            self.tails.clear()


T = TypeVar("T")


def _attempt(make: Callable[[], T | None]) -> T | None:
    try:
        return make()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # copying and tracing run the user's own code, which may raise anything
        return None


def optimised(model: nn.Module, axes: int, device: torch.device) -> nn.Module | None:
    """A copy with BatchNorm folded into the convolutions and, for signals and images on the CPU, channels-last memory.

    None where nothing can be gained.
    """
    norms = any(isinstance(module, _NORMS) for module in model.modules())
    kind = _LAID_OUT.get(axes) if device.type == "cpu" else None
    convolutions = kind is not None and any(isinstance(module, kind) for module in model.modules())
    if not (norms or convolutions):
        return None
    fast = _folded(duplicate(model))
    if convolutions and kind is nn.Conv1d:
        return _widened(fast, {})
    return fast.to(memory_format=torch.channels_last) if convolutions else fast


def quickened(cut: Cut, device: torch.device) -> Cut | None:
    """The cut with an optimised copy of its tail, under the same conditions."""
    if not any(isinstance(module, nn.Conv2d) for module in cut.tail.modules()):
        return None
    tail = _folded(copy.deepcopy(cut.tail))
    if device.type == "cpu":
        tail = tail.to(memory_format=torch.channels_last)
    return replace(cut, tail=tail) if isinstance(tail, fx.GraphModule) else None


def agree(want: Any, got: Any, *, within: float = 1e-5) -> bool:
    """Whether what a copy returned is what the model returned, up to a share of its scale."""
    wanted, copied = list(tensors(want)), list(tensors(got))
    return 0 < len(wanted) == len(copied) and all(map(_close, wanted, copied, repeat(within)))


def _close(want: Tensor, got: Tensor, within: float) -> bool:
    if want.shape != got.shape or want.dtype != got.dtype:
        return False
    if not want.is_floating_point() or not want.numel():
        return torch.equal(want, got)
    gap, scale = float((got.double() - want.double()).abs().max()), float(want.double().abs().max())
    return gap <= within * min(scale + 1, 10 * scale)  # rounding within the model counts by its inner scale, often one


def _folded(model: nn.Module) -> nn.Module:
    """The model with BatchNorm folded into the convolutions, and ReLU written over what a layer has just made."""
    try:
        folded = fuse(model)
    except Exception:  # a model that cannot be traced keeps its BatchNorm
        return model
    if not isinstance(folded, fx.GraphModule):
        return model
    layers = dict(folded.named_modules())
    for node in list(folded.graph.nodes):
        module = layers.get(str(node.target)) if node.op == "call_module" else None
        if type(module) is not nn.ReLU and not (node.op == "call_function" and node.target in (F.relu, torch.relu)):
            continue
        source = node.all_input_nodes[0]
        fresh = source.op == "call_module" and type(layers[str(source.target)]) in _MAKERS
        if fresh and len(source.users) == 1:
            with folded.graph.inserting_after(node):
                node.replace_all_uses_with(folded.graph.call_function(torch.relu_, (source,)))
            folded.graph.erase_node(node)
    folded.recompile()
    return folded


class _Row(nn.Module):
    """A convolution of signals, done as one of images one position high: those can keep their channels together."""

    def __init__(self, layer: nn.Conv1d) -> None:
        super().__init__()
        reach = layer.dilation[0] * (layer.kernel_size[0] - 1)
        pads = layer.padding
        padding = {"same": reach // 2, "valid": 0}[pads] if isinstance(pads, str) else pads[0]
        flat = layer.weight.detach()[:, :, None]
        self.weight = torch.empty_like(flat, memory_format=torch.channels_last).copy_(flat)
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.how = ((1, layer.stride[0]), (0, padding), (1, layer.dilation[0]), layer.groups)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x[:, :, None], self.weight, self.bias, *self.how)[:, :, 0]


def _widened(model: nn.Module, exchanged: dict[nn.Module, nn.Module]) -> nn.Module:
    """The model with its convolutions of signals exchanged, where that changes nothing but the layout."""
    for name, child in model.named_children():
        if child not in exchanged:
            exchanged[child] = _Row(child) if _is_plain(child) else _widened(child, exchanged)
        setattr(model, name, exchanged[child])
    return model


def _is_plain(module: nn.Module) -> TypeGuard[nn.Conv1d]:
    if type(module) is not nn.Conv1d or module.padding_mode != "zeros":
        return False
    uneven = module.padding == "same" and module.dilation[0] * (module.kernel_size[0] - 1) % 2 == 1
    return not (uneven or module._forward_hooks or module._forward_pre_hooks)
