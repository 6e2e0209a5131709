"""The way out: networks trained here as Keras files and as ONNX, each checked against the model it came from."""

from __future__ import annotations

import copy
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heatproof.errors import HeatproofError, UsageError
from heatproof.files import writing
from heatproof.models.formats.keras_files import first_line, import_keras

_CLOSE = 1e-5


def to_keras(model: nn.Module, path: str | os.PathLike[str], input_shape: Sequence[int]) -> Path:
    """The path of a Keras file (.keras or .h5) that predicts what ``model`` predicts, channels-last.

    ``input_shape`` is that of one sample, (C, *S). Keras reads the file back and must agree with the model on random
    inputs, or nothing is left behind. Operations without an exact Keras counterpart are refused.

    Raises: UsageError for an unfit model or suffix, or without Keras; FileError where the place cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".keras", ".h5"):
        raise UsageError(f"got {path.name!r}, expected a name that ends in .keras or .h5")
    keras = import_keras()
    plain = plain_copy(model)
    with quiet(), torch.random.fork_rng(devices=[]), torch.no_grad():
        made = _rebuilt(keras, plain, input_shape)
        with writing(path) as part:
            made.save(part)
            again = keras.saving.load_model(part, compile=False)
            agree(path, plain, torch.rand(3, *input_shape), lambda x: _keras_call(keras, again, x))
    return path


def to_onnx(model: nn.Module, path: str | os.PathLike[str], input_shape: Sequence[int]) -> Path:
    """The path of an ONNX file that predicts what ``model`` predicts: ``input`` (batch, C, *S) to ``output``.

    The batch is of any size. ONNX's reference evaluator must agree with the model on random inputs, or nothing is left
    behind.

    Raises: UsageError for a model that cannot be traced, or without onnx; FileError where the place cannot be written.
    """
    path = Path(path)
    try:
        onnx = importlib.import_module("onnx.reference")
        importlib.import_module("onnxscript")
    except ModuleNotFoundError as error:
        raise UsageError(f'export to ONNX needs {error.name}; pip install "heatproof[onnx]"') from None
    plain = plain_copy(model)
    x = torch.rand(2, *input_shape)
    with quiet(), torch.random.fork_rng(devices=[]), torch.no_grad(), writing(path) as part:
        try:
            torch.onnx.export(
                plain,
                (x,),
                part,
                dynamo=True,
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter wraps whatever the model or torch raised
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            if isinstance(cause, OSError):
                raise cause from None
            raise UsageError(f"the model cannot be exported to ONNX: {first_line(cause)}") from error
        session = onnx.ReferenceEvaluator(str(part))
        agree(
            path,
            plain,
            torch.rand(1, *input_shape),
            lambda given: torch.tensor(session.run(None, {"input": given.numpy()})[0]),
        )
    return path


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in evaluation mode and single precision, so that the user's model stays as it is."""
    return copy.deepcopy(model).cpu().float().eval()


def _rebuilt(keras: Any, model: nn.Module, input_shape: Sequence[int]) -> Any:
    from heatproof.models.formats.keras_writer import Writer

    try:
        return Writer(keras, model).build(input_shape)
    except HeatproofError:
        raise
    except Exception as error:  # tracing runs the user's own code, which may raise anything
        raise UsageError(
            f"the model cannot be rebuilt in Keras: {first_line(error)}; export to ONNX instead"
        ) from error


def _keras_call(keras: Any, model: Any, x: Tensor) -> Tensor:
    given = keras.ops.convert_to_tensor(x.movedim(1, -1).contiguous().numpy())
    out = model(given, training=False)
    return torch.tensor(np.asarray(out.detach().cpu().numpy() if isinstance(out, Tensor) else out))


def agree(path: Path, model: nn.Module, x: Tensor, other: Callable[[Tensor], Tensor]) -> None:
    """Refuse a file whose predictions for ``x`` are not the model's.

    Raises: HeatproofError.
    """
    want, got = model(x), other(x)
    error = float((want - got).abs().max()) if want.shape == got.shape else float("inf")
    if not error <= _CLOSE * max(1.0, float(want.abs().max())):
        raise HeatproofError(f"{path.name!r} would predict otherwise than the model (by {error:.2g}); not written")


@contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks of Keras and the ONNX exporter on their own inner workings."""
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
