"""What the processors of Hugging Face folders do to images and sounds, as records; checked against the processor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from heatproof.errors import FileError, first_line
from heatproof.preprocessing import Fit, Interpolation, Preprocessing, Rounding, SignalPreprocessing

CONFIG = "preprocessor_config.json"
# How processors enlarge before they crop: by the size alone, by crop_pct below 384 pixels, by 256/224, by crop_pct.
Enlargement = Literal["none", "small", "fixed", "share"]
TOLERANCE = 0.75  # mean difference in steps of 1/255; a picture that is one pixel off differs by far more
PICTURES = ((67, 67), (67, 83), (91, 67))

# What says nothing of the pixels of one image of a classifier.
_HARMLESS = {
    "image_processor_type", "feature_extractor_type", "processor_class", "auto_map", "data_format", "device",
    "input_data_format", "return_tensors", "do_convert_rgb", "do_reduce_labels", "reduce_labels", "default_to_square",
    "disable_grouping", "num_channels", "size_divisor", "use_fast", "backend", "model_input_names", "image_seq_length",
    "transformers_version",
}  # fmt: skip
_UNDERSTOOD = {
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale", "rescale_factor",
    "rescale_offset", "offset", "do_normalize", "image_mean", "image_std", "include_top", "do_flip_channel_order",
}  # fmt: skip
_HAND = (
    "state what images go through with preprocessing=, as in 'imagenet:resize=256,crop=224', "
    "or 'none' to give inputs that have been through it"
)


def settings(path: Path) -> dict[str, Any]:
    """The settings in a file of JSON.

    Raises: FileError where it is damaged.
    """
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{str(path)!r} is truncated or not JSON ({first_line(error)})") from None
    if not isinstance(page, dict):
        raise FileError(f"{str(path)!r} holds a {type(page).__name__}, expected settings by name")
    return page


def of_images(path: Path, processor: Any, channels: int, *, frames: bool = False) -> Preprocessing:
    """What a processor does to an image; with ``frames``, to each of a video.

    The settings are read, and must give what the processor gives for pictures of several sizes.

    Raises: FileError for a setting that is not understood, or a processor that does something else.
    """
    odd = [
        key
        for key, value in settings(path).items()
        if not (key.startswith("_") or key in _HARMLESS | _UNDERSTOOD or value is None or value in (False, [], {}))
    ]
    if odd:
        raise FileError(
            f"{str(path)!r}: {', '.join(map(repr, odd))} is not understood, and may change the pixels; {_HAND}"
        )
    page, reason = processor.to_dict(), ""
    for enlargement, rounding in product(get_args(Enlargement), get_args(Rounding)):
        try:
            candidate = _record(page, channels, enlargement, rounding)
        except (KeyError, TypeError, IndexError, ZeroDivisionError, ValueError) as error:
            reason = reason or (f"{error} is missing" if isinstance(error, KeyError) else first_line(error))
            continue
        if _agree(candidate, processor, frames):
            return replace(candidate, origin=path.name)
        reason = "it does something else than its settings say"
    raise FileError(f"{str(path)!r}: what this processor does is not understood ({reason}); {_HAND}")


def _record(page: Mapping[str, Any], channels: int, enlargement: Enlargement, rounding: Rounding) -> Preprocessing:
    fit, resize, crop = _placement(page, enlargement)
    scale, mean, std = _scaling(page, channels)
    names: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
    return Preprocessing(
        channels=channels,
        fit=fit,
        resize=resize,
        crop=crop,
        interpolation=names[int(page.get("resample") or 0)],
        rounding=rounding,
        order="bgr" if page.get("do_flip_channel_order") else "rgb",
        scale=scale,
        mean=mean,
        std=std,
    )


def _placement(
    page: Mapping[str, Any], enlargement: Enlargement
) -> tuple[Fit, tuple[int, ...], tuple[int, int] | None]:
    """Fit, size and crop of the settings."""
    crop = _pair(page["crop_size"]) if page.get("do_center_crop") else None
    if not page.get("do_resize"):
        return "file", (), crop
    size = {key: int(value) for key, value in dict(page["size"]).items() if value}
    if set(size) == {"height", "width"}:
        return "squash", (size["height"], size["width"]), crop
    if set(size) != {"shortest_edge"}:
        raise ValueError(f"size {size}")
    side = size["shortest_edge"]
    if enlargement == "small" and side >= 384:
        return "squash", (side, side), crop
    if enlargement == "small":
        return "shorter", (int(side / page["crop_pct"]),), (side, side) if crop is None else crop
    if enlargement == "share":
        return "shorter", (int(side / page["crop_pct"]),), crop
    return "shorter", (int((256 / 224) * side) if enlargement == "fixed" else side,), crop


def _scaling(page: Mapping[str, Any], channels: int) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Scale, mean and deviation; an offset and a second division are folded into the latter two."""
    scale = float(page["rescale_factor"]) if page.get("do_rescale") else 1.0
    mean, std = (0.0,) * channels, (1.0,) * channels
    if page.get("do_normalize"):
        mean, std = _values(page, "image_mean", channels), _values(page, "image_std", channels)
    if page.get("do_rescale") and (page.get("rescale_offset") or page.get("offset")):
        mean = tuple(value + 1 for value in mean)
    if page.get("include_top"):
        std = tuple(a * b for a, b in zip(std, _values(page, "image_std", channels), strict=True))
    return scale, mean, std


def _values(page: Mapping[str, Any], key: str, channels: int) -> tuple[float, ...]:
    value: float | Sequence[float] = page[key]
    if isinstance(value, (int, float)):
        return (float(value),) * channels
    if len(value) != channels:
        raise ValueError(f"{key} has {len(value)} values for {channels} channels")
    return tuple(map(float, value))


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    sides = {key: value for key, value in dict(size).items() if value}
    return int(sides["height"]), int(sides["width"])


def _agree(record: Preprocessing, processor: Any, frames: bool) -> bool:
    """Whether record and processor give the same for pictures of noise."""
    from PIL import Image

    random = np.random.default_rng(0)
    for height, width in (*PICTURES, *_odd(record)):
        pixels = random.integers(0, 256, (height, width, record.channels), dtype=np.uint8)
        image = Image.fromarray(pixels if record.channels == 3 else pixels[..., 0])
        try:
            batch = processor([[image]] if frames else [image], return_tensors="pt")
        except Exception:  # a processor that cannot take a plain picture is none of a classifier
            return False
        theirs = next(iter(batch.values())).double().flatten(0, -4)[0]
        placed = np.atleast_3d(np.asarray(record.placed(image), np.uint8)).transpose(2, 0, 1)
        ours = record.scaled(placed).double()
        steps = torch.tensor(record.std).double().reshape(-1, 1, 1) / record.scale
        if theirs.shape != ours.shape or float(((theirs - ours) * steps).abs().mean()) > TOLERANCE:
            return False
    return True


def _odd(record: Preprocessing, side: int = 67) -> list[tuple[int, int]]:
    """Sizes of a picture whose margins around the crop are halved to another number of pixels up than down."""
    if record.crop is None or record.fit == "squash":
        return []
    wide = [(side, side + k) for k in range(200)]
    margins = [record.resized(*size)[1] - record.crop[1] for size in wide]
    broad = next((size for size, margin in zip(wide, margins, strict=True) if margin > 0 and margin % 4 == 3), None)
    return [] if broad is None else [broad, broad[::-1]]


def of_sounds(page: Mapping[str, Any], origin: str) -> SignalPreprocessing:
    """What an extractor of features does to sounds: recorded, since no data set here reads sounds.

    Raises: FileError for an extractor that is not understood.
    """
    kind, rate = str(page.get("feature_extractor_type")), int(page.get("sampling_rate") or 0)
    if kind == "ASTFeatureExtractor":
        return SignalPreprocessing(
            values="log-mel",
            rate=rate,
            length=int(page.get("max_length", 1024)),
            mels=int(page.get("num_mel_bins", 128)),
            normalise="fixed" if page.get("do_normalize", True) else "none",
            mean=float(page.get("mean", 0.0)),
            std=2 * float(page.get("std", 0.5)),
            origin=origin,
        )
    if kind == "Wav2Vec2FeatureExtractor":
        return SignalPreprocessing(rate=rate, normalise="each" if page.get("do_normalize") else "none", origin=origin)
    raise FileError(
        f"{origin}: the feature extractor {kind} is not understood, expected AST's or Wav2Vec2's; "
        "pass preprocessing='none' and give inputs that have been through it"
    )
