"""What was decided about a model before anything is explained, for the reader."""

from __future__ import annotations

from dataclasses import dataclass

from heatproof.probe.outputs import Outputs


@dataclass(frozen=True, eq=False)
class Description:
    """How a model is read and looked at, for inputs of one shape; its text has a line for each.

    Attributes:
        outputs: what the model returns, and why it is read so. shape: of one input (C, *S).
        layer: the layers that CAMs use, and why; empty where there is none. layout: how each holds its positions.
        notes: what else to know.
    """

    outputs: Outputs
    shape: tuple[int, ...]
    layer: str
    layout: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"Outputs {self.outputs}",
            f"Input {' x '.join(map(str, self.shape))}",
            f"Layer {self.layer}" if self.layer else "",
            f"Layout {self.layout}" if self.layout else "",
            *self.notes,
        ]
        return "\n".join(line for line in lines if line)
