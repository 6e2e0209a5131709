"""What a pass has made last: as much as a backward pass to a late layer needs, and no more."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeAlias

from torch import Tensor, nn

Box: TypeAlias = list[Tensor]  # one tensor, or none once it was let go
SMALL = 2**14  # bytes that are never let go


class Gone(RuntimeError):
    """A tensor that a backward pass needs is no longer what it was."""


class Recent:
    """Holds tensors until so many bytes are newer; what is let go, the next layers can use the memory of.

    Args:
        most: bytes.
    """

    def __init__(self, most: int = 2**25) -> None:
        self.most, self.bytes = most, 0
        self._boxes: deque[tuple[Box, int]] = deque()

    def box(self, tensor: Tensor) -> Box:
        """A box with the tensor, which is emptied when it is old."""
        size, box = tensor.numel() * tensor.element_size(), [tensor]
        if size > SMALL:
            self._boxes.append((box, size))
            self.bytes += size
            while self.bytes > self.most and len(self._boxes) > 1:
                old, less = self._boxes.popleft()
                old.clear()
                self.bytes -= less
        return box

    def pack(self, tensor: Tensor) -> Any:
        """What a graph keeps of a tensor: weights themselves, a box for what was computed."""
        return tensor if isinstance(tensor, nn.Parameter) else (self.box(tensor), tensor._version)

    def unpack(self, held: Any) -> Tensor:
        """The tensor.

        Raises: Gone, also where it was written over since.
        """
        if isinstance(held, Tensor):
            return held
        box, version = held
        if not box or box[0]._version != version:
            raise Gone("let go or written over")
        tensor: Tensor = box[0]
        return tensor
