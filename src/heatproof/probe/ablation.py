"""What the score becomes when one channel of a layer is switched off, for every channel at once.

As long as the operations behind the layer act on each channel by itself (ReLU, BatchNorm, pooling, flatten), all K
ablations follow from two tensors: the channels as they are and the channels as they would be when switched off. The
first operation that mixes channels (a dense layer, a convolution) is linear: each ablation is the unablated result plus
the change from one channel. Only what comes after that is run K times.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn import functional as F

from heatproof.probe.graph import Cut, select

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d,
    nn.Dropout3d, *_NORMS,
)  # fmt: skip
_POOLING = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
_ELEMENTWISE_CALLS = {
    F.relu, torch.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, torch.sigmoid, torch.tanh, F.hardswish,
    F.hardsigmoid, F.dropout, "relu", "relu_", "sigmoid", "tanh", "contiguous", "clone", "float",
}  # fmt: skip
_POOLING_CALLS = {
    F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d,
}  # fmt: skip
_BINARY: dict[Any, Callable[..., Tensor]] = {
    operator.add: torch.add, operator.iadd: torch.add, torch.add: torch.add,
    operator.sub: torch.sub, torch.sub: torch.sub,
    operator.mul: torch.mul, operator.imul: torch.mul, torch.mul: torch.mul,
}  # fmt: skip
_CONVOLUTIONS: dict[Any, Callable[..., Tensor]] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


class BatchSize(int):
    """The number of rows of the batch at hand."""


@dataclass(frozen=True)
class Channels:
    """A value in which channel k depends on channel k of the layer alone.

    Attributes:
        on: the value as it is (N, K, *s), or flattened (N, K * P).
        off: channel k as it is when switched off; batch axis N or 1.
        width: P once flattened, else 0.
    """

    on: Tensor
    off: Tensor
    width: int = 0

    @property
    def count(self) -> int:
        return self.on.shape[1] // (self.width or 1)

    def change(self) -> Tensor:
        """What switching off adds to each channel."""
        return self.off - self.on

    def rows(self, n: Tensor, k: Tensor) -> Tensor:
        """The value of sample n[i] with its channel k[i] switched off."""
        out = self.on[n]
        off = self.off.expand_as(self.on)
        if not self.width:
            out[torch.arange(len(n), device=n.device), k] = off[n, k]
            return out
        view = out.view(len(n), self.count, self.width)
        view[torch.arange(len(n), device=n.device), k] = off.reshape(len(self.on), self.count, self.width)[n, k]
        return out


class Ablation:
    """The tail of a cut, evaluated with each channel of its input switched off in turn."""

    def __init__(self, cut: Cut, A: Float[Tensor, "n k *s"], live: tuple[Any, ...]) -> None:
        tail = cut.tail
        self.n, self.count = len(A), A.shape[1]
        self.modules = dict(tail.named_modules())
        self.values: dict[fx.Node, Any] = {}
        self.kinds: dict[fx.Node, Any] = {}
        self.mixed: list[fx.Node] = []
        self._base: dict[fx.Node, Tensor] = {}
        self.device = A.device
        copies = cut.live(live, torch.arange(len(A), device=A.device))
        others = (BatchSize(len(A)) if kind == "size" else v for v, kind in zip(copies, cut.kinds, strict=True))
        inputs = iter((Channels(A.clone(), torch.zeros_like(A[:1])), *others))
        kinds = iter(("channels", *cut.kinds))
        late: set[fx.Node] = set()
        for node in tail.graph.nodes:
            if node.op == "placeholder":
                self.values[node], self.kinds[node] = next(inputs), next(kinds)
            elif node.op == "get_attr":
                self.values[node], self.kinds[node] = _attribute(tail, node.target), "fixed"
            elif any(source in late for source in node.all_input_nodes) or not self._push(node):
                late.add(node)
                self.mixed.append(node)

    @property
    def unablated(self) -> int:
        """How many rows were run to the end as they are, for changes to be added to."""
        return self.n if self._base else 0

    def outputs(self, chunk: int) -> Iterator[tuple[Tensor, Tensor, Any]]:
        """(samples, channels, what the model returns) for all N * K ablations, ``chunk`` rows at a time."""
        device, chunk = self.device, self._rows_at_once(chunk)
        n_step = max(1, chunk // self.count)
        for n in range(0, self.n, n_step):
            samples = torch.arange(n, min(n + n_step, self.n), device=device)
            step = max(1, chunk // len(samples))
            for k in range(0, self.count, step):
                which = slice(k, min(k + step, self.count))
                channels = torch.arange(which.start, which.stop, device=device)
                rows_n = samples.repeat_interleave(len(channels))
                rows_k = channels.repeat(len(samples))
                yield rows_n, rows_k, self._finish(samples, which, rows_n, rows_k)

    def _rows_at_once(self, chunk: int) -> int:
        """More rows than a batch where a dense layer is all that is left to run for each."""
        heavy = [n for n in self.mixed if n.op != "output"]
        module = self.modules.get(str(heavy[0].target)) if len(heavy) == 1 else None
        return max(chunk, 2**22 // module.out_features) if isinstance(module, nn.Linear) else chunk

    def _push(self, node: fx.Node) -> bool:
        """Computes the node if its value keeps the channels apart, or does not depend on them."""
        held = [v for s in node.all_input_nodes if isinstance(v := self.values[s], Channels)]
        if node.op == "output":
            return False
        if not held:
            if any(self.kinds[source] not in ("rows", "fixed") for source in node.all_input_nodes):
                return False
            self.values[node] = self._run(node, self.values.__getitem__)
            self.kinds[node] = "rows" if any(self.kinds[s] == "rows" for s in node.all_input_nodes) else "fixed"
            return isinstance(self.values[node], Tensor) or self.kinds[node] == "fixed"
        value = self._channelwise(node, held[0]) if len(held) == 1 else self._binary(node)
        if value is None:
            return False
        self.values[node], self.kinds[node] = value, "channels"
        return True

    def _channelwise(self, node: fx.Node, held: Channels) -> Channels | BatchSize | None:
        width = held.width
        if node.op == "call_method" and node.target == "size" and node.args[1:] == (0,):
            return BatchSize(self.n)
        if node.op == "call_method" and node.target in ("view", "reshape") and not width:
            rest = [self.values[a] if isinstance(a, fx.Node) else a for a in node.args[1:]]
            whole = len(rest) == 2 and rest[1] == -1 and (isinstance(rest[0], BatchSize) or rest[0] == self.n)
            return self._flatten(held) if whole else None
        if any(isinstance(self.values[s], BatchSize) for s in node.all_input_nodes):
            return None
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        name: Any = node.target
        if module is not None:
            kind = type(module)
            fits = kind in _ELEMENTWISE or (kind in _POOLING and not width) or _is_depthwise(module, width)
            if kind in _NORMS and module.running_mean is None:
                return None
            if kind is nn.Flatten and not width and (module.start_dim, module.end_dim) == (1, -1):
                return self._flatten(held)
            if not fits:
                return None
        elif name in _ELEMENTWISE_CALLS or (name in _POOLING_CALLS and not width):
            if name is F.dropout and node.kwargs.get("training", True) is not False:
                return None
        elif name in (torch.flatten, "flatten") and not width and _rest(node) in ((1,), (1, -1)):
            return self._flatten(held)
        elif name in (torch.mean, "mean") and not width and _is_positions(node, held.on.ndim):
            pass
        elif name in _BINARY and node.op == "call_function":
            return self._binary(node)
        else:
            return None
        on = self._run(node, lambda n: held.on if self.values[n] is held else self.values[n])
        off = self._run(node, lambda n: held.off if self.values[n] is held else self.values[n])
        if not isinstance(on, Tensor) or on.shape[1] != held.on.shape[1]:
            return None
        return Channels(on, off, (width or 1) if on.ndim == 2 else width)

    def _binary(self, node: fx.Node) -> Channels | None:
        if node.op != "call_function" or node.target not in _BINARY or node.kwargs:
            return None
        sources = [self.values[s] for s in node.all_input_nodes]
        held = [v for v in sources if isinstance(v, Channels)]
        if any(v.width != held[0].width or v.on.shape[1:] != held[0].on.shape[1:] for v in held):
            return None
        others = [v for v in sources if isinstance(v, Tensor)]
        if any(v.ndim not in (0, held[0].on.ndim) for v in others):
            return None
        operation = _BINARY[node.target]
        on = operation(*fx.node.map_arg(node.args, lambda n: v.on if isinstance(v := self.values[n], Channels) else v))
        off = operation(
            *fx.node.map_arg(node.args, lambda n: v.off if isinstance(v := self.values[n], Channels) else v)
        )
        if on.shape[1:] != held[0].on.shape[1:]:
            return None
        return Channels(on, off, held[0].width)

    def _flatten(self, held: Channels) -> Channels:
        on, off = held.on.flatten(1), held.off.flatten(1)
        return Channels(on, off, on.shape[1] // held.count)

    def _finish(self, samples: Tensor, channels: slice, rows_n: Tensor, rows_k: Tensor) -> Any:
        """Runs the nodes that mix channels, for pairs of sample and channel."""
        local: dict[fx.Node, Any] = {}

        def value(node: fx.Node) -> Any:
            if node not in local:
                whole = self.values[node]
                if isinstance(whole, Channels):
                    local[node] = whole.rows(rows_n, rows_k)
                elif isinstance(whole, BatchSize):
                    local[node] = len(rows_n)
                else:
                    local[node] = select(whole, self.kinds[node], rows_n)
            return local[node]

        for node in self.mixed:
            if node.op == "output":
                return fx.node.map_arg(node.args[0], value)
            source = node.args[0] if node.args else None
            held = self.values.get(source) if isinstance(source, fx.Node) else None
            fast = self._mix(node, held, samples, channels) if isinstance(held, Channels) else None
            local[node] = self._run(node, value) if fast is None else fast
        raise RuntimeError("a graph without an output")

    def _mix(self, node: fx.Node, held: Channels, samples: Tensor, channels: slice) -> Tensor | None:
        """A dense layer or convolution of one channel's change, added to its unablated result."""
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        kind = type(module)
        if isinstance(module, nn.Linear) and kind is nn.Linear and held.width:
            if node not in self._base:
                self._base[node] = module(held.on)
            weight = module.weight.view(module.out_features, held.count, held.width)[:, channels]
            change = held.change().view(-1, held.count, held.width)[samples][:, channels]
            rows = torch.bmm(change.movedim(1, 0), weight.permute(1, 2, 0)).movedim(0, 1)
            return (rows + self._base[node][samples][:, None]).flatten(0, 1)
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and kind in _CONVOLUTIONS and not held.width:
            if module.groups != 1 or module.padding_mode != "zeros":
                return None
            if node not in self._base:
                self._base[node] = module(held.on)
            change = held.change().expand_as(held.on)[samples][:, channels]
            kernel = module.weight[:, channels].transpose(0, 1).flatten(0, 1)[:, None]
            shifts = _CONVOLUTIONS[kind](
                change,
                kernel,
                None,
                module.stride,
                module.padding,
                module.dilation,
                groups=channels.stop - channels.start,
            )
            base = self._base[node][samples]
            apart: Tensor = shifts.unflatten(1, (-1, module.out_channels)) + base[:, None]
            return apart.flatten(0, 1)
        return None

    def _run(self, node: fx.Node, value: Any) -> Any:
        args, kwargs = fx.node.map_arg(node.args, value), fx.node.map_arg(node.kwargs, value)
        if node.op == "call_module":
            return self.modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]


def _attribute(root: nn.Module, target: Any) -> Any:
    for part in str(target).split("."):
        root = getattr(root, part)
    return root


def _is_depthwise(module: nn.Module, width: int) -> bool:
    if type(module) not in _CONVOLUTIONS or width:
        return False
    return module.groups == module.in_channels == module.out_channels


def _rest(node: fx.Node) -> tuple[Any, ...]:
    return (*node.args[1:], *node.kwargs.values())


def _is_positions(node: fx.Node, ndim: int) -> bool:
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    dims = (dims,) if isinstance(dims, int) else dims
    if not isinstance(dims, (tuple, list)) or not all(isinstance(d, int) for d in dims):
        return False
    return {d % ndim for d in dims if isinstance(d, int)} == set(range(2, ndim))
