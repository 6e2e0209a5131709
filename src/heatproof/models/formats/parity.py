"""Proof that a written file predicts what the model predicts, and what each writer needs for it."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from heatproof.errors import HeatproofError

CLOSE = 1e-5  # the largest difference that counts as rounding, relative to the largest output or one


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in evaluation mode and single precision, so that the user's model stays as it is."""
    return copy.deepcopy(model).cpu().float().eval()


def agree(path: Path, model: nn.Module, x: Tensor, other: Callable[[Tensor], Tensor]) -> None:
    """Refuse a file whose predictions for ``x`` are not the model's.

    Raises: HeatproofError.
    """
    want, got = model(x), other(x)
    error = float((want - got).abs().max()) if want.shape == got.shape else float("inf")
    if not error <= CLOSE * max(1.0, float(want.abs().max())):
        raise HeatproofError(
            f"{path.name!r} would not predict what the model predicts (difference {error:.2g}); nothing was written"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """A block without the warnings of Keras, torch.export and the ONNX exporter about their own code."""
    loggers = [logging.getLogger(name) for name in ("absl", "torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(torch|onnx|onnxscript|copyreg)\b")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|onnx|onnxscript|copyreg)\b")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
