"""Images read from disk when they are needed: decoding, resizing, scaling, and a tensor-like view over many files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from heatproof.errors import FileError, InputError, UsageError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
Normalise = Literal["unit", "signed", "imagenet"]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_NORMS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "unit": ((0.0,), (1.0,)),
    "signed": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")


@dataclass(frozen=True)
class Transform:
    """What happens to every image, in this order: turned upright, made grey or RGB, resized, scaled, normalised.

    Attributes:
        size: (height, width) after bilinear resizing with antialiasing, not keeping the aspect ratio; None keeps the
            size of the file.
        channels: 1 for grey, 3 for RGB.
        normalise: "unit" gives [0, 1], "signed" [-1, 1], "imagenet" the mean and deviation of ImageNet.

    Raises: UsageError for a size or a number of channels that cannot be.
    """

    size: tuple[int, int] | None = (224, 224)
    channels: int = 3
    normalise: Normalise = "unit"

    def __post_init__(self) -> None:
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise UsageError(
                f"image size: got {self.size}, expected a positive height and width, such as 224 or 224+224"
            )
        if self.channels not in (1, 3):
            raise UsageError(f"image channels: got {self.channels}, expected 1 (grey) or 3 (RGB)")
        if self.normalise not in _NORMS or (self.normalise == "imagenet" and self.channels == 1):
            raise UsageError(
                f"normalise: got {self.normalise!r} with {self.channels} channels, expected one of {', '.join(_NORMS)}"
                " (imagenet for RGB only)"
            )

    def record(self) -> dict[str, Any]:
        """The transform in plain words and numbers, for reports."""
        mean, deviation = _NORMS[self.normalise]
        resize = "none" if self.size is None else "bilinear, antialiased, aspect ratio not kept"
        return {**asdict(self), "resize": resize, "mean": list(mean), "std": list(deviation)}

    def scaled(self, pixels: Pixels) -> Float[Tensor, "*n c h w"]:
        """Stored integers as normalised float32."""
        full = np.iinfo(pixels.dtype).max
        values = torch.from_numpy(pixels.astype(np.float32)).div_(float(full))
        mean, deviation = (torch.tensor(v).reshape(-1, 1, 1) for v in _NORMS[self.normalise])
        return values if self.normalise == "unit" else values.sub_(mean).div_(deviation)


def read_image(path: str | Path, transform: Transform | None = None) -> tuple[Pixels, tuple[str, ...]]:
    """The image as integers (C, H, W), 8 or 16 bit, and remarks on what was lost.

    Raises: FileError, naming the file, for one that is empty, truncated, no image, too large or without a fixed range.
    """
    with _quiet():
        return _read(Path(path), transform or Transform())


def _quiet() -> warnings.catch_warnings[None]:
    # The filters belong to the whole process: set once round a pool of threads, never inside a thread.
    return warnings.catch_warnings(action="ignore")


def _read(path: Path, transform: Transform) -> tuple[Pixels, tuple[str, ...]]:
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise FileError(f"{path}: no such image file")
    if path.stat().st_size == 0:
        raise FileError(f"{path}: the image file is empty (0 bytes)")
    try:
        with Image.open(path) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise Image.DecompressionBombError
            return _decode(path, image, transform)
    except UnidentifiedImageError:
        raise FileError(f"{path}: not an image that can be read; expected {', '.join(SUFFIXES)}") from None
    except PermissionError:
        raise FileError(f"{path}: permission to read it is denied; change its permissions") from None
    except Image.DecompressionBombError:
        raise FileError(
            f"{path}: more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels (a decompression bomb?); cut it into tiles"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, MemoryError) as error:
        raise FileError(f"{path}: damaged or truncated image ({error})") from None


def _decode(path: Path, image: Any, transform: Transform) -> tuple[Pixels, tuple[str, ...]]:
    from PIL import ImageOps

    remarks = []
    if getattr(image, "n_frames", 1) > 1:
        remarks.append("several frames; the first is used")
    if _bits(path, image) == 16 and image.mode not in _DEEP:
        remarks.append("16-bit colour read at 8 bits")
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or (image.mode == "I" and image.format not in (None, "PNG")):
        raise FileError(f"{path}: pixels of mode {image.mode} have no fixed range; expected 8 or 16 bits a channel")
    if image.mode in _DEEP:
        return _deep(image, transform), tuple(remarks)
    if image.mode == "CMYK":
        remarks.append("CMYK converted to RGB without a colour profile")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image, see_through = _opaque(image)
        remarks += ["transparent pixels laid on white"] if see_through else []
    image = image.convert("RGB" if transform.channels == 3 else "L")
    if transform.size is not None and image.size != transform.size[::-1]:
        image = image.resize(transform.size[::-1], _bilinear())
    pixels = np.asarray(image, dtype=np.uint8)
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1)), tuple(remarks)


def _deep(image: Any, transform: Transform) -> NDArray[np.uint16]:
    from PIL import Image

    values = np.asarray(image).astype(np.float32)
    if transform.size is not None and values.shape != transform.size:
        values = np.asarray(Image.fromarray(values).resize(transform.size[::-1], _bilinear()))
    pixels = values.round().clip(0, 65535).astype(np.uint16)
    return np.repeat(pixels[None], transform.channels, axis=0)


def _opaque(image: Any) -> tuple[Any, bool]:
    from PIL import Image

    image = image.convert("RGBA")
    if image.getextrema()[3][0] == 255:
        return image, False
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image), True


def _bits(path: Path, image: Any) -> int:
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(258, (8,))))
    return 8


def _bilinear() -> Any:
    from PIL import Image

    return Image.Resampling.BILINEAR


@dataclass(eq=False)
class LazyImages:
    """Images on disk that can be sliced like a tensor (N, C, H, W); only what is asked for is read.

    Decoded images are kept as integers while they fit in ``budget`` bytes, shared with every view; later ones are read
    again each time, so that memory stays bounded for any number of files.

    Attributes:
        paths: one file an image.
        transform: what happens to each image.
        shape: (N, C, H, W).
        budget: bytes of decoded images to keep.

    >>> LazyImages((), Transform(size=(8, 8)), (8, 8)).shape
    torch.Size([0, 3, 8, 8])
    """

    paths: tuple[Path, ...]
    transform: Transform
    size: tuple[int, int]
    budget: int = 512 * 2**20
    _kept: dict[Path, Pixels] = field(default_factory=dict, repr=False)

    dtype = torch.float32
    device = torch.device("cpu")
    ndim = 4

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size((len(self.paths), self.transform.channels, *self.size))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> Tensor:
        """The images at the given rows, float32: (C, H, W) for a single row, else (k, C, H, W).

        Raises: FileError where a file has gone or changed since; IndexError for a row that is not there.
        """
        if isinstance(rows, Tensor) and rows.ndim == 0:
            rows = int(rows)
        if isinstance(rows, int):
            return self.transform.scaled(self._pixels(self.paths[rows]))
        paths = [self.paths[i] for i in self._rows(rows)]
        if not paths:
            return torch.empty(0, *self.shape[1:])
        return torch.stack([self.transform.scaled(self._pixels(path)) for path in paths])

    def take(self, rows: slice | Sequence[int] | Tensor) -> LazyImages:
        """A view of some of the images, in that order; nothing is read."""
        paths = tuple(self.paths[i] for i in self._rows(rows))
        return LazyImages(paths, self.transform, self.size, self.budget, self._kept)

    def _rows(self, rows: slice | Sequence[int] | Tensor) -> list[int]:
        if isinstance(rows, slice):
            return list(range(*rows.indices(len(self))))
        if isinstance(rows, Tensor):
            rows = (rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows).tolist()
        return [int(i) for i in rows]

    def _pixels(self, path: Path) -> Pixels:
        kept = self._kept.get(path)
        if kept is not None:
            return kept
        pixels, _ = read_image(path, self.transform)
        if pixels.shape[1:] != self.size:
            raise FileError(f"{path}: is {_times(pixels.shape[1:])} pixels, expected {_times(self.size)}")
        self._keep(path, pixels)
        return pixels

    def _keep(self, path: Path, pixels: Pixels) -> None:
        if (len(self._kept) + 1) * pixels.nbytes <= self.budget:
            self._kept[path] = pixels

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


@dataclass(frozen=True)
class Checked:
    """The image files of a folder after each was decoded once.

    Attributes:
        images: the files that can be used, in the order given.
        bad: file to reason, for those left out.
        remarks: file to what was lost, for those that were converted.
    """

    images: LazyImages
    bad: Mapping[str, str]
    remarks: Mapping[str, str]


def check_images(paths: Iterable[Path], transform: Transform, *, strict: bool = False) -> Checked:
    """Every file decoded once, those that fail listed; with ``strict`` the first that fails is an error.

    Where the transform keeps the size of the file, the first good image sets it for all.

    Raises: FileError where strict and a file is bad.
    """
    images = LazyImages((), transform, transform.size or (0, 0))
    good: list[Path] = []
    bad: dict[str, str] = {}
    remarks: dict[str, str] = {}

    def look(path: Path) -> tuple[Path, Pixels | None, str]:
        try:
            pixels, notes = _read(path, transform)
        except FileError as error:
            return path, None, str(error)
        return path, pixels, "; ".join(notes)

    paths = list(paths)
    with _quiet(), ThreadPoolExecutor(max_workers=4) as pool:
        for start in range(0, len(paths), 16):
            for path, pixels, note in pool.map(look, paths[start : start + 16]):
                if pixels is not None and not good and transform.size is None:
                    images.size = (pixels.shape[1], pixels.shape[2])
                if pixels is not None and pixels.shape[1:] != images.size:
                    note = (
                        f"{path}: is {_times(pixels.shape[1:])} pixels, the first is {_times(images.size)}; "
                        "set the option size"
                    )
                    pixels = None
                if pixels is None:
                    if strict:
                        raise FileError(note)
                    bad[str(path)] = note.removeprefix(f"{path}: ")
                    continue
                good.append(path)
                images._keep(path, pixels)
                if note:
                    remarks[str(path)] = note
    images.paths = tuple(good)
    return Checked(images, bad, remarks)


def side(size: int | tuple[int, ...] | None) -> tuple[int, int] | None:
    """A side length as (height, width).

    Raises: InputError for a tuple that is no pair.
    """
    if size is None or isinstance(size, int):
        return None if size is None else (size, size)
    if len(size) != 2:
        raise InputError(f"image size: got {size}, expected one number or height+width")
    return (size[0], size[1])


def _times(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
