"""Keras files as torch modules, and torch modules as Keras files."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heatproof.errors import FileError, HeatproofError, UsageError, first_line
from heatproof.files import writing
from heatproof.models.card import Card, attach, foreign
from heatproof.models.formats import keras_files
from heatproof.models.formats.keras_counterparts import COUNTERPARTS
from heatproof.models.formats.keras_graph import KerasModel, Translator, axes_of, functional
from heatproof.models.formats.keras_layers import Axes, Value
from heatproof.models.formats.keras_writer import Writer
from heatproof.models.formats.parity import agree, plain_copy, quiet
from heatproof.registry import Spec


def load_keras(path: str | os.PathLike[str]) -> KerasModel:
    """The model in a Keras file (.h5, .hdf5, .keras; Keras 2 or 3), in evaluation mode, channels-first.

    Takes (N, C, *S) and returns what the Keras model returns. Layers keep their Keras names (``conv2d_3``) and give
    their output after any activation fused into them; a final softmax is the last module. Rank-2 inputs (features)
    may have a channel axis of one, and so may square images without one. Layers without a torch counterpart run through
    Keras. Nothing in the file is executed: Lambda layers and unknown classes are refused. The card records
    the shape of the input and numbers the classes, which the file does not name.

    Raises: FileError where the file is missing, empty, damaged, foreign or unsafe; UsageError without Keras.
    """
    file, model = read(Path(path))
    module = translate(model, name=repr(str(path)), exclude=file.excludes)
    attach(module, _card(file, model, module))
    return module


def _card(file: keras_files.KerasFile, model: Any, module: KerasModel) -> Card:
    shape = [length for length in functional(model).outputs[0].shape[1:] if length != 1] or [1]
    count = max(2, int(shape[0] or 0)) if len(shape) == 1 else 0  # one column is read as two classes
    kind = "sequential" if file.config["class_name"] == "Sequential" else "functional"
    about = {"name": str(model.name), "layers": len(module.steps), "keras": file.version}
    return foreign(Spec(f"keras-{kind}", tuple(sorted(about.items()))), module.input_shape, count)


def translate(model: Any, *, name: str = "the Keras model", exclude: bool = False) -> KerasModel:
    """A Keras model in memory as a torch module; see `load_keras`.

    ``exclude`` leaves what lies outside the input out of 'same' average pooling, as TensorFlow and JAX do; Keras's
    torch backend repeats the edge instead where the padding is lopsided.

    Raises: FileError where the model takes or returns several tensors.
    """
    return traced(model, name, axes_of(model, exclude=exclude))[0]


def traced(model: Any, name: str, axes: Axes) -> tuple[KerasModel, dict[str, list[Value]]]:
    """The translated model and, for every Keras layer, the value each of its calls made."""
    translator = Translator(keras_files.import_keras(), axes, name)
    with torch.random.fork_rng(devices=[]):
        module = translator.translate(model)
    return module.eval(), translator.places


def read(path: Path) -> tuple[keras_files.KerasFile, Any]:
    """What a Keras file says of itself, and the Keras model in it.

    Raises: FileError, UsageError.
    """
    keras = keras_files.import_keras()
    with (
        keras_files.opened(path) as file,
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", category=UserWarning, module=r"keras\.")
        try:
            config = keras_files.upgraded(file, keras)
            model = keras.saving.deserialize_keras_object(
                config, custom_objects=keras_files.inner_layers(config), safe_mode=True
            )
            if not model.built or functional(model) is None:
                raise FileError(
                    f"{str(path)!r} does not say the size of the model's input; call the model, then save it"
                )
            model.load_weights(str(file.weights))
        except FileError:
            raise
        except Exception as error:  # Keras raises anything, down to bare exceptions, for configurations it dislikes
            reason = first_line(error)
            raise FileError(f"Keras {keras.__version__} cannot rebuild {str(path)!r}: {reason}") from error
    if file.legacy:
        _restore_hard_sigmoid(keras, model)
    return file, model


def _restore_hard_sigmoid(keras: Any, model: Any) -> None:
    """Keras 3 gave the name hard_sigmoid to another function; files of Keras 2 mean the former one."""
    for layer in model._flatten_layers():
        for name in ("activation", "recurrent_activation"):
            passed_on = isinstance(getattr(type(layer), name, None), property)
            if not passed_on and getattr(layer, name, None) is keras.activations.hard_sigmoid:
                setattr(layer, name, _steep_sigmoid(keras))


@functools.cache
def _steep_sigmoid(keras: Any) -> Any:
    """Keras copies a layer by writing and reading it, and must know the function by name."""

    def steep_sigmoid(x: Any) -> Any:
        return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)

    return keras.saving.register_keras_serializable("heatproof")(steep_sigmoid)


def save_keras(model: nn.Module, path: str | os.PathLike[str], input_shape: Sequence[int]) -> Path:
    """The path of a Keras file (.keras or .h5) that predicts what ``model`` predicts, channels-last.

    ``input_shape`` is that of one sample, (C, *S). Keras reads the file back and must agree with the model on random
    inputs, or nothing is left behind. Operations without an exact Keras counterpart are refused.

    Raises: UsageError for an unfit model or suffix, or without Keras; FileError where the place cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".keras", ".h5"):
        raise UsageError(f"got {path.name!r}, expected a name that ends in .keras or .h5")
    keras = keras_files.import_keras()
    plain = plain_copy(model)
    with quiet(), torch.random.fork_rng(devices=[]), torch.no_grad():
        rebuilt = _rebuilt(keras, plain, input_shape)
        with writing(path) as part:
            rebuilt.save(part)
            again = keras.saving.load_model(part, compile=False)
            agree(path, plain, torch.rand(3, *input_shape), lambda x: _keras_call(keras, again, x))
    return path


def _rebuilt(keras: Any, model: nn.Module, input_shape: Sequence[int]) -> Any:
    try:
        return Writer(keras, model, COUNTERPARTS).build(input_shape)
    except HeatproofError:
        raise
    except Exception as error:  # tracing runs the user's own code, which may raise anything
        raise UsageError(
            f"the model cannot be rebuilt in Keras: {first_line(error)}; export to ONNX instead"
        ) from error


def _keras_call(keras: Any, model: Any, x: Tensor) -> Tensor:
    out = model(keras.ops.convert_to_tensor(x.movedim(1, -1).contiguous().numpy()), training=False)
    return torch.tensor(np.asarray(out.detach().cpu().numpy() if isinstance(out, Tensor) else out))
