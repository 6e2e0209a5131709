"""Classifiers in folders of Hugging Face: config.json and safetensors; nothing is fetched, unpickled or executed."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from heatproof.errors import FileError, HeatproofError, UsageError, first_line
from heatproof.models.card import Card, attach, foreign, numbered
from heatproof.models.formats.hf_processors import CONFIG, of_images, of_sounds, settings
from heatproof.models.presets import of_timm
from heatproof.models.zoo import build
from heatproof.preprocessing import Preprocessing, SignalPreprocessing
from heatproof.registry import Spec

Input = Literal["image", "video", "signal", "spectrogram"]
NAME, WEIGHTS, SHARDS = "config.json", "model.safetensors", "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
_OUTPUTS = {
    "single_label_classification": "logits",
    "multi_label_classification": "label-logits",
    "regression": "regression",
}


class FolderModel(nn.Module):
    """A classifier of transformers that takes (N, C, *S) and returns its logits (N, K).

    Attributes:
        network: the classifier as transformers has it.
        takes: (N, C, H, W) images; (N, C, T, H, W) videos; (N, 1, T) signals; (N, 1, T, M) spectrograms, time first.
    """

    def __init__(self, network: nn.Module, takes: Input) -> None:
        super().__init__()
        self.network, self.takes = network, takes

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        if self.takes == "image":
            values = {"pixel_values": x}
        elif self.takes == "video":
            values = {"pixel_values": x.transpose(1, 2)}
        else:
            values = {"input_values": x.squeeze(1)}
        logits: Tensor = self.network(**values).logits
        return logits


def is_folder(path: Path) -> bool:
    """Whether a folder looks like one of Hugging Face's."""
    return (path / NAME).is_file()


def load_folder(path: Path, *, prepared: bool = False) -> nn.Module:
    """The classifier in a folder of Hugging Face, in evaluation mode, float32, with its card.

    Images, videos (N, C, T, H, W), signals (N, 1, T) and spectrograms (N, 1, T, M). Class names, outputs and
    preprocessing come from the folder; with ``prepared`` the preprocessing is given by hand, and not looked for.

    Raises: FileError for a folder without weights in safetensors, damaged, or of no classifier of transformers;
        UsageError where transformers is missing.
    """
    if not is_folder(path):
        raise FileError(f"{str(path)!r} is no folder of Hugging Face: expected {NAME} and {WEIGHTS} in it")
    page = settings(path / NAME)
    _check_weights(path)
    _check_local(path, page)
    if "architecture" in page and "model_type" not in page:
        return _timm_folder(path, page, prepared=prepared)
    transformers = library()
    with _quiet(transformers):
        network, kind = _network(transformers, path)
        takes = _input(kind, network)
        preprocessing = None if prepared else _preprocessing(transformers, path, takes, network.config)
    model = FolderModel(network.float(), takes).eval()
    attach(model, _card(page, network, takes, preprocessing))
    return model


def library() -> Any:
    """The package transformers.

    Raises: UsageError where it is missing.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise UsageError(f"folders of Hugging Face need transformers ({error}); pip install 'heatproof[hf]'") from None


def _check_weights(path: Path) -> None:
    """Weights are there, whole, in safetensors, and inside the folder.

    Raises: FileError.
    """
    if (path / "adapter_config.json").exists():
        raise FileError(f"{str(path)!r} holds an adapter; merge it into its model (merge_and_unload) and save that")
    if (path / SHARDS).is_file() and not (path / WEIGHTS).is_file():
        names = set(dict(settings(path / SHARDS).get("weight_map") or {}).values())
        outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
        if outside or not names:
            raise FileError(f"{str(path / SHARDS)!r} is damaged: it names {outside[0] if outside else 'no files'!r}")
        files = [path / name for name in sorted(names)]
    else:
        files = [path / WEIGHTS]
    for file in files:
        if not file.is_file():
            raise FileError(_without_weights(path, file))
        _check_safetensors(file)


def _check_local(path: Path, page: Mapping[str, Any]) -> None:
    """The configuration names no code or network that would have to be fetched.

    Raises: FileError.
    """
    waiting: list[tuple[str, Any]] = list(page.items())
    while waiting:
        key, value = waiting.pop()
        waiting += list(value.items()) if isinstance(value, Mapping) else []
        remote = isinstance(value, str) and ("/" in value or ":" in value)
        if remote and ("attn_implementation" in key or key in ("architecture", "backbone")):
            raise FileError(f"{str(path / NAME)!r}: {key} {value!r} would have to be fetched; refused")


def _check_safetensors(file: Path) -> None:
    import safetensors

    try:
        with safetensors.safe_open(file, framework="pt"):
            pass
    except (safetensors.SafetensorError, OSError) as error:
        raise FileError(f"{str(file)!r} is truncated or not a safetensors file ({first_line(error)})") from None


def _without_weights(path: Path, file: Path) -> str:
    pickles = sorted(entry.name for entry in path.iterdir() if entry.suffix in _PICKLES)
    if not pickles:
        return f"{str(path)!r} holds no weights; expected {file.name} in it"
    return (
        f"{str(path)!r} has its weights as {pickles[0]}, which may run code when read, and no {file.name}; convert "
        "them where you trust them: transformers.AutoModelForImageClassification.from_pretrained(folder)"
        ".save_pretrained(folder)"
    )


@contextmanager
def _quiet(transformers: Any) -> Any:
    """Offline, without progress bars and advice; everything as it was afterwards."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub: Any = importlib.import_module("huggingface_hub.constants")
    offline = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = True
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        hub.HF_HUB_OFFLINE = offline
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


# What classifiers leave out of weights that were trained for something else as well.
_HARMLESS = re.compile(
    r"position_ids|num_batches_tracked|relative_position_index|(^|\.)pooler\.|mask_token|masked_spec_embed|quantizer\.|"
    r"project_q\.|project_hid\.|^decoder\.|(^|\.)(cls|lm_head|predictions)\."
)
_LOCAL: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def _network(transformers: Any, path: Path) -> tuple[nn.Module, str]:
    """The classifier, and which mapping of transformers lists it: IMAGE, VIDEO or AUDIO.

    Raises: FileError.
    """
    shown = repr(str(path))
    try:
        config = transformers.AutoConfig.from_pretrained(str(path), **_LOCAL)
    except Exception as error:  # transformers raises anything for configurations that it dislikes
        raise FileError(f"{shown}: {NAME} is not understood by transformers: {first_line(error)}") from None
    if getattr(config, "quantization_config", None) is not None:
        raise FileError(f"{shown} holds a quantised model; save it without quantization_config")
    config.return_dict = True  # a tuple has no logits
    classes = {
        entry.__name__: (entry, kind)
        for kind in ("IMAGE", "VIDEO", "AUDIO")
        for entry in _listed(getattr(transformers, f"MODEL_FOR_{kind}_CLASSIFICATION_MAPPING"), type(config))
    }
    stated = getattr(config, "architectures", None) or list(classes)[:1]
    names = [stated] if isinstance(stated, str) else [str(name) for name in stated]
    name = next((name for name in names if name in classes), None)
    if name is None:
        raise FileError(
            f"{shown} holds {', '.join(names) or config.model_type}, expected a classifier of images, videos or sounds"
        )
    network_class, kind = classes[name]
    try:
        network, info = network_class.from_pretrained(
            str(path),
            config=config,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are refused below, in words of our own
            output_loading_info=True,
        )
    except Exception as error:  # sizes that differ, damaged files, packages that are missing
        raise FileError(f"{shown}: the weights do not fit {name}: {_reason(error)}") from None
    unfit = sorted(info.get("mismatched_keys") or ())
    if unfit:
        key, there, here = unfit[0]
        raise FileError(
            f"{shown}: the weights do not fit {name}: {key} has the size {tuple(there)} in the file and {tuple(here)} "
            "in the network; is it the configuration that was saved with them?"
        )
    missing = sorted(map(str, info.get("missing_keys") or ()))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FileError(f"{shown}: the weights lack {missing[0]}{more} of {name}; is it the classifier that was saved?")
    surplus = sorted(key for key in map(str, info.get("unexpected_keys") or ()) if not _HARMLESS.search(key))
    if surplus:
        more = f" and {len(surplus) - 2} more" if len(surplus) > 2 else ""
        raise FileError(
            f"{shown}: the weights hold {' and '.join(surplus[:2])}{more}, which the {name} of {NAME} does not have; "
            "is it the configuration that was saved with them?"
        )
    return network, kind


def _listed(mapping: Any, config: type) -> tuple[Any, ...]:
    try:
        entry = mapping[config]
    except KeyError:
        return ()
    return tuple(entry) if isinstance(entry, (tuple, list)) else (entry,)


def _reason(error: Exception) -> str:
    """What a long message says on one line, its advice left out."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    sizes = [line for line in lines if "size mismatch" in line or "MISMATCH" in line or "mismatch" in line.lower()]
    return (sizes or lines or [type(error).__name__])[0][:200]


def _input(kind: str, network: nn.Module) -> Input:
    """What the classifier takes.

    Raises: FileError for features that heatproof does not hand over.
    """
    argument = "input_values" if kind == "AUDIO" else "pixel_values"
    if argument not in inspect.signature(network.forward).parameters:
        raise FileError(f"{type(network).__name__} takes no {argument}; classifiers of such inputs are not supported")
    if kind == "AUDIO":
        return "spectrogram" if hasattr(network.config, "num_mel_bins") else "signal"
    return "video" if kind == "VIDEO" else "image"


def _preprocessing(
    transformers: Any, path: Path, takes: Input, config: Any
) -> Preprocessing | SignalPreprocessing | None:
    """What the folder says of its inputs.

    Raises: FileError where it says nothing, or what is not understood.
    """
    file = path / CONFIG
    timm = getattr(config, "pretrained_cfg", None)
    if isinstance(timm, Mapping) and takes == "image":
        return _timm_preprocessing(timm, path.name)
    if not file.is_file():
        raise FileError(
            f"{str(path)!r} has no {CONFIG}, which says how inputs are scaled; copy it from where the model is "
            "from, or state it with preprocessing=, as in 'imagenet:resize=256,crop=224' ('none' if you scale inputs)"
        )
    if takes in ("signal", "spectrogram"):
        return of_sounds(settings(file), CONFIG)
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(str(path), use_fast=False, **_LOCAL)
    except Exception as error:  # as for configurations
        raise FileError(f"{str(file)!r} is not understood by transformers: {first_line(error)}") from None
    return of_images(file, processor, int(getattr(config, "num_channels", 3) or 3), frames=takes == "video")


def _card(
    page: Mapping[str, Any], network: nn.Module, takes: Input, preprocessing: Preprocessing | SignalPreprocessing | None
) -> Card:
    config: Any = network.config
    count = int(config.num_labels)
    named = "id2label" in page or "label2id" in page
    names = tuple(str(config.id2label.get(k, f"class {k}")) for k in range(count))
    if not named or len(set(names)) < count or names == tuple(f"LABEL_{k}" for k in range(count)):
        names = numbered(count)
    names = names if count > 1 else ()
    outputs = _OUTPUTS.get(str(config.problem_type), "regression" if count == 1 else "logits")
    card = foreign(Spec(f"hf-{config.model_type}"), _shape(config, takes, preprocessing), count)
    return replace(card, classes=names, preprocessing=preprocessing, outputs=outputs)


def _shape(
    config: Any, takes: Input, preprocessing: Preprocessing | SignalPreprocessing | None
) -> tuple[int | None, ...]:
    """The shape of an input, None for axes whose length the model leaves open."""
    if takes == "signal":
        return (1, None)
    if takes == "spectrogram":
        return (1, int(getattr(config, "max_length", 0)) or None, int(config.num_mel_bins))
    channels = int(getattr(config, "num_channels", 3) or 3)
    size = preprocessing.size if isinstance(preprocessing, Preprocessing) else None
    frames = (int(getattr(config, "num_frames", 0)) or None,) if takes == "video" else ()
    return (channels, *frames, *(size or (None, None)))


def _timm_folder(path: Path, page: Mapping[str, Any], *, prepared: bool) -> nn.Module:
    """The classifier in a folder that timm wrote.

    Raises: FileError, UsageError, UnknownName.
    """
    name, count = str(page["architecture"]), page.get("num_classes")
    options = page.get("model_args")
    if options:
        raise FileError(f"{str(path)!r}: model_args {json.dumps(options)[:80]} in {NAME} are not understood; refused")
    network = build(f"timm:{name}", weights=path / WEIGHTS, classes=count if isinstance(count, int) else None)
    config = page.get("pretrained_cfg")
    preprocessing = None if prepared else _timm_preprocessing(config if isinstance(config, Mapping) else page, name)
    labels = page.get("label_names")
    count = int(network.num_classes)  # type: ignore[arg-type]
    fits = isinstance(labels, list) and len(set(labels)) == count
    shape = (preprocessing.channels, *(preprocessing.size or (None, None))) if preprocessing else (3, None, None)
    card = foreign(Spec(f"timm:{name}"), shape, count)
    classes = tuple(map(str, labels)) if fits and isinstance(labels, list) else card.classes
    attach(network, replace(card, classes=classes, preprocessing=preprocessing))
    return network


def _timm_preprocessing(config: Mapping[str, Any], name: str) -> Preprocessing:
    timm = importlib.import_module("timm.data")
    try:
        return of_timm(timm.resolve_data_config(pretrained_cfg=dict(config)), name)
    except HeatproofError:
        raise
    except Exception as error:  # what stands there may be anything
        raise FileError(f"the preprocessing of {name} in {NAME} is damaged: {first_line(error)}") from None
