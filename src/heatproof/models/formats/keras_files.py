"""Keras files read without running anything in them: the configuration is checked and brought to Keras 3's terms.

Keras 3 cannot rebuild many files of Keras 2 as they are (nested models, separable convolutions, recurrent layers), so
their configuration is rewritten first. Only then is it handed to Keras, and the weights are loaded by Keras itself,
from a copy that holds nothing but arrays.
"""

from __future__ import annotations

import errno
import importlib
import inspect
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from heatproof.errors import FileError, UsageError, first_line
from heatproof.models.formats import hdf5
from heatproof.models.formats.keras_operations import as_layer

_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_CONFIG, _ABOUT, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_CONFIG_LIMIT = 1 << 26
_MODELS = ("Functional", "Model", "Sequential")
_RUNS_CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
_TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")
_RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}, "ThresholdedReLU": {"theta": "threshold"}}
_HARMLESS = (None, False, 0, 1, "")


@dataclass(frozen=True)
class KerasFile:
    """What a Keras file says of its model.

    Attributes:
        config: the model's configuration as read; version: of the Keras that wrote it.
        backend: what that Keras ran on; empty where the file does not say.
        weights: a clean copy of its weights, as Keras loads them.
    """

    path: Path
    config: dict[str, Any]
    version: str
    backend: str
    weights: Path

    @property
    def legacy(self) -> bool:
        """Whether Keras 1 or 2 wrote it."""
        return int(self.version.split(".")[0]) < 3

    @property
    def excludes(self) -> bool:
        """Whether its 'same' average pooling leaves out what lies outside the input, as all backends but torch do."""
        return self.backend in ("tensorflow", "jax", "numpy")


def import_keras() -> Any:
    """Keras 3, on its torch backend unless Keras was imported or configured otherwise.

    Raises: UsageError where it is missing, too old, or its backend is.
    """
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        keras = importlib.import_module("keras")
        importlib.import_module("h5py")
    except ModuleNotFoundError as error:
        if error.name in ("keras", "h5py"):
            raise UsageError(f'Keras files need {error.name}; pip install "heatproof[keras]"') from None
        backend = os.environ.get("KERAS_BACKEND", "")
        raise UsageError(f"Keras cannot start its {backend} backend ({error}); set KERAS_BACKEND=torch") from None
    if int(keras.__version__.split(".")[0]) < 3:
        raise UsageError(f'got Keras {keras.__version__}, expected 3.9 or later; pip install "heatproof[keras]"')
    return keras


@contextmanager
def opened(path: Path) -> Iterator[KerasFile]:
    """The configuration in a Keras file and, while the block lasts, a clean copy of its weights.

    Raises: FileError where it is missing, empty, damaged, foreign, unsafe or holds weights only, or the disk is full.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror}") from None
    if not magic:
        raise FileError(f"{str(path)!r} is empty (0 bytes); copy or save it again")
    zipped = path.suffix == ".keras"
    if not magic.startswith(_ZIP if zipped else _HDF5):
        other = {_HDF5: "an HDF5 file; rename it to .h5", _ZIP: "a zip archive; rename it to .keras"}
        actual = next(
            (text for start, text in other.items() if magic.startswith(start)), "neither HDF5 nor a zip archive"
        )
        raise FileError(f"{str(path)!r} is not a Keras {path.suffix} file: it is {actual}")
    import_keras()
    with TemporaryDirectory(prefix="heatproof-") as folder:
        try:
            yield (_read_zip if zipped else _read_hdf5)(path, Path(folder))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = f"no space left in {folder} to unpack it" if full else error.strerror or first_line(error)
            raise FileError(f"cannot read {str(path)!r}: {reason}") from None


def _read_zip(path: Path, folder: Path) -> KerasFile:
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(_entry_of(path, archive, _CONFIG))
            about = json.loads(_entry_of(path, archive, _ABOUT)) if _ABOUT in archive.namelist() else {}
            file = _checked(path, config, str(about.get("keras_version", "3")), "", folder / f"clean.{_WEIGHTS}")
            (folder / "weights.h5").write_bytes(_entry_of(path, archive, _WEIGHTS))
    except FileError:
        raise
    except Exception as error:  # zipfile, zlib and json raise a dozen kinds for damaged files
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place before the start of the file
            raise
        raise FileError(f"{str(path)!r} is truncated or damaged: {first_line(error)}") from None
    hdf5.contents(folder / "weights.h5", file.weights, path)
    return file


def _entry_of(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise FileError(f"{str(path)!r} is a zip archive without {name}, so not a Keras model")
    entry = archive.getinfo(name)
    if entry.file_size > max(_CONFIG_LIMIT, 20 * entry.compress_size if name == _WEIGHTS else 0):
        raise FileError(f"{str(path)!r}: {name} unpacks to {entry.file_size >> 20} MiB; refused")
    return archive.read(name)


def _read_hdf5(path: Path, folder: Path) -> KerasFile:
    contents = hdf5.contents(path, folder / "clean.h5")
    text = contents.attributes.get("model_config")
    if not isinstance(text, str):
        weights = "layer_names" in contents.attributes or "layers" in contents.members
        reason = "holds weights only; save the whole model with model.save(...)" if weights else "is not from Keras"
        raise FileError(f"{str(path)!r} {reason}")
    version, backend = (str(contents.attributes.get(name) or "") for name in ("keras_version", "backend"))
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        raise FileError(f"{str(path)!r} is damaged: its configuration is not JSON") from None
    return _checked(path, config, version or "1", backend, contents.clean)


def _checked(path: Path, config: Any, version: str, backend: str, weights: Path) -> KerasFile:
    if not isinstance(config, dict) or "class_name" not in config or "config" not in config:
        raise FileError(f"{str(path)!r} is damaged: its configuration describes no model")
    if not version.split(".")[0].isdecimal():
        raise FileError(f"{str(path)!r} is damaged: it names {version[:20]!r} as the version of Keras")
    try:
        _refuse_code(path, config["config"], str(config["class_name"]))
    except RecursionError:
        raise FileError(f"{str(path)!r} is damaged: its configuration is nested without end") from None
    file = KerasFile(path, config, version, backend, weights)
    return replace(file, backend="tensorflow") if file.legacy and not backend else file


def _refuse_code(path: Path, part: Any, layer: str) -> None:
    if isinstance(part, dict):
        settings = part.get("config")
        name = (settings.get("name") if isinstance(settings, dict) else None) or part.get("name") or layer
        if part.get("class_name") in _RUNS_CODE:
            kind = "Lambda" if part["class_name"] == "__lambda__" else part["class_name"]
            raise FileError(
                f"{str(path)!r}: layer {name!r} is a {kind}, which would run code stored in the file; "
                "rebuild the model with ordinary layers and save it again"
            )
        for value in part.values():
            _refuse_code(path, value, str(name))
    elif isinstance(part, (list, tuple)):
        for value in part:
            _refuse_code(path, value, layer)


def inner_layers(config: Mapping[str, Any]) -> dict[str, type]:
    """Layers of Keras's own networks in a configuration, by name; Keras does not offer them otherwise.

    Others of the same names, registered by the user, stay what they are.
    """
    from keras.src.applications.convnext import LayerScale, StochasticDepth
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    used = repr(config)
    inner = (LayerScale, StochasticDepth, CustomScaleLayer)
    return {cls.__name__: cls for cls in inner if cls.__module__ in used}


def upgraded(file: KerasFile, keras: Any) -> dict[str, Any]:
    """The file's model configuration as Keras 3 reads it, without what only training needs.

    Raises: FileError where a layer is not one of Keras's own nor registered by the user.
    """
    kind = file.config["class_name"]
    if kind not in _MODELS and not _registered(keras, file.config):
        raise FileError(
            f"{str(file.path)!r} holds a model of the class {kind!r}; expected Sequential or functional, "
            "or a class registered with keras.saving.register_keras_serializable"
        )
    return _entry(file, keras, file.config)


def _entry(file: KerasFile, keras: Any, entry: dict[str, Any]) -> dict[str, Any]:
    kind, settings = entry["class_name"], entry["config"]
    rest = {k: v for k, v in entry.items() if k not in ("compile_config", "build_config")}
    if kind in _MODELS:
        if isinstance(settings, list):
            settings = {"name": "sequential", "layers": settings}
        settings = _model(file, keras, settings, sequential=kind == "Sequential")
        module, kind = ("keras", kind) if kind == "Sequential" else ("keras.src.models.functional", "Functional")
        return {**rest, "module": module, "class_name": kind, "registered_name": kind, "config": settings}
    if _registered(keras, entry):
        return entry
    if str(entry.get("module", "")).startswith(("keras.src.ops.", "keras.ops.")):
        return entry
    if kind in inner_layers(entry):
        return entry
    renamed = {"ThresholdedReLU": "ReLU"}.get(kind, kind) if file.legacy else kind
    cls = getattr(keras.layers, renamed, None)
    if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
        name = settings.get("name", kind) if isinstance(settings, dict) else kind
        if kind in ("TFOpLambda", "SlicingOpLambda"):
            raise FileError(
                f"{str(file.path)!r}: {name!r} is a bare TensorFlow operation ({settings.get('function')}); "
                "replace it by a layer where the model was made, and save it again"
            )
        raise FileError(
            f"{str(file.path)!r}: layer {name!r} is a {kind}, which Keras {keras.__version__} does not know; "
            "import its class first, decorated with keras.saving.register_keras_serializable"
        )
    settings = _settings(file, keras, cls, kind, settings)
    build = {"build_config": entry["build_config"]} if "build_config" in entry and not file.legacy else {}
    home = {"module": "keras.layers", "class_name": renamed, "registered_name": None}
    return {**rest, **build, **home, "config": settings}


def _settings(file: KerasFile, keras: Any, cls: type, kind: str, stored: dict[str, Any]) -> dict[str, Any]:
    settings = {k: v for k, v in stored.items() if not k.endswith(_TRAINING_ONLY)}
    for key, value in settings.items():
        if isinstance(value, dict) and isinstance(value.get("config"), dict) and key != "dtype":
            layer = hasattr(keras.layers, str(value.get("class_name"))) or value.get("class_name") in _MODELS
            settings[key] = _entry(file, keras, value) if layer else value
    if kind != "InputLayer" and "dtype" in settings:
        settings["dtype"] = _plain_dtype(settings["dtype"])
    if not file.legacy:
        return settings
    for old, new in _RENAMED.get(kind, {}).items():
        if old in settings:
            settings[new] = float(settings.pop(old))
    shape = settings.pop("batch_input_shape", None)
    if kind == "InputLayer" and shape is not None:
        settings["batch_shape"] = shape
    if isinstance(settings.get("axis"), list) and len(settings["axis"]) == 1:
        settings["axis"] = int(settings["axis"][0])
    accepted = _parameters(cls)
    lost = [k for k, v in settings.items() if k not in accepted and v not in _HARMLESS and k not in ("implementation",)]
    if lost:
        raise FileError(
            f"{str(file.path)!r}: layer {settings.get('name')!r} ({kind}) sets {lost[0]}={settings[lost[0]]!r}, "
            f"which Keras {keras.__version__} cannot do"
        )
    return {k: v for k, v in settings.items() if k in accepted}


def _plain_dtype(dtype: Any) -> Any:
    """Mixed precision is for training; the model is read in float32."""
    name = dtype.get("config", {}).get("name", "") if isinstance(dtype, dict) else dtype
    return "float32" if isinstance(name, str) and name.startswith(("mixed_", "float")) else dtype


def _parameters(cls: type) -> set[str]:
    """Every option a layer class takes, its own and its parents'."""
    parents = [base for base in cls.__mro__ if "__init__" in vars(base)]
    return {name for base in parents for name in inspect.signature(vars(base)["__init__"]).parameters}


def _model(file: KerasFile, keras: Any, stored: dict[str, Any], *, sequential: bool) -> dict[str, Any]:
    settings = dict(stored)
    layers = [dict(entry) for entry in settings["layers"]]
    if sequential:
        settings.setdefault("name", "sequential")
        first = layers[0]["config"] if layers and layers[0]["class_name"] not in _MODELS else {}
        shape = first.get("batch_input_shape") or settings.get("build_input_shape")
        if shape and layers[0]["class_name"] != "InputLayer":
            name = f"{first.get('name', settings['name'])}_input"
            given_dtype = _plain_dtype(first.get("dtype") or "float32")
            head = {"batch_shape": shape, "dtype": given_dtype, "name": name}
            layers.insert(0, {"class_name": "InputLayer", "config": head})
    elif file.legacy:
        layers = [(as_layer(entry) or entry) if entry["class_name"] == "TFOpLambda" else entry for entry in layers]
        _renumber(settings, layers)
    settings["layers"] = [_entry(file, keras, entry) for entry in layers]
    if "dtype" in settings:
        settings["dtype"] = _plain_dtype(settings["dtype"])
    return _renamed(settings) if file.legacy else settings


def _renumber(settings: dict[str, Any], layers: list[dict[str, Any]]) -> None:
    """Keras 2 counts the making of a nested model as its first call; Keras 3 does not."""
    nested = {entry["name"]: entry["class_name"] for entry in layers if entry["class_name"] in _MODELS}
    calls = [r for entry in layers for node in entry.get("inbound_nodes", ()) for r in _references(node, nested)]
    ends = list(_references(settings.get("output_layers", ()), nested))
    first = {name: min(r[1] for r in (*calls, *ends) if r[0] == name) for name in {r[0] for r in (*calls, *ends)}}
    for reference in (*calls, *(r for r in ends if nested[r[0]] == "Sequential")):
        reference[1] -= first[reference[0]]


def _references(part: Any, names: Any) -> Iterator[list[Any]]:
    if isinstance(part, list) and len(part) >= 3 and isinstance(part[0], str) and isinstance(part[1], int):
        if part[0] in names:
            yield part
    elif isinstance(part, (list, tuple)):
        for item in part:
            yield from _references(item, names)


def _renamed(part: Any, key: str = "") -> Any:
    """Layer names without slashes, which Keras 3 refuses, and dots, which torch does."""
    if isinstance(part, dict):
        return {k: _renamed(v, k) for k, v in part.items()}
    if isinstance(part, list):
        wanted = key in ("inbound_nodes", "input_layers", "output_layers")
        return [_renamed(v, key if wanted else "") for v in part]
    named = key in ("name", "inbound_nodes", "input_layers", "output_layers")
    return part.replace("/", "_").replace(".", "_") if isinstance(part, str) and named else part


def _registered(keras: Any, entry: dict[str, Any]) -> bool:
    names = (entry.get("registered_name"), entry.get("class_name"))
    return any(isinstance(n, str) and keras.saving.get_registered_object(n) is not None for n in names)
