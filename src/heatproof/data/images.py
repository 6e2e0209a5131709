"""Images read from disk when they are needed: decoding, resizing, scaling, and a tensor-like view over many files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heatproof.errors import FileError, InputError, UsageError
from heatproof.preprocessing import SCALINGS, Pixels, Preprocessing, read, squashed

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def read_image(path: str | Path, preprocessing: Preprocessing | None = None) -> tuple[Pixels, tuple[str, ...]]:
    """The image as integers (C, H, W), 8 or 16 bit, and remarks on what was lost.

    Raises: FileError, naming the file, for one that is empty, truncated, no image, too large or without a fixed range.
    """
    with _quiet():
        return _read(Path(path), preprocessing or Preprocessing())


def _quiet() -> warnings.catch_warnings[None]:
    # The filters belong to the whole process: set once round a pool of threads, never inside a thread.
    return warnings.catch_warnings(action="ignore")


def _read(path: Path, preprocessing: Preprocessing) -> tuple[Pixels, tuple[str, ...]]:
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise FileError(f"{path}: no such image file")
    if path.stat().st_size == 0:
        raise FileError(f"{path}: the image file is empty (0 bytes)")
    try:
        with Image.open(path) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise Image.DecompressionBombError
            return _decode(path, image, preprocessing)
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


def _decode(path: Path, image: Any, preprocessing: Preprocessing) -> tuple[Pixels, tuple[str, ...]]:
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
        return _deep(image, preprocessing), tuple(remarks)
    if image.mode == "CMYK":
        remarks.append("CMYK converted to RGB without a colour profile")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image, see_through = _opaque(image)
        remarks += ["transparent pixels laid on white"] if see_through else []
    image = preprocessing.placed(image.convert("RGB" if preprocessing.channels == 3 else "L"))
    pixels = np.asarray(image, dtype=np.uint8)
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1)), tuple(remarks)


def _deep(image: Any, preprocessing: Preprocessing) -> NDArray[np.uint16]:
    from PIL import Image

    values = np.asarray(preprocessing.placed(Image.fromarray(np.asarray(image).astype(np.float32))))
    pixels = values.round().clip(0, 65535).astype(np.uint16)
    return np.repeat(pixels[None], preprocessing.channels, axis=0)


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


@dataclass(eq=False)
class LazyImages:
    """Images on disk that can be sliced like a tensor (N, C, H, W); only what is asked for is read.

    Decoded images are kept as integers while they fit in ``budget`` bytes, shared with every view; later ones are read
    again each time, so that memory stays bounded for any number of files.

    Attributes:
        paths: one file an image.
        preprocessing: what happens to each image.
        shape: (N, C, H, W).
        budget: bytes of decoded images to keep.

    >>> LazyImages((), squashed((8, 8)), (8, 8)).shape
    torch.Size([0, 3, 8, 8])
    """

    paths: tuple[Path, ...]
    preprocessing: Preprocessing
    size: tuple[int, int]
    budget: int = 512 * 2**20
    _kept: dict[Path, Pixels] = field(default_factory=dict, repr=False)

    dtype = torch.float32
    device = torch.device("cpu")
    ndim = 4

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size((len(self.paths), self.preprocessing.channels, *self.size))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> Tensor:
        """The images at the given rows, float32: (C, H, W) for a single row, else (k, C, H, W).

        Raises: FileError where a file has gone or changed since; IndexError for a row that is not there.
        """
        if isinstance(rows, Tensor) and rows.ndim == 0:
            rows = int(rows)
        if isinstance(rows, int):
            return self.preprocessing.scaled(self._pixels(self.paths[rows]))
        paths = [self.paths[i] for i in self._rows(rows)]
        if not paths:
            return torch.empty(0, *self.shape[1:])
        return torch.stack([self.preprocessing.scaled(self._pixels(path)) for path in paths])

    def take(self, rows: slice | Sequence[int] | Tensor) -> LazyImages:
        """A view of some of the images, in that order; nothing is read."""
        paths = tuple(self.paths[i] for i in self._rows(rows))
        return LazyImages(paths, self.preprocessing, self.size, self.budget, self._kept)

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
        pixels, _ = read_image(path, self.preprocessing)
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


def check_images(paths: Iterable[Path], preprocessing: Preprocessing, *, strict: bool = False) -> Checked:
    """Every file decoded once, those that fail listed; with ``strict`` the first that fails is an error.

    Where the size depends on the file, the first good image sets it for all.

    Raises: FileError where strict and a file is bad.
    """
    images = LazyImages((), preprocessing, preprocessing.size or (0, 0))
    good: list[Path] = []
    bad: dict[str, str] = {}
    remarks: dict[str, str] = {}

    def look(path: Path) -> tuple[Path, Pixels | None, str]:
        try:
            pixels, notes = _read(path, preprocessing)
        except FileError as error:
            return path, None, str(error)
        return path, pixels, "; ".join(notes)

    paths = list(paths)
    with _quiet(), ThreadPoolExecutor(max_workers=4) as pool:
        for start in range(0, len(paths), 16):
            for path, pixels, note in pool.map(look, paths[start : start + 16]):
                if pixels is not None and not good and preprocessing.size is None:
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


def reading(
    preprocessing: str | Mapping[str, Any] | Preprocessing | None,
    *,
    size: int | tuple[int, ...] | Literal["file"] | None = None,
    channels: int | None = None,
    usual: int = 224,
) -> Preprocessing:
    """How images are read, as a data set's options say.

    A scaling ("unit", "signed", "imagenet") resizes to ``usual`` pixels a side; ``size`` and ``channels``
    replace what the preprocessing has.

    Raises: UsageError, UnknownName.
    """
    if preprocessing is None:
        raise UsageError("preprocessing: got None; where a model's card has none, state it, as in 'imagenet' or 'unit'")
    if isinstance(preprocessing, str) and preprocessing in SCALINGS:
        chosen = squashed((usual, usual), 3 if channels is None else channels, preprocessing)
    else:
        chosen = read(preprocessing)
        if channels not in (None, chosen.channels):
            raise UsageError(f"option channels got {channels}, the preprocessing has {chosen.channels}; leave it out")
    if size is None:
        return chosen
    if size == "file":
        return replace(chosen, fit="file", resize=(), crop=None)
    sides = (size, size) if isinstance(size, int) else (*size,)
    if len(sides) != 2 or min(sides) < 1:
        raise InputError(f"image size: got {size}, expected a number above 0, height+width, or file")
    return replace(chosen, fit="squash", resize=sides, crop=None)


def _times(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
