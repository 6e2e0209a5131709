"""Small networks for the tests, one builder for signals, images and volumes; weights are random but always the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
MAXPOOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
SIZE = {1: (24,), 2: (10, 12), 3: (6, 8, 7)}
CLASSES = 4


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """The global random state set for a block, and put back after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def ready(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode, every parameter and running statistic drawn anew, large enough to matter."""
    with seeded(seed), torch.no_grad():
        for module in model.modules():
            for name, value in module.named_parameters(recurse=False):
                fan = max(1, value[0].numel()) if value.ndim > 1 else 1
                value.copy_(
                    torch.randn(value.shape) * (2.0 / fan) ** 0.5 if value.ndim > 1 else torch.randn(value.shape) * 0.3
                )
                if name == "weight" and value.ndim == 1:
                    value.add_(1)
            if getattr(module, "running_var", None) is not None:
                module.running_mean.copy_(torch.randn(module.running_mean.shape) * 0.2)
                module.running_var.copy_(torch.rand(module.running_var.shape) + 0.5)
    return model.eval()


def inputs(rank: int, n: int = 3, *, channels: int = 2, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal samples (n, channels, *SIZE[rank])."""
    return torch.randn(n, channels, *SIZE[rank], generator=torch.Generator().manual_seed(seed)).to(dtype)


class Plain(nn.Module):
    """conv, batch norm, in-place ReLU, max pool, conv, in-place ReLU, mean, dropout, dense: the layer is ``conv2``."""

    def __init__(self, rank: int, *, channels: int = 2, classes: int = CLASSES, inplace: bool = True) -> None:
        super().__init__()
        self.conv1 = CONV[rank](channels, 5, 3, padding=1)
        self.norm = NORM[rank](5)
        self.relu1 = nn.ReLU(inplace=inplace)
        self.pool = MAXPOOL[rank](2)
        self.conv2 = CONV[rank](5, 6, 3, padding=1)
        self.relu2 = nn.ReLU(inplace=inplace)
        self.mean = POOL[rank](1)
        self.drop = nn.Dropout(0.5)
        self.dense = nn.Linear(6, classes)

    def features(self, x: Tensor) -> Tensor:
        return self.relu2(self.conv2(self.pool(self.relu1(self.norm(self.conv1(x))))))

    def forward(self, x: Tensor) -> Any:
        return self.dense(self.drop(self.mean(self.features(x)).flatten(1)))


class Functional(Plain):
    """The same, with functional ReLU and a layer that is left through a sum with what came before it."""

    def forward(self, x: Tensor) -> Any:
        h = F.relu(self.norm(self.conv1(x)))
        h = F.relu(self.conv2(h) + h[:, :1])
        return self.dense(h.flatten(2).mean(2))


class Residual(nn.Module):
    """A residual block with an in-place sum, as ResNets have it: the layer is ``conv2``, the skip runs past it."""

    def __init__(self, rank: int, *, channels: int = 2, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = CONV[rank](channels, 6, 3, padding=1)
        self.conv1 = CONV[rank](6, 6, 3, padding=1)
        self.conv2 = CONV[rank](6, 6, 3, padding=1)
        self.conv3 = CONV[rank](6, 5, 3, padding=1, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.mean = POOL[rank](1)
        self.dense = nn.Linear(5, classes)

    def forward(self, x: Tensor) -> Any:
        x = self.relu(self.stem(x))
        out = self.conv2(F.relu(self.conv1(x)))
        out += x
        return self.dense(torch.flatten(self.mean(self.relu(self.conv3(F.relu(out)))), 1))


class Wrapped(nn.Module):
    """Any model whose output goes through a function."""

    def __init__(self, body: nn.Module, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body = body
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.body(x))


class Twice(nn.Module):
    """One convolution used twice."""

    def __init__(self, rank: int, *, channels: int = 2, classes: int = CLASSES) -> None:
        super().__init__()
        self.conv = CONV[rank](channels, channels, 3, padding=1)
        self.last = CONV[rank](channels, 5, 3, padding=1)
        self.dense = nn.Linear(5, classes)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv(x))
        x = F.relu(self.conv(x))
        return self.dense(F.relu(self.last(x)).flatten(2).mean(2))


class Branching(Plain):
    """Control flow that depends on the data: no graph can be traced."""

    def forward(self, x: Tensor) -> Any:
        h = self.features(x)
        if h.sum() > -1e9:
            h = h * 1.5
        return self.dense(self.mean(h).flatten(1))


class Mixing(Plain):
    """Subtracts the mean over the batch: a sample's output depends on the others."""

    def forward(self, x: Tensor) -> Any:
        h = self.features(x)
        return 3 * self.dense(self.mean(h - h.mean(0, keepdim=True)).flatten(1)) + self.dense(self.mean(h).flatten(1))


class Deaf(Plain):
    """Holds a layer that never runs, and one that returns no tensor."""

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self.unused = CONV[rank](2, 2, 1)
        self.pair = Pair()

    def forward(self, x: Tensor) -> Any:
        h, _ = self.pair(self.features(x))
        return self.dense(self.mean(h).flatten(1))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Tokens(nn.Module):
    """A small vision transformer: patches of 4, two blocks of two heads, with or without a class token."""

    def __init__(
        self, *, prefix: int = 1, channels: int = 2, width: int = 8, classes: int = CLASSES, fused: bool = True
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, 4, stride=4)
        self.first = nn.Parameter(torch.zeros(1, prefix, width)) if prefix else None
        self.blocks = nn.ModuleList(Block(width, fused=fused) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def _run(self, x: Tensor, kept: list[Tensor] | None) -> Tensor:
        h = self.patches(x).flatten(2).transpose(1, 2)
        if self.first is not None:
            h = torch.cat([self.first.expand(h.shape[0], -1, -1), h], dim=1)
        for block in self.blocks:
            h = block(h) if kept is None else block.openly(h, kept)
        h = self.norm(h)
        return self.head(h[:, 0] if self.first is not None else h.mean(1))

    def forward(self, x: Tensor) -> Any:
        return self._run(x, None)

    def open(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The logits, and each layer's attention (1, heads, T, T)."""
        kept: list[Tensor] = []
        return self._run(x, kept), kept


class Block(nn.Module):
    """Attention and a dense layer, each with what came before added."""

    def __init__(self, width: int, heads: int = 2, *, fused: bool = True) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attn_drop = nn.Dropout(0.0)
        self.out = nn.Linear(width, width)
        self.dense = nn.Linear(width, width)

    def _parts(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.qkv(self.norm(h)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def _weights(self, q: Tensor, k: Tensor) -> Tensor:
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)

    def _rest(self, h: Tensor, mixed: Tensor) -> Tensor:
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        return h + F.gelu(self.dense(h))

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self._parts(h)
        if self.fused:
            return self._rest(h, F.scaled_dot_product_attention(q, k, v))
        return self._rest(h, self.attn_drop(self._weights(q, k)) @ v)

    def openly(self, h: Tensor, kept: list[Tensor]) -> Tensor:
        """The same, the attention being kept."""
        q, k, v = self._parts(h)
        kept.append(self._weights(q, k))
        return self._rest(h, kept[-1] @ v)


def cosine(rank: int, classes: int = CLASSES) -> nn.Module:
    """A classifier by cosine: its normalised weights (classes, K) do not depend on the layer, nor on the batch."""

    class Cosine(Plain):
        def forward(self, x: Tensor) -> Any:
            h = self.mean(self.features(x)).flatten(1)
            return 5 * F.linear(F.normalize(h, dim=1), F.normalize(self.dense.weight, dim=1))

    return ready(Cosine(rank, classes=classes))


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that must be the same after it was borrowed."""
    facts: dict[str, Any] = {"state": {k: v.clone() for k, v in model.state_dict().items()}}
    for name, module in model.named_modules():
        facts[f"{name}.training"] = module.training
        facts[f"{name}.attributes"] = {k: id(v) for k, v in vars(module).items() if k != "training"}
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            facts[f"{name}.{kind}"] = list(getattr(module, kind).items())
        for key, value in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            grad = None if value.grad is None else value.grad.clone()
            facts[f"{name}.{key}"] = (
                id(value),
                value.data_ptr(),
                value.dtype,
                value.requires_grad,
                value._version,
                grad,
            )
    return facts


def same(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what differs between two snapshots."""
    differing = [k for k in before["state"] if not torch.equal(before["state"][k], after["state"][k])]
    for key in before.keys() | after.keys():
        if key == "state":
            continue
        a, b = before.get(key), after.get(key)
        if isinstance(a, tuple) and isinstance(b, tuple):
            equal = a[:5] == b[:5] and (a[5] is b[5] is None or (None not in (a[5], b[5]) and torch.equal(a[5], b[5])))
        else:
            equal = a == b
        if not equal:
            differing.append(key)
    return sorted(differing)


def others(model: nn.Module, rank: int, n: int = 12) -> Tensor:
    """Samples of which a network predicts another class than of `inputs`: each is moved until it does."""
    x = inputs(rank, n, seed=5)
    usual = model(inputs(rank)).argmax(1)[0]
    for _ in range(200):
        x.requires_grad_()
        z = model(x)
        lead = z[:, usual] - z.index_fill(1, usual, -torch.inf).amax(1)
        (slope,) = torch.autograd.grad(lead.sum(), x)
        x = torch.where((lead > -0.2).reshape(-1, *(1,) * (rank + 1)), x - 0.05 * slope.sign(), x).detach()
    return x
