"""What one small pass shows about a model: the calls of its layers, and how its output is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.probe.layout import Layout, layout
from heatproof.probe.outputs import Outputs, class_scores
from heatproof.probe.state import borrowed

CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.TransformerEncoderLayer, nn.TransformerEncoder)


@dataclass(frozen=True)
class Call:
    """One call of one module in a forward pass of one sample.

    Attributes:
        shape: of its output; None where that is no tensor, or does not hold one row for the sample.
        number: which call of the module it is, from 1; of how many.
        rows: how many rows its output has.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...] | None
    number: int = 1
    of: int = 1
    rows: int = 1

    @property
    def label(self) -> str:
        """The name, with the number of the call where there are several."""
        return f"{self.name}@{self.number}" if self.of > 1 else self.name

    def layout(self, size: Sequence[int]) -> Layout | None:
        """How to read its output as positions; None where it has none."""
        if isinstance(self.module, CHANNELS_LAST) and len(size) == 1 and self.shape and len(self.shape) == 3:
            return Layout("last", self.shape[1:2])
        return layout(self.shape, size)


@dataclass(frozen=True, eq=False)
class Survey:
    """What one forward pass of one sample showed.

    Attributes:
        calls: every module call, in the order in which they ended.
        size: the input's position axes.
        outputs: how the model's class scores are read.
        alone: the class scores of the sample, run by itself; None where there are none.
    """

    calls: tuple[Call, ...]
    size: tuple[int, ...]
    outputs: Outputs
    alone: Float[Tensor, "1 k"] | None = None


def survey(model: nn.Module, x: Float[Tensor, "n c *s"]) -> Survey:
    """Run one sample and write down what happens.

    Raises: InputError where the model does not accept the input.
    """
    names = {module: name for name, module in model.named_modules()}
    calls: list[Call] = []
    times = Counter[nn.Module]()

    def record(module: nn.Module, _: Any, out: Any) -> None:
        times[module] += 1
        rows = len(out) if isinstance(out, Tensor) and out.ndim else 0
        shape = tuple(out.shape) if rows == 1 else None
        calls.append(Call(names[module], module, shape, times[module], rows=rows))

    with borrowed(model, dict.fromkeys(names, record)):
        try:
            raw = model(x[:1])
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            reason = str(error).strip().splitlines()
            raise InputError(
                f"the model does not accept inputs of shape (N, {', '.join(map(str, x.shape[1:]))}): "
                f"{reason[0] if reason else type(error).__name__}"
            ) from error
    outputs, alone = _outputs(raw, [call.module for call in calls])
    return Survey(tuple(replace(call, of=times[call.module]) for call in calls), tuple(x.shape[2:]), outputs, alone)


def _outputs(raw: Any, modules: Sequence[nn.Module]) -> tuple[Outputs, Tensor | None]:
    """How the output of one sample is read, and its class scores; ``modules`` in the order in which they ended."""
    try:
        scores = class_scores(raw).float()
    except InputError as error:
        return Outputs(0, trouble=error.with_traceback(None)), None
    single = isinstance(raw, Tensor) and raw.shape[1:].numel() == 1
    sums = torch.allclose(scores.sum(1), torch.ones(len(scores)).to(scores), atol=2e-3)
    leaves = [module for module in modules if not any(True for _ in module.children())]
    sigmoid = single and bool(leaves) and type(leaves[-1]) is nn.Sigmoid
    softmax = bool((scores >= 0).all()) and sums and not single
    return Outputs(scores.shape[1], softmax, sigmoid), scores
