"""What an input goes through before a model: one record that data sets apply and the card of a model keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from heatproof.errors import UnknownName, UsageError
from heatproof.registry import Spec

Fit = Literal["file", "squash", "shorter", "cover"]
Interpolation = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Order = Literal["rgb", "bgr"]
Rounding = Literal["even", "down"]
_CHOICES = {"fit": Fit, "interpolation": Interpolation, "rounding": Rounding, "order": Order}
Pixels = NDArray[np.uint8] | NDArray[np.uint16]

BYTE = 1 / 255
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALINGS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "unit": ((0.0,), (1.0,)),
    "signed": ((0.5,), (0.5,)),
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
}
UNKNOWN = "none"  # written by hand for a model of which no preprocessing is to be assumed


SLACK = 0.02  # the share of the range by which numbers may exceed it


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What happens to an image between its file and the model, in this order.

    Attributes:
        channels: 1 for grey, 3 for RGB.
        fit: how it is resized: "squash" to the height and width in ``resize``; "shorter" gives the shorter side that
            length, "cover" the least size that covers them, both keeping the aspect ratio; "file" not at all.
        resize: (height, width); (side,) with "shorter"; () with "file".
        crop: (height, width) cut from the centre, zeros around an image that is smaller; None for no crop.
        interpolation: of the resizing, antialiased.
        rounding: where an odd margin of the crop goes: to the even number of pixels, or always down.
        order: of the colours. scale: what pixel values from 0 to 255 are multiplied by.
        mean, std: subtracted, and divided by, after that; one a channel.
        origin: where this comes from, in words; not compared.

    Raises: UsageError for values that cannot be.
    """

    channels: int = 3
    fit: Fit = "squash"
    resize: tuple[int, ...] = (224, 224)
    crop: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    rounding: Rounding = "even"
    order: Order = "rgb"
    scale: float = BYTE
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, choice in _CHOICES.items():
            if getattr(self, name) not in get_args(choice):
                raise _refused(name, getattr(self, name), f"one of {', '.join(get_args(choice))}")
        if self.channels not in (1, 3):
            raise _refused("channels", self.channels, "1 (grey) or 3 (RGB)")
        lengths = {"file": 0, "shorter": 1}.get(self.fit, 2)
        if len(self.resize) != lengths or not _sizes(self.resize):
            wanted = ("nothing", "one positive length", "a positive height and width")[lengths]
            raise _refused("resize", self.resize, f"{wanted} with fit {self.fit}")
        if self.crop is not None and (len(self.crop) != 2 or not _sizes(self.crop)):
            raise _refused("crop", self.crop, "a positive height and width")
        if self.order == "bgr" and self.channels != 3:
            raise _refused("order", self.order, "rgb for grey images")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != self.channels or not all(_number(v) for v in values):
                raise _refused(name, values, f"{self.channels} numbers, one a channel")
        if 0 in self.std or not _number(self.scale) or self.scale <= 0:
            raise _refused("std and scale", (self.std, self.scale), "numbers other than zero, a positive scale")

    @property
    def size(self) -> tuple[int, int] | None:
        """The height and width that every image has afterwards; None where they depend on the file."""
        if self.crop is not None:
            return self.crop
        return (self.resize[0], self.resize[1]) if self.fit == "squash" else None

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The height and width of an image of this size after the resizing, before the crop."""
        if self.fit == "file":
            return height, width
        if self.fit == "squash":
            return self.resize[0], self.resize[1]
        if self.fit == "shorter":
            side, short, long = self.resize[0], min(height, width), max(height, width)
            other = int(side * long / short)
            return (side, other) if height <= width else (other, side)
        ratio = min(height / self.resize[0], width / self.resize[1])
        return round(height / ratio), round(width / ratio)

    def placed(self, image: Any) -> Any:
        """An image of PIL, resized and cropped.

        Raises: ValueError where it would become too large.
        """
        from PIL import Image

        height, width = self.resized(image.height, image.width)
        if height * width > (Image.MAX_IMAGE_PIXELS or math.inf):
            raise ValueError(f"{image.height} x {image.width} pixels become {height:,} x {width:,}")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        if self.crop is None:
            return image
        left, top = self.margin(image.width, self.crop[1]), self.margin(image.height, self.crop[0])
        return image.crop((left, top, left + self.crop[1], top + self.crop[0]))

    def margin(self, length: int, crop: int) -> int:
        """Where a crop of this length begins; before the image, which is negative, in a shorter one."""
        if self.rounding == "down":
            return (length - crop) // 2
        return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)

    def scaled(self, pixels: Pixels) -> Float[Tensor, "*n c h w"]:
        """Stored integers (..., C, H, W), of 8 or 16 bits, as the numbers that the model takes, float32."""
        full = np.iinfo(pixels.dtype).max
        values = torch.from_numpy(pixels.astype(np.float32))
        values = values.div_(float(full)) if self.scale == BYTE else values.mul_(self.scale * 255 / full)
        values = values.flip(-3) if self.order == "bgr" else values
        if not any(self.mean) and set(self.std) == {1.0}:
            return values
        return values.sub_(_column(self.mean)).div_(_column(self.std))

    def rescaled(self, values: Float[Tensor, "n c h w"], other: Preprocessing) -> Float[Tensor, "n c h w"]:
        """Numbers that ``other`` gave, as this gives them; of one order of colours."""
        factor = self.scale / other.scale
        plain = values * _column(other.std).to(values) + _column(other.mean).to(values)
        return (plain * factor - _column(self.mean).to(values)) / _column(self.std).to(values)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest number that any image has afterwards."""
        ends = [(v - m) / s for m, s in zip(self.mean, self.std, strict=True) for v in (0.0, 255 * self.scale)]
        return min(ends), max(ends)

    def misfit(self, low: float, high: float) -> Literal["", "outside", "unscaled"]:
        """Whether numbers from ``low`` to ``high`` are ``outside`` of what images have, or look ``unscaled``."""
        least, most = self.bounds
        slack = SLACK * (most - least)
        if low < least - slack or high > most + slack:
            return "outside"
        return "unscaled" if least < -slack <= low else ""

    @property
    def values(self) -> tuple[Any, ...]:
        """What decides the numbers, whatever the size: colours, their order, and the scaling."""
        numbers = (self.scale, *self.mean, *self.std)
        return (self.channels, self.order, *(float(f"{number:.6g}") for number in numbers))

    @property
    def scaling(self) -> str:
        """What happens to the pixel values, in words."""
        parts = ["grey" if self.channels == 1 else self.order.upper()]
        parts += ["values of 0 to 255" + ("" if self.scale == 1 else f" x {self.scale:.6g}")]
        parts = [parts[0], "values in [0, 1]"] if math.isclose(self.scale, BYTE) else parts
        if any(self.mean) or set(self.std) != {1.0}:
            parts.append(f"less {_listed(self.mean)}, divided by {_listed(self.std)}")
        return ", ".join(parts)

    @property
    def geometry(self) -> str:
        """How the size is changed, in words."""
        sides = " x ".join(map(str, self.resize))
        how = {
            "file": "not resized",
            "squash": f"resized to {sides} pixels, aspect ratio not kept",
            "shorter": f"shorter side resized to {sides} pixels",
            "cover": f"resized to cover {sides} pixels",
        }[self.fit]
        how += "" if self.fit == "file" else f" ({self.interpolation})"
        return how + ("" if self.crop is None else f", centre crop of {self.crop[0]} x {self.crop[1]}")

    def __str__(self) -> str:
        return f"{self.geometry}; {self.scaling}" + (f"; from {self.origin}" if self.origin else "")

    def record(self) -> dict[str, Any]:
        """All fields in plain types, for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class SignalPreprocessing:
    """What a signal goes through before the model; recorded, but applied by no data set.

    Attributes:
        values: the signal itself, or its log-mel spectrogram.
        rate: samples a second. length: of the input in samples or frames, 0 for any. mels: bands of the spectrogram.
        normalise: "each" by its own mean and deviation, "fixed" by ``mean`` and ``std``, or "none".
    """

    values: Literal["waveform", "log-mel"] = "waveform"
    rate: int = 0
    length: int = 0
    mels: int = 0
    normalise: Literal["none", "each", "fixed"] = "none"
    mean: float = 0.0
    std: float = 1.0
    origin: str = field(default="", compare=False)

    def __str__(self) -> str:
        parts = ["waveform" if self.values == "waveform" else f"log-mel spectrogram of {self.mels} bands"]
        parts += [f"sampled at {self.rate:,} Hz"] if self.rate else []
        parts += [f"{self.length:,} {'frames' if self.mels else 'samples'} long"] if self.length else []
        if self.normalise != "none":
            each = self.normalise == "each"
            parts.append("each of mean 0 and deviation 1" if each else f"less {self.mean:g}, divided by {self.std:g}")
        return ", ".join(parts) + (f"; from {self.origin}" if self.origin else "")

    def record(self) -> dict[str, Any]:
        """All fields in plain types, for JSON."""
        return asdict(self)


def squashed(size: tuple[int, int] | None, channels: int = 3, scaling: str = "unit") -> Preprocessing:
    """Images resized to ``size`` whatever their shape, or kept as they are; scaled as "unit", "signed" or "imagenet".

    Raises: UsageError.
    """
    if scaling not in SCALINGS or (scaling == "imagenet" and channels == 1):
        raise _refused("scaling", scaling, f"one of {', '.join(SCALINGS)} (imagenet for RGB only)")
    mean, std = (values * channels if len(values) == 1 else values for values in SCALINGS[scaling])
    return Preprocessing(
        channels=channels, fit="file" if size is None else "squash", resize=size or (), mean=mean, std=std
    )


def read(value: str | Mapping[str, Any] | Preprocessing) -> Preprocessing:
    """A preprocessing given by hand: a record, its fields, or text such as ``imagenet:resize=256,crop=224``.

    The text begins with "unit", "signed" or "imagenet"; options are fields of `Preprocessing`. One number as ``mean``,
    ``std`` or ``crop`` counts for every channel or side; one as ``resize`` is the shorter side.

    Raises: UnknownName for a key that is none; UsageError for a value that cannot be.

    >>> str(read("imagenet:resize=256,crop=224")).split(";")[0]
    'shorter side resized to 256 pixels (bilinear), centre crop of 224 x 224'
    """
    if isinstance(value, Preprocessing):
        return value
    if isinstance(value, Mapping):
        start, page = Preprocessing(), dict(value)
    elif isinstance(value, str):
        spec = Spec.parse(value)
        page = dict(spec.kwargs)
        if spec.name not in SCALINGS:
            raise UnknownName("preprocessing", spec.name, (*SCALINGS, UNKNOWN))
        start = squashed((224, 224), 3 if spec.name == "imagenet" else int(page.get("channels", 3)), spec.name)
    else:
        raise _refused("record", value, "text, a mapping of its fields, or a Preprocessing")
    names = [f.name for f in fields(Preprocessing)]
    for key in page:
        if key not in names:
            raise UnknownName("key of a preprocessing", str(key), names)
    page = _completed(page, start)
    for name, entry in page.items():
        if name in _CHOICES:
            fits, wanted = entry in get_args(_CHOICES[name]), f"one of {', '.join(get_args(_CHOICES[name]))}"
        elif name in ("crop", "resize"):
            fits = isinstance(entry, tuple) and _sizes(entry) and (name == "resize" or len(entry) == 2)
            fits = fits or (name == "crop" and entry is None)
            wanted = "whole numbers above 0"
        elif name in ("mean", "std"):
            fits, wanted = isinstance(entry, tuple) and all(map(_number, entry)), "numbers, one a channel"
        else:
            kinds: dict[str, Any] = {"channels": int, "scale": (int, float), "origin": str}
            fits, wanted = isinstance(entry, kinds[name]) and not isinstance(entry, bool), "a plain value"
        if not fits:
            raise _refused(name, entry, wanted)
    return replace(start, **page)


def _completed(page: dict[str, Any], start: Preprocessing) -> dict[str, Any]:
    """Fields as the record holds them, those that follow from others filled in."""
    page = {key: tuple(v) if isinstance(v, list) else v for key, v in page.items()}
    channels = page.get("channels", start.channels)
    if isinstance(page.get("crop"), int):
        page["crop"] = (page["crop"],) * 2
    if "resize" in page:
        resize = page["resize"] if isinstance(page["resize"], tuple) else (page["resize"],)
        page["resize"] = resize = () if resize == (None,) else resize
        page.setdefault("fit", ("file", "shorter")[len(resize)] if len(resize) < 2 else "squash")
    elif page.get("fit") == "file":
        page["resize"] = ()
    for name in ("mean", "std"):
        if isinstance(page.get(name), (int, float)):
            page[name] = (float(page[name]),) * (channels if isinstance(channels, int) else 1)
        elif name not in page and channels in (1, 3) and len(set(getattr(start, name))) == 1:
            page[name] = (getattr(start, name)[0],) * channels
    return page


def from_record(page: Mapping[str, Any] | None) -> Preprocessing | SignalPreprocessing | None:
    """What `record` wrote; None for None.

    Raises: UsageError where it is no such record.
    """
    if page is None:
        return None
    if "normalise" not in page:
        return read(page)
    try:
        return SignalPreprocessing(**page)
    except TypeError as error:
        raise UsageError(f"preprocessing of signals: {error}") from None


def _refused(name: str, value: object, wanted: str) -> UsageError:
    return UsageError(f"preprocessing: {name} got {value!r}, expected {wanted}")


def _sizes(values: tuple[Any, ...]) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).reshape(-1, 1, 1)


def _listed(values: tuple[float, ...]) -> str:
    return f"{values[0]:.4g}" if len(set(values)) == 1 else f"({', '.join(f'{v:.4g}' for v in values)})"
