"""Models as ONNX files, checked by ONNX's reference evaluator."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from heatproof.errors import UsageError, first_line
from heatproof.files import writing
from heatproof.models.formats.parity import agree, plain_copy, quiet


def save_onnx(model: nn.Module, path: str | os.PathLike[str], input_shape: Sequence[int]) -> Path:
    """The path of an ONNX file that predicts what ``model`` predicts: ``input`` (batch, C, *S) to ``output``.

    The batch is of any size. ONNX's reference evaluator must agree with the model on random inputs, or nothing is left
    behind.

    Raises: UsageError for a model that cannot be traced, or without onnx; FileError where the place cannot be written.
    """
    path = Path(path)
    try:
        reference = importlib.import_module("onnx.reference")
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
        session = reference.ReferenceEvaluator(str(part))
        agree(
            path,
            plain,
            torch.rand(1, *input_shape),
            lambda inputs: torch.tensor(session.run(None, {"input": inputs.numpy()})[0]),
        )
    return path
