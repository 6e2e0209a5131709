"""Attention methods against float64 loops over plain attention matrices, however a network computes its attention."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import heatproof as hp
from heatproof.errors import NotApplicable
from heatproof.methods import explain
from heatproof.probe import Probe
from heatproof.probe.attention import observable
from heatproof.probe.products import Product, ProductWatch
from heatproof.records import Samples, Splits

from .toys import CLASSES, CONV, Plain, Wrapped, inputs, ready, same, snapshot

METHODS = ("attention-rollout", "transformer-attribution", "le-grad")
PATCH = {1: 4, 2: 4, 3: 4}
GRID = {1: (6,), 2: (2, 3), 3: (1, 2, 2)}
NONE = "the model has no attention over one grid of tokens: "


class Heads(nn.Module):
    """Self-attention of two heads with a residual and a dense layer; ``form`` says how the attention is computed."""

    def __init__(self, form: str, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.form, self.heads, self.width = form, heads, width
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dense = nn.Linear(width, width)
        self.softmax = nn.Softmax(dim=-1)
        self.drop = nn.Dropout(0.3)
        self.bias = nn.Parameter(torch.zeros(heads, 1, 1))

    def parts(self, h: Tensor) -> list[Tensor]:
        return [t.transpose(1, 2) for t in self.qkv(self.norm(h)).unflatten(-1, (3, self.heads, -1)).unbind(2)]

    def mask(self, h: Tensor) -> Tensor | None:
        """What is added to the scores, as the form has it."""
        T = h.shape[1]
        if "causal" in self.form:
            return torch.ones(T, T).tril().log().to(h)
        if "boolean" in self.form or "additive" in self.form:
            m = torch.zeros(T, T).to(h)
            m[1, 2] = m[3, 0] = m[3, 2] = -torch.inf
            if "additive" in self.form:
                m[0, 1] = 0.7
            return m
        return None

    def plain(self, h: Tensor) -> Tensor:
        """The attention (n, heads, T, T), for the oracle."""
        q, k, _ = self.parts(h)
        if "shared" in self.form:
            k = k[:, :1]
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        mask = self.mask(h)
        return (scores if mask is None else scores + mask).softmax(-1)

    def rest(self, h: Tensor, mixed: Tensor) -> Tensor:
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        return h + F.gelu(self.dense(h))

    def openly(self, h: Tensor, kept: list[Tensor]) -> Tensor:
        v = self.parts(h)[2]
        kept.append(self.plain(h))
        return self.rest(h, kept[-1] @ (v[:, :1] if "shared" in self.form else v))

    def forward(self, h: Tensor) -> Tensor:
        form, (q, k, v) = self.form, self.parts(h)
        n, T, E = h.shape
        if form.startswith("multi-head"):
            x = self.norm(h).transpose(0, 1)
            mixed, _ = F.multi_head_attention_forward(
                x, x, x, E, self.heads, self.qkv.weight, self.qkv.bias, None, None, False, 0.0, self.out.weight,
                self.out.bias, training=False, need_weights="weights" in form,
            )  # fmt: skip
            h = h + mixed.transpose(0, 1)
            return h + F.gelu(self.dense(h))
        if form.startswith("fused"):
            mask = self.mask(h)
            if "shared" in form:
                mixed = F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True)
            elif "causal" in form:
                mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            elif "boolean" in form:
                mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask == 0)
            else:
                scale = 0.5 if "scale" in form else None
                mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
            return self.rest(h, mixed)
        if form == "convolution":
            w = self.qkv.weight[..., None]
            maps = F.conv1d(self.norm(h).transpose(1, 2), w, self.qkv.bias).unflatten(1, (3, self.heads, -1))
            q, k, v = maps.unbind(1)  # (n, heads, d, T)
            attention = (q.transpose(-2, -1) @ k / q.shape[-2] ** 0.5).softmax(-1)
            return self.rest(h, (v @ attention.transpose(-2, -1)).transpose(-2, -1))
        if form == "einsum":
            q, k, v = self.qkv(self.norm(h)).unflatten(-1, (3, self.heads, -1)).unbind(2)
            attention = torch.softmax(torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5, dim=-1)
            return self.rest(h, torch.einsum("bhqk,bkhd->bqhd", attention, v).transpose(1, 2))
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        if form == "batched":
            a = scores.flatten(0, 1).softmax(-1)
            return self.rest(h, torch.bmm(a, v.reshape(-1, T, v.shape[-1])).unflatten(0, (n, -1)))
        if form == "heads-first":
            a = scores.transpose(0, 1).softmax(-1)
            return self.rest(h, (a @ v.transpose(0, 1)).transpose(0, 1))
        if form == "heads-first-batched":
            a = scores.transpose(0, 1).reshape(-1, T, T).softmax(-1)
            mixed = torch.bmm(a, v.transpose(0, 1).reshape(-1, T, v.shape[-1]))
            return self.rest(h, mixed.unflatten(0, (-1, n)).transpose(0, 1))
        if form == "module":
            a = self.drop(self.softmax(scores))
        elif form == "function":
            a = F.dropout(F.softmax(scores, dim=-1), 0.3, self.training)
        elif form == "torch":
            a = torch.softmax(scores, -1)
        elif form == "by-hand":
            a = (scores - scores.amax(-1, keepdim=True)).exp()
            a = a / a.sum(-1, keepdim=True)
        elif form == "in-place":
            a = scores.softmax(-1).mul_(2.0).div_(2.0)
        elif form == "converted":
            a = F.softmax(scores, -1, dtype=torch.float64).to(q.dtype).reshape(n, -1, T, T).contiguous()
        elif form == "renormalised":
            a = scores.softmax(-1) * 3
            a = a / a.sum(-1, keepdim=True)
        else:
            a = scores.softmax(-1)
        return self.rest(h, a @ v)


class Former(nn.Module):
    """A small transformer. ``special`` tokens stand first, or at the end where ``last``; ``read`` says what is read."""

    def __init__(
        self, *, form: str = "", rank: int = 2, special: int = 1, last: bool = False, read: str = "class"
    ) -> None:
        super().__init__()
        self.patches = CONV[rank](2, 8, PATCH[rank], stride=PATCH[rank])
        self.special = nn.Parameter(torch.zeros(1, special, 8))
        self.places = nn.Parameter(torch.zeros(1, 1, 8))
        self.blocks = nn.ModuleList(Heads(form) for _ in range(2))
        self.norm = nn.LayerNorm(8)
        self.query = nn.Parameter(torch.zeros(1, 2, 1, 4))
        self.head = nn.Linear(16 if read == "class and mean" else 8, CLASSES)
        self.last, self.read = last, read

    def tokens(self, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2).transpose(1, 2)
        if not self.special.shape[1]:
            return h
        extra = self.special.expand(len(h), -1, -1)
        return torch.cat([h, extra] if self.last else [extra, h], dim=1)

    def pool(self, h: Tensor) -> tuple[Tensor, Tensor]:
        kv = h.unflatten(-1, (2, 4)).transpose(1, 2)
        weights = (self.query @ kv.transpose(-2, -1)).softmax(-1)
        return weights, kv

    def ending(self, h: Tensor) -> Tensor:
        h, k = self.norm(h), self.special.shape[1]
        at = -1 if self.last else 0
        positions = h[:, : h.shape[1] - k] if self.last else h[:, k:]
        if self.read == "class":
            return self.head(h[:, at])
        if self.read == "class and mean":
            return self.head(torch.cat([h[:, at], positions.mean(1)], 1))
        if self.read == "two":
            return self.head((h[:, 0] + h[:, 1]) / 2)
        return self.head(h.mean(1) if self.read == "all" else positions.mean(1))

    def forward(self, x: Tensor) -> Any:
        h = self.tokens(x)
        for block in self.blocks:
            h = block(h)
        if self.read == "pool":
            weights, kv = self.pool(self.norm(h))
            return self.head((weights @ kv).transpose(1, 2).flatten(1))
        return self.ending(h)

    def open(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The logits and every attention, the pool's last."""
        kept: list[Tensor] = []
        h = self.tokens(x)
        for block in self.blocks:
            h = block.openly(h, kept)
        if self.read == "pool":
            weights, kv = self.pool(self.norm(h))
            kept.append(weights)
            return self.head((weights @ kv).transpose(1, 2).flatten(1)), kept
        return self.ending(h), kept


def reads(model: Former, count: int) -> Tensor:
    """How much each token counts that the output reads, by hand."""
    k = model.special.shape[1]
    row = torch.zeros(count, dtype=torch.float64)
    positions = slice(0, count - k) if model.last else slice(k, count)
    if model.read == "class":
        row[-1 if model.last else 0] = 1
    elif model.read == "two":
        row[:2] = 0.5
    elif model.read == "all":
        row[:] = 1 / count
    elif model.read == "mean":
        row[positions] = 1 / (count - k)
    elif model.read == "class and mean":
        row[positions] = 0.5 / (count - k)
        row[-1 if model.last else 0] = 0.5
    return row


def oracle(model: Former, x: Tensor, name: str, target: int, grid: tuple[int, ...]) -> Tensor:
    """The map of one sample (1, C, *S), by loops in float64."""
    logits, kept = model.open(x.double())
    slopes = torch.autograd.grad(logits[0, target], kept, allow_unused=True)
    row = None if model.read == "pool" else reads(model, kept[0].shape[-1])
    k = model.special.shape[1]
    ends = (0, k) if model.last else (k, 0)
    return by_hand(kept, slopes, row, name, ends, grid, x.shape[2:])


def by_hand(
    kept: Sequence[Tensor],
    slopes: Sequence[Tensor | None],
    row: Tensor | None,
    name: str,
    ends: tuple[int, int],
    grid: tuple[int, ...],
    size: Sequence[int],
) -> Tensor:
    """A map (1, *S) from the attention of one sample (1, heads, T, T) and its gradients; without ``row``, by a pool."""
    T = kept[0].shape[-1]
    joined, shares = [], torch.zeros(T, dtype=torch.float64)
    for A, slope in zip(kept, slopes, strict=True):
        G = torch.zeros_like(A) if slope is None else slope
        heads, queries = A.shape[1:3]
        step = torch.zeros(queries, T, dtype=torch.float64)
        for h, q, k in itertools.product(range(heads), range(queries), range(T)):
            a, g = float(A.detach()[0, h, q, k]), float(G[0, h, q, k])
            step[q, k] += (a if name == "attention-rollout" else max(a * g, 0.0)) / heads
            shares[k] += max(g, 0.0) / (heads * queries * len(kept))
        joined.append(step)
    start = joined.pop() if row is None else row[None]
    total = torch.eye(T, dtype=torch.float64)
    for step in joined:
        step = step + torch.eye(T, dtype=torch.float64)
        total = (step / step.sum(1, keepdim=True) if name == "attention-rollout" else step) @ total
    tokens = shares if name == "le-grad" else (start @ total)[0]
    tokens = tokens[ends[0] : T - ends[1]].reshape(1, 1, *grid)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(grid)]
    return F.interpolate(tokens, size=tuple(size), mode=mode, align_corners=False)[0]


def batch(rank: int, n: int = 3) -> Tensor:
    size = [g * PATCH[rank] for g in GRID[rank]]
    return torch.randn(n, 2, *size, generator=torch.Generator().manual_seed(7))


def check(model: Former, x: Tensor, name: str, grid: tuple[int, ...]) -> None:
    targets = [i % CLASSES for i in range(len(x))]
    maps = explain(model, x, name, target=targets)
    want = torch.cat([oracle(model, x[i : i + 1], name, targets[i], grid) for i in range(len(x))]).detach()
    assert float(want.std()) > 0
    torch.testing.assert_close(maps.double(), want, rtol=1e-4, atol=1e-5 * float(want.max()))


FORMS = [
    "method", "module", "function", "torch", "by-hand", "in-place", "converted", "renormalised", "einsum", "batched",
    "heads-first", "heads-first-batched", "convolution", "fused", "fused causal", "fused boolean", "fused additive",
    "fused shared", "multi-head weights", "multi-head",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", METHODS)
def test_forms(name: str, form: str) -> None:
    read = "mean" if "causal" in form else "class"  # a causal class token in front sees itself alone
    check(ready(Former(form=form, read=read), seed=3).double(), batch(2), name, GRID[2])


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("form", ["batched", "heads-first", "heads-first-batched", "multi-head", "einsum"])
def test_samples_and_heads_of_one_number(form: str, n: int) -> None:
    """Two samples and two heads, seven samples and seven tokens: the numbers alone cannot tell them apart."""
    for name in METHODS:
        check(ready(Former(form=form), seed=3).double(), batch(2, n), name, GRID[2])


@pytest.mark.parametrize(
    ("special", "read"),
    [(0, "mean"), (1, "mean"), (1, "all"), (1, "class and mean"), (2, "class"), (2, "two"), (5, "class"), (4, "mean")],
)
@pytest.mark.parametrize("name", METHODS)
def test_tokens_read(name: str, special: int, read: str) -> None:
    """Class, distillation and register tokens, and means: the rows of the tokens that the output reads are averaged."""
    x = torch.randn(2, 2, 20, 24, generator=torch.Generator().manual_seed(7))
    check(ready(Former(special=special, read=read), seed=3).double(), x, name, (5, 6))


@pytest.mark.parametrize("special", [0, 1])
@pytest.mark.parametrize("name", METHODS)
def test_pooling_query(name: str, special: int) -> None:
    check(ready(Former(special=special, read="pool"), seed=3).double(), batch(2), name, GRID[2])


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("name", METHODS)
def test_signals_and_volumes(name: str, rank: int) -> None:
    check(ready(Former(rank=rank, special=0, read="mean"), seed=3).double(), batch(rank), name, GRID[rank])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("last", [False, True])
def test_class_token_at_either_end(rank: int, last: bool) -> None:
    model = ready(Former(rank=rank, last=last), seed=3).double()
    for name in METHODS:
        check(model, batch(rank), name, GRID[rank])


class Inlined(Former):
    """Nothing but the patch embedding is a module."""

    def forward(self, x: Tensor) -> Any:
        h, wide = self.tokens(x), (8,)
        for b in self.blocks:
            y = F.layer_norm(h, wide, b.norm.weight, b.norm.bias)
            q, k, v = (y @ b.qkv.weight.T + b.qkv.bias).unflatten(-1, (3, 2, 4)).transpose(1, 3).unbind(2)
            a = (q @ k.mT / 2).softmax(-1) @ v
            h = h + F.linear(a.transpose(1, 2).flatten(2), b.out.weight, b.out.bias)
            h = h + F.gelu(F.linear(h, b.dense.weight, b.dense.bias))
        h = F.layer_norm(h, wide, self.norm.weight, self.norm.bias)
        return F.linear(h[:, -1 if self.last else 0], self.head.weight, self.head.bias)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_inlined(rank: int, last: bool) -> None:
    for name in METHODS:
        check(ready(Inlined(rank=rank, last=last), seed=3).double(), batch(rank), name, GRID[rank])


class Unread(Former):
    """A query gathers the tokens, but the output does not depend on what it gathers."""

    def forward(self, x: Tensor) -> Any:
        h = self.tokens(x)
        for block in self.blocks:
            h = block(h)
        weights, kv = self.pool(self.norm(h))
        return {"logits": self.ending(h), "gathered": (weights @ kv).transpose(1, 2).flatten(1)}


def test_what_the_output_does_not_depend_on() -> None:
    for name in METHODS:
        check(ready(Unread(special=0, read="mean"), seed=3).double(), batch(2), name, GRID[2])


# The order of the tokens


class Steps(nn.Module):
    """Torch's own encoder as it is by default, (T, N, C), with a dense layer for every time, averaged over time."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.first = batch_first
        self.dense, self.head = nn.Linear(2, 8), nn.Linear(8, CLASSES)
        self.encoder = nn.TransformerEncoder(encoder(batch_first=batch_first), 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.dense(x.transpose(1, 2))
        return self.head((self.encoder(h) if self.first else self.encoder(h.transpose(0, 1)).transpose(0, 1)).mean(1))


@pytest.mark.parametrize("n", [1, 3, 6])
@pytest.mark.parametrize("name", METHODS)
def test_time_before_samples(name: str, n: int) -> None:
    x = torch.randn(n, 2, 6, generator=torch.Generator().manual_seed(7))
    maps = [explain(ready(Steps(batch_first=first), seed=3), x, name, target=1) for first in (False, True)]
    torch.testing.assert_close(*maps, rtol=1e-4, atol=1e-6)
    assert float(maps[0].std()) > 0


class Ordered(Former):
    """The tokens are laid out by one function, and moved between the two attentions by another."""

    def __init__(self, lay: Any = None, move: Any = None, *, branch: bool = False, inside: bool = False) -> None:
        super().__init__(special=0, read="mean")
        self.lay, self.move, self.branch, self.inside = lay or rows, move, branch, inside
        self.table = nn.Parameter(torch.zeros(1, 6, 8))

    def forward(self, x: Tensor) -> Any:
        h = self.lay(self.patches(x))
        if self.inside:
            h += self.table
        else:
            h = h + self.table
        for i, block in enumerate(self.blocks):
            h = block(h)
            if i == 0 and self.move is not None:
                h = h + self.move(h) if self.branch else self.move(h)
        return self.ending(h)


def rows(h: Tensor) -> Tensor:
    return h.flatten(2).transpose(1, 2)


def columns(h: Tensor) -> Tensor:
    return rows(h.transpose(2, 3))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_tokens_in_columns(name: str, inside: bool) -> None:
    """A network that takes its patches in columns is the one that takes them in rows, for a transposed input."""
    across, down = ready(Ordered(inside=inside), seed=3).double(), ready(Ordered(columns, inside=inside), seed=3)
    down.double().patches.weight.data.copy_(across.patches.weight.transpose(2, 3))
    x = batch(2)
    want = explain(across, x.transpose(2, 3), name, target=1).transpose(1, 2)
    torch.testing.assert_close(explain(down, x, name, target=1), want, rtol=1e-4, atol=1e-6)


MIXED = torch.tensor([1, 0, 2, 5, 4, 3])
ORDERS = {
    "reversed": {"lay": lambda h: rows(h).flip(1)},
    "serpentine": {"lay": lambda h: torch.cat([h[:, :, 0], h[:, :, 1].flip(2)], 2).transpose(1, 2)},
    "rolled": {"lay": lambda h: rows(h.roll((1, 1), (2, 3)))},
    "by index": {"lay": lambda h: rows(h)[:, MIXED]},
    "flipped": {"move": lambda h: h.flip(1)},
    "shifted": {"move": lambda h: h.roll(1, 1)},
    "picked": {"move": lambda h: h[:, MIXED]},
    "selected": {"move": lambda h: h.index_select(1, MIXED)},
    "halves changed": {"move": lambda h: torch.cat([h[:, 3:], h[:, :3]], 1)},
    "turned": {"move": lambda h: h.unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2)},
    "sorted": {"move": lambda h: h.sort(1).values},
    "a branch flipped": {"move": lambda h: h.flip(1), "branch": True},
    "a branch shifted": {"move": lambda h: h.roll(1, 1), "branch": True},
    "a branch turned": {"move": lambda h: h.unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2), "branch": True},
}


@pytest.mark.parametrize("how", ORDERS)
def test_tokens_in_another_order(how: str) -> None:
    """None is multiplied, or drawn, as if its tokens lay in rows."""
    model = ready(Ordered(**ORDERS[how]), seed=3)
    for name, n in itertools.product(METHODS, (1, 3)):
        with pytest.raises(NotApplicable, match=r"another order|do not show which positions") as caught:
            explain(model, batch(2, n), name, target=1)
        assert str(caught.value).startswith(NONE)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "move",
    [
        lambda h: h.transpose(0, 1).contiguous().transpose(0, 1),
        lambda h: h.unflatten(1, (2, 3)).flatten(1, 2),
        lambda h: F.conv1d(h.transpose(1, 2), torch.ones(8, 1, 3), padding=1, groups=8).transpose(1, 2),
        lambda h: h + h.mean(1, keepdim=True),
    ],
)
def test_tokens_that_keep_their_order(move: Any) -> None:
    for name in METHODS:
        assert explain(ready(Ordered(move=move), seed=3), batch(2, 1), name, target=1).shape == (1, 8, 12)


def test_final_softmax() -> None:
    model, x = ready(Former(), seed=3), batch(2)
    for name in METHODS:
        want = explain(model, x, name, target=1)
        torch.testing.assert_close(explain(Wrapped(model, lambda z: z.softmax(1)), x, name, target=1), want)


# What is no attention over one grid of tokens


class Odd(Former):
    """A transformer without class token, one thing of which is not as it should be."""

    def __init__(self, odd: str) -> None:
        super().__init__(special=0, read="mean")
        self.odd = odd
        self.mix = nn.Linear(2, 2)
        self.latents = nn.Parameter(torch.zeros(1, 2, 5, 4))
        self.sink = nn.Parameter(torch.zeros(1, 2, 1, 1))

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(n, heads, T, d) by the odd attention."""
        odd, T = self.odd, q.shape[2]
        if odd == "channels":
            return ((q.transpose(-2, -1) @ k).softmax(-1) @ v.transpose(-2, -1)).transpose(-2, -1)
        if odd == "linear":
            return q.softmax(-1) @ (k.softmax(-2).transpose(-2, -1) @ v)
        if odd == "features":
            return F.elu(q) @ (F.elu(k).transpose(-2, -1) @ v)
        if odd == "latents":
            z = F.scaled_dot_product_attention(self.latents.expand(len(q), -1, -1, -1), k, v)
            z = F.scaled_dot_product_attention(z, z, z)
            return F.scaled_dot_product_attention(q, z, z)
        if odd == "pooled keys":
            return F.scaled_dot_product_attention(q, k[:, :, ::2], v[:, :, ::2])
        if odd == "windows":
            q, k, v = (t.unflatten(2, (-1, 3)).transpose(1, 2).flatten(0, 1) for t in (q, k, v))
            return F.scaled_dot_product_attention(q, k, v).unflatten(0, (-1, T // 3)).transpose(1, 2).flatten(2, 3)
        scores = q @ k.transpose(-2, -1)
        if odd == "talking heads":
            return self.mix(scores.softmax(-1).movedim(1, -1)).movedim(-1, 1) @ v
        if odd == "sum":
            return (scores.softmax(-1)[..., None] * v[:, :, None]).sum(-2)
        if odd == "queries":
            return scores.softmax(-2) @ v
        if odd == "sinks":
            sink = self.sink.expand(len(q), -1, T, 1)
            return torch.cat([scores, sink], -1).softmax(-1)[..., :-1] @ v
        if odd == "masked row":
            scores[:, :, 2] = -torch.inf
            return scores.softmax(-1).nan_to_num(0.0) @ v
        if odd == "kept":
            return F.dropout(scores.softmax(-1), 0.5) @ v
        assert odd == "sides"
        return (q @ v.transpose(-2, -1)).softmax(-1) @ k + scores.softmax(-1) @ v

    def forward(self, x: Tensor) -> Any:
        h = self.tokens(x)
        for block in self.blocks:
            h = block.rest(h, self.mixed(*block.parts(h)))
        return self.ending(h)


REASONS = {
    "channels": "one of its softmaxes runs over channels",
    "linear": "4 tokens attend to 6",
    "features": "no softmax over tokens weighs their values",
    "latents": "5 tokens attend to 6",
    "pooled keys": "6 tokens attend to 3",
    "windows": "within 2 groups of 3 tokens a sample",
    "talking heads": "do not sum to one",
    "sum": "does not weigh values by a product",
    "queries": "do not sum to one",
    "sinks": "do not sum to one",
    "masked row": "do not sum to one",
    "kept": "do not sum to one",
    "sides": "side by side",
}


@pytest.mark.filterwarnings("ignore:the model draws random numbers")
@pytest.mark.parametrize("odd", REASONS)
@pytest.mark.filterwarnings("ignore:the model's output for a sample depends")
def test_reasons(odd: str) -> None:
    model = ready(Odd(odd), seed=3)
    before = snapshot(model)
    for name, n in itertools.product(METHODS, (1, 3)):
        with pytest.raises(NotApplicable, match=REASONS[odd]) as caught:
            explain(model, batch(2, n), name, target=1)
        assert str(caught.value).startswith(NONE)
        assert "\n" not in str(caught.value)
    assert same(before, snapshot(model)) == []


@pytest.mark.parametrize("side", [4, 6])
def test_channels_as_many_as_tokens(side: int) -> None:
    """Four channels a head and four tokens: only where the values came from tells which are multiplied."""
    x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(7))
    for odd in ("channels", "linear"):
        with pytest.raises(NotApplicable, match="channels"):
            explain(ready(Odd(odd), seed=3), x, "le-grad")


def test_one_token() -> None:
    with pytest.raises(NotApplicable, match="itself alone"):
        explain(ready(Former(special=0, read="mean"), seed=3), torch.randn(2, 2, 4, 4), "attention-rollout")


def test_no_attention() -> None:
    with pytest.raises(NotApplicable, match="no softmax over tokens"):
        explain(ready(Plain(2)), inputs(2), "attention-rollout")


# Other people's layers


def encoder(**options: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 12, **options)


class Encoded(Former):
    """Torch's own encoder layers, which have a fused path without gradients."""

    def __init__(self, *, batch_first: bool = True, stacked: bool = False) -> None:
        super().__init__(read="class")
        layer = encoder(batch_first=batch_first)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=stacked) if stacked else nn.ModuleList(
            encoder(batch_first=batch_first, norm_first=i == 1) for i in range(2)
        )  # fmt: skip
        self.batch_first, self.stacked = batch_first, stacked

    @property
    def layers(self) -> Any:
        return self.blocks.layers if self.stacked else self.blocks

    def forward(self, x: Tensor) -> Any:
        h = self.tokens(x)
        h = h if self.batch_first else h.transpose(0, 1)
        if self.stacked:
            h = self.blocks(h)
        else:
            for block in self.blocks:
                h = block(h)
        return self.ending(h if self.batch_first else h.transpose(0, 1))

    def open(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        h, kept = self.tokens(x), []
        for layer in self.layers:
            y = layer.norm1(h) if layer.norm_first else h
            mha = layer.self_attn
            qkv = F.linear(y, mha.in_proj_weight, mha.in_proj_bias).unflatten(-1, (3, 2, 4))
            q, k, v = qkv.transpose(1, 3).unbind(2)
            kept.append((q @ k.transpose(-2, -1) / 2).softmax(-1))
            mixed = mha.out_proj((kept[-1] @ v).transpose(1, 2).flatten(2))
            if layer.norm_first:
                h = h + mixed
                h = h + layer.linear2(F.relu(layer.linear1(layer.norm2(h))))
            else:
                h = layer.norm1(h + mixed)
                h = layer.norm2(h + layer.linear2(F.relu(layer.linear1(h))))
        return self.ending(h), kept


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("options", [{}, {"batch_first": False}, {"stacked": True}])
def test_encoder_layers_of_torch(options: dict[str, bool], frozen: bool) -> None:
    model = ready(Encoded(**options), seed=3).double().requires_grad_(not frozen)
    before = snapshot(model)
    for name in METHODS:
        with torch.enable_grad():
            model.requires_grad_()
            want = torch.cat([oracle(model, x[None], name, 1, GRID[2]) for x in batch(2)]).detach()
            model.requires_grad_(not frozen)
        maps = explain(model, batch(2), name, target=1)
        torch.testing.assert_close(maps.double(), want, rtol=1e-4, atol=1e-5 * float(want.max()))
    assert same(before, snapshot(model)) == []


class Native(Former):
    def forward(self, x: Tensor) -> Any:
        h = self.tokens(x)
        b = self.blocks[0]
        out = torch._native_multi_head_attention(h, h, h, 8, 2, b.qkv.weight, b.qkv.bias, b.out.weight, b.out.bias)
        return self.ending(h + out[0])


class Silent(Former):
    """Its attention is computed without gradients."""

    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            h = self.tokens(x)
            for block in self.blocks:
                h = block(h)
        return self.ending(h)


@pytest.mark.filterwarnings("ignore")
def test_not_to_be_observed() -> None:
    model, x = ready(Former(), seed=3), batch(2)
    scripted = ready(Former(), seed=3)
    scripted.blocks[1] = torch.jit.trace(scripted.blocks[1], torch.zeros(1, 7, 8))
    traced = torch.jit.trace(model, x[:1])
    for odd, reason in (
        (scripted, "part 'blocks.1' is scripted"),
        (traced, "it is scripted"),
        (ready(Native()), "_native_multi_head_attention computes it as a whole"),
        (ready(Silent(read="mean")), "runs under torch.no_grad"),
    ):
        for name in METHODS:
            with pytest.raises(NotApplicable, match=reason) as caught:
                explain(odd, x[:1], name, target=1)
            assert "\n" not in str(caught.value)


# Other people's networks

TIMM = {  # prefix, and which tokens are read
    "vit": ({"global_pool": "token"}, 1, "class"),
    "distilled": ({}, 2, "two"),
    "registers": ({"reg_tokens": 2, "global_pool": "token"}, 3, "class"),
    "registers alone": ({"class_token": False, "reg_tokens": 2, "global_pool": "avg"}, 2, "mean"),
    "mean": ({"class_token": False, "global_pool": "avg"}, 0, "mean"),
    "mean beside a class token": ({"global_pool": "avg"}, 1, "mean"),
    "pool": ({"class_token": False, "global_pool": "map"}, 0, "pool"),
}
SMALL = {"img_size": (16, 24), "patch_size": 4, "depth": 2, "embed_dim": 16, "num_heads": 2, "num_classes": CLASSES}


def timm_model(kind: str, *, fused: bool) -> nn.Module:
    timm = pytest.importorskip("timm")
    cls = timm.models.deit.VisionTransformerDistilled if kind == "distilled" else timm.models.VisionTransformer
    model = ready(cls(**SMALL, **TIMM[kind][0]), seed=3).double()
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    return model


@pytest.mark.parametrize("kind", TIMM)
def test_timm(kind: str) -> None:
    _, prefix, read = TIMM[kind]
    x = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(7))
    openly, kept = timm_model(kind, fused=False), []
    for name, module in openly.named_modules():
        if name.endswith("attn_drop"):
            module.register_forward_hook(lambda _, inputs, out: kept.append(inputs[0]))
    fused = timm_model(kind, fused=True)
    assert any(getattr(module, "fused_attn", False) for module in fused.modules())
    T = 24 + prefix
    row = torch.zeros(T, dtype=torch.float64)
    row[{"class": slice(0, 1), "two": slice(0, 2)}.get(read, slice(prefix, T))] = 1
    for name in METHODS:
        maps = explain(fused, x, name, target=[1, 2])
        torch.testing.assert_close(explain(openly, x, name, target=[1, 2]), maps, rtol=1e-4, atol=1e-6)
        for i in range(2):
            kept.clear()
            logits = openly(x[i : i + 1].double())
            if read == "pool" and len(kept) == 2:  # timm's pooling head does not show its attention
                break
            slopes = torch.autograd.grad(logits[0, i + 1], kept, allow_unused=True)
            start = None if read == "pool" else row / row.sum()
            want = by_hand(kept, slopes, start, name, (prefix, 0), (4, 6), (16, 24))
            torch.testing.assert_close(maps[i].double(), want[0], rtol=1e-4, atol=1e-5 * float(want.max()))


def test_torchvision() -> None:
    models = pytest.importorskip("torchvision.models")
    model = ready(models.VisionTransformer(16, 4, 2, 2, 16, 24, num_classes=CLASSES), seed=3).double()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(7))
    row = torch.eye(17, dtype=torch.float64)[0]
    for name in METHODS:
        maps = explain(model, x, name, target=1)
        for i in range(2):
            kept: list[Tensor] = []
            h = model._process_input(x[i : i + 1].double())
            h = torch.cat([model.class_token, h], 1) + model.encoder.pos_embedding
            for layer in model.encoder.layers:
                y, mha = layer.ln_1(h), layer.self_attention
                qkv = F.linear(y, mha.in_proj_weight, mha.in_proj_bias).unflatten(-1, (3, 2, 8))
                q, k, v = qkv.transpose(1, 3).unbind(2)
                kept.append((q @ k.mT / 8**0.5).softmax(-1))
                h = h + mha.out_proj((kept[-1] @ v).transpose(1, 2).flatten(2))
                h = h + layer.mlp(layer.ln_2(h))
            logits = model.heads(model.encoder.ln(h)[:, 0])
            slopes = torch.autograd.grad(logits[0, 1], kept, allow_unused=True)
            want = by_hand(kept, slopes, row, name, (1, 0), (4, 4), (16, 16))
            torch.testing.assert_close(maps[i].double(), want[0], rtol=1e-4, atol=1e-5 * float(want.max()))


class Spectrogram(nn.Module):
    """An audio transformer, fed (N, 1, F, T)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor, **options: Any) -> Any:
        return self.body(x[:, 0].transpose(1, 2), **options)


HUGGING_FACE = {  # prefix, and which tokens are read
    "ViT": (1, [1.0]),
    "DeiT": (2, [1.0]),
    "Beit": (1, [0.0, *[1 / 24] * 24]),
    "Dinov2": (1, [0.5, *[0.5 / 16] * 16]),
    "AST": (2, [0.5, 0.5]),
}


@pytest.mark.parametrize("kind", HUGGING_FACE)
def test_hugging_face(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    prefix, reads_first = HUGGING_FACE[kind]
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": CLASSES}
    sizes |= {} if kind == "Dinov2" else {"intermediate_size": 24}
    wide = 16 if kind == "Dinov2" else 24  # which does not take other images
    image = {"patch_size": 4, "image_size": 16 if kind == "Dinov2" else (16, 24)}
    audio = {"patch_size": 4, "frequency_stride": 4, "time_stride": 4, "max_length": 24, "num_mel_bins": 16}
    config = getattr(transformers, f"{kind}Config")(**sizes, **(audio if kind == "AST" else image))
    cls = getattr(transformers, f"{kind}For{'Audio' if kind == 'AST' else 'Image'}Classification")
    models = {}
    for how in ("eager", "sdpa"):
        body = ready(cls._from_config(copy.deepcopy(config), attn_implementation=how), seed=3).double()
        models[how] = Spectrogram(body) if kind == "AST" else body
    kept: list[Tensor] = []

    def keep(module: nn.Module, _: Any, out: Any) -> None:
        weights = out[1] if isinstance(out, tuple) and len(out) > 1 else None
        if isinstance(weights, Tensor) and weights.ndim == 4 and not any(weights is k for k in kept):
            kept.append(weights)

    for module in models["eager"].modules():
        module.register_forward_hook(keep)
    x = torch.randn(2, 1 if kind == "AST" else 3, 16, wide, generator=torch.Generator().manual_seed(7))
    row = torch.zeros(wide + prefix, dtype=torch.float64)
    row[: len(reads_first)] = torch.tensor(reads_first, dtype=torch.float64)
    for name in METHODS:
        maps = explain(models["eager"], x, name, target=[1, 2])
        torch.testing.assert_close(explain(models["sdpa"], x, name, target=[1, 2]), maps, rtol=1e-4, atol=1e-6)
        for i in range(2):
            kept.clear()
            out = models["eager"](x[i : i + 1].double())
            assert len(kept) == 2
            slopes = torch.autograd.grad(out.logits[0, i + 1], kept, allow_unused=True)
            want = by_hand(kept, slopes, row, name, (prefix, 0), (4, wide // 4), (16, wide))
            torch.testing.assert_close(maps[i].double(), want[0], rtol=1e-4, atol=1e-5 * float(want.max()))


# How the model is held


def maps_of(model: nn.Module, x: Tensor, **options: Any) -> list[Tensor]:
    return [explain(Probe(model, **options), x, name, target=1) for name in METHODS]


def near(maps: list[Tensor], want: list[Tensor], slack: float) -> None:
    for one, other in zip(maps, want, strict=True):
        assert float((one - other).abs().max()) <= slack * float(other.abs().max())


def test_precisions() -> None:
    for form in ("method", "fused", "multi-head weights", "multi-head"):
        model, x = ready(Former(form=form), seed=3), batch(2)
        want = maps_of(model, x)
        near(maps_of(model, x, autocast=torch.bfloat16), want, 0.1)
        near(maps_of(model.bfloat16(), x), want, 0.1)
        near(maps_of(ready(Former(form=form), seed=3).half(), x), want, 0.02)


def test_compiled_parts_run_as_they_were_written() -> None:
    model = ready(Former(), seed=3)
    model.blocks[0] = torch.compile(model.blocks[0], backend="eager")
    model.blocks[1].compile(backend="eager")
    products: list[Product] = []
    with observable(model), ProductWatch(products.append):
        model(batch(2))
    assert len(products) == 2


class Checkpointed(Former):
    """Blocks that are computed again in the backward pass, also in evaluation mode."""

    def forward(self, x: Tensor) -> Any:
        h = self.tokens(x)
        for block in self.blocks:
            h = torch.utils.checkpoint.checkpoint(block, h, use_reentrant=False)
        return self.ending(h)


def test_checkpoints() -> None:
    for form in ("fused", "method", "in-place"):
        want = maps_of(ready(Former(form=form), seed=3), batch(2))
        near(maps_of(ready(Checkpointed(form=form), seed=3), batch(2)), want, 1e-5)


def test_threads() -> None:
    models = [ready(Former(form=form), seed=3) for form in ("fused", "fused causal", "method", "multi-head")]
    want = [maps_of(model, batch(2)) for model in models]
    with ThreadPoolExecutor(4) as pool:
        for maps, other in zip(pool.map(lambda m: maps_of(m, batch(2)), models * 2), want * 2, strict=True):
            near(maps, other, 1e-6)


@pytest.mark.parametrize("form", ["fused", "heads-first-batched"])
def test_passes_are_counted(form: str) -> None:
    model, rows = ready(Former(form=form), seed=3), []
    model.register_forward_hook(lambda _, inputs, out: rows.append(len(out)))
    for name in METHODS:
        probe = Probe(model, batch=2)
        goal = probe.goal(batch(2), 1)
        probe.survey(batch(2))
        rows.clear()
        passes = probe.passes.copy()
        explain(probe, batch(2), name, target=goal)
        assert sum(rows) == probe.passes["forward"] - passes["forward"]


@pytest.mark.filterwarnings("ignore:std")
def test_study_goes_on() -> None:
    """A method without attention is a Skip with its reason."""
    x = batch(2, 4)
    samples = Samples(x, torch.arange(4) % CLASSES, None, tuple("abcd"), "random")
    for model in (ready(Plain(2)), ready(Odd("windows"), seed=3)):
        layer = "conv2" if isinstance(model, Plain) else "patches"
        results = hp.study(
            Probe(model, layer=layer), Splits(samples, samples), ["grad-cam", *METHODS], ["insertion"], progress=False
        )
        skipped = {skip.method: skip.reason for skip in results.skips}
        assert set(skipped) == set(METHODS)
        assert all(reason.startswith(NONE) and "\n" not in reason for reason in skipped.values())
        assert ("grad-cam", "insertion") in results.scores
