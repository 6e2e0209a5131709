"""One operation of a pass, as autograd keeps it in its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from heatproof.probe.axes import Tag, mystery

Use = Literal["kept", "spread", "read", "one", "none"]
WRAPPED = 2**63


@dataclass(eq=False)
class Operation:
    """One operation: its node in the graph, what goes in, and the shape of what comes out.

    Attributes:
        tags: of its inputs; None for what has no gradient. shape: of the output; number: which output that is.
        extent: the input's position axes.
        uses: what becomes of the positions of an input: they are ``kept`` where they are, ``spread`` over others,
            ``read`` together by something that is no map, or ``one`` or ``none`` of them is looked at.
        replaced: whether what was written into a tensor takes the place of what was there, or may do so.
        mixes: whether two inputs that both depend on the sample are multiplied, one's positions being summed over.
    """

    node: Any
    tags: Sequence[Tag | None]
    shape: tuple[int, ...]
    number: int
    extent: tuple[int, ...]
    replaced: bool = True
    uses: dict[int, Use] = field(default_factory=dict)
    mixes: bool = False

    @property
    def parts(self) -> list[Tag]:
        """The tags of the inputs that have one."""
        return [tag for tag in self.tags if tag is not None]

    @property
    def first(self) -> Tag:
        """The tag of the first input that has one."""
        return next((tag for tag in self.tags if tag is not None), None) or mystery(self.shape)

    def saved(self, name: str) -> Any:
        """An argument of the operation as autograd kept it, with negative numbers as they were."""
        return _signed(getattr(self.node, f"_saved_{name}"))


Rule = Callable[[Operation], Tag]


def _signed(value: Any) -> Any:
    if isinstance(value, int):
        return value - 2 * WRAPPED if value >= WRAPPED else value
    return tuple(map(_signed, value)) if isinstance(value, (tuple, list)) else value
