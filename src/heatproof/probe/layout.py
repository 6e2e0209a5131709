"""Where the channels and the positions are in a layer's output."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError, LayerError

ROWS = -1
LETTERS = {1: "t", 2: "hw", 3: "dhw"}
FORMS = "nchw, nhwc, ntc, nct, tokens:14x14, tokens:1+14x14 or ncl:8x8+1"
Places = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Layout:
    """How a layer's output holds its channels and positions.

    ``first`` is (N, K, *s), ``last`` is (N, *s, K), ``tokens`` is (N, prefix + positions + suffix, K); ``axes`` is
    anything else, as ``axes`` says.

    Attributes:
        grid: positions along each axis of the input; 1 where the output has no such axis any more.
        prefix, suffix: tokens before and behind the positions that are none.
        axes: for each axis of the output (-1,) for samples, () for channels, or the input axes that it holds.
    """

    kind: Literal["first", "last", "tokens", "axes"]
    grid: tuple[int, ...]
    prefix: int = 0
    suffix: int = 0
    axes: Places = ()

    @classmethod
    def of(cls, axes: Sequence[tuple[int, ...]], grid: tuple[int, ...], prefix: int = 0, suffix: int = 0) -> Layout:
        """The layout of an output with these axes."""
        each, all_in_one = tuple((a,) for a in range(len(grid))), tuple(range(len(grid)))
        forms: dict[Places, Literal["first", "last", "tokens"]] = {((ROWS,), all_in_one, ()): "tokens"}
        if not (prefix or suffix):
            forms[((ROWS,), *each, ())] = "last"
            forms[((ROWS,), (), *each)] = "first"
        kind = forms.get(tuple(axes))
        return cls("axes", grid, prefix, suffix, tuple(axes)) if kind is None else cls(kind, grid, prefix, suffix)

    @property
    def places(self) -> Places:
        """What each axis of the output holds; see ``axes``."""
        each = tuple((a,) for a in range(len(self.grid)))
        if self.kind == "first":
            return ((ROWS,), (), *each)
        if self.kind == "last":
            return ((ROWS,), *each, ())
        return ((ROWS,), tuple(range(len(self.grid))), ()) if self.kind == "tokens" else self.axes

    @property
    def rows(self) -> int:
        """The axis of the samples."""
        return self.places.index((ROWS,))

    @property
    def count(self) -> int:
        """How many positions there are."""
        return math.prod(self.grid)

    def read(self, out: Tensor) -> Float[Tensor, "n k *s"]:
        """The output as (N, K, *s); several axes of channels become one, the first the slowest."""
        if self.kind == "first":
            return out
        places = self.places
        if self.prefix or self.suffix:
            axis = self._ends
            out = out.narrow(axis, self.prefix, out.shape[axis] - self.prefix - self.suffix)
        shape = [size for place, count in zip(places, out.shape, strict=True) for size in self._sizes(place, count)]
        order = self._order(places)
        split = out.reshape(shape).permute(order)
        channels = [i for i, part in enumerate(_parts(places)) if part is None]
        width = math.prod(shape[i] for i in channels)
        return split.reshape(split.shape[0], width, *self.grid)

    def write(self, A: Float[Tensor, "n k *s"], out: Tensor) -> Tensor:
        """``A`` in the layer's own layout; what is no position (class tokens) comes from ``out``."""
        if self.kind == "first":
            return A
        places, order = self.places, self._order(self.places)
        shape = [len(A) if place == (ROWS,) else count for place, count in zip(places, out.shape, strict=True)]
        inner = list(shape)
        if self.prefix or self.suffix:
            inner[self._ends] -= self.prefix + self.suffix
        sizes = [size for place, count in zip(places, inner, strict=True) for size in self._sizes(place, count)]
        split = A.reshape([sizes[i] for i in order])
        back = split.permute([order.index(i) for i in range(len(order))]).reshape(inner)
        if not (self.prefix or self.suffix):
            return back
        axis = self._ends
        head = out.narrow(axis, 0, self.prefix)
        tail = out.narrow(axis, out.shape[axis] - self.suffix, self.suffix)
        return torch.cat([head, back, tail], dim=axis)

    def take(self, out: Tensor, rows: Tensor) -> Tensor:
        """The output of some samples of a batch."""
        return out.index_select(self.rows, rows.to(out.device))

    @property
    def _ends(self) -> int:
        """The axis with tokens that are no positions."""
        tokens = [i for i, place in enumerate(self.places) if place and place != (ROWS,)]
        return max(tokens, key=lambda i: len(self.places[i]))

    def _sizes(self, place: tuple[int, ...], count: int) -> list[int]:
        return [self.grid[a] for a in place] if place and place != (ROWS,) else [count]

    def _order(self, places: Places) -> list[int]:
        """The axes, split into input axes, in the order samples, channels, positions."""
        parts = _parts(places)
        rank = len(self.grid)
        return sorted(range(len(parts)), key=lambda i: -2 if (p := parts[i]) == ROWS else -1 if p is None else p % rank)

    def __str__(self) -> str:
        """The notation that `notation` reads."""
        return written(self)


def _parts(places: Places) -> list[int | None]:
    return [part for place in places for part in (place or (None,))]


def written(layout: Layout) -> str:
    """A layout in the notation that ``layout=`` takes.

    >>> written(Layout("tokens", (4, 16), 1)), written(Layout("last", (7, 7)))
    ('tokens:1+4x16', 'nhwc')
    >>> written(Layout("axes", (4, 16), axes=((-1,), (1, 0), ())))
    'tokens:w16xh4'
    """
    names = LETTERS[len(layout.grid)]
    ends = f"{layout.prefix}+" * bool(layout.prefix), f"+{layout.suffix}" * bool(layout.suffix)
    order = next((place for place in layout.places if len(place) > 1), tuple(range(len(names))))
    plain = order == tuple(range(len(names)))
    grid = "x".join(f"{'' if plain else names[axis]}{layout.grid[axis]}" for axis in order)
    grid = f"{ends[0]}{grid}{ends[1]}"
    letters = "".join(
        "c" if not place else "n" if place == (ROWS,) else names[place[0]] if len(place) == 1 else "l"
        for place in layout.places
    )
    if "l" not in letters and not (layout.prefix or layout.suffix):
        return letters
    letters = letters if "l" in letters else re.sub(f"[{names}]", "l", letters)
    return f"{'tokens' if letters == 'nlc' else letters}:{grid}"


def parsed(text: str, shape: Sequence[int], rank: int, layer: str, likely: Layout | None = None) -> Layout:
    """The layout that a notation names, for an output of this shape with one sample.

    One letter an axis: n samples, c channels, t (signals), h w (images), d h w (volumes) positions, l tokens; tokens
    are followed by their grid, with the number of tokens that are no positions before and behind it. Where they do not
    run along the rows first, letters in the grid say along what: w16xh4.

    Args:
        likely: what evidence says, offered in errors.

    >>> parsed("tokens:1+4x16", (1, 65, 192), 2, "norm").grid
    (4, 16)

    Raises: InputError for another notation, LayerError where it does not fit the output.
    """
    names = LETTERS[rank]
    letters, _, tail = text.strip().lower().replace(" ", "").partition(":")
    letters = "nlc" if letters == "tokens" else letters
    tokens = (
        re.fullmatch(rf"(?:(\d+)\+)?([{names}]?\d+(?:x[{names}]?\d+)*)(?:\+(\d+))?", tail) if "l" in letters else None
    )
    once = [letters.count(c) <= 1 for c in "nl" + names]
    if not re.fullmatch(f"[ncl{names}]+", letters) or not all(once) or letters.count("n") != 1 or "c" not in letters:
        raise InputError(f"layout: got {text!r}, expected one letter an axis, as in {_forms(rank)}")
    if ("l" in letters) != (tokens is not None) or ("l" in letters and any(c in letters for c in names)):
        raise InputError(f"layout: got {text!r}; l stands for all positions and takes a grid, as in {_forms(rank)}")
    if not any(letter in "l" + names for letter in letters):
        raise InputError(f"layout: got {text!r}, which names no axis of positions; expected {_forms(rank)}")
    grid, prefix, suffix, whole = [1] * rank, 0, 0, tuple(range(rank))
    trouble = ""
    if len(letters) != len(shape):
        trouble = f"it names {len(letters)} axes"
    elif shape[letters.index("n")] != 1:
        trouble = f"n is axis {letters.index('n')}, which has {shape[letters.index('n')]} rows for one sample"
    elif tokens is not None:
        parts = tokens[2].split("x")
        named = "".join(part[0] for part in parts if part[0] in names)
        if named and sorted(named) != sorted(names):
            raise InputError(f"layout: got {text!r}, expected each of {', '.join(names)} once in the grid, or none")
        whole = tuple(map(names.index, named)) if named else whole
        sizes = [int(part.lstrip(names)) for part in parts]
        grid = [sizes[whole.index(axis)] for axis in range(rank)] if len(sizes) == rank else sizes
        prefix, suffix = int(tokens[1] or 0), int(tokens[3] or 0)
        count = prefix + math.prod(grid) + suffix
        if len(grid) != rank:
            raise InputError(f"layout: got {text!r}, expected a grid of {rank} numbers, as in {_forms(rank)}")
        if count != shape[letters.index("l")]:
            trouble = f"it names {count} tokens, axis {letters.index('l')} has {shape[letters.index('l')]}"
    else:
        for axis, letter in enumerate(letters):
            if letter in names:
                grid[names.index(letter)] = shape[axis]
    if trouble:
        offer = (
            f"; write {written(likely)}" if likely is not None else f"; write one letter an axis, as in {_forms(rank)}"
        )
        raise LayerError(
            f"layout {text!r} does not fit the output of {layer!r}, of shape ({_shape(shape)}): {trouble}{offer}"
        )
    places = [(ROWS,) if c == "n" else () if c == "c" else whole if c == "l" else (names.index(c),) for c in letters]
    return Layout.of(places, tuple(grid), prefix, suffix)


def checked_notation(text: str) -> str:
    """The notation itself, if it is one for some number of axes.

    Raises: InputError.
    """
    letters, _, tail = text.strip().lower().replace(" ", "").partition(":")
    plain = re.fullmatch(r"[ncldhwt]+", letters) and letters.count("n") == 1 and "c" in letters and "l" not in letters
    grid = (letters == "tokens" or "l" in letters) and re.fullmatch(
        r"(\d+\+)?[dhwt]?\d+(x[dhwt]?\d+){0,2}(\+\d+)?", tail
    )
    if not ((plain and not tail) or grid):
        raise InputError(f"layout: got {text!r}, expected one letter an axis or tokens with their grid, as in {FORMS}")
    return text


def _forms(rank: int) -> str:
    return {1: "nct, ntc, tnc, tokens:16 or tokens:1+16", 2: "nchw, nhwc, tokens:14x14, tokens:1+14x14 or ncl:8x8+1",
            3: "ncdhw, ndhwc, tokens:4x4x4 or tokens:1+4x4x4"}[rank]  # fmt: skip


def _shape(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
